"""Published augmentation policies: which of fifteen operations an image gets, and how strongly.

Images are Pillow images of mode L or RGB and keep their mode; on L the operation `colour` changes nothing. Operations,
ranges, rounding and quirks (at level 0, `solarize` still turns 255 into 0) are those of torchvision's policies: nearest
pixel, black from outside. timm's RandAugment is another one: 15 operations with `invert` and without `identity`, each
run with probability 0.5, levels of 0 to 10, and its own directions of `posterize` and `solarize`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from emojax.config import AugmentConfig
from emojax.data import colour

LEVELS = 30
"""Magnitudes of RandAugment and TrivialAugment run from 0 to this; those of AutoAugment from 0 to 9."""


def _affine(image: Image.Image, *matrix: float) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST)


OPS: Mapping[str, Callable[[Image.Image, float], Image.Image]] = {
    "identity": lambda image, _: image,
    "shear_x": lambda image, m: _affine(image, 1, m, 0, 0, 1, 0),
    "shear_y": lambda image, m: _affine(image, 1, 0, 0, m, 1, 0),
    "translate_x": lambda image, m: _affine(image, 1, 0, -int(m), 0, 1, 0),
    "translate_y": lambda image, m: _affine(image, 1, 0, 0, 0, 1, -int(m)),
    "rotate": lambda image, m: image.rotate(m, Image.Resampling.NEAREST),
    "brightness": lambda image, m: colour.brightness(image, 1 + m),
    "colour": lambda image, m: colour.saturation(image, 1 + m),
    "contrast": lambda image, m: colour.contrast(image, 1 + m),
    "sharpness": lambda image, m: ImageEnhance.Sharpness(image).enhance(1 + m),
    "posterize": lambda image, m: ImageOps.posterize(image, int(m)),
    "solarize": ImageOps.solarize,  # pyright: ignore[reportAssignmentType] (a float threshold works: it is only compared)
    "autocontrast": lambda image, _: ImageOps.autocontrast(image),
    "equalize": lambda image, _: ImageOps.equalize(image),
    "invert": lambda image, _: ImageOps.invert(image),
}
"""Name -> function of (image, magnitude). Magnitudes: shear in pixels per pixel, translation in pixels, rotation in
degrees counter-clockwise, the four enhancements as factor - 1, posterize in bits kept, solarize as the threshold from
which values are inverted; the others have none."""

RANDOM_OPS = tuple(name for name in OPS if name != "invert")
"""The 14 operations of RandAugment and TrivialAugment."""

_UNSIGNED = ("identity", "posterize", "solarize", "autocontrast", "equalize", "invert")


def _ranges(*, shear: float, shift: tuple[float, float], turn: float, enhance: float, bits: int) -> dict[str, float]:
    """Operation -> the change that level 1 makes; an operation that is not in it has no magnitude."""
    enhancements = dict.fromkeys(("brightness", "colour", "contrast", "sharpness"), enhance)
    moves = {"shear_x": shear, "shear_y": shear, "translate_x": shift[0], "translate_y": shift[1], "rotate": turn}
    return {**moves, **enhancements, "posterize": bits, "solarize": 255.0}


def standard_ranges(width: int, height: int) -> dict[str, float]:
    """Those of RandAugment and AutoAugment; translations are 150 pixels of 331."""
    shift = (150 / 331 * width, 150 / 331 * height)
    return _ranges(shear=0.3, shift=shift, turn=30.0, enhance=0.9, bits=4)


def wide_ranges() -> dict[str, float]:
    """Those of TrivialAugment; translations are 32 pixels whatever the image's size."""
    return _ranges(shear=0.99, shift=(32.0, 32.0), turn=135.0, enhance=0.99, bits=6)


def magnitude(name: str, level: float, *, ranges: Mapping[str, float], sign: float) -> float:
    """What `OPS[name]` takes at `level`, 0 to 1; `sign` in [0, 1) makes it negative below 0.5, where that has a
    meaning."""
    value = ranges.get(name, 0.0) * level
    if name == "posterize":
        return 8 - round(value)
    if name == "solarize":
        return 255 - value
    return -value if sign < 0.5 and name not in _UNSIGNED else value


def apply(image: Image.Image, augment: AugmentConfig, rng: np.random.Generator) -> Image.Image:
    """The image after the policy `augment.policy`; every policy takes a fixed count of random numbers, whichever
    operations they choose."""
    return POLICIES[augment.policy](image, augment, rng)


def _none(image: Image.Image, augment: AugmentConfig, rng: np.random.Generator) -> Image.Image:
    del augment, rng
    return image


def _randaugment(image: Image.Image, augment: AugmentConfig, rng: np.random.Generator) -> Image.Image:
    """`policy_ops` operations, drawn with replacement, all at `policy_magnitude` (need not be whole).

    Cubuk et al. 2019, RandAugment: practical automated data augmentation with a reduced search space, arXiv:1909.13719.
    """
    ranges, level = standard_ranges(*image.size), augment.policy_magnitude / LEVELS
    for choice, sign in rng.random((augment.policy_ops, 2)).tolist():
        name = RANDOM_OPS[int(choice * len(RANDOM_OPS))]
        image = OPS[name](image, magnitude(name, level, ranges=ranges, sign=sign))
    return image


def _autoaugment(image: Image.Image, augment: AugmentConfig, rng: np.random.Generator) -> Image.Image:
    """One of the 25 pairs of operations that were learned on ImageNet.

    Cubuk et al. 2018, AutoAugment: learning augmentation policies from data, arXiv:1805.09501.
    """
    del augment
    ranges, (choice, *draws) = standard_ranges(*image.size), rng.random(5).tolist()
    pair = IMAGENET_PAIRS[int(choice * len(IMAGENET_PAIRS))]
    for (name, probability, level), draw, sign in zip(pair, draws[:2], draws[2:], strict=True):
        if draw < probability:
            image = OPS[name](image, magnitude(name, level / 9, ranges=ranges, sign=sign))
    return image


def _trivialaugment(image: Image.Image, augment: AugmentConfig, rng: np.random.Generator) -> Image.Image:
    """One operation at one of 31 magnitudes, all equally likely, from the wide ranges.

    Mueller & Hutter 2021, TrivialAugment: tuning-free yet state-of-the-art data augmentation, arXiv:2103.10158.
    """
    del augment
    choice, level, sign = rng.random(3).tolist()
    name = RANDOM_OPS[int(choice * len(RANDOM_OPS))]
    step = int(level * (LEVELS + 1)) / LEVELS
    return OPS[name](image, magnitude(name, step, ranges=wide_ranges(), sign=sign))


POLICIES: Mapping[str, Callable[[Image.Image, AugmentConfig, np.random.Generator], Image.Image]] = {
    "none": _none,
    "randaugment": _randaugment,
    "autoaugment": _autoaugment,
    "trivialaugment": _trivialaugment,
}

Part = tuple[str, float, int]
"""(operation, probability, magnitude 0 to 9)."""

IMAGENET_PAIRS: tuple[tuple[Part, Part], ...] = (
    (("posterize", 0.4, 8), ("rotate", 0.6, 9)),
    (("solarize", 0.6, 5), ("autocontrast", 0.6, 0)),
    (("equalize", 0.8, 0), ("equalize", 0.6, 0)),
    (("posterize", 0.6, 7), ("posterize", 0.6, 6)),
    (("equalize", 0.4, 0), ("solarize", 0.2, 4)),
    (("equalize", 0.4, 0), ("rotate", 0.8, 8)),
    (("solarize", 0.6, 3), ("equalize", 0.6, 0)),
    (("posterize", 0.8, 5), ("equalize", 1.0, 0)),
    (("rotate", 0.2, 3), ("solarize", 0.6, 8)),
    (("equalize", 0.6, 0), ("posterize", 0.4, 6)),
    (("rotate", 0.8, 8), ("colour", 0.4, 0)),
    (("rotate", 0.4, 9), ("equalize", 0.6, 0)),
    (("equalize", 0.0, 0), ("equalize", 0.8, 0)),
    (("invert", 0.6, 0), ("equalize", 1.0, 0)),
    (("colour", 0.6, 4), ("contrast", 1.0, 8)),
    (("rotate", 0.8, 8), ("colour", 1.0, 2)),
    (("colour", 0.8, 8), ("solarize", 0.8, 7)),
    (("sharpness", 0.4, 7), ("invert", 0.6, 0)),
    (("shear_x", 0.6, 5), ("equalize", 1.0, 0)),
    (("colour", 0.4, 0), ("equalize", 0.6, 0)),
    (("equalize", 0.4, 0), ("solarize", 0.2, 4)),
    (("solarize", 0.6, 5), ("autocontrast", 0.6, 0)),
    (("invert", 0.6, 0), ("equalize", 1.0, 0)),
    (("colour", 0.6, 4), ("contrast", 1.0, 8)),
    (("equalize", 0.8, 0), ("equalize", 0.6, 0)),
)
