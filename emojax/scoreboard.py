"""The table of evaluations: one aligned line each, with fewer columns where the terminal is narrow."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from emojax.metrics import Report


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """A cell with its title; the least important columns are left out first."""

    importance: int
    width: int
    title: str
    value: str


def columns(
    step: int, epoch: float, *, train: Mapping[str, float], report: Report, images_per_second: float | None
) -> list[Column]:
    """The cells of one evaluation; `train` holds the latest training numbers, possibly none."""
    return [
        Column(9, 7, "epoch", f"{epoch:.2f}"),
        Column(2, 8, "step", str(step)),
        Column(5, 10, "train loss", _number(train.get("loss"), ".4f")),
        Column(6, 9, "train acc", _number(train.get("accuracy"), ".4f")),
        Column(7, 8, "val loss", f"{report.loss:.4f}"),
        Column(8, 7, "val acc", f"{report.accuracy:.4f}"),
        Column(4, 8, "macro-F1", f"{report.macro_f1:.4f}"),
        Column(3, 8, "lr", _number(train.get("learning_rate"), ".2e")),
        Column(1, 8, "images/s", _number(images_per_second, ",.0f")),
    ]


def lines(cells: Sequence[Column], *, width: int) -> tuple[str, str]:
    """(titles, values), each at most `width` wide, with room for two spaces and the mark `best`."""
    kept = list(cells)
    while len(kept) > 1 and sum(cell.width + 2 for cell in kept) + len("best") > width:
        kept.remove(min(kept, key=lambda cell: cell.importance))
    titles = "  ".join(f"{cell.title:>{cell.width}}" for cell in kept)
    return titles, "  ".join(f"{cell.value:>{cell.width}}" for cell in kept)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
