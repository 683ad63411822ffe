"""The table of stages, and the candidates for the result side by side: as text lines, and as Markdown tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from emojax.intervals import Intervals
from emojax.metrics import Report, text
from emojax.report.markdown import table
from emojax.report.run import Compared, StageRow
from emojax.stages import Stage

_NUMBERS = {"accuracy": "accuracy", "macro_f1": "macro-F1", "loss": "loss"}


def stage_rows(stages: Sequence[Stage], per_epoch: float, history: Sequence[Mapping[str, Any]]) -> tuple[StageRow, ...]:
    """One row per stage; `history` are rows of metrics.jsonl."""
    found = []
    for stage in stages:
        judged = [
            row
            for row in history
            if row["kind"] == "eval" and row.get("split") == "val" and stage.start < row["step"] <= stage.stop
        ]
        last = {name: float(judged[-1][name]) for name in _NUMBERS} if judged else {}
        best = max((float(row["accuracy"]) for row in judged), default=math.nan)
        stop = judged[-1]["step"] if judged else stage.stop  # earlier than planned where the stage's patience ended
        epochs = (stage.start / per_epoch + 1, stop / per_epoch)
        found.append(StageRow(name=stage.name, epochs=epochs, last=last, best=best))
    return tuple(found)


def stage_lines(rows: Sequence[StageRow]) -> list[str]:
    """An aligned plain table; nothing for a run of one stage."""
    if len(rows) < 2:
        return []
    return ["stages, judged on val:", *_aligned(_STAGE_TITLES, [_stage_cells(row) for row in rows])]


def compared_lines(rows: Sequence[Compared], *, metric: str) -> list[str]:
    """An aligned plain table of the candidates."""
    return [f"candidates, chosen on val by {metric}:", *_aligned(_COMPARED_TITLES, [_compared_cells(r) for r in rows])]


def number_lines(split: str, report: Report, bounds: Intervals) -> list[str]:
    """The numbers of a split and, below them, their 95 % intervals, for the terminal."""
    values = [f"{value:.4f}" for value in report.numbers().values()]
    limits = ["-".join(f"{x:.3f}" for x in bounds.numbers[name]) for name in report.numbers()]
    names = [text(name) for name in report.numbers()]
    return _aligned([split, *names], [[f"{report.n:,} images", *values], ["95 % interval", *limits]])


def sections(candidates: Sequence[Compared], stages: Sequence[StageRow]) -> str:
    """Markdown: the stages where there are several, and the candidates where there are several."""
    parts = []
    if len(stages) > 1:
        parts.append("## Stages\n\nOn val.\n\n" + table(_STAGE_TITLES, [_stage_cells(row) for row in stages]))
    if len(candidates) > 1:
        intro = "On val, where the result was chosen."
        parts.append(
            f"## Candidates\n\n{intro}\n\n" + table(_COMPARED_TITLES, [_compared_cells(r) for r in candidates])
        )
    return "\n\n".join(parts)


_STAGE_TITLES = ["Stage", "Epochs", *(f"Val {title}" for title in _NUMBERS.values()), "Best accuracy"]
_COMPARED_TITLES = ["Candidate", "Step", *(f"Val {title}" for title in _NUMBERS.values()), ""]


def _stage_cells(row: StageRow) -> list[str]:
    numbers = [f"{row.last[name]:.4f}" if row.last else "-" for name in _NUMBERS]
    best = "-" if math.isnan(row.best) else f"{row.best:.4f}"
    first, last = (f"{epoch:.3g}" if epoch < 100 else f"{epoch:.0f}" for epoch in row.epochs)
    return [row.name, f"{first}-{last}", *numbers, best]


def _compared_cells(row: Compared) -> list[str]:
    return [row.name, f"{row.step}", *(f"{row.numbers[name]:.4f}" for name in _NUMBERS), "chosen" if row.chosen else ""]


def _aligned(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    lines = []
    for cells in (titles, *rows):
        first, *others = (
            f"{cell:<{width}}" if i == 0 else f"{cell:>{width}}"
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        lines.append("  ".join(["", first, *others]).rstrip())
    return lines
