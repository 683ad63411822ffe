"""`emojax kfold`: stratified cross-validation of a recipe: K trainings, their table, predictions out of fold."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

import numpy as np

from emojax.cli import runs
from emojax.config import DataConfig
from emojax.errors import ConfigError, TrainingError

CAVEAT = "each model's epoch was chosen on its own fold, so these numbers are a little too good"


def main(arguments: list[str]) -> int:
    """Trains the folds that are not finished, then prints the table and writes the predictions of every record by the
    model that did not see it to WORKDIR/out-of-fold.csv, with a report beside it."""
    parser = argparse.ArgumentParser(
        prog="emojax kfold",
        description=__doc__,
        epilog="train and val are cut into folds together, copies in one fold; test, where there is one, stays out. "
        "--config.data.group_column=COLUMN keeps the records of one person or video in one fold.",
    )
    parser.add_argument("--config", required=True, metavar="RECIPE.py[:VARIANT]", help="as for emojax train")
    parser.add_argument("--workdir", required=True, help="folder; fold i is trained in WORKDIR/foldI")
    parser.add_argument("--folds", type=int, default=5, help="how many (default: 5)")
    options, overrides = runs.parse(parser, arguments)
    if options.folds < 2:
        raise ConfigError(f"--folds={options.folds}: expected 2 or more")
    folder = Path(options.workdir)
    config = runs.config(options.config, (*overrides, f"--config.data.folds={options.folds}"))
    _check_counts(config.data, options.folds)
    runs.make_folder(folder)
    places = [folder / f"fold{i + 1}" for i in range(options.folds)]
    wanted = [
        runs.Run(options.config, place, (*overrides, f"--config.data.folds={options.folds}", f"--config.data.fold={i}"))
        for i, place in enumerate(places)
    ]
    ended = runs.train_all(wanted, jobs=1)
    if lost := [place.name for place, whole in zip(places, ended, strict=True) if not whole]:
        raise TrainingError(
            f"diverged: {', '.join(lost)}; predictions of every record need all folds. The others are finished: "
            f"{folder}/fold*/report"
        )
    _combine(folder, places, arguments)
    return 0


def _check_counts(source: DataConfig, k: int) -> None:
    """Refuses too many folds by what the files list, before an image is read."""
    from emojax.data import folds, sources

    dataset = sources.read(source)
    label = np.concatenate([split.label for name, split in dataset.splits.items() if name in ("train", "val")])
    folds.check(label, k=k, class_names=dataset.class_names, where=source.path)


def _leaked(places: list[Path]) -> dict[str, frozenset[str]] | None:
    """The records of all folds whose picture their model was trained with; None where a fold was not looked at."""
    from emojax import data, workdir

    checks = [runs.numbers(place, "val").get("leak_check") or {} for place in places]
    if not all(check.get("checked") for check in checks):
        return None
    found: set[str] = set()
    for place, check in zip(places, checks, strict=True):
        if check["leaked"]:  # the report has the count alone
            opened = data.open_dataset(workdir.read_config(place).data, cache=place / "data_check.json")
            found.update((opened.leaked or {}).get("val", ()))
    return {"all": frozenset(found)}


def _combine(folder: Path, places: list[Path], arguments: list[str]) -> None:
    from emojax import combine, intervals, metrics, predictions_csv, report

    found = [predictions_csv.of_run(place, "val") for place in places]
    names = found[0][1]
    whole = combine.out_of_fold([predictions for predictions, _ in found])
    judged, bounds = metrics.evaluate(whole, names), intervals.of(whole)
    predictions_csv.write(folder / "out-of-fold.csv", whole, names)
    first = runs.numbers(places[0], "val")
    info = report.RunInfo(
        dataset=first["dataset"],
        step=first["step"],
        result=f"{len(places)} models, one per fold; of the first: {first['result']}",
        selected_by=first["selected_by"],
        seed=first["seed"],
        views=first["views"],
        notes=(CAVEAT,),
        leaked=_leaked(places),
        command=f"emojax kfold {shlex.join(arguments)}",
    )
    report.write(
        folder / "report",
        split="all",
        report=judged,
        bounds=bounds,
        predictions=whole,
        history=[],
        run=info,
    )
    reports = [runs.numbers(place, "val") for place in places]
    rows = [
        [
            place.name,
            *(runs.bracketed(numbers[key], numbers["intervals"][key]) for key in runs.NUMBERS),
            f"{numbers['n']:,}",
        ]
        for place, numbers in zip(places, reports, strict=True)
    ]
    rows.append(["mean ± std", *(runs.mean_std([r[key] for r in reports]) for key in runs.NUMBERS), ""])
    pooled = [runs.bracketed(judged.number(key), bounds.numbers[key]) for key in runs.NUMBERS]
    rows.append(["out of fold", *pooled, f"{judged.n:,}"])
    titles = ["fold", *(f"{metrics.text(key)} %" for key in runs.NUMBERS), "images"]
    sys.stdout.write(
        f"{runs.markdown(titles, rows)}\n\n{runs.BRACKETS}\n{CAVEAT}\n"
        f"out-of-fold predictions: {folder / 'out-of-fold.csv'}\n"
    )
