"""Where pixels come from: crop boxes, resizing, padding, and one affine resampling. Pure functions on Pillow images.

Images are Pillow images of mode L or RGB; boxes are (left, top, right, bottom) in pixels, fractions allowed.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

Box = tuple[float, float, float, float]


def central_box(width: int, height: int, *, crop: float) -> Box:
    """The central square whose side is `crop` (0 to 1] times the shorter side."""
    side = crop * min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def random_box(
    width: int, height: int, *, area: tuple[float, float], ratio: tuple[float, float], draw: tuple[float, ...]
) -> Box:
    """The box of a random resized crop: area share uniform in `area`, width / height log-uniform in `ratio`.

    `draw` are four numbers in [0, 1): area, ratio, x, y. Ratios with which the area would not fit are left out of the
    range beforehand, so there is no rejection and every image takes the same number of draws.
    Szegedy et al. 2014, Going deeper with convolutions, arXiv:1409.4842.
    """
    pixels = width * height * (area[0] + (area[1] - area[0]) * draw[0])
    narrowest, widest = pixels / height**2, width**2 / pixels
    low, high = (math.log(min(max(r, narrowest), widest)) for r in ratio)
    shape = math.exp(low + (high - low) * draw[1])
    w, h = min(width, math.sqrt(pixels * shape)), min(height, math.sqrt(pixels / shape))
    left, top = draw[2] * (width - w), draw[3] * (height - h)
    return left, top, min(width, left + w), min(height, top + h)


def reduction(box: Box, size: int) -> int:
    """The largest of 1, 2, 4, 8 by which an image may be divided so that `box` still has `size` pixels a side."""
    room = min(box[2] - box[0], box[3] - box[1]) / size
    return 8 if room >= 8 else 4 if room >= 4 else 2 if room >= 2 else 1


def resize(image: Image.Image, size: int, *, box: Box) -> Image.Image:
    """`box` of the image as size x size pixels: bicubic, with antialiasing when it shrinks; pixels outside the box do
    not contribute. Bicubic is what the ImageNet recipes of timm evaluate with."""
    if box == (0, 0, size, size) and image.size == (size, size):
        return image
    return image.resize((size, size), Image.Resampling.BICUBIC, box=box)


def flip(image: Image.Image) -> Image.Image:
    """The left-right mirror image."""
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def pad_crop(image: Image.Image, pad: int, *, draw: tuple[float, float]) -> Image.Image:
    """Adds `pad` reflected pixels on every side (the edge itself is not repeated) and crops back to the old size at an
    offset uniform in {0 ... 2 pad}; `draw` are two numbers in [0, 1): x, y."""
    pixels = np.asarray(image)
    padded = np.pad(pixels, ((pad, pad), (pad, pad), (0, 0))[: pixels.ndim], mode="reflect")
    left, top = (int(d * (2 * pad + 1)) for d in draw)
    return Image.fromarray(np.ascontiguousarray(padded[top : top + image.height, left : left + image.width]))


def affine(image: Image.Image, *, degrees: float, shift: tuple[float, float], zoom: float) -> Image.Image:
    """Turns about the centre (counter-clockwise for positive `degrees`), enlarges by `zoom`, then shifts by `shift`
    times (width, height) to the right and down: one bilinear resampling at the same size.

    Pixels whose source lies outside the image take the border colour: the mean of the image's outermost pixel frame.
    The identity returns the same pixels.
    """
    width, height = image.size
    angle = math.radians(degrees)
    cos, sin = math.cos(angle) / zoom, math.sin(angle) / zoom
    x0, y0 = width / 2, height / 2
    x1, y1 = x0 + shift[0] * width, y0 + shift[1] * height
    # Pillow wants output -> input; y points down, so the inverse of a counter-clockwise turn is [cos, -sin; sin, cos].
    matrix = (cos, -sin, x0 - cos * x1 + sin * y1, sin, cos, y0 - sin * x1 - cos * y1)
    return image.transform(
        image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=border_colour(image)
    )


def border_colour(image: Image.Image) -> int | tuple[int, ...]:
    """Mean of the outermost pixel frame, rounded, as a Pillow colour."""
    pixels = np.asarray(image)
    frame = np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])
    total = frame.sum(axis=0, dtype=np.int64)
    mean = (2 * total + len(frame)) // (2 * len(frame))
    return int(mean) if mean.ndim == 0 else tuple(mean.tolist())
