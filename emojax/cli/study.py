"""`emojax study`: trains several recipes with several seeds and prints one table, mean ± standard deviation."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emojax import recipes
from emojax.cli import runs
from emojax.errors import ConfigError, TrainingError
from emojax.files import write_json, write_text


def main(arguments: list[str]) -> int:
    """Trains what is not finished yet, then prints the table and writes it to WORKDIR/study.md and study.json."""
    parser = argparse.ArgumentParser(
        prog="emojax study",
        description=__doc__,
        epilog="--config.KNOB=VALUE applies to every run. The same command again goes on where it stopped.",
    )
    parser.add_argument("recipes", nargs="+", metavar="RECIPE.py[:VARIANT]", help="as for --config of emojax train")
    parser.add_argument("--workdir", required=True, help="folder; every run gets WORKDIR/RECIPE-VARIANT/seedN")
    parser.add_argument("--seeds", default="0", help="comma-separated seeds (default: 0)")
    options, overrides = runs.parse(parser, arguments)
    seeds = runs.seeds(options.seeds)
    names = [_name(recipe) for recipe in options.recipes]
    if len(set(names)) < len(names):
        raise ConfigError(f"two of the recipes are called the same: {', '.join(names)}")
    for recipe in options.recipes:
        runs.config(recipe, overrides)
    folder = Path(options.workdir)
    runs.make_folder(folder)
    wanted = [
        runs.Run(recipe, folder / name / f"seed{seed}", (*overrides, f"--config.seed={seed}"))
        for recipe, name in zip(options.recipes, names, strict=True)
        for seed in seeds
    ]
    for run in wanted:
        run.workdir.parent.mkdir(exist_ok=True)
    ended = iter(runs.train_all(wanted, jobs=1))
    found = {
        name: [runs.result(folder / name / f"seed{seed}") if next(ended) else {} for seed in seeds] for name in names
    }
    if not any(run for group in found.values() for run in group):
        raise TrainingError("every run of the study has diverged, see above")
    table = _table(found, seeds)
    write_json(folder / "study.json", {"seeds": seeds, "overrides": overrides, "runs": found})
    write_text(folder / "study.md", table + "\n")
    sys.stderr.write("\n")
    sys.stdout.write(table + "\n")
    return 0


def _name(recipe: str) -> str:
    file, variant = recipes.split(recipe)
    return Path(file).stem + (f"-{variant}" if variant else "")


def _table(found: Mapping[str, Sequence[dict[str, Any]]], seeds: Sequence[int]) -> str:
    """`found` is recipe → what each of its runs came to, {} for one that diverged; such a recipe is not called best."""
    ended = {name: [run for run in group if run] for name, group in found.items()}
    splits = [split for split in ("val", "test") if all(split in run for group in ended.values() for run in group)]
    titles = ["recipe", "parameters", *(f"{split} {text} %" for split in splits for text in ("accuracy", "macro-F1"))]
    titles += ["seconds", "runs"]
    whole = {
        name: sum(run["val"]["accuracy"] for run in group) / len(group)
        for name, group in ended.items()
        if all(found[name])
    }
    best = max(whole, key=lambda name: whole[name], default="")
    rows, lost = [], False
    for name, group in ended.items():
        diverged = [str(seed) for seed, run in zip(seeds, found[name], strict=True) if not run]
        count = f"{len(group)}; diverged, seed {', '.join(diverged)}" if diverged else str(len(group))
        lost = lost or bool(diverged)
        if not group:
            rows.append([name, *["–"] * (len(titles) - 2), count])
            continue
        cells = [f"**{name}**" if name == best and len(found) > 1 else name, f"{group[0]['parameters']:,}"]
        for split in splits:
            cells += [runs.mean_std([run[split][key] for run in group]) for key in ("accuracy", "macro_f1")]
        seconds = sum(run["seconds"] for run in group) / len(group)
        rows.append([*cells, f"{seconds:.0f}", count])
    notes = ["Bold: the highest accuracy on val."] if best and len(found) > 1 else []
    if lost:
        notes.append("Where a run diverged, the numbers are of the others and flatter the recipe.")
    return "\n\n".join([runs.markdown(titles, rows), *notes])
