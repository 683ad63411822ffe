"""Markdown that shows names as they are, whatever characters they contain."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from emojax.visible import visible

_SPECIAL = str.maketrans({c: f"\\{c}" for c in "\\`*_[]#+|~$"})


def escape(text: object) -> str:
    """`text` on one line, shown literally: no HTML, emphasis, code, link, math or end of a table cell."""
    one_line = " ".join(str(text).split())
    return html.escape(visible(one_line).translate(_SPECIAL), quote=False)


def table(titles: Sequence[str], rows: Iterable[Sequence[object]], *, left: int = 1) -> str:
    """A table whose first `left` columns are aligned left, the others right. Every cell is escaped."""
    aligned = [" --- " if i < left else " ---: " for i in range(len(titles))]
    lines = [f"| {' | '.join(map(escape, titles))} |", f"|{'|'.join(aligned)}|"]
    lines += [f"| {' | '.join(map(escape, row))} |" for row in rows]
    return "\n".join(lines)


def code(text: str) -> str:
    """A block of code, fenced by more backticks than it contains."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}\n{visible(text)}\n{fence}"


def percent(value: float) -> str:
    """`83.4 %` for 0.834."""
    return f"{100 * value:.1f} %"


def count(value: float) -> str:
    """A number of images, or a sum of weights with two decimals."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.2f}"
