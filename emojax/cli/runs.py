"""Several trainings in one command: what `study`, `sweep`, `ablate` and `kfold` share."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import queue
import statistics
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from emojax.config import Config
from emojax.errors import ConfigError, TrainingError, WorkdirError

NUMBERS = ("accuracy", "macro_f1", "balanced_accuracy")
"""What the tables show."""

UNTOUCHED = ("--config.eval.test=0", "--config.monitor.pictures=0")
"""Knobs of runs that are to be chosen from: who sees test chooses on test."""


@dataclasses.dataclass(frozen=True, slots=True)
class Run:
    """One training: its recipe, its work directory, and overrides such as `--config.seed=1`."""

    recipe: str
    workdir: Path
    overrides: tuple[str, ...]


def parse(parser: argparse.ArgumentParser, arguments: list[str]) -> tuple[argparse.Namespace, tuple[str, ...]]:
    """(options, overrides): arguments of the form --config.KNOB=VALUE go to every run; any other unknown one is an
    error."""
    options, rest = parser.parse_known_args(arguments)
    if wrong := [arg for arg in rest if not (arg.startswith("--config.") and "=" in arg)]:
        raise ConfigError(f"{parser.prog}: unexpected {wrong[0]!r}; knobs have the form --config.NAME=VALUE")
    return options, tuple(rest)


def config(recipe: str, overrides: Sequence[str]) -> Config:
    """The config of `recipe` with these overrides. Raises `ConfigError` unless it is valid: before hours of training,
    not after."""
    from emojax import wiring

    found = knobs(recipe, overrides)
    wiring.check_model(found)
    return found


def knobs(recipe: str, overrides: Sequence[str]) -> Config:
    """As `config`, for overrides that cannot make another model, whose check may take seconds."""
    from emojax.main import config_from
    from emojax.validate import validate

    return validate(config_from([f"--config={recipe}", *overrides]))


def make_folder(folder: Path) -> None:
    """Makes `folder`, and `runs/`; any other missing parent is an error, as for a training's --workdir."""
    if not folder.parent.is_dir() and folder.parent != Path("runs"):
        raise WorkdirError(f"--workdir={folder}: its parent folder {folder.parent} does not exist; create it first")
    folder.mkdir(parents=True, exist_ok=True)


def start(run: Run) -> subprocess.Popen[bytes]:
    """Starts a training in a process of its own, so that one run's memory and devices are free before the next."""
    command = [sys.executable, "-m", "emojax.main", f"--config={run.recipe}", f"--workdir={run.workdir}"]
    return subprocess.Popen([*command, *run.overrides])  # noqa: S603 (our own interpreter)


def check(run: Run, code: int) -> None:
    """Raises `TrainingError` when a training ended with another exit code than 0; the earlier runs stay as they are."""
    if code:
        error = TrainingError(f"{run.workdir} ended with exit code {code}, see above; finished runs are kept")
        error.exit_code = code  # a bad knob stays a bad knob, whoever started the run
        raise error


def train(run: Run) -> None:
    """Trains; a finished run says so and is over at once. Raises `TrainingError` when it fails."""
    with start(run) as process:
        code = process.wait()
    check(run, code)


def train_all(wanted: Sequence[Run], *, jobs: int) -> list[bool]:
    """Trains, `jobs` at a time, each on cores of its own; returns which runs came to their end: the others diverged.

    Raises `TrainingError` when one fails otherwise; those that are at work then end first, and no other is begun.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    shares: queue.SimpleQueue[list[int]] = queue.SimpleQueue()
    for i in range(jobs):
        shares.put(cores[i * len(cores) // jobs : (i + 1) * len(cores) // jobs])

    def one(run: Run) -> bool:
        sys.stderr.write(f"\n{run.workdir}\n")
        try:
            train(run)
        except TrainingError as error:
            if error.exit_code != TrainingError.exit_code:
                raise
            return False
        return True

    def take_cores() -> None:
        if jobs > 1 and (share := shares.get()):
            os.sched_setaffinity(0, share)  # of this thread; what it starts inherits them

    with ThreadPoolExecutor(jobs, initializer=take_cores) as pool:
        try:
            return list(pool.map(one, wanted))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def seeds(text: str) -> list[int]:
    """The value of --seeds."""
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"--seeds={text}: expected whole numbers with commas between them, such as 0,1,2") from error
    if len(set(found)) < len(found):
        raise ConfigError(f"--seeds={text}: every seed once")
    return found


def result(workdir: Path) -> dict[str, Any]:
    """What tables are made of: the numbers of val and, where there is one, test; seconds and parameters."""
    found: dict[str, Any] = {}
    for split in ("val", "test"):
        if report := numbers(workdir, split):
            found[split] = {name: report[name] for name in (*NUMBERS, "loss", "n", "step", "slices")}
            found["seconds"] = report["seconds"]
    text = (workdir / "parameters.txt").read_text(encoding="utf-8").rstrip().rpartition("\n")[2]
    found["parameters"] = int(text.split()[1].replace(",", ""))  # `Total: 1,234 -- 4,936 bytes`
    return found


def numbers(workdir: Path, split: str) -> dict[str, Any]:
    """Content of WORKDIR/report/SPLIT.json, {} where the run has no such split."""
    path = workdir / "report" / f"{split}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def mean_std(values: Sequence[float], *, percent: bool = True) -> str:
    """`61.3 ± 0.4` (sample standard deviation), or the value alone for one run."""
    scale, digits = (100, 1) if percent else (1, 3)
    mean = f"{scale * statistics.mean(values):.{digits}f}"
    return f"{mean} ± {scale * statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


BRACKETS = "Brackets are 95 % intervals."
"""Below a table with `bracketed` numbers."""


def bracketed(value: float, bounds: Sequence[float], *, percent: bool = True) -> str:
    """`61.3 [58.9, 63.6]`."""
    scale, digits = (100, 1) if percent else (1, 3)
    number, low, high = (f"{scale * x:.{digits}f}" for x in (value, *bounds))
    return f"{number} [{low}, {high}]"


def markdown(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose source is aligned, so that it reads well in a terminal too; the first column is text."""
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        aligned = (f"{c:<{w}}" if i == 0 else f"{c:>{w}}" for i, (c, w) in enumerate(zip(cells, widths, strict=True)))
        return f"| {' | '.join(aligned)} |"

    rule = [("-" * w) if i == 0 else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    return "\n".join([line(titles), f"| {' | '.join(rule)} |", *map(line, rows)])
