"""Small grey pictures of all images, by which copies are found, and what else one look at an image tells."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np

from emojax.data.decode import Opened
from emojax.data.storage import Unreadable

SIDE = 32
"""Pixels a side of a thumbnail."""

_AT_ONCE = 64
"""Images that a thread takes at once."""


@dataclasses.dataclass(frozen=True, slots=True)
class Looks:
    """What one look at each of N images tells; zeros where an image could not be read.

    Attributes:
      thumbs: uint8 [N, 32, 32], luminance (ITU-R 601-2), the whole picture squeezed into a square.
      size: int32 [N, 2], width and height, pixels.
    """

    thumbs: np.ndarray
    size: np.ndarray

    @property
    def brightness(self) -> np.ndarray:
        """float64 [N], mean luminance, 0 to 255."""
        return self.thumbs.mean((1, 2))


def look(images: Any, positions: np.ndarray, *, progress: Callable[[int, int], None]) -> Looks:
    """Looks at `images[i]` for each i of `positions`, int [N], in a few threads.

    Large JPEGs are decoded at the smallest of 1/1 to 1/8 that leaves two pixels for each of the thumbnail. `progress`
    is called about a hundred times with (images done, N).
    """
    n = len(positions)
    thumbs, size = np.zeros((n, SIDE, SIDE), np.uint8), np.zeros((n, 2), np.int32)

    def part(start: int) -> int:
        some = positions[start : start + _AT_ONCE].tolist()
        for k, i in enumerate(some, start):
            try:
                opened = Opened(images[i])
                width, height = opened.size
                shrink = min(8, max(1, min(width, height) // (2 * SIDE)))
                thumbs[k] = thumbnail(opened.pixels((0, 0, width, height), reduce=shrink))
            except Unreadable:  # became so after the check: it has no copies, and the loader will tell
                continue
            size[k] = width, height
        return len(some)

    done = told = 0
    with ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1)) as pool:
        for count in pool.map(part, range(0, n, _AT_ONCE)):
            done += count
            if done - told >= n // 100 or done == n:
                told = done
                progress(done, n)
    return Looks(thumbs, size)


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """uint8 [H, W] or [H, W, 3] (RGB) -> uint8 [32, 32]: means of areas, or linear between pixels of smaller images."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) if pixels.ndim == 3 else pixels
    how = cv2.INTER_AREA if min(grey.shape) >= SIDE else cv2.INTER_LINEAR
    return cv2.resize(np.ascontiguousarray(grey), (SIDE, SIDE), interpolation=how)
