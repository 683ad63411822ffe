"""What pictures are like before a model sees them: size, brightness, sharpness; the columns of slices."""

from __future__ import annotations

import dataclasses
import math
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np

from emojax.data.decode import Opened
from emojax.data.storage import Unreadable

_SIDE = 128
"""Longer side at which sharpness is measured, pixels: the same blur then counts alike in large and small pictures."""


@dataclasses.dataclass(frozen=True, slots=True)
class Look:
    """Of N pictures, float64 [N] each, NaN where a picture cannot be read.

    Attributes:
      size: shorter side, pixels.
      brightness: mean grey value, 0 to 255.
      sharpness: variance of the Laplacian at a longer side of at most 128 pixels, grey values squared (Pech-Pacheco et
        al. 2000); blurred pictures have little.
    """

    size: np.ndarray
    brightness: np.ndarray
    sharpness: np.ndarray


def look(images: Any) -> Look:
    """Measures all pictures of a sequence of encoded bytes or uint8 arrays; see `types.Split.images`."""

    def one(i: int) -> tuple[float, float, float]:
        try:
            return _one(images[i])
        except Unreadable:
            return math.nan, math.nan, math.nan

    with ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1)) as pool:
        rows = list(pool.map(one, range(len(images))))
    return Look(*np.array(rows, np.float64).reshape(-1, 3).T)


def _one(data: bytes | np.ndarray) -> tuple[float, float, float]:
    opened = Opened(data)
    reduce = next((r for r in (8, 4, 2) if max(opened.size) >= r * _SIDE), 1)
    grey = np.asarray(opened.load(reduce=reduce).convert("L"))
    shrink = _SIDE / max(grey.shape)
    small = cv2.resize(grey, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA) if shrink < 1 else grey
    return min(opened.size), float(grey.mean()), float(cv2.Laplacian(small, cv2.CV_64F).var())
