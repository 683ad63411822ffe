"""Where pixels come from: crop boxes, resizing, padding, affine and perspective maps. Pure functions on Pillow images.

Images are Pillow images of mode L or RGB; boxes are (left, top, right, bottom) in pixels, fractions allowed.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

Box = tuple[float, float, float, float]


FITS = ("crop", "squash")
"""How a picture becomes square: by its central square, or as a whole, with other proportions."""


def central_box(width: int, height: int, *, crop: float, fit: str = "crop") -> Box:
    """The centre of the picture, `crop` (0 to 1] times as long and as wide: of its central square or of all of it."""
    x, y = (width, height) if fit == "squash" else (min(width, height),) * 2
    left, top = (width - crop * x) / 2, (height - crop * y) / 2
    return left, top, left + crop * x, top + crop * y


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


RESAMPLE = {"bilinear": Image.Resampling.BILINEAR, "nearest": Image.Resampling.NEAREST}
"""`AugmentConfig.resample` -> what Pillow calls it."""


def affine(
    image: Image.Image,
    *,
    degrees: float,
    shift: tuple[float, float],
    zoom: float,
    resample: str = "bilinear",
    fill: str = "border",
) -> Image.Image:
    """Turns about the centre (counter-clockwise for positive `degrees`), enlarges by `zoom`, then shifts by `shift`
    times (width, height) to the right and down: one resampling at the same size, see `RESAMPLE`.

    Pixels whose source lies outside the image take the colour `fill`, see `fill_colour`. The identity returns the same
    pixels.
    """
    width, height = image.size
    angle = math.radians(degrees)
    cos, sin = math.cos(angle) / zoom, math.sin(angle) / zoom
    x0, y0 = width / 2, height / 2
    x1, y1 = x0 + shift[0] * width, y0 + shift[1] * height
    # Pillow wants output -> input; y points down, so the inverse of a counter-clockwise turn is [cos, -sin; sin, cos].
    matrix = (cos, -sin, x0 - cos * x1 + sin * y1, sin, cos, y0 - sin * x1 - cos * y1)
    return image.transform(
        image.size, Image.Transform.AFFINE, matrix, RESAMPLE[resample], fillcolor=fill_colour(image, fill)
    )


def corner_moves(width: int, height: int, *, share: float, draw: tuple[float, ...]) -> tuple[int, ...]:
    """How far the corners move inwards, in whole pixels, for `perspective`: each uniform in 0 to `share` times half the
    side; `draw` are eight numbers in [0, 1)."""
    largest = int(share * (width // 2)), int(share * (height // 2))
    return tuple(int(d * (largest[i % 2] + 1)) for i, d in enumerate(draw))


def perspective(image: Image.Image, *, moves: tuple[float, ...], fill: str = "border") -> Image.Image:
    """Maps the image onto the quadrilateral of its moved corners: bilinear, at the same size.

    `moves`: eight distances inwards in pixels, x before y, of the corners top left, top right, bottom right, bottom
    left. Outside comes `fill`, see `fill_colour`. Hartley & Zisserman 2004, Multiple View Geometry, section 2.3.
    """
    right, bottom = image.width - 1, image.height - 1
    corners = ((0, 0), (right, 0), (right, bottom), (0, bottom))
    inwards = ((1, 1), (-1, 1), (-1, -1), (1, -1))
    rows, target = [], []
    for (x, y), (to_x, to_y), dx, dy in zip(corners, inwards, moves[0::2], moves[1::2], strict=True):
        u, v = x + to_x * dx, y + to_y * dy  # Pillow wants output -> input: the moved corner finds the old one
        rows += [(u, v, 1, 0, 0, 0, -x * u, -x * v), (0, 0, 0, u, v, 1, -y * u, -y * v)]
        target += [x, y]
    # Least squares, since at shares near 1 three corners can fall on one line, which no map has as its image.
    matrix = np.linalg.lstsq(np.array(rows, np.float64), np.array(target, np.float64), rcond=None)[0]
    return image.transform(
        image.size,
        Image.Transform.PERSPECTIVE,
        matrix.astype(np.float32).tolist(),  # the last bits differ between machines and would decide about edges
        Image.Resampling.BILINEAR,
        fillcolor=fill_colour(image, fill),
    )


def fill_colour(image: Image.Image, fill: str) -> int | tuple[int, ...]:
    """What comes in from outside, as a Pillow colour: `border` (see `border_colour`) or `black`."""
    return border_colour(image) if fill == "border" else 0


def border_colour(image: Image.Image) -> int | tuple[int, ...]:
    """Mean of the outermost pixel frame, rounded, as a Pillow colour."""
    pixels = np.asarray(image)
    frame = np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])
    total = frame.sum(axis=0, dtype=np.int64)
    mean = (2 * total + len(frame)) // (2 * len(frame))
    return int(mean) if mean.ndim == 0 else tuple(mean.tolist())
