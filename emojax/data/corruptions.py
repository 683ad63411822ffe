"""Damage that pictures meet in the world, in five severities: noise, blur, JPEG, brightness, contrast and more.

After Hendrycks and Dietterich 2019, Benchmarking Neural Network Robustness to Common Corruptions and Perturbations,
arXiv:1903.12261, as an own implementation whose strengths scale with the side of the picture, so that 48-px faces and
224-px pictures suffer alike. Numbers are therefore not comparable with ImageNet-C. Every corruption is a pure function
of the pixels, the severity and the record's position.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import simplejpeg
from jaxtyping import UInt8

from emojax.data.transforms import eval_image
from emojax.errors import ConfigError

Image = UInt8[np.ndarray, "S S 3"]
SEVERITIES = (1, 2, 3, 4, 5)


def _noise(x: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise, standard deviation `level` of the range."""
    return x + rng.normal(0, 255 * level, x.shape)


def _blur(x: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian blur, standard deviation `level` percent of the side."""
    del rng
    return cv2.GaussianBlur(x, (0, 0), level / 100 * len(x), borderType=cv2.BORDER_REFLECT_101)


def _jpeg(x: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """JPEG of quality `level`."""
    del rng
    data = simplejpeg.encode_jpeg(np.ascontiguousarray(x), quality=int(level), colorspace="RGB", colorsubsampling="420")
    return simplejpeg.decode_jpeg(data, colorspace="RGB")


def _brightness(x: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """Brighter by `level` of the range."""
    del rng
    return x.astype(np.float64) + 255 * level


def _darkness(x: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """Darker: values times 1 - `level`, as under less light."""
    del rng
    return x * (1 - level)


def _contrast(x: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """Less contrast: distances from the mean of each channel times 1 - `level`."""
    del rng
    mean = x.mean(axis=(0, 1))
    return mean + (x - mean) * (1 - level)


def _pixelate(x: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """Only 1 - `level` of the side's pixels are left."""
    del rng
    small = cv2.resize(x, (max(1, round(len(x) * (1 - level))),) * 2, interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (len(x), len(x)), interpolation=cv2.INTER_NEAREST_EXACT)


def _occlusion(x: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """A grey square over `level` of the area, anywhere inside."""
    side = round(len(x) * level**0.5)
    top, left = rng.integers(0, len(x) - side + 1, 2)
    x = x.copy()
    x[top : top + side, left : left + side] = 128
    return x


def _rotation(x: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """Turned by `level` degrees, to either side; the border is mirrored outwards."""
    middle = (len(x) - 1) / 2
    turn = cv2.getRotationMatrix2D((middle, middle), level if rng.random() < 0.5 else -level, 1.0)
    return cv2.warpAffine(x, turn, (len(x), len(x)), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


Corrupt = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]

CORRUPTIONS: dict[str, tuple[Corrupt, tuple[float, ...]]] = {
    "noise": (_noise, (0.04, 0.08, 0.12, 0.18, 0.26)),
    "blur": (_blur, (1.2, 1.8, 2.4, 3.1, 3.9)),
    "jpeg": (_jpeg, (30, 20, 14, 9, 5)),
    "brightness": (_brightness, (0.1, 0.2, 0.3, 0.4, 0.5)),
    "darkness": (_darkness, (0.3, 0.5, 0.65, 0.78, 0.88)),
    "contrast": (_contrast, (0.4, 0.55, 0.7, 0.82, 0.92)),
    "pixelate": (_pixelate, (0.4, 0.5, 0.6, 0.7, 0.78)),
    "occlusion": (_occlusion, (0.04, 0.08, 0.14, 0.22, 0.32)),
    "rotation": (_rotation, (8, 15, 25, 35, 45)),
}
"""name → (function, its level at severities 1 to 5)."""


def corrupt(image: Image, name: str, severity: int, *, position: int) -> Image:
    """One square picture, uint8 [S, S, 3], damaged; the same arguments give the same pixels.

    Raises `ConfigError` for an unknown name or severity.
    """
    if name not in CORRUPTIONS or severity not in SEVERITIES:
        raise ConfigError(
            f"corruption: expected one of {', '.join(CORRUPTIONS)} at severity 1 to 5, found {name!r} at {severity}"
        )
    function, levels = CORRUPTIONS[name]
    rng = np.random.default_rng([zlib.crc32(name.encode()), position])
    found = function(image, levels[severity - 1], rng)
    return found.astype(np.uint8) if found.dtype == np.uint8 else found.round().clip(0, 255).astype(np.uint8)


@dataclasses.dataclass(frozen=True, slots=True)
class Changed:
    """The pictures of a split as a model would see them, changed: a sequence for `types.Split.images`.

    Attributes:
      images: the pictures themselves.
      change: (square picture uint8 [S, S, 3], its position) → another.
      size, crop, fit, interpolation: of the evaluation view; a classifier must then not crop once more.
    """

    images: Any
    change: Callable[[Image, int], Image]
    size: int
    crop: float
    fit: str
    interpolation: str

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> np.ndarray:
        view = {name: getattr(self, name) for name in ("size", "crop", "fit", "interpolation")}
        return self.change(eval_image(self.images[i], **view), i)


def damaged(name: str, severity: int) -> Callable[[Image, int], Image]:
    """`corrupt` for `Changed`."""
    return lambda image, position: corrupt(image, name, severity, position=position)


def mirrored(image: Image, position: int) -> Image:
    """Left and right exchanged."""
    del position
    return np.ascontiguousarray(image[:, ::-1])


def as_it_is(image: Image, position: int) -> Image:
    """The picture itself."""
    del position
    return image
