"""`emojax ablate`: a recipe and one change of it at a time, on the same seeds: what does each part do?"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emojax import comparison, metrics, predictions_csv, recipes
from emojax.cli import parts, runs
from emojax.cli.parts import BASE, Change
from emojax.comparison import OverSeeds
from emojax.errors import ConfigError, TrainingError
from emojax.files import write_json, write_text


def main(arguments: list[str]) -> int:
    """Trains what is not finished yet, then prints the table and writes it to WORKDIR/ablate.md and ablate.json."""
    parser = argparse.ArgumentParser(
        prog="emojax ablate",
        description=__doc__,
        epilog="--config.KNOB=VALUE applies to every run, the base too. All are judged on val; a run leaves test alone "
        "unless --test is given. The same command again goes on where it stopped, with more changes or seeds too.",
    )
    parser.add_argument("--config", required=True, metavar="RECIPE.py[:VARIANT]", help="the base")
    parser.add_argument("--workdir", required=True, help="folder; every run gets WORKDIR/CHANGE/seedN")
    parser.add_argument("--change", action="append", default=[], metavar="CHANGE", help=f"{parts.FORM}; repeatable")
    parser.add_argument("--auto", action="store_true", help="also each part of the recipe that is on, switched off")
    parser.add_argument("--seeds", default="0,1,2", help="comma-separated seeds (default: 0,1,2)")
    parser.add_argument("--test", action="store_true", help="judge every run on test too, once")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, each on cores of its own (default: 1)")
    parser.add_argument("--list", action="store_true", help="only say what would be trained")
    options, overrides = runs.parse(parser, arguments)
    seeds = runs.seeds(options.seeds)
    if options.jobs < 1:
        raise ConfigError(f"--jobs={options.jobs}: expected 1 or more")
    overrides = overrides if options.test else (*overrides, *runs.UNTOUCHED)
    changes = _changes(options, overrides)
    if options.list:
        for change in changes:
            variant = [] if change.variant is None else [f":{change.variant}"]
            sys.stdout.write(f"{change.name}: {' '.join((*variant, *change.flags))}\n")
        sys.stdout.write(f"with the base {(1 + len(changes)) * len(seeds)} runs\n")
        return 0
    folder = Path(options.workdir)
    runs.make_folder(folder)
    wanted = [
        runs.Run(
            _recipe(options.config, change), _place(folder, change, seed), (*overrides, *change.flags, _seed(seed))
        )
        for change in (BASE, *changes)
        for seed in seeds
    ]
    for run in wanted:
        run.workdir.parent.mkdir(exist_ok=True)
    diverged = {
        run.workdir for run, ended in zip(wanted, runs.train_all(wanted, jobs=options.jobs), strict=True) if not ended
    }
    if lost := [seed for seed in seeds if _place(folder, BASE, seed) in diverged]:
        raise TrainingError(f"the base diverged with the seeds {', '.join(map(str, lost))}: nothing to compare with")
    splits = ("val", "test") if options.test and runs.numbers(_place(folder, BASE, seeds[0]), "test") else ("val",)
    rows = [_row(folder, change, seeds, splits, diverged) for change in (BASE, *changes)]
    metric = runs.knobs(options.config, overrides).eval.metric
    text = _page(rows, metric, splits, seeds)
    write_json(
        folder / "ablate.json",
        {"recipe": options.config, "overrides": overrides, "seeds": seeds, "metric": metric, "rows": rows},
    )
    write_text(folder / "ablate.md", text + "\n")
    sys.stdout.write(f"\n{text}\n")
    return 0


def _changes(options: argparse.Namespace, overrides: Sequence[str]) -> list[Change]:
    """All changes, each of which makes a valid recipe; says which of the automatic ones do not."""
    base = runs.config(options.config, overrides)
    changes = [parts.parse(text) for text in options.change]
    for change in changes:
        runs.config(_recipe(options.config, change), (*overrides, *change.flags))
    for change in parts.switched_off(base) if options.auto else ():
        try:
            runs.knobs(options.config, (*overrides, *change.flags))
        except ConfigError as error:  # another part of the recipe needs it
            sys.stderr.write(f"left out, {change.name}: {error}\n")
        else:
            changes.append(change)
    if not changes:
        raise ConfigError("nothing to change: give --change=KNOB=VALUE, or --auto for a recipe with parts")
    names = [change.folder for change in (BASE, *changes)]
    if twice := next((name for name in names if not name or names.count(name) > 1), None):
        raise ConfigError(f"two changes are called the same, {twice!r}")
    return changes


def _recipe(reference: str, change: Change) -> str:
    if change.variant is None:
        return reference
    return recipes.split(reference)[0] + (change.variant and f":{change.variant}")


def _place(folder: Path, change: Change, seed: int) -> Path:
    return folder / change.folder / f"seed{seed}"


def _seed(seed: int) -> str:
    return f"--config.seed={seed}"


def _row(
    folder: Path, change: Change, seeds: Sequence[int], splits: Sequence[str], diverged: set[Path]
) -> dict[str, Any]:
    """What ablate.json holds of one change: its runs, and per split the numbers beside those of the base."""
    places = [_place(folder, change, seed) for seed in seeds]
    row: dict[str, Any] = {"change": change.name, "knobs": dict(change.knobs), "variant": change.variant}
    row |= {"folder": change.folder, "diverged": [s for s, p in zip(seeds, places, strict=True) if p in diverged]}
    row["runs"] = [{} if place in diverged else runs.result(place) for place in places]
    if not row["diverged"]:
        base = [_place(folder, BASE, seed) for seed in seeds]
        row["differences"] = {split: _differences(base, places, split) for split in splits}
    return row


def _differences(base: Sequence[Path], places: Sequence[Path], split: str) -> dict[str, OverSeeds]:
    found = [[predictions_csv.of_run(place, split)[0] for place in group] for group in (base, places)]
    return {row.name: row for row in comparison.over_seeds(*found)}


def _page(rows: Sequence[dict[str, Any]], metric: str, splits: Sequence[str], seeds: Sequence[int]) -> str:
    """The table, and what it means."""
    shown = list(dict.fromkeys((metric, "accuracy", "macro_f1")))
    titles = ["recipe", *(title for split in splits for title in _titles(split, metric, shown))]
    cells = [[row["change"], *(cell for split in splits for cell in _cells(row, split, metric, shown))] for row in rows]
    n = rows[0]["runs"][0]["val"]["n"]
    drawn = f"{len(seeds)} seeds ({', '.join(map(str, seeds))})" if len(seeds) > 1 else f"one seed ({seeds[0]})"
    lines = [
        runs.markdown(titles, cells),
        f"\nMean ± standard deviation over {drawn}. A difference is that of the means, change minus base, with its "
        f"paired 95 % bootstrap interval over {'seeds and images' if len(seeds) > 1 else 'images'} ({n:,} of val, on "
        "which every run also chose its checkpoint).",
    ]
    if len(seeds) == 1:
        lines.append("One seed says nothing of the chance of training: give --seeds=0,1,2 or more.")
    elif len(seeds) < 3:
        lines.append("Two seeds say little of the chance of training, so their intervals are wide: three or more.")
    if len(rows) > 2:
        lines.append(
            f"Of {len(rows) - 1} changes that do nothing, {0.05 * (len(rows) - 1):.2g} are called better or worse on "
            "average, by chance."
        )
    return "\n".join(lines)


def _titles(split: str, metric: str, shown: Sequence[str]) -> list[str]:
    unit = {name: "" if name in metrics.LOWER_IS_BETTER else " %" for name in shown}
    columns = [f"{split} {metrics.text(name)}{unit[name]}" for name in shown]
    return [*columns, f"difference, {metrics.text(metric)}", "95 % interval", ""]


def _cells(row: dict[str, Any], split: str, metric: str, shown: Sequence[str]) -> list[str]:
    if row["diverged"]:
        return [*("–" for _ in shown), "", "", f"diverged, seed {', '.join(map(str, row['diverged']))}"]
    values = {name: [run[split][name] for run in row["runs"]] for name in shown}
    percent = {name: name not in metrics.LOWER_IS_BETTER for name in shown}
    numbers = [runs.mean_std(values[name], percent=percent[name]) for name in shown]
    if row["change"] == BASE.name:
        return [*numbers, "", "", ""]
    found = row["differences"][split][metric]
    scale, digits = (100, 1) if percent[metric] else (1, 3)
    change, low, high = (f"{scale * value:+.{digits}f}" for value in (found.b - found.a, found.low, found.high))
    better = (found.low > 0) == percent[metric]
    return [*numbers, change, f"{low} to {high}", ("better" if better else "worse") if found.clear else "–"]
