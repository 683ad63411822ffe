"""What the FER2013 recipes reach: docs/fer2013.json, and made from it docs/fer2013.md and its two pictures.

    python scripts/fer2013_bench.py fer2013_best --seeds 0 --data=FOLDER --runs=FOLDER
    python scripts/fer2013_bench.py page              # the page and pictures again, from the JSON

Trains what is not finished in RUNS/RECIPE-SEED, calibrates it, and records it. `--data` as the recipes want it. Numbers
are those of val, on which the best checkpoint was chosen too; the calibration error after calibration is cross-fitted.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from fer2013_page import CALIBRATION, PAGE, PICTURE, RECORD, SEARCH, calibration_picture, page, picture

from emojax import files, predict
from emojax.cli import runs
from emojax.jsonl import history

ROOT = Path(__file__).resolve().parents[1]


def trained(recipe: str, seed: int, *, data: str, folder: Path) -> Path:
    """The work directory of a finished and calibrated run."""
    folder.mkdir(parents=True, exist_ok=True)
    workdir = folder / f"{recipe}-{seed}"
    emojax = [sys.executable, "-m", "emojax.cli"]
    knobs = [f"--config.data.path={data}", f"--config.seed={seed}"]
    command = [*emojax, "train", f"--config={recipe}.py", f"--workdir={workdir}", *knobs]
    subprocess.run(command, check=True)  # finished, it says so; one of another recipe is refused
    if not (workdir / "report/calibration.json").is_file():
        subprocess.run([*emojax, "calibrate", f"--workdir={workdir}"], check=True)
    return workdir


def read(workdir: Path, seed: int) -> dict[str, Any]:
    """One run's numbers."""
    report = json.loads((workdir / "report/val.json").read_text())
    calibration = json.loads((workdir / "report/calibration.json").read_text())
    judged, slices = calibration["judged"]["val"], report["slices"]["dup_of_train"]
    rows = history(workdir / "metrics.jsonl")
    errors = {key: judged[key]["calibration"]["ece"]["equal_mass"]["value"] for key in ("before", "after")}
    return {
        "seed": seed,
        "val_accuracy": report["accuracy"],
        "interval": report["intervals"]["accuracy"],
        "val_accuracy_no_duplicates": slices["False"]["accuracy"],
        "near_copies": report["leak_check"]["leaked"],
        "val_accuracy_no_near_copies": report["leak_check"]["numbers_without"]["accuracy"],
        "n": report["n"],
        "n_no_duplicates": slices["False"]["n"],
        "macro_f1": report["macro_f1"],
        "balanced_accuracy": report["balanced_accuracy"],
        "ece": errors["before"],
        "ece_calibrated": errors["after"],
        "ece_by_chance": judged["after"]["calibration"]["ece"]["equal_mass"]["chance"],
        "calibration": judged["after"]["calibration"],
        "decision": calibration["decision"],
        "minutes": report["seconds"] / 60,
        "parameters": runs.result(workdir)["parameters"],
        "class_names": report["class_names"],
        "recall": [row["recall"] for row in report["per_class"]],
        "confusion": report["confusion"],
        "curve": [[row["epoch"], row["accuracy"]] for row in rows if row["kind"] == "eval"],
        "train_curve": _thin([[row["epoch"], row["accuracy"]] for row in rows if row["kind"] == "train"]),
        "result_step": report["step"],
        "digest": predict.load(workdir).digest(),
    }


def _thin(points: list[list[float]], *, count: int = 40) -> list[list[float]]:
    """Means of equal stretches: single lines are of a few batches."""
    size = max(1, -(-len(points) // count))
    parts = [points[i : i + size] for i in range(0, len(points), size)]
    return [[statistics.mean(column) for column in zip(*part, strict=True)] for part in parts]


def summed(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over the runs of a recipe, and the runs."""
    names = (
        "val_accuracy",
        "val_accuracy_no_duplicates",
        "macro_f1",
        "minutes",
        "ece",
        "ece_calibrated",
        "ece_by_chance",
    )
    means = {name: statistics.mean(run[name] for run in found) for name in names}
    return means | {"seeds": [run["seed"] for run in found], "cores": os.cpu_count(), "runs": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="page, or the name of a recipe in configs/")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--data", help="folder of train.parquet and val.parquet")
    parser.add_argument("--runs", type=Path, help="folder of the runs, which stay")
    parser.add_argument("--note", default="", help="how the runs came about, for the page: what else was running, ...")
    options = parser.parse_args()
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    if options.recipe != "page":
        if not options.data or not options.runs:
            parser.error("--data and --runs are missing")
        found = []
        for seed in options.seeds:
            found.append(read(trained(options.recipe, seed, data=options.data, folder=options.runs), seed))
            record[options.recipe] = summed(found) | {"note": options.note}
            files.write_json(RECORD, record)
    files.write_bytes(PICTURE, picture(record))
    files.write_bytes(CALIBRATION, calibration_picture(record))
    files.write_text(PAGE, page(record, json.loads(SEARCH.read_text()) if SEARCH.exists() else {}))


if __name__ == "__main__":
    main()
