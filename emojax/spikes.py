"""Loss spikes: updates whose loss or gradient is far outside of what the last ones had.

The rule is the modified z-score of Iglewicz and Hoaglin (1993, How to Detect and Handle Outliers): the distance from
the median in units of 1.4826 times the median absolute deviation, which estimates a standard deviation and which one
spike cannot move. It is told, and never acted upon: `optim.clip_norm` bounds what such an update can do, and to leave
out finite ones would leave out the hard pictures.
"""

from __future__ import annotations

import dataclasses
import statistics
from typing import Any

import jax
import numpy as np

from emojax.visible import one_line

WINDOW = 64
"""Updates that the usual range is taken from."""
LEAST = 32
"""Updates before anything is judged: the first ones have no usual range."""
FAR = 10.0
"""Spreads above the median from which on a number is a spike."""
_FLOOR = 0.1
"""Least spread, as a share of the median: numbers that hardly vary make no spike of a twitch."""


@dataclasses.dataclass(frozen=True, slots=True)
class Spike:
    """One number far outside: its name, loss or grad_norm; its value; the median of the last updates; the distance from
    that in spreads; and whether the update before was a spike of that number too."""

    name: str
    value: float
    usual: float
    spreads: float
    again: bool

    def row(self, images: list[str]) -> dict[str, Any]:
        """For metrics.jsonl, with the records of the batch (of this process' share)."""
        values = {"what": self.name, "value": self.value, "usual": self.usual, "spreads": self.spreads}
        return {**values, "images": images}

    def told(self, step: int, images: list[str]) -> str:
        """For people; "" for all but the first in a row."""
        if self.again:
            return ""
        shown = ", ".join(map(one_line, images[:3])) + (", ..." if len(images) > 3 else "")
        return (
            f"warning: {self.name} {self.value:.4g} in update {step:,}, usually {self.usual:.4g} "
            f"({self.spreads:.0f} spreads away); its images are in metrics.jsonl: {shown}"
        )


class Watch:
    """Sees the loss and the gradient norm of every update, from the sums that the step carries anyway.

    `memory` is plain JSON and part of the checkpoint, so that a resumed run finds the same spikes.
    """

    def __init__(self, memory: dict[str, Any], totals: Any, *, anew: bool = False) -> None:
        """Args:
        memory: filled in place; {} = nothing seen yet.
        totals: `train_metrics.TrainMetrics` before the first update that will be looked at.
        anew: forget what was seen: other images, or another loss, have another usual range.
        """
        if anew:
            memory.clear()
        self._memory = memory
        for name in ("loss", "grad_norm", "last"):
            memory.setdefault(name, [])
        self._before = _sums(totals)[:2]
        self._held: tuple[int, Any, bool, np.ndarray] | None = None

    def hold(self, step: int, totals: Any, *, closed: bool, index: np.ndarray) -> None:
        """Keeps the numbers of an update, which may still be computing, for `look`.

        Args:
          step: the update.
          totals: the numbers of the interval up to this update.
          closed: whether the next update begins a new interval.
          index: int32 [B] positions of the records of its batch, -1 = padding.
        """
        self._held = (step, totals, closed, np.array(index))

    def look(self) -> tuple[int, np.ndarray, list[Spike]]:
        """(update, positions of its records, its spikes) of the update that was held, once; waits for it."""
        if self._held is None:
            return 0, np.zeros(0, np.int32), []
        (step, totals, closed, index), self._held = self._held, None
        return step, index[index >= 0], self._judge(totals, closed=closed)

    def _judge(self, totals: Any, *, closed: bool) -> list[Spike]:
        (total, weight, norm, row), (total_before, weight_before) = _sums(totals), self._before
        self._before = (0.0, 0.0) if closed else (total, weight)
        weight -= weight_before
        if row or weight <= 0:  # left out, or nothing but padding
            return []
        last, found = self._memory["last"], []
        for name, value in (("loss", (total - total_before) / weight), ("grad_norm", norm)):
            recent = self._memory[name]
            if spike := _judge(name, value, recent, again=name in last):
                found.append(spike)
            recent.append(value)
            del recent[:-WINDOW]
        self._memory["last"] = [spike.name for spike in found]
        return found


def _sums(totals: Any) -> tuple[float, float, float, float]:
    """(sum of the losses, of their weights, latest gradient norm, updates skipped last); one wait for all of them."""
    wanted = (totals.loss.total, totals.loss.weight, totals.grad_norm.value, totals.skipped.row)
    total, weight, norm, row = (float(x) for x in jax.device_get(wanted))
    return total, weight, norm, row


def _judge(name: str, value: float, recent: list[float], *, again: bool) -> Spike | None:
    if len(recent) < LEAST:
        return None
    usual = statistics.median(recent)
    spread = max(1.4826 * statistics.median(abs(x - usual) for x in recent), _FLOOR * abs(usual), 1e-12)
    far = (value - usual) / spread
    return Spike(name, value, usual, far, again) if far > FAR else None
