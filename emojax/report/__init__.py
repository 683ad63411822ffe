"""The report of a run: `write` puts JSON, Markdown and figures into WORKDIR/report."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emojax import calibration, decision_plots, figures, plots, predictions_csv, selective, slices
from emojax.files import write_bytes, write_json, write_text
from emojax.intervals import Intervals
from emojax.metrics import Report
from emojax.report import decisions, page
from emojax.report.leaks import Stamp, stamp
from emojax.report.run import Compared, RunInfo, StageRow
from emojax.report.stages import compared_lines, number_lines, stage_lines, stage_rows
from emojax.types import Dataset, Predictions

__all__ = [
    "Compared",
    "RunInfo",
    "StageRow",
    "Stamp",
    "compared_lines",
    "number_lines",
    "stage_lines",
    "stage_rows",
    "stamp",
    "write",
    "write_data",
]

DATA = "data.json"
"""In the folder of a report: the splits, and what the check before training found."""


def write(
    folder: Path,
    *,
    split: str,
    report: Report,
    bounds: Intervals,
    predictions: Predictions,
    history: Sequence[Mapping[str, Any]],
    run: RunInfo,
) -> dict[str, Any]:
    """Writes SPLIT.json, SPLIT.md, SPLIT-predictions.csv, the figures, and summary.md over all splits written so far.

    Every file is written in one step; summary.md comes last, so that what it links to exists.

    Args:
      folder: made if missing.
      split: "val" or "test".
      report: numbers of the split.
      bounds: their intervals.
      predictions: what they were computed from.
      history: rows of metrics.jsonl, as `Monitor.history` returns them.
      run: where the result comes from.

    Returns:
      The matplotlib figures by what they show, for who shows them elsewhere too.
    """
    folder = Path(folder)
    chosen = (run.selected_by, run.step) if run.selected_by else None
    sure, order = calibration.measure(predictions), selective.measure(predictions)
    curves = {"this model": (selective.curve(predictions), order)}
    drawn = {
        "history": plots.history(history, chosen=chosen),
        "confusion": plots.confusion(report, title=f"Confusion matrix, {split}"),
        "per-class": plots.per_class(report, title=f"Precision, recall and F1 per class, {split}"),
        "reliability": decision_plots.reliability({run.decision or "as trained": sure}, title=f"Reliability, {split}"),
        "risk-coverage": decision_plots.risk_coverage(curves, title=f"Risk and coverage, {split}"),
    }
    for name, figure in drawn.items():
        file = "history.png" if name == "history" else f"{split}-{name}.png"
        write_bytes(folder / file, figures.png(figure))
    groups = slices.judge(predictions)
    more = {"calibration": sure.to_json(), "selective": order.to_json(), "slice_tests": slices.to_json(groups)}
    leaks = stamp(split, predictions, report.class_names, leaked=run.leaked)
    write_json(folder / f"{split}.json", content(split, report, bounds, run, leaks) | more)
    predictions_csv.write(folder / f"{split}-predictions.csv", predictions, report.class_names)
    text = page.page(split, report, bounds, predictions, run, leaks, decisions.section(split, sure, order), groups)
    write_text(folder / f"{split}.md", text)
    write_text(folder / "summary.md", page.index(_numbers(folder)))
    return drawn


def write_data(folder: Path, dataset: Dataset) -> None:
    """Writes what is known of the data before training: images per split and class, and what the check found."""
    splits = {name: split.label.argmax(1) for name, split in dataset.splits.items()}
    classes = {
        name: {split: int((label == k).sum()) for split, label in splits.items()}
        for k, name in enumerate(dataset.class_names)
    }
    found = {kind: {name: part._asdict() for name, part in parts.items()} for kind, parts in dataset.findings.items()}
    sizes = {name: len(label) for name, label in splits.items()}
    write_json(Path(folder) / DATA, {"splits": sizes, "classes": classes, "findings": found})


def content(split: str, report: Report, bounds: Intervals, run: RunInfo, leaks: Stamp | None) -> dict[str, Any]:
    """What SPLIT.json holds: the numbers at the top level, then where they come from."""
    return {
        "split": split,
        **report.to_json(),
        "intervals": bounds.numbers,
        "class_intervals": bounds.per_class,
        "leak_check": leaks and {**dataclasses.asdict(leaks), "text": leaks.text},
        "step": run.step,
        "result": run.result,
        "selected_by": run.selected_by,
        "dataset": run.dataset,
        "notes": run.notes,
        "seed": run.seed,
        "views": run.views,
        "decision": run.decision,
        "seconds": run.seconds,
        "skipped_count": len(run.skipped),
        "skipped": [{"id": name, "reason": reason} for name, reason in run.skipped],
        "command": run.command,
        "config_differences": run.config_differences,
        "candidates": [dataclasses.asdict(row) for row in run.candidates],
        "stages": [dataclasses.asdict(row) for row in run.stages],
    }


def _numbers(folder: Path) -> dict[str, dict[str, Any]]:
    """split -> content of its JSON file, val before test."""
    found = {}
    for name in ("val", "test", "train", "all"):
        if (path := folder / f"{name}.json").is_file():
            found[name] = json.loads(path.read_text(encoding="utf-8"))
    return found
