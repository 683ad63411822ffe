"""Test-time views: the same picture seen several times; the inference function averages what the model says of them.

A view is a deterministic function uint8 [B, H, W, 3] → uint8 [B, H, W, 3] for use inside jit. It comes before
normalisation, rounds to the nearest value and keeps the size. Where it looks past the picture's edge it sees black,
except for shifts, which see the edge pixels repeated.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

Images = UInt8[Array, "B H W 3"]
View = Callable[[Images], Images]


def original(image: Images) -> Images:
    """The picture as it is."""
    return image


def mirror(image: Images) -> Images:
    """Left and right exchanged."""
    return image[:, :, ::-1]


def brightness(image: Images, *, factor: float) -> Images:
    """Every value times `factor`."""
    return _to_uint8(image.astype(jnp.float32) * factor)


def jitter(image: Images, *, brightness: float, contrast: float, saturation: float) -> Images:
    """Brightness, contrast and saturation times the given factors, in this order, as in ColorJitter of torchvision."""
    pixels = jnp.clip(image.astype(jnp.float32) * brightness, 0, 255)
    mean = jnp.mean(_luma(pixels), axis=(1, 2), keepdims=True)
    pixels = jnp.clip(mean + contrast * (pixels - mean), 0, 255)
    grey = _luma(pixels)
    return _to_uint8(grey + saturation * (pixels - grey))


def turn(image: Images, *, degrees: float) -> Images:
    """Turned about the centre, counter-clockwise for positive `degrees`; bilinear."""
    height, width = image.shape[1:3]
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x = jnp.arange(width, dtype=jnp.float32) - (width - 1) / 2
    y = jnp.arange(height, dtype=jnp.float32)[:, None] - (height - 1) / 2
    # y points down: the source of a pixel lies clockwise from it on the screen.
    rows, columns = sin * x + cos * y + (height - 1) / 2, cos * x - sin * y + (width - 1) / 2

    # As `jax.scipy.ndimage.map_coordinates` does it, but never looking outside: ONNX has no rule for such an index.
    top, left = jnp.floor(rows), jnp.floor(columns)
    parts = []
    for down, right in itertools.product((0, 1), (0, 1)):
        y, x = (top + down).astype(jnp.int32), (left + right).astype(jnp.int32)
        weight = (rows - top if down else 1 - (rows - top)) * (columns - left if right else 1 - (columns - left))
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        seen = image[:, jnp.clip(y, 0, height - 1), jnp.clip(x, 0, width - 1)].astype(jnp.float32)
        parts.append(jnp.where(inside, weight, 0.0)[..., None] * seen)
    return _to_uint8(functools.reduce(operator.add, parts))


def zoom(image: Images, *, scale: float, at: tuple[float, float] = (0.5, 0.5)) -> Images:
    """The picture resized to `scale` times its size (bilinear, antialiased), seen through a window of the old size.

    `at` (down, right) places the window: (0, 0) at the top left of the resized picture, (1, 1) at the bottom right. A
    picture smaller than the window has black around it.
    """
    size = jnp.asarray(image.shape[1:3], jnp.float32)
    return _to_uint8(
        jax.image.scale_and_translate(
            image.astype(jnp.float32),
            image.shape,
            (1, 2),
            scale=jnp.full(2, scale, jnp.float32),
            translation=-(scale - 1) * size * jnp.asarray(at, jnp.float32),
            method="linear",
        )
    )


def shift(image: Images, *, down: int, right: int) -> Images:
    """Moved by whole pixels; the edge pixels are repeated into the gap."""
    height, width = image.shape[1:3]
    rows = jnp.clip(jnp.arange(height) - down, 0, height - 1)
    columns = jnp.clip(jnp.arange(width) - right, 0, width - 1)
    return image[:, rows[:, None], columns]


def _luma(pixels: Float[Array, "B H W 3"]) -> Float[Array, "B H W 1"]:
    """ITU-R 601-2 grey."""
    return (pixels * jnp.asarray((0.299, 0.587, 0.114), jnp.float32)).sum(axis=-1, keepdims=True)


def _to_uint8(pixels: Float[Array, "B H W 3"]) -> Images:
    return jnp.clip(jnp.round(pixels), 0, 255).astype(jnp.uint8)


def _mirrored(image: Images, *, view: View) -> Images:
    return mirror(view(image))


_ORIGINAL: dict[str, View] = {"original": original}
_FLIP: dict[str, View] = {**_ORIGINAL, "mirror": mirror}
_TURNS: dict[str, View] = {f"turn {d:+}": functools.partial(turn, degrees=d) for d in (-5, 5)}
_CROPS: dict[str, View] = {
    name: functools.partial(zoom, scale=1.1, at=at)
    for name, at in {
        "centre": (0.5, 0.5),
        "top left": (0.0, 0.0),
        "top right": (0.0, 1.0),
        "bottom left": (1.0, 0.0),
        "bottom right": (1.0, 1.0),
    }.items()
}
# The eight neighbours, four steps of two along the axes, and one diagonal: 14 shifts that cancel out.
_OFFSETS = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if y or x] + [(-2, 0), (2, 0), (0, -2), (0, 2)]
_OFFSETS += [(-2, -2), (2, 2)]

_SETS: dict[str, dict[str, View]] = {
    "center": _ORIGINAL,
    "flip": _FLIP,
    # One of the ten, for judging with and without them.
    "center_crop": {"centre": _CROPS["centre"]},
    # Seed 000, its test command.
    "six": {
        **_FLIP,
        "darker": functools.partial(brightness, factor=0.9),
        "brighter": functools.partial(brightness, factor=1.1),
        **_TURNS,
    },
    # Seed 003; what it draws at random is fixed here, so that two evaluations agree.
    "eight": {
        **_FLIP,
        **_TURNS,
        "smaller": functools.partial(zoom, scale=0.95),
        "larger": functools.partial(zoom, scale=1.05),
        "jitter": functools.partial(jitter, brightness=0.9, contrast=1.1, saturation=1.1),
        "crop": functools.partial(zoom, scale=1.1, at=(0.25, 0.75)),
    },
    # Seed 001: all five crops come from the enlarged picture, which must not be cropped before.
    "ten": {**_CROPS, **{f"{name}, mirror": functools.partial(_mirrored, view=view) for name, view in _CROPS.items()}},
    # Seed 000, in training; its own sixteen held seven exact duplicates.
    "sixteen": {**_FLIP, **{f"shift {y:+} {x:+}": functools.partial(shift, down=y, right=x) for y, x in _OFFSETS}},
}

VIEWS: dict[str, tuple[View, ...]] = {name: tuple(views.values()) for name, views in _SETS.items()}
"""The sets that `config.eval.views` can name."""

NAMES: dict[str, tuple[str, ...]] = {name: tuple(views) for name, views in _SETS.items()}
"""The names of each set's views, in the order of `VIEWS`, for numbers per view."""
