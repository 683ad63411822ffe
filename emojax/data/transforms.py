"""Record -> model input: what a training image and an evaluation image are.

The random choices of a training image come from one draw of `len(Draws._fields)` uniform numbers with a fixed meaning
each, so switching one augmentation on or off, or running them in another order, leaves the others' choices as they
were. Only the numbers of a policy, and then those of erased pixels that become noise, are drawn after them.

Neighbouring steps of crop, flip and affine are one resampling, see `geometry.View`. A random crop is a box of whole
pixels, bilinear with antialiasing (torchvision's default); without one, training starts from the evaluation view.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from emojax.config import AugmentConfig
from emojax.data import colour, geometry, policies
from emojax.data.decode import Opened, fill_rgb
from emojax.data.geometry import View
from emojax.errors import ConfigError


class Draws(NamedTuple):
    """The random numbers of one image, each uniform in [0, 1). New ones are appended: a run that was started with an
    earlier version must resume with the same images."""

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
    perspective: float
    top_left_x: float
    top_left_y: float
    top_right_x: float
    top_right_y: float
    bottom_right_x: float
    bottom_right_y: float
    bottom_left_x: float
    bottom_left_y: float
    grayscale: float
    blur: float
    blur_sigma: float


def scaled(augment: AugmentConfig, strength: float) -> AugmentConfig:
    """`augment` with its probabilities and magnitudes times `strength` >= 0, kept in range; 0 switches all off.

    Flips have no strength: at twice one half every picture would be mirrored, which is as good as none.
    Shares of area kept move away from 1, aspect ratios away from 1 (as powers). Erasing is scaled by its probability
    alone: scaling the rectangle too would count the strength twice. So is blur; perspective by its magnitude alone.
    AutoAugment and TrivialAugment stay as published, unless `strength` is 0. MixUp and CutMix have factors of their
    own. Raises `ConfigError` for a wrong `augment.order`.
    """
    check_order(augment.order)
    keep = tuple(min(1.0, max(0.01, 1 - (1 - share) * strength)) for share in augment.crop_area)
    return dataclasses.replace(
        augment,
        crop_area=(keep[0], keep[1]),
        crop_ratio=(augment.crop_ratio[0] ** strength, augment.crop_ratio[1] ** strength),
        pad=round(augment.pad * strength),
        flip=augment.flip if strength else 0.0,
        rotate=min(180.0, augment.rotate * strength),
        translate=min(1.0, augment.translate * strength),
        zoom=min(0.9, augment.zoom * strength),
        brightness=augment.brightness * strength,
        contrast=augment.contrast * strength,
        saturation=augment.saturation * strength,
        hue=min(0.5, augment.hue * strength),
        perspective=min(1.0, augment.perspective * strength),
        grayscale=min(1.0, augment.grayscale * strength),
        blur=min(1.0, augment.blur * strength),
        policy=augment.policy if strength else "none",
        policy_magnitude=min(float(policies.LEVELS), augment.policy_magnitude * strength),
        erase=min(1.0, augment.erase * strength),
    )


def train_image(
    data: bytes | np.ndarray,
    *,
    augment: AugmentConfig,
    size: int,
    strength: float,
    rng: np.random.Generator,
    fit: str = "crop",
) -> np.ndarray:
    """Decodes and augments one training image: the steps of `augment.order`, in that order.

    Args:
      data: an encoded image, or uint8 [H, W] or [H, W, 3].
      size: side of the result, pixels.
      strength: factor on the augmentation, see `scaled`.
      rng: source of every random number.
      fit: one of `geometry.FITS`; random crops have proportions of their own.

    Returns uint8 [size, size, 3]. Raises `Unreadable` when the image cannot be decoded.
    """
    out = np.empty((size, size, 3), np.uint8)
    fill_train(out, data, augment=scaled(augment, strength), rng=rng, fit=fit)
    return out


def fill_train(
    out: np.ndarray, data: bytes | np.ndarray, *, augment: AugmentConfig, rng: np.random.Generator, fit: str
) -> None:
    """`train_image` with an `augment` that is scaled already, into `out`, uint8 [size, size, 3]."""
    draws = drawn(rng)
    view = opened_view(Opened(data), augment, draws, size=len(out), fit=fit)
    for name in augment.order:
        if name in STEPS:
            view = STEPS[name](view, augment, draws, rng)
    fill_rgb(out, view.array())
    erased(out, augment, draws, rng)


def drawn(rng: np.random.Generator) -> Draws:
    """The random numbers of an image, from a fresh generator."""
    return Draws._make(rng.random(len(Draws._fields)).tolist())


def opened_view(opened: Opened, a: AugmentConfig, d: Draws, *, size: int, fit: str) -> View:
    """The first step, `crop`, also where nothing is cropped: decodes, and no more than the box needs."""
    width, height = opened.size
    if a.crop_area == (1.0, 1.0):
        box = geometry.central_box(width, height, crop=1.0, fit=fit)
        return View(_cut(opened, box, size), size)
    box = geometry.random_box(width, height, area=a.crop_area, ratio=a.crop_ratio, draw=d[0:4])
    return View(opened.pixels(box, reduce=geometry.reduction(box, size)), size)


def erased(pixels: np.ndarray, a: AugmentConfig, d: Draws, rng: np.random.Generator) -> None:
    """The last step, `erase`, in place."""
    if "erase" in a.order and d.erase < a.erase:
        noise = rng if a.erase_fill == "noise" else None
        colour.erase(pixels, area=a.erase_area, ratio=a.erase_ratio, draw=d[17:21], noise=noise)


def _pad(view: View, a: AugmentConfig, d: Draws, _: np.random.Generator) -> View:
    return view.then(lambda pixels: geometry.pad_crop(pixels, a.pad, draw=(d.pad_x, d.pad_y))) if a.pad else view


def _flip(view: View, a: AugmentConfig, d: Draws, _: np.random.Generator) -> View:
    return view.flipped() if d.flip < a.flip else view


def _affine(view: View, a: AugmentConfig, d: Draws, _: np.random.Generator) -> View:
    if not (a.rotate or a.translate or a.zoom):
        return view
    degrees, zoom = _spread(d.rotate, a.rotate), 1 + _spread(d.zoom, a.zoom)
    shift = (_spread(d.translate_x, a.translate), _spread(d.translate_y, a.translate))
    matrix = geometry.affine(view.size, view.size, degrees=degrees, shift=shift, zoom=zoom)
    return view.turned(matrix, resample=a.resample, fill=a.fill)


def _jitter(view: View, a: AugmentConfig, d: Draws, _: np.random.Generator) -> View:
    if not (a.brightness or a.contrast or a.saturation or a.hue):
        return view
    factors, order = _jitter_factors(a, d), int(d.order * len(colour.ORDERS))
    return view.then(lambda pixels: colour.jitter(pixels, factors, order=order))


def _perspective(view: View, a: AugmentConfig, d: Draws, _: np.random.Generator) -> View:
    if not a.perspective or d.perspective >= a.perspective_probability:
        return view
    moves = geometry.corner_moves(view.size, view.size, share=a.perspective, draw=d[22:30])
    return view.then(lambda pixels: geometry.perspective(pixels, moves=moves, fill=a.fill))


def _grayscale(view: View, a: AugmentConfig, d: Draws, _: np.random.Generator) -> View:
    return view.then(colour.grayscale) if d.grayscale < a.grayscale else view


def _blur(view: View, a: AugmentConfig, d: Draws, _: np.random.Generator) -> View:
    low, high = a.blur_sigma
    sigma = low + (high - low) * d.blur_sigma
    return view.then(lambda pixels: colour.blur(pixels, sigma)) if d.blur < a.blur else view


def _policy(view: View, a: AugmentConfig, _: Draws, rng: np.random.Generator) -> View:
    return view if a.policy == "none" else view.then(lambda pixels: policies.apply(pixels, a, rng))


STEPS: Mapping[str, Callable[[View, AugmentConfig, Draws, np.random.Generator], View]] = {
    "pad": _pad,
    "flip": _flip,
    "affine": _affine,
    "jitter": _jitter,
    "perspective": _perspective,
    "grayscale": _grayscale,
    "blur": _blur,
    "policy": _policy,
}
"""What may stand in `AugmentConfig.order` between `crop`, which decodes, and `erase`, which works on the result."""


def check_order(order: tuple[str, ...]) -> None:
    """Raises `ConfigError` unless `order` is `crop`, then distinct names of `STEPS`, and `erase` last or nowhere."""
    middle = order[1:-1] if order[-1:] == ("erase",) else order[1:]
    if order[:1] != ("crop",) or len(set(middle)) < len(middle) or not set(middle) <= set(STEPS):
        raise ConfigError(
            f"config.augment.order: expected crop, then each at most once {', '.join(STEPS)}, then erase or nothing, "
            f"found {', '.join(order) or 'nothing'}"
        )


def eval_image(
    data: bytes | np.ndarray, *, size: int, crop: float, fit: str = "crop", interpolation: str = ""
) -> np.ndarray:
    """The evaluation view: the central square of side `crop` x the shorter side, resized to size x size pixels; with
    the fit "squash" the centre of the whole picture.

    The first is "resize the shorter side to size / crop, then cut out the centre" in one resampling, which also keeps a
    1 x 4000 image from growing to 4000 size. Nothing random. Returns uint8 [size, size, 3]; raises `Unreadable`.
    """
    out = np.empty((size, size, 3), np.uint8)
    fill_eval(out, data, crop=crop, fit=fit, interpolation=interpolation)
    return out


def fill_eval(out: np.ndarray, data: bytes | np.ndarray, *, crop: float, fit: str, interpolation: str = "") -> None:
    """`eval_image` into `out`, uint8 [size, size, 3]."""
    opened = Opened(data)
    box = geometry.central_box(*opened.size, crop=crop, fit=fit)
    fill_rgb(out, _cut(opened, box, len(out), interpolation))


def _cut(opened: Opened, box: geometry.Box, size: int, interpolation: str = "") -> np.ndarray:
    """Decodes no more than needed, and resizes `box` (in pixels of the full image) to a square of one or three
    channels."""
    if box == (0, 0, size, size) and opened.size == (size, size):
        return opened.pixels(box)
    image = opened.load(reduce=geometry.reduction(box, size))
    if image.size != opened.size:
        x, y = image.width / opened.size[0], image.height / opened.size[1]
        box = (box[0] * x, box[1] * y, min(image.width, box[2] * x), min(image.height, box[3] * y))
    return np.asarray(geometry.resize(image, size, box=box, interpolation=interpolation))


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
