"""`emojax ensemble`: averages the predictions of several trained models and judges the result."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emojax.types import Predictions

    Member = tuple[str, Predictions, tuple[str, ...]]
    """(name, predictions, class names)."""


def main(arguments: list[str]) -> int:
    """Prints the numbers of every member and of the ensemble, on the split they share."""
    parser = argparse.ArgumentParser(prog="emojax ensemble", description=__doc__)
    parser.add_argument("workdirs", nargs="+", metavar="WORKDIR", help="folders of finished runs")
    parser.add_argument("--split", default="val", choices=("val", "test"), help="what is judged (default: val)")
    parser.add_argument("--average", default="probs", choices=("probs", "logits"), help="default: probs")
    parser.add_argument(
        "--checkpoints",
        type=int,
        default=0,
        metavar="N",
        help="the N best checkpoints of every run instead of its result; a run keeps config.checkpoint.keep_best of "
        "them (default: 0, its result)",
    )
    parser.add_argument("--out", default="", help="CSV file for the ensemble's predictions; default: only print")
    options = parser.parse_args(arguments)

    from emojax import combine, intervals, metrics, predictions_csv, workdir
    from emojax.cli import runs
    from emojax.errors import ConfigError

    if options.checkpoints < 0:
        raise ConfigError(f"--checkpoints={options.checkpoints}: expected 0 or more")
    if len({Path(name).resolve() for name in options.workdirs}) < len(options.workdirs):
        raise ConfigError("an ensemble needs different runs; one is named twice")
    if len(options.workdirs) * max(1, options.checkpoints) < 2:
        raise ConfigError("an ensemble needs two or more members: more runs, or --checkpoints=N of one")
    members: list[Member] = []
    owners: list[Path] = []
    for place in map(Path, options.workdirs):
        if options.checkpoints:
            members += _checkpoints(place, options.split, options.checkpoints)
        else:
            members.append((str(place), *predictions_csv.of_run(place, options.split)))
        owners += [place] * (len(members) - len(owners))
    names, predictions, classes = zip(*members, strict=True)
    together = combine.combine(predictions, how=options.average, class_names=classes, names=names)
    judged = [metrics.evaluate(item, classes[0]) for item in (*predictions, together)]
    bounds = [intervals.of(item).numbers for item in (*predictions, together)]
    rows = [
        [
            name,
            *(runs.bracketed(report.number(key), limits[key]) for key in runs.NUMBERS),
            runs.bracketed(report.loss, limits["loss"], percent=False),
            f"{report.n:,}",
        ]
        for name, report, limits in zip([*names, "ensemble"], judged, bounds, strict=True)
    ]
    titles = [f"on {options.split}", *(f"{metrics.text(key)} %" for key in runs.NUMBERS), "loss", "images"]
    sys.stdout.write(runs.markdown(titles, rows) + f"\n\n{runs.BRACKETS}\n")
    if options.split == "test":  # whoever picks members by such a table has chosen on test
        command = f"emojax ensemble {shlex.join(arguments)}"
        told = {
            place: workdir.noted_test(place, command, report.accuracy)
            for place, report in zip(owners, judged[:-1], strict=True)
        }
        sys.stdout.writelines(f"\n{place}: {line}\n" for place, lines in told.items() for line in lines)
    if options.out:
        predictions_csv.write(Path(options.out), together, classes[0])
        sys.stdout.write(f"\npredictions: {options.out}\n")
    return 0


def _checkpoints(workdir: Path, split: str, count: int) -> list[Member]:
    """The `count` best checkpoints of a run as members; they predict now."""
    from emojax import checkpoint, data
    from emojax.errors import CheckpointError, DataError
    from emojax.predict import load

    steps = checkpoint.kept_steps(workdir)
    if len(steps) < count:
        raise CheckpointError(
            f"{workdir} keeps {len(steps)} judged checkpoints, not {count}; train with "
            f"--config.checkpoint.keep_best={count}"
        )
    classifiers = [load(workdir, which=str(step)) for step in steps[:count]]
    config = classifiers[0].config
    splits = data.open_dataset(config.data, cache=workdir / "data_check.json").splits
    if split not in splits:
        raise DataError(f"{workdir}: its data have no {split} split; there are {', '.join(splits)}")
    return [
        (f"{workdir}, update {each.step:,}", each.predict_split(splits[split]), each.class_names)
        for each in classifiers
    ]
