"""Where pixels come from: crop boxes, resizing, padding, affine and perspective maps. Pure functions on arrays.

Images are uint8 [H, W] (grey) or [H, W, 3]; boxes are (left, top, right, bottom) in pixels, fractions allowed.
A `Matrix` maps points of the result to points of the source, in pixels from the corner of the top left pixel.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image

cv2.setNumThreads(0)  # the loader's own processes and threads share the cores

Box = tuple[float, float, float, float]
Matrix = tuple[float, float, float, float, float, float]
"""(a, b, c, d, e, f): x, y of the result come from a x + b y + c, d x + e y + f of the source."""

FITS = ("crop", "squash")
"""How a picture becomes square: by its central square, or as a whole, with other proportions."""

RESAMPLE = {"bilinear": cv2.INTER_LINEAR, "nearest": cv2.INTER_NEAREST}
"""`AugmentConfig.resample` -> what OpenCV calls it."""


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


INTERPOLATIONS = {
    "": Image.Resampling.BICUBIC,
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
}
"""`EvalConfig.interpolation` -> what Pillow calls it."""


def resize(image: Image.Image, size: int, *, box: Box, interpolation: str = "") -> Image.Image:
    """`box` of a Pillow image as size x size pixels, for evaluation: with antialiasing when it shrinks; pixels outside
    the box do not contribute. Bicubic is what the ImageNet recipes of timm evaluate with, and Pillow computes it in
    integers: the same on every machine."""
    return image.resize((size, size), INTERPOLATIONS[interpolation], box=box)


_WIDEST = 2.236


def prefiltered(pixels: np.ndarray, size: int) -> np.ndarray:
    """`pixels` made ready for bilinear sampling at `size` points a side without aliasing.

    What shrinks by s > 1 is smoothed with (w, 1 - 2 w, w), w = (1 - 1 / s) / 2, which with the triangle of bilinear
    sampling makes the wide triangle of antialiased bilinear resizing (Pillow's, torchvision's): exactly at s = 1 and 2,
    nearly the least-squares fit in between, with less aliasing than averaging areas. Sides that shrink by more than
    2.236 (500 -> 224 px) are halved first, by averaging pairs. 0.1 ms for 350 -> 224 px in colour, Pillow's 0.6.
    """
    height, width = pixels.shape[:2]
    limit = size * _WIDEST
    while width > limit or height > limit:
        width = width // 2 if width > limit else width
        height = height // 2 if height > limit else height
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    if max(width, height) <= size:
        return pixels
    return cv2.sepFilter2D(pixels, -1, _taps(width / size), _taps(height / size), borderType=cv2.BORDER_REFLECT_101)


def _taps(shrink: float) -> np.ndarray:
    """The weights of `prefiltered` along one side."""
    side = max(0.0, (1 - 1 / shrink) / 2)
    return np.array((side, 1 - 2 * side, side), np.float32)


@dataclasses.dataclass(frozen=True, slots=True)
class View:
    """What becomes the image: a part of a picture, and how it is mirrored and turned. Crop, flip and affine map only
    change this description, so that any run of them is one resampling, made by `array`.

    Attributes:
      pixels: uint8 [H, W] or [H, W, 3], the part, unscaled.
      size: side of the image, pixels.
      mirrored: before the map.
      turn: map from the image to the mirrored part at `size`, or None.
      resample, fill: of the map, see `warp`.
    """

    pixels: np.ndarray
    size: int
    mirrored: bool = False
    turn: Matrix | None = None
    resample: str = "bilinear"
    fill: str = "border"

    def flipped(self) -> View:
        """The left-right mirror image."""
        if self.turn is None:
            return View(self.pixels, self.size, not self.mirrored)
        return self.turned((-1, 0, self.size, 0, 1, 0), resample=self.resample, fill=self.fill)

    def turned(self, matrix: Matrix, *, resample: str, fill: str) -> View:
        """The view after a map of the image, see `affine`."""
        turn = matrix if self.turn is None else composed(self.turn, matrix)
        return View(self.pixels, self.size, self.mirrored, turn, resample, fill)

    def then(self, function: Callable[[np.ndarray], np.ndarray]) -> View:
        """The view of what `function` makes of the image."""
        return View(function(self.array()), self.size)

    def array(self) -> np.ndarray:
        """The image, uint8 [size, size] or [size, size, 3]; may be `pixels` itself."""
        size, pixels = self.size, prefiltered(self.pixels, self.size)
        height, width = pixels.shape[:2]
        if self.turn is not None:
            x, y = width / size, height / size
            matrix = composed((-x, 0, width, 0, y, 0) if self.mirrored else (x, 0, 0, 0, y, 0), self.turn)
            return warp(pixels, matrix, size=(size, size), resample=self.resample, fill=self.fill)
        if (height, width) != (size, size):
            pixels = cv2.resize(pixels, (size, size), interpolation=cv2.INTER_LINEAR)
        return cv2.flip(pixels, 1) if self.mirrored else pixels


def composed(first: Matrix, second: Matrix) -> Matrix:
    """The map of an image that was made by `first` and then by `second`: points go through `second`, then `first`."""
    a, b, c, d, e, f = first
    g, h, i, j, k, m = second
    return a * g + b * j, a * h + b * k, a * i + b * m + c, d * g + e * j, d * h + e * k, d * i + e * m + f


def affine(width: int, height: int, *, degrees: float, shift: tuple[float, float], zoom: float) -> Matrix:
    """Turns about the centre (counter-clockwise for positive `degrees`), enlarges by `zoom`, then shifts by `shift`
    times (width, height) to the right and down."""
    angle = math.radians(degrees)
    cos, sin = math.cos(angle) / zoom, math.sin(angle) / zoom
    x0, y0 = width / 2, height / 2
    x1, y1 = x0 + shift[0] * width, y0 + shift[1] * height
    # y points down, so the inverse of a counter-clockwise turn is [cos, -sin; sin, cos].
    return cos, -sin, x0 - cos * x1 + sin * y1, sin, cos, y0 - sin * x1 - cos * y1


def warp(
    pixels: np.ndarray, matrix: Matrix, *, size: tuple[int, int], resample: str = "bilinear", fill: str = "border"
) -> np.ndarray:
    """`pixels` under `matrix` as an image of `size` = (width, height), in one resampling, see `RESAMPLE`.

    Pixels whose source lies outside take the colour `fill`, see `fill_colour`; where bilinear sampling reaches over the
    edge by less than a pixel, both blend (torchvision does that with tensors, Pillow repeats the edge). The identity
    and whole-pixel moves are exact. The last bit may differ between processors.
    """
    a, b, c, d, e, f = matrix
    centres = np.array(((a, b, c + (a + b - 1) / 2), (d, e, f + (d + e - 1) / 2)))  # OpenCV counts from pixel centres
    flags = RESAMPLE[resample] | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(pixels, centres, size, flags=flags, borderValue=fill_colour(pixels, fill))


def pad_crop(pixels: np.ndarray, pad: int, *, draw: tuple[float, float]) -> np.ndarray:
    """Adds `pad` reflected pixels on every side (the edge itself is not repeated) and crops back to the old size at an
    offset uniform in {0 ... 2 pad}; `draw` are two numbers in [0, 1): x, y."""
    height, width = pixels.shape[:2]
    left, top = (int(d * (2 * pad + 1)) for d in draw)
    return cv2.copyMakeBorder(pixels, pad, pad, pad, pad, cv2.BORDER_REFLECT_101)[
        top : top + height, left : left + width
    ]


def corner_moves(width: int, height: int, *, share: float, draw: tuple[float, ...]) -> tuple[int, ...]:
    """How far the corners move inwards, in whole pixels, for `perspective`: each uniform in 0 to `share` times half the
    side; `draw` are eight numbers in [0, 1)."""
    largest = int(share * (width // 2)), int(share * (height // 2))
    return tuple(int(d * (largest[i % 2] + 1)) for i, d in enumerate(draw))


def perspective(pixels: np.ndarray, *, moves: tuple[float, ...], fill: str = "border") -> np.ndarray:
    """Maps the image onto the quadrilateral of its moved corners: bilinear, at the same size.

    `moves`: eight distances inwards in pixels, x before y, of the corners top left, top right, bottom right, bottom
    left. Outside comes `fill`, as in `warp`. Hartley & Zisserman 2004, Multiple View Geometry, section 2.3.
    """
    height, width = pixels.shape[:2]
    right, bottom = width - 1, height - 1
    corners = ((0, 0), (right, 0), (right, bottom), (0, bottom))
    inwards = ((1, 1), (-1, 1), (-1, -1), (1, -1))
    rows, target = [], []
    for (x, y), (to_x, to_y), dx, dy in zip(corners, inwards, moves[0::2], moves[1::2], strict=True):
        u, v = x + to_x * dx, y + to_y * dy  # from the result to the source: the moved corner finds the old one
        rows += [(u, v, 1, 0, 0, 0, -x * u, -x * v), (0, 0, 0, u, v, 1, -y * u, -y * v)]
        target += [x, y]
    # Least squares, since at shares near 1 three corners can fall on one line, which no map has as its image.
    solved = np.linalg.lstsq(np.array(rows, np.float64), np.array(target, np.float64), rcond=None)[0]
    # float32, as the last bits differ between machines and would decide about edges. The map is one of corners of
    # pixels (as in torchvision), not of their centres.
    from_corners = np.append(solved.astype(np.float32), np.float32(1)).reshape(3, 3).astype(np.float64)
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    back = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1]])
    return cv2.warpPerspective(
        pixels, back @ from_corners @ half, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderValue=fill_colour(pixels, fill),
    )  # fmt: skip


def fill_colour(pixels: np.ndarray, fill: str) -> tuple[float, ...]:
    """What comes in from outside, one number per channel: `border` (see `border_colour`) or `black`."""
    return border_colour(pixels) if fill == "border" else (0.0,) * 3


def border_colour(pixels: np.ndarray) -> tuple[float, ...]:
    """Mean of the outermost pixel frame, rounded (halves up), per channel."""
    frame = np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])[None]
    count, sums = frame.shape[1], cv2.sumElems(frame)
    return tuple([(2 * int(s) + count) // (2 * count) for s in sums[: 1 if pixels.ndim == 2 else 3]])
