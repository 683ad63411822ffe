"""The look that all figures share: colours, sizes, axes, names.

Colours are those of Okabe and Ito ("Color Universal Design", 2008), which people with colour-blindness can tell apart.
matplotlib is imported inside the functions, because training without figures should not pay for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, SKY, VERMILION, GREEN, ORANGE = "#0072B2", "#56B4E9", "#D55E00", "#009E73", "#E69F00"
INK, MUTED, RULE = "#222222", "#5F6B76", "#D9DEE3"
TITLE, LABEL, SMALL = 13, 10, 8.5
"""Font sizes, points: figure titles; axis titles and labels; annotations."""


def font_file() -> str:
    """Path of DejaVu Sans, which ships with matplotlib: names may be in many scripts."""
    from matplotlib import font_manager

    return font_manager.findfont("DejaVu Sans")


def figure(
    width: float, height: float, *, shape: tuple[int, int] | None = None, heights: tuple[float, ...] = ()
) -> tuple[Figure, Any]:
    """A white figure, inches, with one `Axes` or an array [rows, columns] of them; `heights` of rows, relative."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12, wspace=0.04, hspace=0.04)
    drawn = Figure(figsize=(width, height), layout=layout, facecolor="white")
    FigureCanvasAgg(drawn)
    if shape is None:
        return drawn, drawn.add_subplot()
    return drawn, drawn.subplots(*shape, squeeze=False, height_ratios=heights or None)


def style(ax: Axes, *, xlabel: str = "", ylabel: str = "", grid: str = "") -> None:
    """The look that all axes share; `grid` is "x", "y", "both" or nothing."""
    ax.set_xlabel(xlabel, fontsize=LABEL, color=INK)
    ax.set_ylabel(ylabel, fontsize=LABEL, color=INK)
    ax.tick_params(which="both", labelsize=LABEL - 0.5, length=3, color=RULE, labelcolor=INK)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["bottom", "left"]].set_color(RULE)
    if grid:
        ax.grid(axis=grid, color=RULE, linewidth=0.7)  # pyright: ignore[reportArgumentType]
        ax.set_axisbelow(True)


def heading(whole: Figure, title: str, ax: Axes | None = None, subtitle: str = "") -> None:
    """Title of the figure, and a line below it."""
    whole.suptitle(name(title, 90), fontsize=TITLE, fontweight="bold", color=INK)
    if ax is not None:
        ax.set_title(subtitle, fontsize=LABEL, color=MUTED, pad=8)


def name(text: str, longest: int) -> str:
    """A name that fits and is drawn literally: shortened, no math mode, no control characters or unknown glyphs."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    known = get_font(findfont(FontProperties())).get_charmap()
    text = " ".join(str(text).split())
    text = text if len(text) <= longest else text[: longest - 1] + "…"
    return "".join(c if ord(c) in known else "□" for c in text).replace("$", r"\$")
