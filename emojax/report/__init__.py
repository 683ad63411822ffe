"""The report of a run: `write` puts JSON, Markdown and figures into WORKDIR/report."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emojax import figures, plots, predictions_csv
from emojax.files import write_bytes, write_json, write_text
from emojax.metrics import Report
from emojax.report import page
from emojax.report.leaks import Stamp, stamp
from emojax.report.run import Compared, RunInfo, StageRow
from emojax.report.stages import compared_lines, stage_lines, stage_rows
from emojax.types import Predictions

__all__ = ["Compared", "RunInfo", "StageRow", "Stamp", "compared_lines", "stage_lines", "stage_rows", "stamp", "write"]


def write(
    folder: Path,
    *,
    split: str,
    report: Report,
    predictions: Predictions,
    history: Sequence[Mapping[str, Any]],
    run: RunInfo,
) -> None:
    """Writes SPLIT.json, SPLIT.md, SPLIT-predictions.csv, the figures, and summary.md over all splits written so far.

    Every file is written in one step; summary.md comes last, so that what it links to exists.

    Args:
      folder: made if missing.
      split: "val" or "test".
      report: numbers of the split.
      predictions: what they were computed from.
      history: rows of metrics.jsonl, as `Monitor.history` returns them.
      run: where the result comes from.
    """
    folder = Path(folder)
    write_bytes(folder / "history.png", figures.png(plots.history(history)))
    figure = plots.confusion(report, title=f"Confusion matrix, {split}")
    write_bytes(folder / f"{split}-confusion.png", figures.png(figure))
    figure = plots.per_class(report, title=f"Precision, recall and F1 per class, {split}")
    write_bytes(folder / f"{split}-per-class.png", figures.png(figure))
    found = stamp(split, predictions, report.class_names, leaked=run.leaked)
    write_json(folder / f"{split}.json", content(split, report, run, found))
    predictions_csv.write(folder / f"{split}-predictions.csv", predictions, report.class_names)
    write_text(folder / f"{split}.md", page.page(split, report, predictions, run, found))
    write_text(folder / "summary.md", page.index(_numbers(folder)))


def content(split: str, report: Report, run: RunInfo, leaks: Stamp | None) -> dict[str, Any]:
    """What SPLIT.json holds: the numbers at the top level, then where they come from."""
    return {
        "split": split,
        **report.to_json(),
        "leak_check": leaks and {**dataclasses.asdict(leaks), "text": leaks.text},
        "step": run.step,
        "result": run.result,
        "selected_by": run.selected_by,
        "dataset": run.dataset,
        "notes": run.notes,
        "seed": run.seed,
        "views": run.views,
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
