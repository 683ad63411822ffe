"""A search for the FER2013 recipes on a part of train: docs/fer2013_search.json, which docs/fer2013.md shows.

    python scripts/fer2013_search.py --data=FOLDER --runs=FOLDER            # every arm that has not been measured
    python scripts/fer2013_search.py wide --data=FOLDER --runs=FOLDER

FOLDER of `--data` holds FER2013's train.parquet. A tenth of it becomes the dev set, RUNS/dev; pictures that occur twice
stay in train. Every arm is fer2013_15min.py at 7 + 9 epochs, seed 0, with the knobs changed that `ARMS` tells, judged
on dev at the best of its five evaluations there; val is not opened. Arms are compared with `base` picture by picture.
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

from emojax import comparison, files, predictions_csv

ARMS: dict[str, tuple[str, ...]] = {
    "base": (),
    "wide": ("model.depths=(2,2,2,2)", "model.widths=(48,96,192,384)", "average.decay=0.999"),
    "pixels": ("stages[1].image_size=64",),
}
"""name -> changed knobs."""
_BASE = (
    "stages[0].epochs=7",
    "stages[1].epochs=9",
    "eval.every_epochs=4",
    "data.leak_check=0",
    "data.slice_columns=()",
)


def cut(data: Path, folder: Path) -> None:
    """Writes `folder`: train.parquet, and dev as val.parquet; none of dev's pictures is in train."""
    import pyarrow
    from pyarrow import parquet

    folder.mkdir(parents=True, exist_ok=True)
    table = parquet.read_table(data / "train.parquet")
    known = [hashlib.sha256(image["bytes"]).hexdigest() for image in table["image"].to_pylist()]
    names, which, count = np.unique(known, return_inverse=True, return_counts=True)
    dev = (np.random.default_rng(0).random(len(names)) < 0.1)[which] & (count[which] == 1)
    for name, chosen in (("train", ~dev), ("val", dev)):
        buffer = pyarrow.BufferOutputStream()
        parquet.write_table(table.filter(chosen), buffer)
        files.write_bytes(folder / f"{name}.parquet", buffer.getvalue().to_pybytes())


def trained(name: str, *, data: Path, runs: Path) -> None:
    """Trains an arm; one that is finished says so, and one with other knobs in its place is refused."""
    if not (runs / "dev/val.parquet").is_file():
        cut(data, runs / "dev")
    changed = [f"--config.{knob}" for knob in (*_BASE, f"data.path={runs / 'dev'}", *ARMS[name])]
    recipe = ["--config=fer2013_15min.py", f"--workdir={runs / f'search-{name}'}"]
    subprocess.run([sys.executable, "-m", "emojax.cli", "train", *recipe, *changed], check=True)


def read(name: str, *, runs: Path) -> dict[str, Any]:
    """One arm's numbers, and what lies between them and those of `base`, with 95 % intervals."""
    workdir = runs / f"search-{name}"
    report = json.loads((workdir / "report/val.json").read_text())
    numbers = {key: report[key] for key in ("n", "accuracy", "macro_f1", "loss")}
    found = {"knobs": list(ARMS.get(name, ())), "seed": 0, **numbers, "minutes": report["seconds"] / 60}
    if name == "base":
        return found
    (first, classes), (second, _) = (predictions_csv.of_run(runs / f"search-{x}", "val") for x in ("base", name))
    pair = comparison.compare(first, second, classes)
    more = {x.name: [x.b - x.a, x.low, x.high] for x in pair.numbers if x.name in ("accuracy", "macro_f1", "loss")}
    return found | {"more_than_base": more, "mcnemar_p": pair.p}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arms", nargs="*", choices=[*ARMS, []], help="default: those that are not in the record")
    parser.add_argument("--data", type=Path, required=True, help="folder of train.parquet")
    parser.add_argument("--runs", type=Path, required=True, help="folder of the runs, which stay")
    options = parser.parse_args()
    record = json.loads(SEARCH.read_text()) if SEARCH.exists() else {}
    for name in options.arms or [name for name in ARMS if name not in record]:
        trained(name, data=options.data, runs=options.runs)
        record[name] = read(name, runs=options.runs)
        files.write_json(SEARCH, record)
        print(name, json.dumps(record[name]), flush=True)


if __name__ == "__main__":
    main()
