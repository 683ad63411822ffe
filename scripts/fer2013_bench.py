"""What the FER2013 recipes reach: docs/fer2013.json, and made from it docs/fer2013.md and its two pictures.

    python scripts/fer2013_bench.py fer2013_best --seeds 0 --data=FOLDER --runs=FOLDER
    python scripts/fer2013_bench.py fer2013_best --seeds 0 --name=fer2013_best_longer --knobs stages[0].epochs=15 ...
    python scripts/fer2013_bench.py page              # the page and pictures again, from the JSON

Trains what is not finished in RUNS/RECIPE-SEED, calibrates it, and records it. `--data` as the recipes want it. Numbers
are those of val, on which the best checkpoint was chosen too; the calibration error after calibration is cross-fitted.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from fer2013_page import BARS, PAGE, RECORD, SEARCH, VARIANTS, page
from fer2013_pairs import differences, near_copies, numbers
from fer2013_pictures import CALIBRATION, CURVES, calibrated, curves

from emojax import environment, files, predict
from emojax.cli import runs
from emojax.config import DataConfig
from emojax.data import open_dataset
from emojax.jsonl import history, read as read_lines

ROOT = Path(__file__).resolve().parents[1]


def trained(recipe: str, seed: int, *, data: str, workdir: Path, changed: Sequence[str]) -> Path:
    """The work directory of a finished and calibrated run."""
    workdir.parent.mkdir(parents=True, exist_ok=True)
    emojax = [sys.executable, "-m", "emojax.cli"]
    knobs = [f"--config.data.path={data}", f"--config.seed={seed}", *(f"--config.{knob}" for knob in changed)]
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
        "processor": environment.read(workdir)[-1]["processor"],
        "parameters": runs.result(workdir)["parameters"],
        "class_names": report["class_names"],
        "recall": [row["recall"] for row in report["per_class"]],
        "confusion": report["confusion"],
        "curve": _curve(workdir / "metrics.jsonl"),
        "train_curve": _thin([[row["epoch"], row["accuracy"]] for row in rows if row["kind"] == "train"]),
        "result_step": report["step"],
        "digest": predict.load(workdir).digest(),
        "versions": environment.read(workdir)[-1]["packages"],
    }


def _curve(path: Path) -> list[list[float]]:
    """[epoch, accuracy on val, minutes of training until then] of each evaluation."""
    windows = {row["step"]: row["seconds"] for row in read_lines(path) if row["kind"] == "speed"}
    return [
        [row["epoch"], row["accuracy"], sum(value for step, value in windows.items() if step <= row["step"]) / 60]
        for row in history(path)
        if row["kind"] == "eval"
    ]


def _thin(points: list[list[float]], *, count: int = 40) -> list[list[float]]:
    """Means of equal stretches: single lines are of a few batches."""
    size = max(1, -(-len(points) // count))
    parts = [points[i : i + size] for i in range(0, len(points), size)]
    return [[statistics.mean(column) for column in zip(*part, strict=True)] for part in parts]


def summed(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over the runs of a recipe, and the runs. Minutes are those of the first run's kind of processor."""
    names = ("val_accuracy", "val_accuracy_no_duplicates", "macro_f1", "ece", "ece_calibrated", "ece_by_chance")
    means = {name: statistics.mean(run[name] for run in found) for name in names}
    same = [run for run in found if run["processor"] == found[0]["processor"]]
    means["minutes"] = statistics.mean(run["minutes"] for run in same)
    return means | {"seeds": [run["seed"] for run in found], "cores": os.cpu_count(), "runs": found}


def measure(options: argparse.Namespace) -> None:
    """Trains and records the seeds of a recipe or of a variant of one, which is compared with the recipe's runs."""
    name, path = options.name or options.recipe, VARIANTS if options.name else RECORD
    record = json.loads(path.read_text()) if path.exists() else {}
    about = record.get(name, {}) if options.add else {}
    found = {run["seed"]: run for run in about.get("runs", [])}
    if options.note or not found:
        about["note"] = options.note
    for seed in options.seeds:
        place = options.runs / f"{name}-{seed}"
        workdir = trained(options.recipe, seed, data=options.data, workdir=place, changed=options.knobs)
        found[seed] = read(workdir, seed)
        if "bundle" not in about:
            about["bundle"] = {"seed": seed} | bundle(workdir, data=options.data)
        if options.name and "of" not in about:
            about |= {"of": options.recipe, "knobs": options.knobs} | against(options)
        record[name] = about | summed(list(found.values()))
        files.write_json(path, record)


def bundle(workdir: Path, *, data: str) -> dict[str, Any]:
    """What `emojax export` makes of a calibrated run: its size in bytes, its accuracy on val when it is opened again,
    and the median of what one picture takes, milliseconds."""
    path = workdir.with_name(f"{workdir.name}.zip")
    if not path.exists():
        export = [sys.executable, "-m", "emojax.cli", "export", f"--workdir={workdir}", str(path), "--format=bundle"]
        subprocess.run(export, check=True)
    classifier = predict.load(path)
    found = classifier.predict_split(open_dataset(dataclasses.replace(classifier.config.data, path=data)).splits["val"])
    picture, seconds = np.zeros((1, classifier.image_size, classifier.image_size, 3), np.uint8), []
    for _ in range(50):
        start = time.perf_counter()
        classifier.probabilities(picture)
        seconds.append(time.perf_counter() - start)
    right = found.probs.argmax(1) == found.label.argmax(1)
    return {
        "bytes": path.stat().st_size,
        "val_accuracy": float(np.average(right, weights=found.weight)),
        "milliseconds": 1000 * statistics.median(seconds),
        "views": classifier.config.eval.views,
    }


def against(options: argparse.Namespace) -> dict[str, Any]:
    """The variant's first seed less the recipe's, paired."""
    recipe = options.runs / f"{options.recipe}-{options.seeds[0]}"
    variant = options.runs / f"{options.name}-{options.seeds[0]}"
    copies = near_copies(DataConfig(path=options.data), cache=options.runs / "val-check/check.json")
    left = numbers(variant, without=copies)["n"]
    return {
        "more": differences(recipe, variant),
        "more_without_near_copies": {"n": left} | differences(recipe, variant, without=copies),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="page, or the name of a recipe in configs/")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--add", action="store_true", help="to the seeds on record, of the same recipe, not instead")
    parser.add_argument("--data", help="folder of train.parquet and val.parquet")
    parser.add_argument("--runs", type=Path, help="folder of the runs, which stay")
    parser.add_argument("--note", default="", help="how the runs came about, for the page: what else was running, ...")
    parser.add_argument("--knobs", nargs="*", default=[], help="a variant of the recipe: changed knobs, KNOB=VALUE")
    parser.add_argument("--name", help="of the variant; the recipe's runs are in --runs already")
    options = parser.parse_args()
    if options.recipe != "page":
        if options.recipe not in BARS:
            parser.error(f"no recipe {options.recipe} here; there are {', '.join(BARS)}")
        if not options.data or not options.runs:
            parser.error("--data and --runs are missing")
        if bool(options.knobs) != bool(options.name):
            parser.error("--knobs and --name go together")
        measure(options)
    record, search, variants = (json.loads(x.read_text()) if x.exists() else {} for x in (RECORD, SEARCH, VARIANTS))
    files.write_bytes(CURVES, curves(record))
    files.write_bytes(CALIBRATION, calibrated(record))
    files.write_text(PAGE, page(record, search, variants))


if __name__ == "__main__":
    main()
