"""`emojax study`: trains several recipes with several seeds and prints one table, mean ± standard deviation."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from emojax import recipes
from emojax.cli import runs
from emojax.errors import ConfigError
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
    for recipe, name in zip(options.recipes, names, strict=True):
        (folder / name).mkdir(exist_ok=True)
        for seed in seeds:
            sys.stderr.write(f"\n{name}, seed {seed}\n")
            runs.train(runs.Run(recipe, folder / name / f"seed{seed}", (*overrides, f"--config.seed={seed}")))
    found = {name: [runs.result(folder / name / f"seed{seed}") for seed in seeds] for name in names}
    table = _table(found)
    write_json(folder / "study.json", {"seeds": seeds, "overrides": overrides, "runs": found})
    write_text(folder / "study.md", table + "\n")
    sys.stderr.write("\n")
    sys.stdout.write(table + "\n")
    return 0


def _name(recipe: str) -> str:
    file, variant = recipes.split(recipe)
    return Path(file).stem + (f"-{variant}" if variant else "")


def _table(found: dict[str, list[dict]]) -> str:
    splits = [split for split in ("val", "test") if all(split in run for group in found.values() for run in group)]
    titles = ["recipe", "parameters", *(f"{split} {text} %" for split in splits for text in ("accuracy", "macro-F1"))]
    titles += ["seconds", "runs"]
    best = max(found, key=lambda name: sum(run["val"]["accuracy"] for run in found[name]) / len(found[name]))
    rows = []
    for name, group in found.items():
        cells = [f"**{name}**" if name == best and len(found) > 1 else name, f"{group[0]['parameters']:,}"]
        for split in splits:
            cells += [runs.mean_std([run[split][key] for run in group]) for key in ("accuracy", "macro_f1")]
        seconds = sum(run["seconds"] for run in group) / len(group)
        rows.append([*cells, f"{seconds:.0f}", str(len(group))])
    note = "\n\nBold: the highest accuracy on val." if len(found) > 1 else ""
    return runs.markdown(titles, rows) + note
