"""Text from others on a terminal: what a name or a message holds is shown, and never obeyed.

A file or class name may hold terminal escape sequences (which clear the screen, retitle the window or paste text),
and characters that turn the direction of writing around (CVE-2021-42574, "Trojan Source").
"""

from __future__ import annotations

import re
from typing import Any

# C0 and C1 controls but for newline and tab, DEL, and the marks that change the direction of what follows.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    """`text` with control characters as escapes such as `\\x1b`; newlines and tabs stay."""
    return _CONTROLS.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def one_line(text: str) -> str:
    """As `visible`, newlines and tabs too: a name that stays inside its line."""
    return visible(text.replace("\n", "\\n").replace("\t", "\\t"))


class Guarded:
    """A stream in front of a terminal that writes `visible` text; everything else is the stream's own."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes `visible(text)`; returns the length of `text`."""
        self._stream.write(visible(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Writes all of `lines`."""
        for line in lines:
            self.write(line)
