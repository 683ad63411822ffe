"""Matplotlib figures as PNG files or pixels, at once or beside the training, where one thread draws.

What figures of different threads share inside matplotlib, such as its parser of formulas, one of them uses at a time.
"""

from __future__ import annotations

import io
import re
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 150

_RENDERING = threading.Lock()

Drawn = tuple[int, str, np.ndarray]
"""(step, tag, uint8 [H, W, 3])."""


def png(figure: Figure) -> bytes:
    """The figure as a PNG file at `DPI`."""
    buffer = io.BytesIO()
    with _RENDERING:
        figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


def pixels(figure: Figure) -> UInt8[np.ndarray, "H W 3"]:
    """The figure as an image, uint8 [H, W, 3], at 100 dots per inch."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(100)
    canvas = FigureCanvasAgg(figure)
    with _RENDERING:
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def svg(figure: Figure, name: str, *, colours: Mapping[str, str]) -> str:
    """The figure as an `<svg>` element for an HTML page: text stays text in the page's font, and it fills its box.

    Args:
      figure: its background is left out.
      name: different for every figure of a page, for ids.
      colours: lower-case "#rrggbb" of the figure -> what the page's style sheet calls it, such as "var(--ink)".
    """
    import matplotlib as mpl

    buffer = io.StringIO()
    figure.patch.set_visible(False)
    with _RENDERING, mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace("xlink:href", "href")
    for unwanted in (
        r"<metadata>.*?</metadata>",
        r"<defs>\s*<style.*?</style>\s*</defs>",  # would hold for the whole page
        r" font-family: [^;]*;",
        r'(?<=<g) id="[^"]*"',
        r' xmlns:xlink="[^"]*"',
        r' (width|height)="[\d.]+pt"',
    ):
        text = re.sub(unwanted, "", text, flags=re.DOTALL)
    return re.sub(r"#[0-9a-f]{6}(?=[;\"])", lambda found: colours.get(found[0], found[0]), text)


def heat(strength: np.ndarray) -> UInt8[np.ndarray, "H W 3"]:
    """Colours from dark to bright for values in [0, 1], [H, W]."""
    import matplotlib as mpl

    return mpl.colormaps["inferno"](strength, bytes=True)[..., :3]


class Figures:
    """Figures in the order in which they were asked for; a figure takes a third of a second, a step must not wait."""

    def __init__(self) -> None:
        """Starts no thread before the first figure."""
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="figures")
        self._waiting: deque[tuple[int, str, Future[np.ndarray]]] = deque()

    def add(self, step: int, tag: str, draw: Callable[[], Figure]) -> None:
        """Has `draw()`, a matplotlib figure, drawn soon; it must not read what the caller changes later."""
        self._waiting.append((step, tag, self._thread.submit(lambda: pixels(draw()))))

    def ready(self, *, wait: bool = False) -> Iterator[Drawn]:
        """Those that are drawn by now, or all of them; what went wrong in drawing is raised here."""
        while self._waiting and (wait or self._waiting[0][2].done()):
            step, tag, drawn = self._waiting.popleft()
            yield step, tag, drawn.result()

    def close(self) -> None:
        """Ends the thread; figures that nobody has asked for again are lost."""
        self._thread.shutdown(cancel_futures=True)
