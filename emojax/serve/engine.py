"""A trained model as the functions that a server needs: bytes → pixels, pixels → probabilities, and where it looked."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from emojax import figures
from emojax.data import geometry, transforms
from emojax.data.decode import Opened
from emojax.data.storage import TooLarge, Unreadable
from emojax.predict import BUCKETS, Classifier
from emojax.serve.limits import Refused

MAP_SIDE = 112
"""Pixels a side of a map of evidence: enough that enlarging it shows no steps."""


@dataclasses.dataclass(frozen=True, slots=True)
class Picture:
    """What the model sees, uint8 [S, S, 3], and where that lies in the picture: (left, top, right, bottom), as shares
    of its width and height after orientation."""

    pixels: np.ndarray
    box: tuple[float, float, float, float]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """Attributes:
    decode: encoded bytes → `Picture`; runs in any thread. Raises `Refused`.
    probabilities: uint8 [B, S, S, 3] → float32 [B, K], B one of `sizes`.
    explain: (uint8 [1, S, S, 3], class int32 [1]) → evidence in [0, 1], float32 [1, Y, X].
    image_size: S, pixels.
    sizes: of the batches, in increasing order; each is compiled before the first request.
    """

    decode: Callable[[bytes], Picture]
    probabilities: Callable[[np.ndarray], np.ndarray]
    explain: Callable[[np.ndarray, np.ndarray], Any]
    image_size: int
    sizes: tuple[int, ...] = BUCKETS

    def warm_up(self) -> None:
        """Compiles every program that a request can need."""
        size = self.image_size
        for count in self.sizes:
            self.probabilities(np.zeros((count, size, size, 3), np.uint8))
        heat = self.explain(np.zeros((1, size, size, 3), np.uint8), np.zeros(1, np.int32))
        evidence_picture(heat[0])  # the table of colours too

    def bucket(self, count: int) -> int:
        """The least of `sizes` that holds `count` pictures."""
        return next(size for size in self.sizes if size >= count)


def of(classifier: Classifier, *, max_pixels: int, max_batch: int) -> Engine:
    """The engine of a classifier; pictures of more than `max_pixels` are refused, batches have at most `max_batch`."""
    size, config = classifier.image_size, classifier.config

    def decode(data: bytes) -> Picture:
        try:
            width, height = Opened(data, max_pixels=max_pixels).size
            pixels = transforms.eval_image(
                data, size=size, crop=config.eval.crop, fit=config.fit, interpolation=config.eval.interpolation
            )
        except TooLarge as error:
            raise Refused(413, str(error)) from error
        except Unreadable as error:
            raise Refused(422, f"the picture cannot be read: {error}") from error
        left, top, right, bottom = geometry.central_box(width, height, crop=config.eval.crop, fit=config.fit)
        return Picture(pixels, (left / width, top / height, right / width, bottom / height))

    return Engine(
        decode=decode,
        probabilities=classifier.probabilities,
        explain=classifier.explain,
        image_size=size,
        sizes=tuple(size for size in BUCKETS if size <= max_batch),
    )


def evidence_picture(heat: np.ndarray) -> Image.Image:
    """Evidence in [0, 1], [Y, X], as colours that cover the more the stronger it is: RGBA, `MAP_SIDE` pixels wide."""
    wide = Image.fromarray(np.asarray(heat, np.float32)).resize((MAP_SIDE, MAP_SIDE), Image.Resampling.BICUBIC)
    strength = np.clip(np.asarray(wide), 0, 1)
    alpha = np.rint(255 * 0.85 * strength**0.7).astype(np.uint8)
    return Image.fromarray(np.dstack([figures.heat(strength), alpha]))
