"""Figures about probabilities and decisions: reliability, risk over coverage, the accuracy frontier, robustness.

As in `plots`: every function returns a `matplotlib.figure.Figure` of its own on the Agg canvas.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from emojax.calibration import Calibration
from emojax.drawing import (
    BLUE,
    GREEN,
    INK,
    LABEL,
    MUTED,
    ORANGE,
    RULE,
    SKY,
    SMALL,
    VERMILION,
    figure,
    heading,
    name,
    style,
)
from emojax.selective import Curve, Selective

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LINE = {"linestyle": (0, (4, 3)), "linewidth": 1.2}


def reliability(panels: Mapping[str, Calibration], *, title: str = "Reliability") -> Figure:
    """Share of right answers over confidence, one column per panel, with the images of each bin below.

    Args:
      panels: heading → calibration, such as "as trained" and "calibrated"; one to three.
      title: of the figure.
    """
    count = len(panels)
    whole, axes = figure(4.5 * count + 0.6, 6.0, shape=(2, count), heights=(3.4, 1))
    for column, (label, found) in enumerate(panels.items()):
        _reliability(axes[:, column], label, found, first=column == 0)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    whole.legend(
        handles, labels, loc="outside lower center", ncols=3 if count > 1 else 2, frameon=False, fontsize=SMALL
    )
    heading(whole, title)
    return whole


def _reliability(axes: Any, label: str, found: Calibration, *, first: bool) -> None:
    top, bottom = axes
    sure, right = (np.array([getattr(b, field) for b in found.bins]) for field in ("confidence", "accuracy"))
    errors = np.abs(np.array([[b.accuracy - b.low, b.high - b.accuracy] for b in found.bins]).T)
    top.plot([0, 1], [0, 1], color=MUTED, label="perfect: as often right as said", **_LINE)
    top.vlines(sure, np.minimum(sure, right), np.maximum(sure, right), color=ORANGE, linewidth=5, alpha=0.55)
    top.plot([], [], color=ORANGE, linewidth=5, alpha=0.55, label="gap")
    marks = {"fmt": "o", "color": BLUE, "markersize": 5, "elinewidth": 1.1, "capsize": 2.5}
    top.errorbar(sure, right, yerr=errors, label="share right, 95 % interval", zorder=3, **marks)
    ece = found.ece["equal_mass"]
    low, high = 100 * ece.interval.low, 100 * ece.interval.high
    text = (
        f"ECE {100 * ece.interval.value:.2f} % [{low:.2f}, {high:.2f}]\n"
        f"by chance {100 * ece.chance:.2f} %, up to {100 * ece.chance_95:.2f} %\n"
        f"confidence {100 * found.confidence:.1f} %, accuracy {100 * found.accuracy:.1f} %"
    )
    top.text(0.03, 0.97, text, transform=top.transAxes, va="top", fontsize=SMALL, color=INK, linespacing=1.4)
    top.set_title(name(label, 40), fontsize=LABEL + 1, fontweight="bold", color=INK)
    steps = len(found.histogram)
    bottom.bar((np.arange(steps) + 0.5) / steps, found.histogram, width=0.85 / steps, color=SKY)
    for ax in (top, bottom):
        ax.set_xlim(0, 1)
        ax.set_xticks(np.arange(0, 1.01, 0.2))
    top.set_ylim(0, 1.02)
    bottom.set_ylim(0, 1.15 * max(found.histogram))
    style(top, ylabel="Share of right answers" if first else "", grid="both")
    style(bottom, xlabel="Confidence (largest probability)", ylabel="Images" if first else "", grid="y")


def risk_coverage(
    curves: Mapping[str, tuple[Curve, Selective]],
    *,
    threshold: tuple[float, float] | None = None,
    title: str = "Risk and coverage",
) -> Figure:
    """Share of wrong answers over the share of images answered.

    Args:
      curves: heading → curve and its numbers.
      threshold: (coverage, risk) of the chosen threshold, marked; None = none was chosen.
      title: of the figure.
    """
    whole, ax = figure(7.2, 4.8)
    for (label, (curve, found)), colour in zip(curves.items(), (BLUE, VERMILION, GREEN), strict=False):
        text = f"{label}: AURC {found.aurc.value:.3f} [{found.aurc.low:.3f}, {found.aurc.high:.3f}]"
        shown = curve.coverage >= 0.02  # the risk of a handful of images is noise
        ax.plot(100 * curve.coverage[shown], 100 * curve.risk[shown], color=colour, linewidth=1.8, label=text)
    last, best = list(curves.values())[-1]
    wrong = last.risk[-1]
    at = np.linspace(0, 1, 200)
    ideal = np.where(at > 1 - wrong, 1 - (1 - wrong) / np.maximum(at, 1e-9), 0)
    text = f"no better order: AURC {best.best_aurc:.3f}"
    ax.plot(100 * at, 100 * ideal, color=MUTED, label=text, **_LINE)
    if threshold:
        marker = {"marker": "o", "markersize": 8, "color": ORANGE, "markeredgecolor": INK, "linestyle": "none"}
        text = f"threshold: {100 * threshold[0]:.0f} % answered, {100 * threshold[1]:.1f} % of them wrong"
        ax.plot(100 * threshold[0], 100 * threshold[1], label=text, zorder=4, clip_on=False, **marker)
    ax.set_xlim(0, 100)
    ax.set_ylim(bottom=0)
    style(ax, xlabel="Coverage: images answered, %", ylabel="Risk: wrong among the answers, %", grid="both")
    ax.legend(frameon=False, fontsize=SMALL, loc="upper left")
    heading(whole, title)
    return whole


def frontier(points: Sequence[Any], *, tau: float, title: str = "Accuracy and mean-class accuracy") -> Figure:
    """The frontier of the logit adjustment: one point per tau, the chosen one marked.

    Args:
      points: `decision.Point`s in order of tau.
      tau: the chosen one, marked at the nearest point.
      title: of the figure.
    """
    taus = np.array([p.tau for p in points])
    names = {"accuracy": "accuracy", "balanced_accuracy": "mean-class accuracy", "macro_f1": "macro-F1"}
    accuracy, mean_class, macro = (100 * np.array([getattr(p, n) for p in points]) for n in names)
    whole, axes = figure(10.4, 5.0, shape=(1, 2))
    left, right = axes[0]
    for values, label, colour in zip(
        (accuracy, mean_class, macro), names.values(), (BLUE, VERMILION, GREEN), strict=True
    ):
        left.plot(taus, values, color=colour, linewidth=1.8, label=label)
    left.axvline(tau, color=ORANGE, linewidth=1.4, label=f"chosen: τ {tau:g}")
    left.set_xlim(0, taus[-1])
    style(left, xlabel="Strength τ of the adjustment", ylabel="Percent", grid="both")
    best = np.array(
        [
            not ((accuracy > a) & (mean_class >= m) | (accuracy >= a) & (mean_class > m)).any()
            for a, m in zip(accuracy, mean_class, strict=True)
        ]
    )
    order = np.argsort(mean_class[best])
    right.plot(mean_class[~best], accuracy[~best], "o", color=RULE, markersize=4, label="outdone by another τ")
    edge = (mean_class[best][order], accuracy[best][order])
    right.plot(*edge, color=BLUE, linewidth=1.4, marker="o", markersize=5, label="frontier")
    start = {"marker": "s", "markersize": 8, "color": SKY, "markeredgecolor": INK, "linestyle": "none"}
    right.plot(mean_class[0], accuracy[0], label=f"τ 0: {accuracy[0]:.1f} %, mean-class {mean_class[0]:.1f} %", **start)
    i = int(np.abs(taus - tau).argmin())
    star = {"marker": "*", "markersize": 14, "color": ORANGE, "markeredgecolor": INK, "linestyle": "none"}
    text = f"chosen, τ {tau:g}: {accuracy[i]:.1f} %, mean-class {mean_class[i]:.1f} %"
    right.plot(mean_class[i], accuracy[i], label=text, zorder=4, **star)
    # Strengths far beyond the frontier would squeeze it into a corner.
    shown = [np.append(values[best], [values[0], values[i]]) for values in (mean_class, accuracy)]
    for limit, values in zip((right.set_xlim, right.set_ylim), shown, strict=True):
        room = max(0.5, 0.25 * np.ptp(values))
        limit(values.min() - room, values.max() + room)
    style(right, xlabel="Mean-class (balanced) accuracy, %", ylabel="Accuracy, %", grid="both")
    lines, texts = ([*a, *b] for a, b in zip(*(ax.get_legend_handles_labels() for ax in (left, right)), strict=True))
    whole.legend(lines, texts, loc="outside lower center", ncols=4, frameon=False, fontsize=SMALL)
    heading(whole, title)
    return whole


def robustness(
    accuracy: Mapping[str, Sequence[float]], *, clean: float, title: str = "Accuracy under corruption"
) -> Figure:
    """A heat map: one row per corruption, one column per severity, accuracy in percent in every cell.

    Args:
      accuracy: corruption → accuracy in [0, 1] at severities 1 to 5.
      clean: accuracy of the same images as they are.
      title: of the figure.
    """
    import matplotlib as mpl

    table = 100 * np.array([[clean, *row] for row in accuracy.values()], np.float64)
    means = table[:, 1:].mean(axis=1)
    whole, ax = figure(7.2, 0.46 * len(table) + 2.1)
    top = max(1.0, table.max())
    image = ax.imshow(table, cmap=mpl.colormaps["Blues"], vmin=0, vmax=top, aspect="auto")
    for (row, column), value in np.ndenumerate(table):
        colour = "white" if value > 0.6 * top else INK
        ax.text(column, row, f"{value:.1f}", ha="center", va="center", fontsize=SMALL + 1, color=colour)
    ax.set_yticks(range(len(table)), [name(n, 24) for n in accuracy])
    ax.set_xticks(range(6), ["none", *map(str, range(1, 6))])
    right: Axes = ax.secondary_yaxis("right")  # pyright: ignore[reportAssignmentType]
    right.set_yticks(range(len(table)), [f"mean {m:.1f}" for m in means])
    right.tick_params(length=0, labelsize=SMALL, colors=MUTED)
    right.spines[:].set_visible(False)
    ax.set_xticks(np.arange(7) - 0.5, minor=True)
    ax.set_yticks(np.arange(len(table) + 1) - 0.5, minor=True)
    style(ax, xlabel="Severity")
    ax.grid(which="minor", color="white", linewidth=1.5)
    ax.axvline(0.5, color=RULE, linewidth=4)
    ax.tick_params(which="both", length=0)
    ax.spines[:].set_visible(False)
    bar = whole.colorbar(image, ax=ax, shrink=0.8, aspect=24, pad=0.02, format="%d %%")
    bar.set_label("Accuracy", fontsize=SMALL, color=MUTED)
    bar.ax.tick_params(labelsize=SMALL, colors=MUTED, length=0)
    bar.outline.set_visible(False)
    heading(whole, title, ax, f"as they are {100 * clean:.1f} % · mean over all corruptions {means.mean():.1f} %")
    return whole
