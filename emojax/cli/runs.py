"""Several trainings in one command: what `study` and `kfold` share."""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emojax.config import Config
from emojax.errors import ConfigError, TrainingError, WorkdirError

NUMBERS = ("accuracy", "macro_f1", "balanced_accuracy")
"""What the tables show."""


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
    from emojax.main import config_from
    from emojax.validate import validate

    found = validate(config_from([f"--config={recipe}", *overrides]))
    wiring.check_model(found)
    return found


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


def numbers(workdir: Path, split: str) -> dict[str, Any]:
    """Content of WORKDIR/report/SPLIT.json, {} where the run has no such split."""
    path = workdir / "report" / f"{split}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def mean_std(values: Sequence[float], *, percent: bool = True) -> str:
    """`61.3 ± 0.4` (sample standard deviation), or the value alone for one run."""
    scale, digits = (100, 1) if percent else (1, 3)
    mean = f"{scale * statistics.mean(values):.{digits}f}"
    return f"{mean} ± {scale * statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def markdown(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose source is aligned, so that it reads well in a terminal too; the first column is text."""
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        aligned = (f"{c:<{w}}" if i == 0 else f"{c:>{w}}" for i, (c, w) in enumerate(zip(cells, widths, strict=True)))
        return f"| {' | '.join(aligned)} |"

    rule = [("-" * w) if i == 0 else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    return "\n".join([line(titles), f"| {' | '.join(rule)} |", *map(line, rows)])
