"""What colour pixels have: jitter, greyscale, blur and random erasing, on arrays uint8 [H, W] (grey) or [H, W, 3].

The results are Pillow's, to the pixel: OpenCV's kernels get tables and weights that make them so.
"""

from __future__ import annotations

import itertools
import math

import cv2
import numpy as np
from PIL import Image

ORDERS = tuple(itertools.permutations(("brightness", "contrast", "saturation", "hue")))
"""The 24 orders in which the four jitters can run."""

ERASED = (124, 116, 104)
"""What erased pixels become: the ImageNet mean (0.485, 0.456, 0.406), which normalises to zero."""

_MEAN = 255 * np.array([0.485, 0.456, 0.406], np.float32)
_DEVIATION = 255 * np.array([0.229, 0.224, 0.225], np.float32)

VALUES = np.arange(256)
"""All values of a pixel: the argument of a table."""

_LUMA = np.array([[19595, 38470, 7471, 32768]], np.float32)  # sums stay below 2^24, so float32 is exact


def brightness(pixels: np.ndarray, factor: float) -> np.ndarray:
    """Blend with black: factor 0 is black, 1 the same pixels."""
    return _from_constant(pixels, 0, factor)


def contrast(pixels: np.ndarray, factor: float) -> np.ndarray:
    """Blend with the mean of the grey image: factor 0 is flat grey, 1 the same pixels."""
    return _from_constant(pixels, int(cv2.mean(grayscale(pixels))[0] + 0.5), factor)


def saturation(pixels: np.ndarray, factor: float) -> np.ndarray:
    """Blend with the grey image: factor 0 is grey, 1 the same pixels. Grey images do not change."""
    if pixels.ndim == 2:
        return pixels
    return blend(cv2.cvtColor(grayscale(pixels), cv2.COLOR_GRAY2RGB), pixels, factor)


def blend(low: np.ndarray, high: np.ndarray, factor: float) -> np.ndarray:
    """low + factor (high - low) in float32, cut to 0 ... 255 and rounded down."""
    mixed = cv2.subtract(high, low, dtype=cv2.CV_32F)
    mixed *= np.float32(factor)
    mixed += low
    if not 0 <= factor <= 1:
        np.clip(mixed, 0, 255, out=mixed)
    return mixed.astype(np.uint8)


def _from_constant(pixels: np.ndarray, low: int, factor: float) -> np.ndarray:
    table = low + np.float32(factor) * (VALUES - low).astype(np.float32)
    return cv2.LUT(pixels, table.clip(0, 255).astype(np.uint8))


def hue(pixels: np.ndarray, shift: float) -> np.ndarray:
    """Turns the hue by `shift` of the full circle, -0.5 to 0.5, in Pillow's 8-bit HSV. Grey images do not change."""
    steps = int(shift * 255) % 256
    if steps == 0 or pixels.ndim == 2:
        return pixels
    hsv = np.array(Image.fromarray(pixels).convert("HSV"))
    hsv[..., 0] += np.uint8(steps)
    return np.asarray(Image.fromarray(hsv, "HSV").convert("RGB"))


def jitter(pixels: np.ndarray, factors: dict[str, float], *, order: int) -> np.ndarray:
    """Brightness, contrast, saturation and hue, those in `factors`, in the `order`-th of their 24 orders.

    The definitions are those of torchvision's ColorJitter on 8-bit images.
    """
    functions = {"brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": hue}
    for name in ORDERS[order]:
        if name in factors:
            pixels = functions[name](pixels, factors[name])
    return pixels


def grayscale(pixels: np.ndarray) -> np.ndarray:
    """Luma 0.299 R + 0.587 G + 0.114 B (ITU-R 601-2) in 16-bit fixed point, uint8 [H, W]."""
    if pixels.ndim == 2:
        return pixels
    return (cv2.transform(pixels.astype(np.float32), _LUMA) * np.float32(2**-16)).astype(np.uint8)


def blur(pixels: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of 3 x 3 pixels with standard deviation `sigma` > 0 in pixels; the border is reflected without
    repeating the edge. Computed in float32 and rounded to the nearest, as in torchvision's `gaussian_blur`."""
    side = math.exp(-0.5 / sigma**2)
    taps = np.array([side, 1, side], np.float32) / np.float32(1 + 2 * side)
    smooth = cv2.sepFilter2D(pixels, cv2.CV_32F, taps, taps, borderType=cv2.BORDER_REFLECT_101)
    return np.rint(smooth).astype(np.uint8)


def erase(
    pixels: np.ndarray,
    *,
    area: tuple[float, float],
    ratio: tuple[float, float],
    draw: tuple[float, ...],
    noise: np.random.Generator | None = None,
) -> np.ndarray:
    """Fills one random rectangle of `pixels`, uint8 [H, W, 3], in place, and returns them.

    The rectangle's share of the area is uniform in `area`, its height / width log-uniform in `ratio`, its sides rounded
    and cut to the image; `draw` are four numbers in [0, 1): area, ratio, x, y. It becomes `ERASED` or, with a generator
    `noise`, what N(0, 1) is before normalisation, per pixel and channel, cut to 0 ... 255 (3 % of the values).
    Zhong et al. 2017, Random Erasing Data Augmentation, arXiv:1708.04896.
    """
    height, width = pixels.shape[:2]
    target = height * width * (area[0] + (area[1] - area[0]) * draw[0])
    low, high = math.log(ratio[0]), math.log(ratio[1])
    shape = math.exp(low + (high - low) * draw[1])
    h = min(height, max(1, round(math.sqrt(target * shape))))
    w = min(width, max(1, round(math.sqrt(target / shape))))
    left, top = int(draw[2] * (width - w + 1)), int(draw[3] * (height - h + 1))
    if noise is None:
        pixels[top : top + h, left : left + w] = ERASED
    else:
        values = _MEAN + _DEVIATION * noise.standard_normal((h, w, 3), np.float32)
        pixels[top : top + h, left : left + w] = np.clip(np.rint(values), 0, 255)
    return pixels
