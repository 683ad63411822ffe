"""Children of a process that has imported emojax but used no device: a training starts in a tenth of a second.

Such a child is forked, gets a session of its own and runs `python -m emojax.main` from there: the same parsing, the
same messages, the same exit codes. What it is doing can be seen in a page of shared memory.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import mmap
import os
import signal
import struct
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from emojax import (
    checkpoint,
    checkpoint_list,
    config_json,
    finish,
    judging,
    main,
    monitor,
    report,
    resume,
    train,
    wiring,
)
from emojax.config import Config

PHASES = ("start-up", "compilation", "updates", "evaluation", "saving", "final report")
_READY = (checkpoint, report, resume, wiring)
"""Imported here, so that no child has to."""


class Page:
    """Shared with a child: the phase it is in, the update it has done, and the checkpoint it began from."""

    def __init__(self) -> None:
        self._bytes = mmap.mmap(-1, 24)

    @property
    def phase(self) -> str:
        return PHASES[self._bytes[0]]

    @phase.setter
    def phase(self, name: str) -> None:
        self._bytes[0] = PHASES.index(name)

    @property
    def step(self) -> int:
        return struct.unpack_from("q", self._bytes, 8)[0]

    @step.setter
    def step(self, value: int) -> None:
        struct.pack_into("q", self._bytes, 8, value)

    @property
    def restored(self) -> int:
        return struct.unpack_from("q", self._bytes, 16)[0]

    @restored.setter
    def restored(self, value: int) -> None:
        struct.pack_into("q", self._bytes, 16, value)


@dataclasses.dataclass
class Child:
    """A forked process, leader of its own group."""

    pid: int
    page: Page
    log: Path
    code: int | None = None

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None while it lives."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code

    def wait(self, seconds: float) -> int | None:
        """As `poll`, after at most `seconds`."""
        until = time.monotonic() + seconds
        while self.poll() is None and time.monotonic() < until:
            time.sleep(0.003)
        return self.code

    def until(self, phase: str, seconds: float) -> bool:
        """Waits for a phase; whether it was seen before the child ended."""
        end = time.monotonic() + seconds
        while self.poll() is None and time.monotonic() < end:
            if self.page.phase == phase:
                return True
            time.sleep(0.002)
        return False

    def signal(self, number: int, *, group: bool = False) -> None:
        (os.killpg if group else os.kill)(self.pid, number)

    def end(self) -> None:
        """Kills it and all that it has started."""
        with contextlib.suppress(ProcessLookupError):
            self.signal(signal.SIGKILL, group=True)
        self.wait(60)

    def told(self) -> str:
        """The last line that it wrote."""
        return (self.log.read_text(errors="replace").strip().splitlines() or [""])[-1]


def start(function: Callable[[Page], int], log: Path, *, devices: int = 1, cache: Path | None = None) -> Child:
    """Forks; the child returns what `function(page)` returns. `devices` virtual ones, compiled programs in `cache`."""
    page = Page()
    sys.stdout.flush()
    if pid := os.fork():
        return Child(pid, page, log)
    code = 70
    try:
        os.setsid()
        target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(target, 1)
        os.dup2(target, 2)
        jax.config.update("jax_num_cpu_devices", devices)
        if cache:
            jax.config.update("jax_compilation_cache_dir", str(cache))
        code = function(page)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def training(recipe: Path, workdir: Path, *, devices: int = 1, cache: Path | None = None) -> Child:
    """A training; its output goes to a file beside `workdir`."""
    arguments = ["emojax.main", f"--config={recipe}", f"--workdir={workdir}"]

    def body(page: Page) -> int:
        _watch(page)
        sys.argv = arguments
        return main.run_with_errors(arguments)

    return start(body, workdir.with_suffix(".log"), devices=devices, cache=cache)


def call(function: Callable[[], Any], folder: Path, *, devices: int = 1) -> Any:
    """`function()` of a child, which may use devices; what it returns must be JSON."""
    answer = folder / "answer.json"
    answer.unlink(missing_ok=True)

    def body(page: Page) -> int:
        del page
        answer.write_text(json.dumps(function()))
        return 0

    child = start(body, folder / "call.log", devices=devices)
    if child.wait(600) != 0:
        child.end()
        raise RuntimeError(f"a child ended with {child.code}: {child.told()}")
    return json.loads(answer.read_text())


def finished(recipe: Path, workdir: Path, *, devices: int = 1) -> float:
    """Trains to the end; seconds."""
    began = time.monotonic()
    child = training(recipe, workdir, devices=devices)
    if child.wait(600) != 0:
        child.end()
        raise RuntimeError(f"the run in {workdir} ended with {child.code}: {child.told()}")
    return time.monotonic() - began


def compared(workdir: Path, reference: Path, folder: Path) -> list[str]:
    """What differs between two finished runs: every array, every row, every prediction; and whether every array on the
    disk is what its checkpoint claims."""

    def body() -> list[str]:
        found = resume.differences(resume.outcome(reference), resume.outcome(workdir))
        rows = checkpoint_list.inspect(workdir, verify=True)
        found += [f"{row.name}: {row.state}" for row in rows if row.damaged and "damaged-" not in row.name]
        for path in sorted((reference / "report").glob("*.csv")):
            other = workdir / "report" / path.name
            if not other.is_file() or other.read_bytes() != path.read_bytes():
                found.append(f"report/{path.name}")
        return found[:20]

    return call(body, folder)


def write_recipe(config: Config, folder: Path) -> Path:
    """A recipe that is `config`."""
    folder.mkdir(parents=True, exist_ok=True)
    assert config_json.from_json(config_json.to_json(config), where="config") == config
    return resume.write_recipe(config, folder)


def _watch(page: Page) -> None:
    """Lets the training tell its phase; what it computes stays as it is."""

    def wrap(owner: Any, name: str, phase: str, *, after: str = "") -> None:
        original = getattr(owner, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            page.phase = phase
            found = original(*args, **kwargs)
            if after:
                page.phase = after
            return found

        setattr(owner, name, wrapped)

    wrap(monitor.Monitor, "compiling", "compilation")
    wrap(judging, "judge", "evaluation", after="updates")
    wrap(checkpoint.Checkpointer, "save", "saving", after="updates")
    wrap(finish, "write_result", "final report")
    note, restored = train._note, wiring.restored

    def noted(parts: Any, loop: Any, stage: Any, step: int, *rest: Any) -> None:
        page.phase, page.step = "updates", step
        note(parts, loop, stage, step, *rest)

    def began(parts: Any, checkpointer: Any, step: int) -> Any:
        found = restored(parts, checkpointer, step)
        page.restored = page.restored or step  # the final report reads checkpoints, too
        return found

    train._note, wiring.restored = noted, began
