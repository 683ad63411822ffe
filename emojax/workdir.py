"""The work directory of a run: one config, one process at a time, never a silent mix of two runs."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from emojax import config_json, files, jsonl
from emojax.config import Config
from emojax.errors import WorkdirError, full

CONFIG = "config.json"
TEST_LOG = "test_judged.jsonl"
FINISHED = "finished.json"


@contextlib.contextmanager
def claim(workdir: Path, config: Config) -> Iterator[None]:
    """Makes the folder, locks it for this process, and writes or compares its config.

    `runs/` in the current folder is made when it is missing; any other missing parent is an error, since it is
    more often a typo or an unmounted disk than a wish.

    Raises:
      WorkdirError: the parent is missing, the folder cannot be written, its name is one that Orbax cannot use, another
        run holds it, or it belongs to a run with another config.
    """
    parent = workdir.parent
    if re.search(r"\[.*\]", str(workdir.absolute()), re.DOTALL):
        # Orbax merges the files of a checkpoint by a pattern of their path: it would find none, and say nothing.
        raise WorkdirError(f"--workdir={workdir}: checkpoints cannot be kept below a folder with [ ] in its name")
    if not parent.is_dir() and parent != Path("runs"):
        raise WorkdirError(f"--workdir={workdir}: its parent folder {parent} does not exist; create it first")
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock = os.open(workdir / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    except (OSError, ValueError) as error:
        raise full(error) or WorkdirError(
            f"--workdir={workdir} cannot be written: {getattr(error, 'strerror', error)}"
        ) from error
    try:
        try:
            fcntl.flock(
                lock, fcntl.LOCK_EX | fcntl.LOCK_NB
            )  # the kernel lets go when the process dies, however it dies
        except BlockingIOError as error:
            raise WorkdirError(f"--workdir={workdir}: another run (process {_holder(lock)}) is using it") from error
        except OSError as error:  # a file system without locks
            raise WorkdirError(f"--workdir={workdir} cannot be locked: {error.strerror}; use another disk") from error
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        _settle_config(workdir, config)
        yield
    finally:
        os.close(lock)


def _holder(lock: int) -> str:
    """The process that holds a lock file; one that has only just taken it gets a moment to write its number."""
    for _ in range(100):
        if holder := os.pread(lock, 32, 0).decode(errors="replace").strip():
            return holder
        time.sleep(0.01)
    return "unknown"


def _settle_config(workdir: Path, config: Config) -> None:
    path, earlier = workdir / CONFIG, begun_with(workdir)
    if earlier is not None:
        changed = config_json.differences(earlier, config)
        if changed:
            raise WorkdirError(
                f"--workdir={workdir} belongs to a run with another config:\n  "
                + "\n  ".join(changed)
                + "\nUse another --workdir, or give that config to go on with that run."
            )
    try:
        files.write_text(path, config_json.to_json(config) + "\n")
    except OSError as error:
        raise full(error) or WorkdirError(f"--workdir={workdir} cannot be written: {error.strerror}") from error


def _has_begun(workdir: Path) -> bool:
    """Whether there is something to lose: a first attempt that failed on bad data or a typo leaves nothing."""
    return (workdir / "metrics.jsonl").exists() or any((workdir / "checkpoints").glob("[0-9]*"))


def begun_with(workdir: Path) -> Config | None:
    """The resolved config of a run that has begun; None before that."""
    return read_config(workdir) if (workdir / CONFIG).exists() and _has_begun(workdir) else None


def read_config(workdir: Path) -> Config:
    """The resolved config of a run."""
    path = workdir / CONFIG
    if not path.is_file():
        raise WorkdirError(f"{workdir} is not the --workdir of a training run: it has no {CONFIG}")
    return config_json.from_json(path.read_text(), where=str(path))


def is_finished(workdir: Path) -> bool:
    """Whether a run has written its report."""
    return (workdir / FINISHED).is_file()


def note_test(workdir: Path, command: str, accuracy: float) -> None:
    """Notes that the weights of this run were judged on test; whoever tunes by such numbers leaves a trace."""
    row = {"time": time.strftime("%Y-%m-%d %H:%M:%S%z"), "command": command, "accuracy": accuracy}
    with (workdir / TEST_LOG).open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")


def tests(workdir: Path) -> list[dict[str, Any]]:
    """Every time that the weights of this run were judged on test, see `note_test`."""
    return jsonl.read(workdir / TEST_LOG)


def noted_test(workdir: Path, command: str, accuracy: float) -> list[str]:
    """Notes that test was judged, and says how often that has been, where it is not the first time."""
    note_test(workdir, command, accuracy)
    times = len(tests(workdir))
    return [f"test has been judged {times} times with this run's weights"] if times > 1 else []
