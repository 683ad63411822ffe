"""Does a run that was killed end as one that was left alone? Runs, kills and comparisons for `emojax verify-resume`."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from emojax import checkpoint, config_json, files, jsonl
from emojax.config import CheckpointConfig, Config
from emojax.errors import TrainingError

_SHORTEST = 1.0
"""Seconds; below, no moment is left in which there is something to stop."""

_NONE = "no checkpoint yet"

_RECIPE = '''"""Written by emojax verify-resume: the config beside this file."""

from pathlib import Path

from emojax import config_json


def get_config():
    return config_json.from_json(Path(__file__).with_suffix(".json").read_text(), where=__file__)
'''


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended.

    Attributes:
      step: of its newest checkpoint.
      digests: array path -> digest: weights, statistics, optimizer state, averages.
      result: the same of the weights that the run ends with.
      rows: every line of metrics.jsonl that a resumed run must repeat, with the digest of the records seen so far.
    """

    step: int
    digests: dict[str, str]
    result: dict[str, str]
    rows: list[dict[str, Any]]


def write_recipe(config: Config, folder: Path) -> Path:
    """A recipe file in `folder` that is exactly `config`."""
    files.write_text(folder / "recipe.json", config_json.to_json(config) + "\n")
    files.write_text(folder / "recipe.py", _RECIPE)
    return folder / "recipe.py"


def start(recipe: Path, workdir: Path) -> subprocess.Popen[bytes]:
    """A training process, in a group of its own, so that signals reach its loader processes as schedulers' do."""
    command = [sys.executable, "-m", "emojax.main", f"--config={recipe}", f"--workdir={workdir}"]
    return subprocess.Popen(  # noqa: S603 - itself
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )


@contextlib.contextmanager
def _running(recipe: Path, workdir: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`start`; what still runs when this is left, by Ctrl-C for example, is killed."""
    process = start(recipe, workdir)
    try:
        yield process
    finally:
        if process.poll() is None:
            _signal(process, "SIGKILL")
        process.communicate()


def finish(recipe: Path, workdir: Path) -> float:
    """Runs to the end; seconds. Raises `TrainingError` when the run fails."""
    began = time.monotonic()
    with _running(recipe, workdir) as process:
        _, errors = process.communicate()
    if process.returncode:
        last = (errors.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
        raise TrainingError(f"the run in {workdir} ended with {process.returncode}: {last}")
    return time.monotonic() - began


def strike(
    recipe: Path, workdir: Path, *, kills: int, length: float, seed: int, told: Callable[[str], None]
) -> list[str]:
    """Starts the run again and again, and stops it at random moments within `length` seconds: SIGKILL, and SIGTERM
    every third time. A run that comes to its end before the last of them is begun anew, and stopped earlier. Returns
    what was done, in words, with the newest checkpoint at that moment; raises `TrainingError` when the run is too short
    to be stopped so often, or was stopped before its first checkpoint every time."""
    clock, done = random.Random(seed), []
    while len(done) < kills:
        name = "SIGTERM" if len(done) % 3 == 2 else "SIGKILL"
        with _running(recipe, workdir) as process:
            moment = clock.uniform(0.0, length)
            try:
                process.communicate(timeout=moment)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    _signal(process, name)
                process.communicate()
                kept = checkpoint.newest_step(workdir)
                done.append(f"{name} after {moment:.1f} s, {_NONE if kept is None else f'checkpoint {kept:,}'}")
                told(f"{len(done)} of {kills}: {done[-1]}")
                continue
        if process.returncode:
            raise TrainingError(f"the run in {workdir} ended with {process.returncode} by itself")
        if length < _SHORTEST:
            raise TrainingError(f"the run is too short to be stopped {kills} times: train longer, or lower --kills")
        shutil.rmtree(workdir)
        done, length = [], length * 0.7
        told("it came to its end first: begun anew")
    if all(_NONE in one for one in done):
        raise TrainingError("the run was stopped before its first checkpoint every time: give more --kills")
    return done


def _signal(process: subprocess.Popen[bytes], name: str) -> None:
    os.killpg(process.pid, getattr(signal, name))


def outcome(workdir: Path) -> Outcome:
    """Reads how a finished run ended."""
    with contextlib.closing(checkpoint.Checkpointer(workdir, CheckpointConfig(), read_only=True)) as kept:
        step = kept.latest()
        if step is None:
            raise TrainingError(f"{workdir} holds no complete checkpoint")
        digests = kept.meta(step).digests
    _, meta, _ = checkpoint.load_weights(workdir, which="best")
    rows = [row for row in jsonl.read(workdir / "metrics.jsonl") if row.get("kind") in ("train", "eval", "spike")]
    return Outcome(step, digests, meta.digests, rows)


def differences(one: Outcome, other: Outcome) -> list[str]:
    """What differs, one line each; none = the same to the bit."""
    found = [] if one.step == other.step else [f"ended after update {one.step} and {other.step}"]
    for name, a, b in (("", one.digests, other.digests), ("result: ", one.result, other.result)):
        found += [f"{name}{path}" for path in sorted(a.keys() | b.keys()) if a.get(path) != b.get(path)]
    keys = [[(row["kind"], row["step"]) for row in side.rows] for side in (one, other)]
    if keys[0] != keys[1]:
        found.append(f"metrics.jsonl has {len(keys[0])} and {len(keys[1])} rows, of other steps")
    for a, b in zip(one.rows, other.rows, strict=False):
        names = [name for name in a.keys() | b.keys() if a.get(name) != b.get(name)]
        found += [f"metrics.jsonl, {a['kind']} {a['step']}: {name}" for name in sorted(names)]
    return found
