"""Cells of the tables in docs/fer2013.md."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from emojax.shares import wilson


def cut(share: float, digits: int = 1, *, up: bool = False) -> str:
    """Percent, cut off instead of rounded; with `up`, where less is better, the other way: nothing is flattered."""
    steps = share * 10 ** (digits + 2)
    steps = math.ceil(steps - 1e-9) if up else math.floor(steps + 1e-9)
    return f"{steps / 10**digits:.{digits}f}"


def cut_mean(values: Sequence[float]) -> str:
    """The same of several seeds, with their standard deviation."""
    mean = cut(statistics.mean(values))
    return f"{mean} ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else mean


def gain(value: list[float]) -> str:
    """A difference and its interval, in points."""
    middle, low, high = (f"{100 * x:+.1f}" for x in value)
    return f"{middle} ({low} to {high})"


def with_interval(share: float, n: float) -> str:
    """A share of `n` pictures in percent, with Wilson's 95 % interval."""
    low, high = (100 * x for x in wilson(share, n))
    return f"{cut(share)} ({low:.1f} to {high:.1f})"
