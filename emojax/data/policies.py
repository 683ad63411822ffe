"""Published augmentation policies: which of fifteen operations an image gets, and how strongly.

Images are arrays uint8 [H, W] (grey) or [H, W, 3] and keep their shape; on grey ones the operation `colour` changes
nothing. Operations, ranges, rounding and quirks (at level 0, `solarize` still turns 255 into 0) are those of
torchvision's policies on Pillow images: nearest pixel, black from outside. timm's RandAugment is another one: 15
operations with `invert` and without `identity`, each run with probability 0.5, levels of 0 to 10, and its own
directions of `posterize` and `solarize`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import cv2
import numpy as np

from emojax.config import AugmentConfig
from emojax.data import colour, geometry

LEVELS = 30
"""Magnitudes of RandAugment and TrivialAugment run from 0 to this; those of AutoAugment from 0 to 9."""

_SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13


def _sheared(pixels: np.ndarray, slope: float, shift: int = 0) -> np.ndarray:
    """Row y, counted from 0, from `slope` (y + 1/2) + `shift` pixels further right, in Pillow's 16-bit fixed point."""
    height, width = pixels.shape[:2]
    start = int(np.floor((0.5 + 0.5 * slope + shift) * 65536 + 0.5))
    moves = (start + np.arange(height) * int(np.floor(slope * 65536 + 0.5))) >> 16
    left, right = max(0, -int(moves.min())), max(0, int(moves.max()))
    padded = cv2.copyMakeBorder(pixels, 0, 0, left, right, cv2.BORDER_CONSTANT, value=0).reshape(height, -1)
    step = padded.shape[1] // (width + left + right)  # bytes of a pixel
    windows = np.lib.stride_tricks.sliding_window_view(padded, width * step, axis=1)
    return windows[np.arange(height), (moves + left) * step].reshape(pixels.shape)


def _upright(function: Callable[[np.ndarray], np.ndarray], pixels: np.ndarray) -> np.ndarray:
    """What `function` does along x, along y."""
    return cv2.transpose(function(cv2.transpose(pixels)))


def _rotate(pixels: np.ndarray, degrees: float) -> np.ndarray:
    size = pixels.shape[1], pixels.shape[0]
    matrix = geometry.affine(*size, degrees=degrees, shift=(0.0, 0.0), zoom=1.0)
    return geometry.warp(pixels, matrix, size=size, resample="nearest", fill="black")


def _sharpness(pixels: np.ndarray, change: float) -> np.ndarray:
    """Away from (below 0: towards) the image after Pillow's filter SMOOTH, which leaves the outermost pixels alone."""
    smooth = cv2.filter2D(pixels, -1, _SMOOTH)
    for edge in (np.s_[:1], np.s_[-1:], np.s_[:, :1], np.s_[:, -1:]):
        smooth[edge] = pixels[edge]
    return colour.blend(smooth, pixels, 1 + change)


def _solarize(pixels: np.ndarray, threshold: float) -> np.ndarray:
    return cv2.LUT(pixels, np.where(threshold > colour.VALUES, colour.VALUES, 255 - colour.VALUES).astype(np.uint8))


def _by_channel(pixels: np.ndarray, table: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Every channel through `table` of its histogram, int [256] -> number [256], cut to 0 ... 255 and rounded down."""
    count = 1 if pixels.ndim == 2 else pixels.shape[2]
    histograms = [cv2.calcHist([pixels], [c], None, [256], (0, 256)).ravel().astype(np.int64) for c in range(count)]
    tables = np.stack([table(histogram) for histogram in histograms], 1).clip(0, 255).astype(np.uint8)
    return cv2.LUT(pixels, tables[None] if count > 1 else tables[:, 0])


def _stretched(histogram: np.ndarray) -> np.ndarray:
    used = np.flatnonzero(histogram)
    low, high = int(used[0]), int(used[-1])
    if high <= low:
        return colour.VALUES
    scale = 255.0 / (high - low)
    return colour.VALUES * scale + -low * scale


def _equalized(histogram: np.ndarray) -> np.ndarray:
    used = histogram[histogram > 0]
    step = int(used.sum() - used[-1]) // 255
    if not step:
        return colour.VALUES
    return (step // 2 + np.cumsum(histogram) - histogram) // step


OPS: Mapping[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "identity": lambda pixels, _: pixels,
    "shear_x": _sheared,
    "shear_y": lambda pixels, m: _upright(lambda p: _sheared(p, m), pixels),
    "translate_x": lambda pixels, m: _sheared(pixels, 0.0, -int(m)),
    "translate_y": lambda pixels, m: _upright(lambda p: _sheared(p, 0.0, -int(m)), pixels),
    "rotate": _rotate,
    "brightness": lambda pixels, m: colour.brightness(pixels, 1 + m),
    "colour": lambda pixels, m: colour.saturation(pixels, 1 + m),
    "contrast": lambda pixels, m: colour.contrast(pixels, 1 + m),
    "sharpness": _sharpness,
    "posterize": lambda pixels, m: pixels & np.uint8(256 - 2 ** (8 - int(m))),
    "solarize": _solarize,
    "autocontrast": lambda pixels, _: _by_channel(pixels, _stretched),
    "equalize": lambda pixels, _: _by_channel(pixels, _equalized),
    "invert": lambda pixels, _: cv2.bitwise_not(pixels),
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


def apply(pixels: np.ndarray, augment: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """The image after the policy `augment.policy`; every policy takes a fixed count of random numbers, whichever
    operations they choose."""
    return POLICIES[augment.policy](pixels, augment, rng)


def _none(pixels: np.ndarray, augment: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    del augment, rng
    return pixels


def _randaugment(pixels: np.ndarray, augment: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """`policy_ops` operations, drawn with replacement, all at `policy_magnitude` (need not be whole).

    Cubuk et al. 2019, RandAugment: practical automated data augmentation with a reduced search space, arXiv:1909.13719.
    """
    ranges, level = standard_ranges(*pixels.shape[1::-1]), augment.policy_magnitude / LEVELS
    for choice, sign in rng.random((augment.policy_ops, 2)).tolist():
        name = RANDOM_OPS[int(choice * len(RANDOM_OPS))]
        pixels = OPS[name](pixels, magnitude(name, level, ranges=ranges, sign=sign))
    return pixels


def _autoaugment(pixels: np.ndarray, augment: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """One of the 25 pairs of operations that were learned on ImageNet.

    Cubuk et al. 2018, AutoAugment: learning augmentation policies from data, arXiv:1805.09501.
    """
    del augment
    ranges, (choice, *draws) = standard_ranges(*pixels.shape[1::-1]), rng.random(5).tolist()
    pair = IMAGENET_PAIRS[int(choice * len(IMAGENET_PAIRS))]
    for (name, probability, level), draw, sign in zip(pair, draws[:2], draws[2:], strict=True):
        if draw < probability:
            pixels = OPS[name](pixels, magnitude(name, level / 9, ranges=ranges, sign=sign))
    return pixels


def _trivialaugment(pixels: np.ndarray, augment: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """One operation at one of 31 magnitudes, all equally likely, from the wide ranges.

    Mueller & Hutter 2021, TrivialAugment: tuning-free yet state-of-the-art data augmentation, arXiv:2103.10158.
    """
    del augment
    choice, level, sign = rng.random(3).tolist()
    name = RANDOM_OPS[int(choice * len(RANDOM_OPS))]
    step = int(level * (LEVELS + 1)) / LEVELS
    return OPS[name](pixels, magnitude(name, step, ranges=wide_ranges(), sign=sign))


POLICIES: Mapping[str, Callable[[np.ndarray, AugmentConfig, np.random.Generator], np.ndarray]] = {
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
