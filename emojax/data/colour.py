"""What colour pixels have: jitter, greyscale and blur on Pillow images of mode L or RGB; random erasing on arrays."""

from __future__ import annotations

import itertools
import math

import numpy as np
from PIL import Image, ImageEnhance

ORDERS = tuple(itertools.permutations(("brightness", "contrast", "saturation", "hue")))
"""The 24 orders in which the four jitters can run."""

ERASED = (124, 116, 104)
"""What erased pixels become: the ImageNet mean (0.485, 0.456, 0.406), which normalises to zero."""

_MEAN = 255 * np.array([0.485, 0.456, 0.406], np.float32)
_DEVIATION = 255 * np.array([0.229, 0.224, 0.225], np.float32)


def brightness(image: Image.Image, factor: float) -> Image.Image:
    """Blend with black: factor 0 is black, 1 the same pixels."""
    return ImageEnhance.Brightness(image).enhance(factor)


def contrast(image: Image.Image, factor: float) -> Image.Image:
    """Blend with the mean of the grey image: factor 0 is flat grey, 1 the same pixels."""
    return ImageEnhance.Contrast(image).enhance(factor)


def saturation(image: Image.Image, factor: float) -> Image.Image:
    """Blend with the grey image: factor 0 is grey, 1 the same pixels. Grey images do not change."""
    return image if image.mode == "L" else ImageEnhance.Color(image).enhance(factor)


def hue(image: Image.Image, shift: float) -> Image.Image:
    """Turns the hue by `shift` of the full circle, -0.5 to 0.5, in 8-bit HSV. Grey images do not change."""
    steps = int(shift * 255) % 256
    if steps == 0 or image.mode == "L":
        return image
    h, s, v = image.convert("HSV").split()
    h = h.point([(value + steps) % 256 for value in range(256)])
    return Image.merge("HSV", (h, s, v)).convert("RGB")


def jitter(image: Image.Image, factors: dict[str, float], *, order: int) -> Image.Image:
    """Brightness, contrast, saturation and hue, those in `factors`, in the `order`-th of their 24 orders.

    The definitions are those of torchvision's ColorJitter on 8-bit images.
    """
    functions = {"brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": hue}
    for name in ORDERS[order]:
        if name in factors:
            image = functions[name](image, factors[name])
    return image


def grayscale(image: Image.Image) -> Image.Image:
    """Luma 0.299 R + 0.587 G + 0.114 B (ITU-R 601-2), as an image of mode L."""
    return image.convert("L")


def blur(image: Image.Image, sigma: float) -> Image.Image:
    """Gaussian blur of 3 x 3 pixels with standard deviation `sigma` > 0 in pixels; the border is reflected without
    repeating the edge. Rounded to the nearest, as in torchvision's `gaussian_blur`.

    Two passes in float32 take 0.3 ms for 224 px in colour, Pillow's 3 x 3 filter 0.8 ms.
    """
    side = math.exp(-0.5 / sigma**2)
    middle, side = 1 / (1 + 2 * side), side / (1 + 2 * side)
    pixels = np.asarray(image)
    p = np.pad(pixels, ((1, 1), (1, 1), (0, 0))[: pixels.ndim], mode="reflect").astype(np.float32)
    p = middle * p[1:-1] + side * (p[:-2] + p[2:])
    p = middle * p[:, 1:-1] + side * (p[:, :-2] + p[:, 2:])
    return Image.fromarray(np.rint(p).astype(np.uint8))


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
