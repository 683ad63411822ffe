"""Measures what the seed documents 002 and 004 claim, on faces and at a size that two CPU cores carry.

    python scripts/ablations.py --data=FOLDER --workdir=runs/ablations      # about an hour on two cores; resumable
    python scripts/ablations.py --workdir=runs/ablations --write-only       # the page again, from finished runs

FOLDER holds train/CLASS/*.png and test/CLASS/*.png. Everything is chosen on a tenth of train that is cut off as val;
the tables show test. Writes docs/ablations.json and, below a mark, docs/ablations.md; what stands above the mark stays.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
from pathlib import Path

import jax

ROOT = Path(__file__).resolve().parents[1]
SEEDS = (0, 1, 2)

# Time and pictures are cut; rates, losses, regularisation and augmentation are the documents' own.
SEED_002 = [
    "--config.image_size=40",
    "--config.eval.every_epochs=2",
    "--config.schedule.first_epochs=0.8",
    "--config.schedule.patience=1",
    "--config.eval.patience=0",
    "--config.monitor.tensorboard=0",
]
SIZES_002 = {"": (8, 32), "before": (4, 8)}
"""variant -> (epochs, images per batch), in the document's proportions of 100 to 50 and 128 to 32."""
SEED_004 = [
    "--config.image_size=32",
    "--config.batch_size=64",
    "--config.model.compute=float32",
    "--config.optim.learning_rate=1e-3",
    "--config.schedule.warmup_epochs=1",
    "--config.average.decay=0.98",
    "--config.eval.every_epochs=3",
    "--config.stages[0].epochs=10",
    "--config.stages[1].epochs=2",
    "--config.monitor.tensorboard=0",
]
NETWORK_004 = ["--config.model.name=convnext_atto", "--config.model.stem=small"]
VARIANTS_004 = {
    "": ("the final recipe", []),
    "no_mixing": ("without MixUp and CutMix", ["no_mixing"]),
    "size24": ("pictures of 24 px instead of 32 (document: 128 and 176 of 192)", ["--config.image_size=24"]),
    "resnet": (
        "ResNet-18 of 16-32-64-128 channels instead of ConvNeXt; the same rates, which were chosen for neither",
        ["resnet34"],
    ),
    "ce": ("cross-entropy instead of focal loss", ["ce"]),
}
RESNET = ["--config.model.name=resnet18", "--config.model.stem=small2", "--config.model.widths=(16,32,64,128)"]


def study(workdir: Path, references: list[str], overrides: list[str]) -> dict:
    """Runs `emojax study` and returns what it found: {name: [run, ...]}."""
    seeds = ",".join(map(str, SEEDS))
    command = [sys.executable, "-m", "emojax.cli", "study", f"--workdir={workdir}", f"--seeds={seeds}"]
    subprocess.run([*command, *overrides, *references], check=True, cwd=ROOT)
    return json.loads((workdir / "study.json").read_text())["runs"]


def run_002(workdir: Path, data: str) -> dict:
    found = {}
    for variant, (epochs, batch) in SIZES_002.items():
        overrides = [*SEED_002, f"--config.data.path={data}", f"--config.stages[0].epochs={epochs}"]
        overrides.append(f"--config.batch_size={batch}")
        end = f":{variant}" if variant else ""
        references = [f"{name}_inspired.py{end}" for name in ("mobilenet", "squeezenet", "resnet")]
        folder = f"seed002{variant and '-' + variant}"
        found |= study(workdir / folder, references, overrides)
        # The ReLU before SqueezeNet's last pooling can die on every class map, and then nothing learns any more.
        without = study(workdir / f"{folder}-linear", references[1:2], [*overrides, "--config.model.final_relu=0"])
        found |= {f"{name}-linear": runs for name, runs in without.items()}
    return found


def run_004(workdir: Path, data: str) -> dict:
    found = {}
    for name, (_, change) in VARIANTS_004.items():
        variant = change[0] if change and not change[0].startswith("--") else ""
        network = RESNET if variant == "resnet34" else NETWORK_004
        overrides = [*SEED_004, *network, f"--config.data.path={data}", *[c for c in change if c.startswith("--")]]
        reference = "convnext_tiny_scratch.py" + (f":{variant}" if variant else "")
        runs = study(workdir / f"seed004-{name or 'final'}", [reference], overrides)
        found[name] = next(iter(runs.values()))
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
    """(difference of means ± its standard error, what that means)."""
    change = mean(after) - mean(before)
    spread = math.hypot(error(after), error(before))
    return f"{change:+.1f} ± {spread:.1f}", verdict(change, spread)


def page(found: dict) -> str:
    rows_002 = []
    networks = {
        "mobilenet_inspired": "",
        "squeezenet_inspired": "",
        "squeezenet_inspired, no last ReLU": "-linear",
        "resnet_inspired": "",
    }
    for title, end in networks.items():
        name = title.partition(",")[0]
        before, after = found["002"][f"{name}-before{end}"], found["002"][f"{name}{end}"]
        change, text = difference(after, before)
        cells = [cell(before), cell(after), change, text, cell(before, "macro_f1"), cell(after, "macro_f1")]
        rows_002.append([title, f"{after[0]['parameters']:,}", *cells])
    base = found["004"][""]
    rows_004 = []
    for name, (text, _) in VARIANTS_004.items():
        runs = found["004"][name]
        change = difference(runs, base) if name else ("", "")
        rows_004.append([text, f"{runs[0]['parameters']:,}", cell(runs), cell(runs, "macro_f1"), *change])
    seconds = sum(run["seconds"] for part in found.values() for runs in part.values() for run in runs)
    return TEMPLATE.format(
        images=base[0]["test"]["n"],
        seeds=len(SEEDS),
        jax=found_versions(),
        minutes=round(seconds / 60),
        table_002=table(
            ["network", "parameters", "before", "after", "change", "", "macro-F1 before", "after"], rows_002, left=1
        ),
        table_004=table(["recipe", "parameters", "accuracy", "macro-F1", "change", ""], rows_004, left=1),
        overrides_002=" ".join(SEED_002),
        overrides_004=" ".join([*SEED_004, *NETWORK_004]),
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
error, "within the noise" up to two of them. All runs together trained for {minutes} minutes ({jax}). Every number is
in [ablations.json](ablations.json).

## Seed 002: before and after, three networks

Overrides of the recipes: `{overrides_002}`, 4 epochs of batches of 8 before, 8 epochs of
batches of 32 after, in the document's proportions.

{table_002}

## Seed 004: the diary, one change at a time

Every row changes one thing of the first. The network is ConvNeXt-Atto with patches of 2 px; overrides:
`{overrides_004}`.

{table_004}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="")
    parser.add_argument("--workdir", required=True, type=Path)
    parser.add_argument("--only", choices=("002", "004"), default="")
    parser.add_argument("--write-only", action="store_true")
    options = parser.parse_args()
    options.workdir.mkdir(parents=True, exist_ok=True)
    stored = options.workdir / "found.json"
    found = json.loads(stored.read_text()) if stored.exists() else {}
    if not options.write_only:
        for key, run in (("002", run_002), ("004", run_004)):
            if options.only in ("", key):
                found[key] = run(options.workdir, options.data)
                stored.write_text(json.dumps(found, indent=2))
    if set(found) == {"002", "004"}:
        (ROOT / "docs/ablations.json").write_text(json.dumps(found, indent=1) + "\n")
        target = ROOT / "docs/ablations.md"
        written = target.read_text().partition(MARK)[0] if target.exists() else "# What the seeds claim, measured\n\n"
        target.write_text(f"{written}{MARK}\n\n{page(found)}")


if __name__ == "__main__":
    main()
