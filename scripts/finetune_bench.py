"""What starting from pretrained weights is worth: a probe, fine-tuning and training from nothing, side by side.

    python scripts/finetune_bench.py faces=FOLDER things=FOLDER --weights=FOLDER   # docs/finetuning.json and its page
    python scripts/finetune_bench.py page                                          # the page again, from the JSON

`faces` is a small folder of faces by emotion, `things` one of CIFAR-10's pictures; --weights holds
efficientnet_lite0_imagenet.safetensors and resnet20_cifar10.safetensors. Each run is a command that the page shows.
Numbers are those of the split `test`, or of `val` where the data have no test; then the epoch was chosen on it too.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from emojax import files
from emojax.cli import runs

ROOT = Path(__file__).resolve().parents[1]
RECORD, PAGE = ROOT / "docs/finetuning.json", ROOT / "docs/finetuning.md"
RECIPE = "finetune_pretrained.py"
WAYS = {
    "probe": "last layer solved, all else frozen",
    "tuned": "from the solved layer, all trained, lower layers slower",
    "larger": "`tuned` on pictures of 112 px, as the recipe has it",
    "scratch": "the same network from nothing, as many epochs",
    "small": "`emoji.py` from nothing: a ResNet and augmentation for small pictures, as many epochs",
    "small_larger": "`small` on pictures of 112 px",
}
SMALL = ("--config.stages[0].epochs=14", "--config.eval.every_epochs=2")
"""Knobs of `small`; recipe, seed, data and size of the pictures come from elsewhere."""
LARGER = ("--config.image_size=112",)
CASES: dict[str, dict[str, Any]] = {
    "faces": {
        "title": "faces, 7 emotions x 300, EfficientNet-Lite0 of ImageNet, 64 px",
        "weights": "efficientnet_lite0_imagenet.safetensors",
        "variants": {"probe": "", "tuned": "", "larger": "", "scratch": ":scratch", "small": "", "small_larger": ""},
        "knobs": ("--config.image_size=64",),
    },
    "things": {
        "title": "CIFAR-10's pictures, 10 classes x 300, ResNet-20 of the whole CIFAR-10, 32 px",
        "about": "These weights have learned from all 50,000 training pictures of CIFAR-10 already: training on few of "
        "them once more, encoded as JPEG, made them no better, and the run kept the solved layer that it began with.",
        "weights": "resnet20_cifar10.safetensors",
        "variants": {"probe": ":resnet20", "tuned": ":resnet20", "scratch": ":resnet20_scratch"},
        "knobs": (),
    },
    "things, other weights": {
        "title": "CIFAR-10's pictures, 10 classes x 300, EfficientNet-Lite0 of ImageNet, 64 px",
        "weights": "efficientnet_lite0_imagenet.safetensors",
        "variants": {"probe": "", "tuned": "", "scratch": ":scratch"},
        "knobs": ("--config.image_size=64",),
    },
}


def command(case: str, way: str, seed: int, *, data: str, weights: Path, workdir: str) -> list[str]:
    """The run as a user gives it, less the interpreter."""
    about = CASES[case]
    verb = "probe" if way == "probe" else "train"
    small, larger = way.startswith("small"), way.endswith("larger")
    recipe = "emoji.py" if small else RECIPE + about["variants"][way]
    found = [verb, f"--config={recipe}", f"--workdir={workdir}", f"--config.data.path={data}"]
    if way != "scratch" and not small:
        found.append(f"--config.model.weights={weights / about['weights']}")
    return [*found, f"--config.seed={seed}", *(LARGER if larger else about["knobs"]), *(SMALL if small else ())]


def one_run(case: str, way: str, seed: int, *, data: str, weights: Path) -> dict[str, Any]:
    """Accuracy, macro-F1 and minutes of the whole command."""
    with tempfile.TemporaryDirectory() as folder:
        workdir = str(Path(folder) / "run")
        given = command(case, way, seed, data=data, weights=weights, workdir=workdir)
        began = time.monotonic()
        subprocess.run([sys.executable, "-m", "emojax.cli", *given], check=True)
        minutes = (time.monotonic() - began) / 60
        found = runs.numbers(Path(workdir), "test") or runs.numbers(Path(workdir), "val")
        split = "test" if (Path(workdir) / "report/test.json").is_file() else "val"
        report = json.loads((Path(workdir) / f"report/{split}.json").read_text())
    values = {name: round(found[name], 4) for name in ("accuracy", "macro_f1", "n")}
    checked = report.get("leak_check") or {}
    if checked.get("leaked"):
        values |= {"leaked": checked["leaked"], "without_leaked": round(checked["numbers_without"]["accuracy"], 4)}
    return {"seed": seed, "split": split, "minutes": round(minutes, 2), **values}


def page(record: dict[str, Any]) -> str:
    """docs/finetuning.md."""
    parts = [_INTRO.format(cores=record["cores"]), *([record["note"]] if record.get("note") else [])]
    for case, rows in record["cases"].items():
        split = next(iter(rows.values()))[0]["split"]
        said = {"val": " (on `val`, on which the epoch was chosen too)", "test": " (on `test`)"}[split]
        parts.append(f"## {CASES[case]['title']}{said}")
        if about := CASES[case].get("about"):
            parts.append(about)
        table = [_row(way, rows[way]) for way in WAYS if way in rows]
        titles = ["", "accuracy, %", "without copies of training pictures, %", "macro-F1, %", "minutes", "seeds"]
        keep = [i for i, title in enumerate(titles) if not title or any(row[i] for row in table)]
        parts.append(runs.markdown([titles[i] for i in keep], [[row[i] for i in keep] for row in table]))
    parts.append(_COMMANDS)
    first = next(iter(record["cases"]))
    for way in record["cases"][first]:
        shown = command(first, way, 0, data="FOLDER", weights=Path("WEIGHTS"), workdir=f"runs/{way}")
        parts.append(f"    emojax {' '.join(shown)}")
    return "\n\n".join(parts) + "\n"


def _row(way: str, found: list[dict[str, Any]]) -> list[str]:
    without = [run["without_leaked"] for run in found if "without_leaked" in run]
    columns = [[run["accuracy"] for run in found], without, [run["macro_f1"] for run in found]]
    numbers = [runs.mean_std(column) if column else "" for column in columns]
    minutes = f"{statistics.mean(run['minutes'] for run in found):.1f}"
    return [f"{way}: {WAYS[way]}", *numbers, minutes, str(len(found))]


_INTRO = """# What pretrained weights are worth

Written by `scripts/finetune_bench.py`; docs/finetuning.json holds every run. `configs/finetune_pretrained.py` on few
pictures, on {cores} CPU cores; mean ± standard deviation over seeds, which differ in everything random but the cut of
the data. Minutes are those of the whole command, with the check of the data, compiling and the report. A probe is the
same for every seed but for the folds that choose its penalty."""
_COMMANDS = """## Commands

Those of the first table:"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="+", help="page, or CASE=FOLDER; CASE is faces or things")
    parser.add_argument("--weights", type=Path, help="folder of the weights")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--note", help="how the runs came about, for the page: what else was running, ...")
    options = parser.parse_args()
    record: dict[str, Any] = json.loads(RECORD.read_text()) if RECORD.exists() else {"cases": {}}
    if options.note is not None:
        record["note"] = options.note
    if options.cases != ["page"]:
        if options.weights is None or not all("=" in case for case in options.cases):
            parser.error("expected CASE=FOLDER ... and --weights=FOLDER")
        record["cores"] = os.cpu_count()
        for given in options.cases:
            name, _, data = given.partition("=")
            for case in [case for case in CASES if case.split(",")[0] == name]:
                for way in [way for way in options.ways if way in CASES[case]["variants"]]:
                    record["cases"].setdefault(case, {})[way] = [
                        one_run(case, way, seed, data=data, weights=options.weights) for seed in options.seeds
                    ]
                    files.write_json(RECORD, record)
    files.write_json(RECORD, record)
    files.write_text(PAGE, page(record))


if __name__ == "__main__":
    main()
