"""Faces followed through a video, and their probabilities steadied: per track, causally, with a lag that is known."""

from __future__ import annotations

import collections
import dataclasses
import math
import re
from collections.abc import Sequence

import numpy as np

from emojax.errors import ConfigError

Box = tuple[float, float, float, float]
"""left, top, width, height, pixels."""

_OVERLAP = 0.3
"""Least intersection over union of one face in two sampled frames that follow each other."""

_PATIENCE = 5
"""How many sampled frames in a row a face may be missing before its track ends."""


class Tracker:
    """Numbers boxes: the same number as long as they overlap from sampled frame to sampled frame.

    Pairs are made greedily by intersection over union, the largest first. Numbers begin at 1 and are never used again;
    only living tracks are kept.
    """

    def __init__(self) -> None:
        self._last: dict[int, tuple[Box, int]] = {}  # number: (box, how many sampled frames it has been missing)
        self._next = 1

    @property
    def living(self) -> set[int]:
        """The numbers that may still come again."""
        return set(self._last)

    def update(self, boxes: Sequence[Box]) -> list[int]:
        """The number of each box of the next sampled frame."""
        pairs = sorted(
            (
                (overlap(last, box), number, i)
                for number, (last, _) in self._last.items()
                for i, box in enumerate(boxes)
            ),
            key=lambda pair: (-pair[0], pair[1], pair[2]),
        )
        given: dict[int, int] = {}
        for share, number, i in pairs:
            if share >= _OVERLAP and i not in given and number not in given.values():
                given[i] = number
        for i in range(len(boxes)):
            if i not in given:
                given[i], self._next = self._next, self._next + 1
        missing = {n: (box, age + 1) for n, (box, age) in self._last.items() if age < _PATIENCE}
        self._last = missing | {number: (boxes[i], 0) for i, number in given.items()}
        return [given[i] for i in range(len(boxes))]


def overlap(first: Box, second: Box) -> float:
    """Intersection over union of two boxes, in [0, 1]."""
    width = min(first[0] + first[2], second[0] + second[2]) - max(first[0], second[0])
    height = min(first[1] + first[3], second[1] + second[3]) - max(first[1], second[1])
    common = max(0.0, width) * max(0.0, height)
    whole = first[2] * first[3] + second[2] * second[3] - common
    return common / whole if whole > 0 else 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class Smoothing:
    """How probabilities are steadied over the sampled frames of a track.

    Attributes:
      name: "none", "exponential" (each new frame weighs `value`, all before it 1 - `value`) or "median" (of the last
        `value` frames, per class, made to sum to 1 again).
      value: in (0, 1] for exponential; odd, from 1 to 301, for median.
    """

    name: str
    value: float

    @classmethod
    def parse(cls, text: str) -> Smoothing:
        """From "none", "exponential:0.4" or "median:5"; raises `ConfigError`."""
        found = re.fullmatch(r"(none)|(exponential):([0-9.]+)|(median):(\d+)", text)
        try:
            value = float(found[3] or found[5] or 1) if found else math.nan
        except ValueError:
            value = math.nan
        name = found[1] or found[2] or found[4] if found else ""
        if not (0 < value <= 1 if name == "exponential" else value % 2 == 1 and value <= 301):
            raise ConfigError(
                f"--smooth={text}: expected none, exponential:WEIGHT with the weight of a new frame in (0, 1], or "
                "median:FRAMES with an odd number of frames from 1 to 301"
            )
        return cls(str(name), value)

    @property
    def lag(self) -> int:
        """By how many sampled frames a sudden and lasting change of class shows later than it would unsmoothed.

        For a jump of all probability from one class to another, counted until the new class has more than half of it:
        a weight w has given 1 - (1 - w)^n to the new class after n frames, and a median of n frames needs (n + 1)/2.
        """
        if self.name == "median":
            return int(self.value) // 2
        if self.name == "none" or self.value > 0.5:
            return 0
        return math.floor(math.log(0.5) / math.log1p(-self.value) + 1e-9)


class Smoother:
    """Steadies probabilities; the memory of a track goes when it ends."""

    def __init__(self, smoothing: Smoothing) -> None:
        self._how = smoothing
        self._state: dict[int, collections.deque[np.ndarray]] = {}

    def __call__(self, track: int, probs: np.ndarray) -> np.ndarray:
        """Probabilities float [K] of the next sampled frame of a track, steadied."""
        if self._how.name == "none":
            return probs
        length = 1 if self._how.name == "exponential" else int(self._how.value)
        past = self._state.setdefault(track, collections.deque(maxlen=length))
        if self._how.name == "exponential" and past:
            probs = past[0] + self._how.value * (probs - past[0])
        past.append(probs)
        if self._how.name == "exponential":
            return probs
        middle = np.median(np.stack(past), axis=0)
        # Of classes that take turns each may be rare in the window: then no median says anything.
        return middle / middle.sum() if middle.sum() > 1e-6 else np.mean(np.stack(past), axis=0)

    def keep(self, living: set[int]) -> None:
        """Forgets all other tracks."""
        for track in self._state.keys() - living:
            del self._state[track]
