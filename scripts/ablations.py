"""Measures what the seed documents 002 and 004 claim, on faces and at a size that two CPU cores carry.

    python scripts/ablations.py --data=FOLDER --workdir=runs/ablations --jobs=2    # some hours on two cores; resumable
    python scripts/ablations.py                                                    # the page again, from the numbers

FOLDER holds train/CLASS/*.png and test/CLASS/*.png. Everything is chosen on a tenth of train that is cut off as val;
the tables show test. `emojax ablate` trains, once per network of seed 002 and once for the diary of seed 004; with
--jobs=N, N runs at once, each on cores of its own: for networks this small faster than one on all cores. Writes
docs/ablations.json and, below a mark, docs/ablations.md; what stands above the mark stays.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np

from emojax import comparison, predictions_csv
from emojax.comparison import OverSeeds
from emojax.types import Predictions

ROOT = Path(__file__).resolve().parents[1]
SEEDS = (0, 1, 2)

# Time and pictures are cut; rates, losses, regularisation and augmentation are the documents' own.
SEED_002 = [
    "--config.image_size=40",
    "--config.eval.every_epochs=2",
    "--config.eval.patience=15",
    "--config.schedule.first_epochs=5",
    "--config.monitor.tensorboard=0",
]
SIZES_002 = {"before": (24, 8), "": (48, 32)}
"""variant -> (epochs, images per batch), in the document's proportions of 50 to 100 and 32 to 128."""
NETWORKS_002 = ("mobilenet_inspired", "resnet_inspired", "squeezenet_inspired")

SEED_004 = [
    "--config.image_size=48",
    "--config.batch_size=32",
    "--config.model.compute=float32",
    "--config.optim.learning_rate=1e-3",
    "--config.schedule.warmup_epochs=2",
    "--config.average.decay=0.99",
    "--config.eval.every_epochs=3",
    "--config.stages[0].epochs=26",
    "--config.stages[1].epochs=4",
    "--config.monitor.tensorboard=0",
]
ATTO = ["--config.model.name=convnext_atto"]
RESNET = "model.name=resnet18 model.stem=small2 model.widths=(16,32,64,128)"
ROWS_004 = {
    "the final recipe": "",
    "pictures of 32 px instead of 48 (document: 128 instead of 192)": "image_size=32",
    "ResNet-18 of 16 to 128 channels, the same head; the rates were chosen for neither": RESNET,
    "linear head": ":linear_head",
    "without RandAugment": ":no_randaugment",
    "without MixUp and CutMix": ":no_mixing",
    "cross-entropy instead of focal loss": ":ce",
    "lower drop rates: dropout 0.1, stochastic depth 0": ":lower_drop",
}
"""row -> change."""


def plan() -> dict[tuple[str, str], tuple[str, list[str], dict[str, str]]]:
    """(seed document, base row) -> (recipe, overrides of all its runs, row -> change)."""
    found = {}
    (epochs, batch), (later_epochs, later_batch) = SIZES_002["before"], SIZES_002[""]
    for recipe in NETWORKS_002:
        size = [f"--config.stages[0].epochs={epochs}", f"--config.batch_size={batch}"]
        after = f": stages[0].epochs={later_epochs} batch_size={later_batch}"
        found["002", f"{recipe}, before"] = f"{recipe}.py:before", [*SEED_002, *size], {recipe: after}
    base, *others = ROWS_004
    found["004", base] = "convnext_tiny_scratch.py", [*SEED_004, *ATTO], {row: ROWS_004[row] for row in others}
    return found


def folder(workdir: Path, document: str, row: str) -> Path:
    return workdir / "".join(c if c.isalnum() else "-" for c in f"{document} {row}")


def measure(workdir: Path, data: str, jobs: int) -> None:
    """Runs what is not finished, in the order of the plan."""
    for (document, row), (recipe, overrides, changes) in plan().items():
        command = [sys.executable, "-m", "emojax.cli", "ablate", f"--config={recipe}", "--test", f"--jobs={jobs}"]
        command += [f"--workdir={folder(workdir, document, row)}", f"--seeds={','.join(map(str, SEEDS))}"]
        command += [f"--config.data.path={data}", *overrides, *(f"--change={change}" for change in changes.values())]
        subprocess.run(command, check=True, cwd=ROOT)


def collect(workdir: Path) -> dict[str, dict[str, list[dict]]]:
    """{document: {row: [what was found of every seed]}}. `right` has a 1 for every test face that the run got right and
    a 0 for every other, in the order of the faces."""
    found: dict[str, dict[str, list[dict]]] = {"002": {}, "004": {}}
    for (document, base), (_, _, changes) in plan().items():
        place = folder(workdir, document, base)
        rows = json.loads((place / "ablate.json").read_text())["rows"]
        for name, row in zip((base, *changes), rows, strict=True):
            for seed, run in zip(SEEDS, row["runs"], strict=True):
                predictions, _ = predictions_csv.of_run(place / row["folder"] / f"seed{seed}", "test")
                right = predictions.probs.argmax(1) == predictions.label.argmax(1)
                run["right"] = "".join(map(str, right.astype(int)))
            found[document][name] = row["runs"]
    return found


def mean(runs: list[dict], key: str = "accuracy") -> float:
    return 100 * statistics.mean(run["test"][key] for run in runs)


def cell(runs: list[dict], key: str = "accuracy") -> str:
    return f"{mean(runs, key):.1f} ± {100 * statistics.stdev(run['test'][key] for run in runs):.1f}"


def faces(run: dict) -> Predictions:
    """Two classes, right and wrong: all that an accuracy needs."""
    right = np.array([int(c) for c in run["right"]], np.float32)
    label = np.tile(np.array([1, 0], np.float32), (len(right), 1))
    ids = np.arange(len(right)).astype(str)
    return Predictions(np.stack([right, 1 - right], 1), label, np.ones(len(right), np.float32), ids)


def difference(after: list[dict], before: list[dict]) -> tuple[str, str, str]:
    """(change of the mean, its interval over seeds and faces, what that means)."""
    found = comparison.over_seeds(*([faces(run) for run in runs] for runs in (before, after)))[0]
    return f"{100 * (found.b - found.a):+.1f}", f"{100 * found.low:+.1f} to {100 * found.high:+.1f}", verdict(found)


def verdict(found: OverSeeds) -> str:
    if not found.clear:
        return "within the noise"
    return "better" if found.low > 0 else "worse"


def page(found: dict) -> str:
    rows_002 = []
    for row in NETWORKS_002:
        before, after = found["002"][f"{row}, before"], found["002"][row]
        cells = [
            cell(before),
            cell(after),
            *difference(after, before),
            cell(before, "macro_f1"),
            cell(after, "macro_f1"),
        ]
        rows_002.append([row, f"{after[0]['parameters']:,}", *cells])
    base, *others = found["004"].items()
    rows_004 = []
    for row, runs in (base, *others):
        change = difference(runs, base[1]) if runs is not base[1] else ("", "", "")
        rows_004.append([row, f"{runs[0]['parameters']:,}", cell(runs), cell(runs, "macro_f1"), *change])
    seconds = sum(run["seconds"] for part in found.values() for runs in part.values() for run in runs)
    return TEMPLATE.format(
        images=base[1][0]["test"]["n"],
        seeds=len(SEEDS),
        minutes=round(seconds / 60),
        sizes_002=" and ".join(f"{e} epochs of batches of {b} {v or 'after'}" for v, (e, b) in SIZES_002.items()),
        table_002=table(
            ["network", "parameters", "before", "after", "change", "95 % interval", "", "macro-F1 before", "after"],
            rows_002,
            left=1,
        ),
        table_004=table(
            ["recipe", "parameters", "accuracy", "macro-F1", "change", "95 % interval", ""], rows_004, left=1
        ),
        overrides_002=" ".join(SEED_002),
        overrides_004=" ".join([*SEED_004, *ATTO]),
    )


def table(titles: list[str], rows: list[list[str]], *, left: int) -> str:
    rule = ["---" if i < left else "---:" for i in range(len(titles))]
    return "\n".join(f"| {' | '.join(row)} |" for row in [titles, rule, *rows])


MARK = "<!-- From here on written by scripts/ablations.py. -->"
TEMPLATE = """## How it was measured

Data: a balanced subset of FER2013, 7 classes of 300 training and 50 test faces of 48 x 48 grey pixels. A tenth of the
training faces is val, on which every checkpoint was chosen; test ({images} faces) was judged once per run. {seeds}
seeds; accuracy in percent of test, mean ± standard deviation over seeds; changes of the mean with their paired
95 % interval over seeds and faces ([evaluation.md](evaluation.md)), "within the noise" where it holds 0. All runs
together took {minutes} minutes (two cores, one run per core, other work beside them). Every number is in
[ablations.json](ablations.json).

## Seed 002: before and after, three networks

Overrides of the recipes: `{overrides_002}`, with
{sizes_002}, in the document's proportions.

{table_002}

## Seed 004: the diary, one change at a time

Every row changes one thing of the first. The network is ConvNeXt-Atto; overrides:
`{overrides_004}`.

{table_004}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="")
    parser.add_argument("--workdir", type=Path, help="without it, the page is written again from the numbers")
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    numbers = ROOT / "docs/ablations.json"
    if options.workdir:
        options.workdir.mkdir(parents=True, exist_ok=True)
        measure(options.workdir, options.data, options.jobs)
        numbers.write_text(json.dumps(collect(options.workdir), indent=1) + "\n")
    found = json.loads(numbers.read_text())
    text = page(found)
    target = ROOT / "docs/ablations.md"
    written = target.read_text().partition(MARK)[0] if target.exists() else "# What the seeds claim, measured\n\n"
    target.write_text(f"{written}{MARK}\n\n{text}")


if __name__ == "__main__":
    main()
