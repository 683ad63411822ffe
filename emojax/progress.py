"""What a person sees on the terminal: messages, and below them one live line that is redrawn in place."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Sequence
from typing import TextIO

from emojax.visible import visible

TERMINAL_SECONDS = 0.2
"""Least time between two drawings of the live line on a terminal."""

PLAIN_SECONDS = 10.0
"""Least time between two progress lines where the output is a file or a pipe."""


class Terminal:
    """Messages and a live line on `stream`.

    On a terminal the live line is redrawn in place and cut to the width. Elsewhere it is printed as an ordinary line
    now and then. A stream that breaks (the terminal was closed) is given up silently: training must go on.
    """

    def __init__(self, stream: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._clock = stream, clock
        self.live = bool(getattr(stream, "isatty", lambda: False)()) and os.environ.get("TERM") != "dumb"
        self._colour = self.live and not os.environ.get("NO_COLOR")
        self._shown = 0
        self._next = clock() if self.live else clock() + PLAIN_SECONDS

    @property
    def width(self) -> int:
        """Columns of the terminal; unlimited where there is none."""
        if not self.live:
            return 10_000
        try:  # shutil asks the standard output, which may be a pipe while this stream is a terminal
            columns, rows = os.get_terminal_size(self._stream.fileno())
        except (OSError, ValueError, AttributeError):
            columns, rows = 80, 24
        return shutil.get_terminal_size(fallback=(columns, rows)).columns

    def message(self, text: str, *, mark: str = "") -> None:
        """Prints lines above the live line; `mark` comes last, bold green on a terminal that may show colour."""
        self.clear()
        shown = f"\x1b[1;32m{mark}\x1b[0m" if self._colour else mark
        self._put(visible(text) + (f"  {shown}\n" if mark else "\n"))

    def update(self, parts: Callable[[], Sequence[tuple[int, str]]]) -> None:
        """Redraws the live line if it is time to; `parts` as in `fit` is only called then."""
        if self._clock() >= self._next:
            self.draw(parts())

    def draw(self, parts: Sequence[tuple[int, str]]) -> None:
        """Redraws the live line now."""
        if self.live:
            text = visible(fit(parts, self.width - 1))  # the last column would make some terminals wrap
            self._put("\r" + text + " " * (self._shown - len(text)))
            self._shown = len(text)
            self._next = self._clock() + TERMINAL_SECONDS
        else:
            self._put(visible(fit(parts, self.width)) + "\n")
            self._next = self._clock() + PLAIN_SECONDS

    def clear(self) -> None:
        """Takes the live line away; the cursor stands at the start of its row."""
        if self._shown:
            self._put("\r" + " " * min(self._shown, self.width - 1) + "\r")
            self._shown = 0

    def _put(self, text: str) -> None:
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        try:
            self._stream.write(text.encode(encoding, errors="replace").decode(encoding))
            self._stream.flush()
        except (OSError, ValueError):
            self._colour, self.live, self._shown, self._next = False, False, 0, float("inf")


def fit(parts: Sequence[tuple[int, str]], width: int) -> str:
    """Joins (importance, text) parts; the least important go until the line is at most `width` columns long."""
    kept = list(parts)
    while len(kept) > 1 and len(joined := _join(kept)) > width:
        kept.remove(min(kept, key=lambda part: part[0]))
    joined = _join(kept)
    return joined if len(joined) <= width else joined[: max(width - 1, 0)] + "…"


def _join(parts: Sequence[tuple[int, str]]) -> str:
    return " | ".join(text for _, text in parts)


def duration(seconds: float) -> str:
    """`42 s`, `3:07 min`, `2:05 h`, `3 d 04 h`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    if whole < 86400:
        return f"{whole // 3600}:{whole // 60 % 60:02d} h"
    return f"{whole // 86400} d {whole // 3600 % 24:02d} h"


def parameter_count(overview: str) -> str:
    """`28,589,128 parameters (114.4 MB)` from CLU's last line, or that line itself should its form change."""
    last = overview.rstrip().rpartition("\n")[2]
    found = re.fullmatch(r"Total: ([\d,]+) -- ([\d,]+) bytes", last)
    if not found:
        return last
    return f"{found[1]} parameters ({int(found[2].replace(',', '')) / 1e6:,.1f} MB)"
