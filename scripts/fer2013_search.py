"""A search for the FER2013 recipes on a part of train: docs/fer2013_search.json, which docs/fer2013.md shows.

    python scripts/fer2013_search.py --data=FOLDER --runs=FOLDER            # every arm that has not been measured
    python scripts/fer2013_search.py votes --data=FOLDER --runs=FOLDER

FOLDER of `--data` holds FER2013's train.parquet with FER+'s votes. A tenth of it becomes the dev set, RUNS/dev;
pictures that occur twice stay in train. Every arm is fer2013_15min.py at 7 + 9 epochs with one thing changed; val is
not opened.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from fer2013_page import SEARCH

from emojax import files

ARMS: dict[str, tuple[str, tuple[str, ...]]] = {
    "base": ("`fer2013_15min` at 7 + 9 epochs", ()),
    "votes": (
        "half of a label from FER+'s votes, no smoothing",
        ("data.vote_columns=('votes',)", "data.vote_weight=0.5", "loss.smoothing=0.0"),
    ),
    "pixels": ("64 px in the second stage", ("stages[1].image_size=64",)),
    "wide": (
        "two blocks in each stage, widths 48 to 384",
        ("model.depths=(2,2,2,2)", "model.widths=(48,96,192,384)", "average.decay=0.999"),
    ),
}
"""name -> (what it is, changed knobs)."""
_BASE = (
    "stages[0].epochs=7",
    "stages[1].epochs=9",
    "eval.every_epochs=4",
    "data.leak_check=0",
    "data.slice_columns=()",
)


def cut(data: Path, folder: Path) -> Path:
    """The folder with dev as val."""
    from pyarrow import parquet

    if (folder / "val.parquet").is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    table = parquet.read_table(data / "train.parquet")
    known = [hashlib.sha256(image["bytes"]).hexdigest() for image in table["image"].to_pylist()]
    names, which, count = np.unique(known, return_inverse=True, return_counts=True)
    dev = (np.random.default_rng(0).random(len(names)) < 0.1)[which] & (count[which] == 1)
    for name, chosen in (("train", ~dev), ("val", dev)):
        parquet.write_table(table.filter(chosen), folder / f"{name}.parquet")
    return folder


def measured(name: str, *, data: Path, runs: Path) -> dict[str, Any]:
    """One arm: trained, or read where it is finished."""
    about, knobs = ARMS[name]
    workdir = runs / f"search-{name}"
    if not (workdir / "finished.json").is_file():
        changed = [f"--config.{knob}" for knob in (*_BASE, f"data.path={cut(data, runs / 'dev')}", *knobs)]
        recipe = [sys.executable, "-m", "emojax.cli", "train", "--config=fer2013_15min.py", f"--workdir={workdir}"]
        subprocess.run([*recipe, *changed], check=True)
    report = json.loads((workdir / "report/val.json").read_text())
    numbers = {key: report[key] for key in ("n", "accuracy", "macro_f1", "loss")}
    return {"about": about, "knobs": knobs, **numbers, "minutes": report["seconds"] / 60}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arms", nargs="*", choices=[*ARMS, []], help="default: those that are not in the record")
    parser.add_argument("--data", type=Path, required=True, help="folder of train.parquet")
    parser.add_argument("--runs", type=Path, required=True, help="folder of the runs, which stay")
    options = parser.parse_args()
    record = json.loads(SEARCH.read_text()) if SEARCH.exists() else {}
    for name in options.arms or [name for name in ARMS if name not in record]:
        record[name] = measured(name, data=options.data, runs=options.runs)
        files.write_json(SEARCH, record)
        print(name, json.dumps(record[name]), flush=True)


if __name__ == "__main__":
    main()
