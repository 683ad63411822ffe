"""Pictures that stand out: of odd size, far darker or brighter than most, or showing nothing."""

from __future__ import annotations

import dataclasses

import numpy as np

from emojax.data import near_duplicates
from emojax.data.thumbnails import Looks

_LARGER = 4.0
"""An image whose longer side is this many times the median, or one part of it, stands out."""

_SPREADS = 4.0
"""Standard deviations (from the median absolute deviation) by which a brightness stands out."""


@dataclasses.dataclass(frozen=True, slots=True)
class Outliers:
    """Contents (numbers, as in `copies.Copies`) that stand out: number → what about it; `flat` show nothing."""

    sizes: dict[int, str] = dataclasses.field(default_factory=dict)
    brightness: dict[int, str] = dataclasses.field(default_factory=dict)
    flat: tuple[int, ...] = ()


def find(looks: Looks, content: np.ndarray) -> Outliers:
    """What stands out among the looks of C contents; `content` int64 [N] tells how often each of them occurs."""
    return Outliers(
        sizes=_sizes(looks.size, content),
        brightness=_brightness(looks.brightness, content),
        flat=tuple(np.flatnonzero(near_duplicates.flat(looks.thumbs)).tolist()),
    )


def _sizes(size: np.ndarray, content: np.ndarray) -> dict[int, str]:
    longer = np.maximum(size.max(1), 1).astype(float)
    factor = longer / max(1.0, float(np.median(longer[content])))
    odd = np.flatnonzero((factor >= _LARGER) | (factor <= 1 / _LARGER))
    return {i: f"{size[i, 0]} x {size[i, 1]} pixels" for i in odd.tolist()}


def _brightness(value: np.ndarray, content: np.ndarray) -> dict[int, str]:
    middle = np.median(value[content])
    spread = max(1.0, 1.4826 * float(np.median(np.abs(value[content] - middle))))
    odd = np.flatnonzero(np.abs(value - middle) > _SPREADS * spread)
    return {i: f"mean brightness {value[i]:.0f} of 255" for i in odd.tolist()}
