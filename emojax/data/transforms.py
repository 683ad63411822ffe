"""Record -> model input: what a training image and an evaluation image are.

Every random number of a training image comes from one draw of `len(Draws._fields)` uniform numbers with a fixed meaning
each, so switching one augmentation on or off leaves the others' choices as they were.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from emojax.config import AugmentConfig
from emojax.data import colour, geometry
from emojax.data.decode import Opened, to_array


class Draws(NamedTuple):
    """The random numbers of one image, each uniform in [0, 1)."""

    crop_area: float
    crop_ratio: float
    crop_x: float
    crop_y: float
    pad_x: float
    pad_y: float
    flip: float
    rotate: float
    translate_x: float
    translate_y: float
    zoom: float
    brightness: float
    contrast: float
    saturation: float
    hue: float
    order: float
    erase: float
    erase_area: float
    erase_ratio: float
    erase_x: float
    erase_y: float


def scaled(augment: AugmentConfig, strength: float) -> AugmentConfig:
    """`augment` with every probability and magnitude times `strength` >= 0, kept in range; 0 switches all off.

    Shares of area kept move away from 1, aspect ratios away from 1 (as powers). Erasing is scaled by its probability
    alone: scaling the rectangle too would count the strength twice. MixUp and CutMix have a factor of their own.
    """
    keep = tuple(min(1.0, max(0.01, 1 - (1 - share) * strength)) for share in augment.crop_area)
    return dataclasses.replace(
        augment,
        crop_area=(keep[0], keep[1]),
        crop_ratio=(augment.crop_ratio[0] ** strength, augment.crop_ratio[1] ** strength),
        pad=round(augment.pad * strength),
        flip=min(1.0, augment.flip * strength),
        rotate=min(180.0, augment.rotate * strength),
        translate=min(1.0, augment.translate * strength),
        zoom=min(0.9, augment.zoom * strength),
        brightness=augment.brightness * strength,
        contrast=augment.contrast * strength,
        saturation=augment.saturation * strength,
        hue=min(0.5, augment.hue * strength),
        erase=min(1.0, augment.erase * strength),
    )


def train_image(
    data: bytes | np.ndarray, *, augment: AugmentConfig, size: int, strength: float, rng: np.random.Generator
) -> np.ndarray:
    """Decodes and augments one training image: crop, pad, flip, affine, colour jitter, erasing, in this order.

    Args:
      data: an encoded image, or uint8 [H, W] or [H, W, 3].
      size: side of the result, pixels.
      strength: factor on the augmentation, see `scaled`.
      rng: source of every random number; exactly `len(Draws._fields)` are taken.

    Returns uint8 [size, size, 3]. Raises `Unreadable` when the image cannot be decoded.
    """
    return augmented(data, augment=scaled(augment, strength), size=size, rng=rng)


def augmented(data: bytes | np.ndarray, *, augment: AugmentConfig, size: int, rng: np.random.Generator) -> np.ndarray:
    """`train_image` with an `augment` that is scaled already."""
    a, d = augment, Draws._make(rng.random(len(Draws._fields)).tolist())
    opened = Opened(data)
    if a.crop_area == (1.0, 1.0):
        box = geometry.central_box(*opened.size, crop=1.0)
    else:
        box = geometry.random_box(*opened.size, area=a.crop_area, ratio=a.crop_ratio, draw=d[0:4])
    image = _cut(opened, box, size)
    if a.pad:
        image = geometry.pad_crop(image, a.pad, draw=(d.pad_x, d.pad_y))
    if d.flip < a.flip:
        image = geometry.flip(image)
    if a.rotate or a.translate or a.zoom:
        shift = (_spread(d.translate_x, a.translate), _spread(d.translate_y, a.translate))
        zoom = 1 + _spread(d.zoom, a.zoom)
        image = geometry.affine(image, degrees=_spread(d.rotate, a.rotate), shift=shift, zoom=zoom)
    if factors := _jitter_factors(a, d):
        image = colour.jitter(image, factors, order=int(d.order * len(colour.ORDERS)))
    pixels = to_array(image)
    if d.erase < a.erase:
        colour.erase(pixels, area=a.erase_area, ratio=a.erase_ratio, draw=d[17:21])
    return pixels


def eval_image(data: bytes | np.ndarray, *, size: int, crop: float) -> np.ndarray:
    """The evaluation view: the central square of side `crop` x the shorter side, resized to size x size pixels.

    That is "resize the shorter side to size / crop, then cut out the centre" in one resampling, which also keeps a
    1 x 4000 image from growing to 4000 size. Nothing random. Returns uint8 [size, size, 3]; raises `Unreadable`.
    """
    opened = Opened(data)
    return to_array(_cut(opened, geometry.central_box(*opened.size, crop=crop), size))


def _cut(opened: Opened, box: geometry.Box, size: int):
    """Decodes no more than needed, and resizes `box` (in pixels of the full image) to a square."""
    image = opened.load(reduce=geometry.reduction(box, size))
    if image.size != opened.size:
        x, y = image.width / opened.size[0], image.height / opened.size[1]
        box = (box[0] * x, box[1] * y, min(image.width, box[2] * x), min(image.height, box[3] * y))
    return geometry.resize(image, size, box=box)


def _spread(draw: float, largest: float) -> float:
    """[0, 1) -> [-largest, largest)."""
    return (2 * draw - 1) * largest


def _jitter_factors(a: AugmentConfig, d: Draws) -> dict[str, float]:
    factors = {}
    for name, x, draw in zip(
        ("brightness", "contrast", "saturation"), (a.brightness, a.contrast, a.saturation), d[11:14], strict=True
    ):
        if x:
            low = max(0.0, 1 - x)
            factors[name] = low + (1 + x - low) * draw
    if a.hue:
        factors["hue"] = _spread(d.hue, a.hue)
    return factors
