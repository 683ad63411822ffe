"""Figures: reports, histories and batches drawn with matplotlib, without pyplot.

Every function returns a `matplotlib.figure.Figure` of its own on the Agg canvas: no display, no global state, safe in
threads. matplotlib is imported inside the functions, because training without figures should not pay for it.
"""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, UInt8

from emojax.drawing import (
    BLUE,
    GREEN,
    INK,
    LABEL,
    MUTED,
    ORANGE,
    SKY,
    SMALL,
    VERMILION,
    figure as _figure,
    heading as _heading,
    name as _name,
    style as _style,
)
from emojax.metrics import WEAK_F1, Report, text as number_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def confusion(report: Report, *, title: str = "Confusion matrix") -> Figure:
    """Counts and percent of the true class in every cell, precision above the columns, recall right of the rows."""
    import matplotlib as mpl

    k = len(report.class_names)
    counts, percent = np.asarray(report.confusion, np.float64), np.asarray(report.row_percent)
    cell = 0.92 if k <= 10 else 0.62
    figure, ax = _figure(max(cell * k, 3) + 2.9, max(cell * k, 2) + 2.2)
    image = ax.imshow(percent, cmap=mpl.colormaps["Blues"], vmin=0, vmax=100, aspect="equal")
    size = SMALL + 1 if k <= 10 else 6.5
    for (row, column), count in np.ndenumerate(counts):
        if count:  # empty cells stay empty: the eye finds the mistakes
            ax.text(
                column,
                row,
                f"{_count(count)}\n{percent[row, column]:.{0 if k > 10 else 1}f} %",
                ha="center",
                va="center",
                fontsize=size,
                linespacing=1.25,
                color="white" if percent[row, column] > 55 else INK,
                fontweight="bold" if row == column else "normal",
            )
    names = [_name(name, 22) for name in report.class_names]
    ax.set_xticks(range(k), names, rotation=45, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(k), names)
    right, top = ax.secondary_yaxis("right"), ax.secondary_xaxis("top")
    right.set_yticks(range(k), [_percent(row.recall, row.support) for row in report.per_class])
    top.set_xticks(range(k), [_percent(row.precision, sum(counts[:, i])) for i, row in enumerate(report.per_class)])
    for axis, label in ((right, "Recall (class accuracy)"), (top, "Precision")):
        axis.tick_params(length=0, labelsize=SMALL if k <= 10 else 7, colors=MUTED)
        axis.spines[:].set_visible(False)
        (axis.set_ylabel if axis is right else axis.set_xlabel)(label, fontsize=SMALL, color=MUTED, labelpad=6)
    ax.set_xticks(np.arange(k + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(k + 1) - 0.5, minor=True)
    ax.grid(which="minor", color="white", linewidth=1.5)
    _style(ax, xlabel="Predicted class", ylabel="True class")
    ax.tick_params(which="both", length=0)
    ax.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=ax, shrink=0.6, aspect=28, pad=0.02, format="%d %%")
    bar.set_label("Share of the true class", fontsize=SMALL, color=MUTED)
    bar.ax.tick_params(labelsize=SMALL, colors=MUTED, length=0)
    bar.outline.set_visible(False)
    subtitle = f"accuracy {100 * report.accuracy:.1f} % · macro-F1 {report.macro_f1:.3f} · {report.n:,} images"
    _heading(figure, title, ax, subtitle)
    return figure


def per_class(report: Report, *, title: str = "Precision, recall and F1 per class") -> Figure:
    """Three bars per class with the support beside the name; a line at the weak-class limit."""
    rows = report.per_class
    k = len(rows)
    figure, ax = _figure(8.4, max(3.2, 0.5 * k + 1.6))
    at = np.arange(k)
    bars = (("Precision", "precision", SKY), ("Recall", "recall", BLUE), ("F1", "f1", ORANGE))
    drawn = [
        ax.barh(at + (i - 1) * 0.26, [getattr(row, field) for row in rows], height=0.24, color=colour, label=label)
        for i, (label, field, colour) in enumerate(bars)
    ]
    style = {"color": VERMILION, "linestyle": (0, (4, 3)), "linewidth": 1.2}
    drawn.append(ax.axvline(WEAK_F1, label=f"F1 below {WEAK_F1} is weak", **style))
    ax.set_yticks(at, [f"{_name(row.name, 24)}  (n = {_count(row.support)})" for row in rows])
    ax.set_ylim(k - 0.45, -0.55)
    ax.set_xlim(0, 1)
    ax.set_xticks(np.arange(0, 1.01, 0.2))
    _style(ax, xlabel="Score, 0 to 1", grid="x")
    right = ax.secondary_yaxis("right")
    right.set_yticks(at, [f"F1 {row.f1:.2f}" for row in rows])
    for axis in (ax, right):
        axis.tick_params(axis="y", length=0)
        axis.spines[:].set_visible(False)
        for tick, row in zip(axis.get_yticklabels(), rows, strict=True):
            tick.set_color(VERMILION if row.name in report.weak_classes else INK)
            tick.set_fontweight("bold" if row.name in report.weak_classes else "normal")
    figure.legend(handles=drawn, loc="outside lower center", ncols=4, frameon=False, fontsize=SMALL)
    balanced = f"balanced accuracy {100 * report.balanced_accuracy:.1f} %"
    _heading(figure, title, ax, f"macro-F1 {report.macro_f1:.3f} · {balanced} · {report.n:,} images")
    return figure


def history(
    rows: Iterable[Mapping[str, Any]], *, chosen: tuple[str, int] | None = None, title: str = "Training history"
) -> Figure:
    """Loss, accuracy, learning rate (log axis) and the train - validation gap over the epochs; no empty panels.

    Args:
      rows: rows of metrics.jsonl with kind "train" or "eval"; of the latter those of the split "val" are drawn.
      chosen: (number by which the result was chosen on val, its update), marked; None = the best accuracy is marked.
      title: of the figure.
    """
    rows = list(rows)
    train = _long_windows([row for row in rows if row.get("kind") == "train"])
    val = [row for row in rows if row.get("kind") == "eval" and row.get("split", "val") == "val"]
    rates, gaps = _series(train, "learning_rate", 1), _gap(train, val)
    panels = [_loss_panel, _accuracy_panel]
    panels += [_rate_panel] * bool(np.isfinite(rates[1]).any()) + [_gap_panel] * bool(np.isfinite(gaps[1]).any())
    shape, size = {2: ((1, 2), (11, 3.9)), 3: ((1, 3), (14, 3.9)), 4: ((2, 2), (11, 7.4))}[len(panels)]
    figure, axes = _figure(*size, shape=shape)
    for draw, ax in zip(panels, axes.flat, strict=True):
        draw(ax, train, val)
        ax.set_xlim(0, 1.01 * max((float(row["epoch"]) for row in train + val), default=1))
        if not rows:
            ax.text(0.5, 0.55, "nothing recorded yet", transform=ax.transAxes, ha="center", color=MUTED, fontsize=LABEL)
            ax.set_yticks([])
        elif draw in (_loss_panel, _accuracy_panel):
            _mark_chosen(ax, val, "loss" if draw is _loss_panel else "accuracy", chosen)
            if ax.get_legend_handles_labels()[0]:
                ax.legend(frameon=False, fontsize=SMALL)
    _heading(figure, title)
    return figure


_Rows = list[Mapping[str, Any]]


def _both(ax: Axes, train: _Rows, val: _Rows, name: str, factor: float) -> None:
    ax.plot(*_series(train, name, factor), color=BLUE, linewidth=1.4, label="train")
    marker = "o" if len(val) <= 60 else None
    ax.plot(*_series(val, name, factor), color=VERMILION, linewidth=1.8, marker=marker, markersize=3.5, label="val")


def _loss_panel(ax: Axes, train: _Rows, val: _Rows) -> None:
    _both(ax, train, val, "loss", 1)
    _panel(ax, "Loss", "Cross-entropy, nats")


def _accuracy_panel(ax: Axes, train: _Rows, val: _Rows) -> None:
    _both(ax, train, val, "accuracy", 100)
    _panel(ax, "Accuracy", "Accuracy, %")


def _rate_panel(ax: Axes, train: _Rows, _: _Rows) -> None:
    epochs, rates = _series(train, "learning_rate", 1)
    ax.plot(epochs, np.where(rates > 0, rates, np.nan), color=GREEN, linewidth=1.8)
    if (rates > 0).any():
        ax.set_yscale("log")
    _panel(ax, "Learning rate", "Learning rate (log scale)")


def _gap_panel(ax: Axes, train: _Rows, val: _Rows) -> None:
    epochs, gaps = _gap(train, val)
    ax.axhline(0, color=MUTED, linewidth=1)
    ax.plot(epochs, gaps, color=INK, linewidth=1.6, zorder=3, marker="o" if len(val) <= 60 else None, markersize=3.5)
    ax.fill_between(epochs, gaps, 0, where=gaps >= 0, interpolate=True, color=VERMILION, alpha=0.2, linewidth=0)
    ax.fill_between(epochs, gaps, 0, where=gaps < 0, interpolate=True, color=BLUE, alpha=0.2, linewidth=0)
    _panel(ax, "Accuracy gap, train minus validation", "Percentage points")


def _panel(ax: Axes, name: str, ylabel: str) -> None:
    _style(ax, xlabel="Epoch", ylabel=ylabel, grid="both")
    ax.set_title(name, fontsize=LABEL + 1, fontweight="bold", loc="left", color=INK)


def throughput(rows: Iterable[Mapping[str, Any]], *, title: str = "Speed") -> Figure:
    """Images per second and the share of time that waited for data, over the epochs; rows of kind "speed"."""
    rows = list(rows)
    figure, axes = _figure(11, 3.6, shape=(1, 2))
    panels = (("images_per_second", 1, BLUE, "Images per second"), ("data_wait", 100, ORANGE, "Waiting for data, %"))
    for ax, (name, factor, colour, label) in zip(axes.flat, panels, strict=True):
        epochs, values = _series(rows, name, factor)
        ax.plot(epochs, values, color=colour, linewidth=1.6, marker="o" if len(rows) <= 60 else None, markersize=3.5)
        _style(ax, xlabel="Epoch", ylabel=label, grid="both")
        top = np.nanmax(values, initial=0.0)
        ax.set_ylim(0, max(1.08 * top, 10 if name == "data_wait" else 1))
        ax.set_xlim(0, 1.01 * max(epochs, default=1))
    _heading(figure, title)
    return figure


def _long_windows(train: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows that stand for at least half as many updates as is usual: an evaluation ends a row early, and the mean
    of one or two batches would be drawn as a jump."""
    length = np.diff([0, *(row["step"] for row in train)])
    return [row for row, n in zip(train, length, strict=True) if 2 * n >= np.median(length)]


def sample_grid(images: UInt8[np.ndarray, "N H W C"], titles: Sequence[str] = (), *, title: str = "") -> Figure:
    """Images side by side, for a look at augmented batches: uint8 [N, H, W, 1 or 3], N >= 1, and N titles or none."""
    n = len(images)
    columns = min(n, max(1, math.ceil(math.sqrt(n * 1.6))))
    lines = math.ceil(n / columns)
    figure, axes = _figure(1.55 * columns + 0.3, (2 if titles else 1.6) * lines + 0.5, shape=(lines, columns))
    for i, ax in enumerate(axes.flat):
        ax.axis("off")
        if i < n:
            ax.imshow(images[i].squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            if i < len(titles):
                words = textwrap.wrap(_name(titles[i], 60), 24)[:2]
                ax.set_title("\n".join(words), fontsize=SMALL - 0.5, color=INK, pad=3)
    _heading(figure, title or "Training images after augmentation")
    return figure


def label_titles(label: Float[np.ndarray, "N K"], class_names: Sequence[str]) -> list[str]:
    """One title per label distribution: `happy`, or `happy 0.62, sad 0.38` for a mixed one (its two heaviest)."""
    titles = []
    for row in label:
        first, second = (*np.argsort(-row, kind="stable")[:2], 0)[:2]
        mixed = f"{class_names[first]} {row[first]:.2f}, {class_names[second]} {row[second]:.2f}"
        titles.append(mixed if row[second] >= 0.05 and first != second else str(class_names[first]))
    return titles


def learning_rate(steps: Sequence[int] | np.ndarray, values: Sequence[float] | np.ndarray) -> Figure:
    """The planned learning rate at each of the steps; log axis below, because warm-ups span decades."""
    values = np.asarray(values, np.float64)
    figure, axes = _figure(9, 5.4, shape=(2, 1))
    for ax, label in zip(axes.flat, ("Learning rate", "Learning rate (log scale)"), strict=True):
        ax.plot(np.asarray(steps), values, color=GREEN, linewidth=1.8)
        _style(ax, ylabel=label, grid="both")
        ax.margins(x=0.01)
    if (values > 0).any():
        axes[1, 0].set_yscale("log", nonpositive="mask")
    axes[1, 0].set_xlabel("Step (optimizer updates)", fontsize=LABEL, color=INK)
    _heading(figure, "Learning rate plan")
    return figure


def rate_finder(
    rates: np.ndarray, losses: np.ndarray, smoothed: np.ndarray, *, steepest: float, lowest: float
) -> Figure:
    """Loss over a rising learning rate, with the two rates that matter marked."""
    figure, ax = _figure(8.4, 4.6)
    ax.plot(rates, losses, color=SKY, linewidth=1, alpha=0.7, label="Loss of one update")
    ax.plot(rates, smoothed, color=BLUE, linewidth=2, label="Smoothed")
    for rate, colour, text in ((steepest, GREEN, "Steepest"), (lowest, VERMILION, "Lowest")):
        if np.isfinite(rate):
            ax.axvline(rate, color=colour, linestyle=(0, (4, 3)), linewidth=1.4, label=f"{text}: {rate:.1e}")
    ax.set_xscale("log")
    shown = np.concatenate([smoothed, losses])
    ax.set_ylim(max(0, shown.min() * 0.95), np.quantile(shown, 0.98) * 1.05)
    _style(ax, xlabel="Learning rate", ylabel="Training loss", grid="both")
    figure.legend(frameon=False, fontsize=SMALL, loc="outside lower center", ncols=4)
    _heading(figure, "Learning-rate range test")
    return figure


def _series(rows: list[Mapping[str, Any]], name: str, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """(epochs, values times factor), float64; values that are missing or null are NaN."""
    values = [row.get(name) for row in rows]
    numbers = [np.nan if value is None else float(value) for value in values]
    return np.array([float(row["epoch"]) for row in rows]), factor * np.array(numbers, np.float64)


def _gap(train: list[Mapping[str, Any]], val: list[Mapping[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Percentage points at every evaluation: mean training accuracy since the one before, minus validation accuracy."""
    epochs, judged = _series(val, "accuracy", 100)
    at, learned = _series(train, "accuracy", 100)
    edges = np.concatenate([[-np.inf], epochs])
    means = []
    for low, high in itertools.pairwise(edges):
        between = learned[(at > low) & (at <= high) & np.isfinite(learned)]
        means.append(between.mean() if between.size else np.nan)
    return epochs, np.array(means, np.float64) - judged


def _mark_chosen(ax: Axes, val: _Rows, name: str, chosen: tuple[str, int] | None) -> None:
    """A star at the evaluation that was chosen, in the panels of loss and accuracy; without a choice, at the best
    accuracy. Weights that no evaluation saw, such as an average at the end, get none."""
    factor = 100 if name == "accuracy" else 1
    epochs, values = _series(val, name, factor)
    number, step = chosen or ("accuracy", None)
    if chosen:
        at = next((i for i, row in enumerate(val) if row["step"] == step), None)
    else:
        at = int(np.nanargmax(values)) if name == number and np.isfinite(values).any() else None
    if at is None or not np.isfinite(values[at]):
        return
    shown = f"{values[at]:.1f} %" if name == "accuracy" else f"{values[at]:.3f}"
    text = f"chosen by {number_text(number)}, {shown}" if chosen else f"best val, {shown}"
    style = {"marker": "*", "markersize": 13, "color": ORANGE, "markeredgecolor": INK, "linestyle": "none"}
    ax.plot(epochs[at], values[at], label=text, zorder=4, clip_on=False, **style)


def _percent(value: float, total: float) -> str:
    """`83 %`, or a dash where there is nothing to divide by."""
    return f"{100 * value:.0f} %" if total else "–"


def _count(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"
