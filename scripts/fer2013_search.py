"""A search for the FER2013 recipes on a part of train: docs/fer2013_search.json, which docs/fer2013.md shows.

    python scripts/fer2013_search.py --data=FOLDER --runs=FOLDER            # every arm that has not been measured
    python scripts/fer2013_search.py wide --data=FOLDER --runs=FOLDER

FOLDER of `--data` holds FER2013's train.parquet. A tenth of it becomes the dev set, RUNS/dev; pictures that occur twice
stay in train. Every arm is fer2013_15min.py at 7 + 9 epochs, seed 0, with the knobs changed that `ARMS` tells, the
epochs too, judged on dev at the best of its evaluations there; val is not opened. Arms are compared with `base` picture
by picture.
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
from fer2013_pairs import differences, near_copies, numbers

from emojax import files
from emojax.config import DataConfig

_STRONG = (
    "augment.rotate=15",
    "augment.translate=0.1",
    "augment.zoom=0.15",
    "augment.brightness=0.2",
    "augment.contrast=0.3",
    "augment.erase=0.4",
    "augment.erase_area=(0.02,0.2)",
)
_LONG = ("stages[0].epochs=14", "stages[1].epochs=18", "eval.every_epochs=8")
ARMS: dict[str, tuple[str, ...]] = {
    "base": (),
    "wide": ("model.depths=(2,2,2,2)", "model.widths=(48,96,192,384)", "average.decay=0.999"),
    "pixels": ("stages[1].image_size=64",),
    "augment": _STRONG,
    "deep": ("model.depths=(2,2,2,2)",),
    "sam": ("optim.sam=0.1",),
    "long": _LONG,
    "long_augment": (*_LONG, *_STRONG),
    "again": (),
    "muon": ("optim.name=muon", "optim.learning_rate=0.003", "optim.weight_decay=0.1"),
    "attention": ("model.head=mlp", "model.head_attention=tokens"),
    "convnext": (
        "model.name=convnext_atto",
        "model.stem=small",
        "model.depths=()",
        "model.widths=()",
        "optim.name=adamw",
        "optim.learning_rate=0.002",
        "optim.weight_decay=0.05",
    ),
    "emote_lite": ("model.head=emote_lite",),
    "hard": ("loss.smoothing=0",),
    "last": ("average.name=none",),
    "swa": ("average.name=swa", "average.swa_start=11"),
    "mixup": ("augment.mixup=0.2",),
    "ten": ("eval.views=ten",),
}
"""name -> changed knobs."""
ENSEMBLES = {"ensemble": ("base", "wide", "pixels"), "ensemble_long": ("long", "long_augment")}
"""name -> arms whose probabilities are averaged; nothing is trained."""
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


_AGAIN = """from emojax import recipes
from emojax.config import DistillConfig, ScheduleConfig, StageConfig


def get_config():
    config = recipes.load("fer2013_15min.py")
    config.distill = DistillConfig(alpha=0.7, temperature=1.0, teacher="best")
    once = (StageConfig(epochs=7, image_size=32), StageConfig(epochs=9, image_size=48))
    again = (
        StageConfig(epochs=7, image_size=32, distill=1, restart=".*", fresh=1),
        StageConfig(epochs=9, image_size=48, distill=1),
    )
    config.stages = (*once, *again)
    config.schedule = ScheduleConfig(name="restarts", first_epochs=14.5, multiply=16 / 14.5, warmup_epochs=1.5)
    return config
"""
AGAIN = (
    "distill=(alpha=0.7,temperature=1,teacher=best)",
    "stages[2]=(epochs=7,image_size=32,distill=1,restart=.*,fresh=1)",
    "stages[3]=(epochs=9,image_size=48,distill=1)",
    "schedule=(name=restarts,first_epochs=14.5,multiply=16/14.5,warmup_epochs=1.5)",
)
"""What `_AGAIN` changes, in short, for the record: a second network, which starts from nothing and learns from the
first too (Furlanello et al. 2018, arXiv:1805.04770)."""


def trained(name: str, *, data: Path, runs: Path) -> None:
    """Trains an arm; one that is finished says so, and one with other knobs in its place is refused."""
    if not (runs / "dev/val.parquet").is_file():
        cut(data, runs / "dev")
    changed = [f"--config.{knob}" for knob in (*_BASE, f"data.path={runs / 'dev'}", *ARMS[name])]
    recipe = "fer2013_15min.py"
    if name == "again":
        files.write_text(runs / "again.py", _AGAIN)
        recipe = str(runs / "again.py")
    where = [f"--config={recipe}", f"--workdir={runs / f'search-{name}'}"]
    subprocess.run([sys.executable, "-m", "emojax.cli", "train", *where, *changed], check=True)


def read(name: str, *, runs: Path) -> dict[str, Any]:
    """One arm's numbers, and what lies between them and those of `base`, with 95 % intervals; also without the pictures
    of which the arm's train has a near copy."""
    workdirs = [runs / f"search-{arm}" for arm in ENSEMBLES.get(name, (name,))]
    seconds = sum(json.loads((workdir / "report/val.json").read_text())["seconds"] for workdir in workdirs)
    base = runs / "search-base"
    copies = near_copies(DataConfig(path=str(runs / "dev")), cache=runs / "dev-check/check.json")
    found = {
        "knobs": list(AGAIN if name == "again" else ARMS.get(name, ())),
        "seed": 0,
        **numbers(*workdirs, without=frozenset()),
        "minutes": seconds / 60,
        "no_near_copies": numbers(*workdirs, without=copies),
    }
    if name != "base":
        found["more_than_base"] = differences(base, *workdirs)
        found["no_near_copies"]["more_than_base"] = differences(base, *workdirs, without=copies)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arms", nargs="*", metavar="arm", help="default: those that are not in the record")
    parser.add_argument("--data", type=Path, required=True, help="folder of train.parquet")
    parser.add_argument("--runs", type=Path, required=True, help="folder of the runs, which stay")
    options = parser.parse_args()
    if unknown := set(options.arms) - {*ARMS, *ENSEMBLES}:
        parser.error(f"no {', '.join(sorted(unknown))}; the arms are {', '.join((*ARMS, *ENSEMBLES))}")
    if not (options.data / "train.parquet").is_file():
        parser.error(f"--data: no train.parquet in {options.data}")
    record = json.loads(SEARCH.read_text()) if SEARCH.exists() else {}
    for name in options.arms or [name for name in (*ARMS, *ENSEMBLES) if name not in record]:
        if name in ARMS:
            trained(name, data=options.data, runs=options.runs)
        record[name] = read(name, runs=options.runs)
        files.write_json(SEARCH, record)
        print(name, json.dumps(record[name]), flush=True)


if __name__ == "__main__":
    main()
