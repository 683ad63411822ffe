"""Runs a recipe with several seeds and records what came out in docs/measured.json, the source of the README's numbers.

    python scripts/measure.py emoji --seeds 0 1 2
    python scripts/measure.py convnext_tiny --seeds 0 --config.data.path=FOLDER

Further --config... arguments go to the runs. Seconds are wall time of the whole command, imports and report included.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "docs/measured.json"
NUMBERS = ("accuracy", "balanced_accuracy", "macro_f1")


def one_run(recipe: str, seed: int, extra: list[str], workdir: Path) -> dict:
    command = [sys.executable, "-m", "emojax.main", f"--config=configs/{recipe}.py", f"--workdir={workdir}"]
    began = time.monotonic()
    subprocess.run([*command, f"--config.seed={seed}", *extra], check=True, cwd=ROOT)
    result: dict = {"seed": seed, "seconds": round(time.monotonic() - began, 1)}
    for path in sorted((workdir / "report").glob("*.json")):
        report = json.loads(path.read_text())
        result[path.stem] = {name: round(report[name], 4) for name in (*NUMBERS, "n")}
        slices = report.get("slices", {})
        for column, values in slices.items():
            for value, numbers in values.items():
                if len(values) > 1:
                    result[path.stem][f"accuracy where {column}={value}"] = round(numbers["accuracy"], 4)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options, extra = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = [one_run(options.recipe, seed, extra, Path(folder) / str(seed)) for seed in options.seeds]
    kept = {arg.partition("=")[0]: arg.partition("=")[2] for arg in extra if "data.path" not in arg}
    split = "test" if "test" in runs[0] else "val"
    found = {
        "split": split,
        "mean_accuracy": round(statistics.mean(run[split]["accuracy"] for run in runs), 4),
        "mean_seconds": round(statistics.mean(run["seconds"] for run in runs), 1),
        "overrides": kept,
        "jax": jax.__version__,
        "python": ".".join(map(str, sys.version_info[:2])),
        "cores": os.cpu_count(),
        "runs": runs,
    }
    stored = json.loads(OUTPUT.read_text()) if OUTPUT.exists() else {}
    OUTPUT.write_text(json.dumps(stored | {options.recipe: found}, indent=2) + "\n")
    print(f"{options.recipe}: mean {split} accuracy {found['mean_accuracy']:.4f} over {len(runs)} runs")


if __name__ == "__main__":
    main()
