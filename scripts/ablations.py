"""Measures what the seed documents 002 and 004 claim, on faces and at a size that two CPU cores carry.

    python scripts/ablations.py --data=FOLDER --workdir=runs/ablations --jobs=2    # three hours on two cores; resumable
    python scripts/ablations.py --workdir=runs/ablations --write-only              # the page again, from finished runs

FOLDER holds train/CLASS/*.png and test/CLASS/*.png. Everything is chosen on a tenth of train that is cut off as val;
the tables show test. With --jobs=N, N studies run at once, each on a core of its own: for networks this small twice as
fast as one study on all cores. Writes docs/ablations.json and, below a mark, docs/ablations.md; what stands above the
mark stays.
"""

import argparse
import concurrent.futures
import functools
import json
import math
import os
import queue
import statistics
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np

from emojax import predictions_csv

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
RESNET = ["--config.model.name=resnet18", "--config.model.stem=small2", "--config.model.widths=(16,32,64,128)"]
ROWS_004 = {
    "the final recipe": ("", ATTO),
    "pictures of 32 px instead of 48 (document: 128 instead of 192)": ("", [*ATTO, "--config.image_size=32"]),
    "ResNet-18 of 16 to 128 channels, the same head; the rates were chosen for neither": ("resnet34", RESNET),
    "linear head": ("linear_head", ATTO),
    "without RandAugment": ("no_randaugment", ATTO),
    "without MixUp and CutMix": ("no_mixing", ATTO),
    "cross-entropy instead of focal loss": ("ce", ATTO),
    "lower drop rates: dropout 0.1, stochastic depth 0": ("lower_drop", ATTO),
}
"""row -> (variant of the recipe, what else changes)."""


def study(workdir: Path, reference: str, overrides: list[str], *, core: int | None) -> None:
    """Runs `emojax study` on one recipe, on one core if `core` is given."""
    seeds = ",".join(map(str, SEEDS))
    command = [sys.executable, "-m", "emojax.cli", "study", f"--workdir={workdir}", f"--seeds={seeds}"]
    pin = None if core is None else functools.partial(os.sched_setaffinity, 0, {core})
    subprocess.run([*command, *overrides, reference], check=True, cwd=ROOT, preexec_fn=pin)


def plan(data: str) -> dict[tuple[str, str], tuple[str, list[str]]]:
    """(seed document, row) -> (recipe, overrides)."""
    found = {}
    for recipe in NETWORKS_002:
        for variant, (epochs, batch) in SIZES_002.items():
            size = [f"--config.stages[0].epochs={epochs}", f"--config.batch_size={batch}"]
            reference = f"{recipe}.py" + (variant and f":{variant}")
            found["002", f"{recipe}{variant and ', before'}"] = reference, [*SEED_002, *size]
    for row, (variant, change) in ROWS_004.items():
        found["004", row] = "convnext_tiny_scratch.py" + (variant and f":{variant}"), [*SEED_004, *change]
    return {key: (recipe, [f"--config.data.path={data}", *change]) for key, (recipe, change) in found.items()}


def folder(workdir: Path, document: str, row: str) -> Path:
    return workdir / "".join(c if c.isalnum() else "-" for c in f"{document} {row}")


def measure(workdir: Path, data: str, jobs: int) -> None:
    """Runs what is not finished, in the order of the plan."""
    places: queue.Queue[int | None] = queue.Queue()
    for core in sorted(os.sched_getaffinity(0))[:jobs] if jobs > 1 else [None]:
        places.put(core)

    def one(item):
        (document, row), (recipe, overrides) = item
        core = places.get()
        try:
            study(folder(workdir, document, row), recipe, overrides, core=core)
        finally:
            places.put(core)

    with concurrent.futures.ThreadPoolExecutor(places.qsize()) as pool:
        list(pool.map(one, plan(data).items()))


def collect(workdir: Path) -> dict[str, dict[str, list[dict]]]:
    """{document: {row: [what was found of every seed]}} of the studies that are finished. `right` has a 1 for every
    test face that the run got right and a 0 for every other, in the order of the faces."""
    found: dict[str, dict[str, list[dict]]] = {"002": {}, "004": {}}
    for document, row in plan(""):
        path = folder(workdir, document, row) / "study.json"
        if path.is_file():
            ((name, runs),) = json.loads(path.read_text())["runs"].items()
            for run, seed in zip(runs, SEEDS, strict=True):
                predictions, _ = predictions_csv.read(
                    path.parent / name / f"seed{seed}" / "report" / "test-predictions.csv"
                )
                right = predictions.probs.argmax(1) == predictions.label.argmax(1)
                run["right"] = "".join(map(str, right.astype(int)))
            found[document][row] = runs
    return found


def mean(runs: list[dict], key: str = "accuracy") -> float:
    return 100 * statistics.mean(run["test"][key] for run in runs)


def error(runs: list[dict], key: str = "accuracy") -> float:
    """Standard error of the mean over seeds, in percent."""
    values = [run["test"][key] for run in runs]
    return 100 * statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0


def cell(runs: list[dict], key: str = "accuracy") -> str:
    return f"{mean(runs, key):.1f} ± {error(runs, key) * math.sqrt(len(runs)):.1f}"


def verdict(change: float, spread: float) -> str:
    if abs(change) <= 2 * spread:
        return "within the noise"
    return "better" if change > 0 else "worse"


def difference(after: list[dict], before: list[dict]) -> tuple[str, str]:
    """(difference of means ± its standard error, what that means). The error has two parts: the seeds, and the faces,
    which are the same for both, so that face by face differences count."""
    change = mean(after) - mean(before)
    right = [np.mean([[int(c) for c in run["right"]] for run in runs], axis=0) for runs in (after, before)]
    faces = 100 * float(np.std(right[0] - right[1], ddof=1)) / math.sqrt(len(right[0]))
    spread = math.hypot(error(after), error(before), faces)
    return f"{change:+.1f} ± {spread:.1f}", verdict(change, spread)


def page(found: dict) -> str:
    rows_002 = []
    for row in NETWORKS_002:
        before, after = found["002"][f"{row}, before"], found["002"][row]
        change, text = difference(after, before)
        cells = [cell(before), cell(after), change, text, cell(before, "macro_f1"), cell(after, "macro_f1")]
        rows_002.append([row, f"{after[0]['parameters']:,}", *cells])
    base, *others = found["004"].items()
    rows_004 = []
    for row, runs in (base, *others):
        change = difference(runs, base[1]) if runs is not base[1] else ("", "")
        rows_004.append([row, f"{runs[0]['parameters']:,}", cell(runs), cell(runs, "macro_f1"), *change])
    seconds = sum(run["seconds"] for part in found.values() for runs in part.values() for run in runs)
    return TEMPLATE.format(
        images=base[1][0]["test"]["n"],
        seeds=len(SEEDS),
        jax=found_versions(),
        minutes=round(seconds / 60),
        sizes_002=" and ".join(f"{e} epochs of batches of {b} {v or 'after'}" for v, (e, b) in SIZES_002.items()),
        table_002=table(
            ["network", "parameters", "before", "after", "change", "", "macro-F1 before", "after"], rows_002, left=1
        ),
        table_004=table(["recipe", "parameters", "accuracy", "macro-F1", "change", ""], rows_004, left=1),
        overrides_002=" ".join(SEED_002),
        overrides_004=" ".join([*SEED_004, *ATTO]),
    )


def found_versions() -> str:
    return f"jax {jax.__version__}, Python {sys.version_info[0]}.{sys.version_info[1]}, {os.cpu_count()} cores"


def table(titles: list[str], rows: list[list[str]], *, left: int) -> str:
    rule = ["---" if i < left else "---:" for i in range(len(titles))]
    return "\n".join(f"| {' | '.join(row)} |" for row in [titles, rule, *rows])


MARK = "<!-- From here on written by scripts/ablations.py. -->"
TEMPLATE = """## How it was measured

Data: a balanced subset of FER2013, 7 classes of 300 training and 50 test faces of 48 x 48 grey pixels. A tenth of the
training faces is val, on which every checkpoint was chosen; test ({images} faces) was judged once per run. {seeds}
seeds; accuracy in percent of test, mean ± standard deviation over seeds; changes of the mean with their standard
error over seeds and faces, "within the noise" up to two of them. All runs together took {minutes} minutes
({jax}; one run per core, other work beside them). Every number is in [ablations.json](ablations.json).

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
    parser.add_argument("--workdir", required=True, type=Path)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--write-only", action="store_true")
    options = parser.parse_args()
    options.workdir.mkdir(parents=True, exist_ok=True)
    if not options.write_only:
        measure(options.workdir, options.data, options.jobs)
    found = collect(options.workdir)
    if missing := [f"{document} {row}" for document, row in plan("") if row not in found[document]]:
        raise SystemExit(f"not finished, so nothing is written: {', '.join(missing)}")
    text = page(found)
    (ROOT / "docs/ablations.json").write_text(json.dumps(found, indent=1) + "\n")
    target = ROOT / "docs/ablations.md"
    written = target.read_text().partition(MARK)[0] if target.exists() else "# What the seeds claim, measured\n\n"
    target.write_text(f"{written}{MARK}\n\n{text}")


if __name__ == "__main__":
    main()
