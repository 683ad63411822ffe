"""Pictures as a caller gives them, one or many, in any mixture: checked at once, read when their turn comes."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from emojax.data import decode
from emojax.data.storage import read_file
from emojax.errors import DataError

_EXPECTED = "expected paths, encoded bytes, uint8 arrays [H, W], [H, W, 3] or [H, W, 4], or Pillow images"


@dataclasses.dataclass(frozen=True, slots=True)
class Given:
    """`images` of a `Split`. Files that cannot be read raise `decode.Unreadable` when they are asked for."""

    items: tuple[Any, ...]

    @classmethod
    def of(cls, images: Any) -> Given:
        """One picture, or an iterable of pictures.

        An array [H, W] or one whose last axis has 3 or 4 channels of three is one picture; other arrays are pictures
        along their first axis. Raises `DataError`, with the picture's position, for what is no picture, and for an
        array [3 or 4, H, W], which may be one picture with its channels in front or so many grey ones.
        """
        alone = isinstance(images, str | os.PathLike | bytes | bytearray | memoryview | Image.Image)
        if not alone and hasattr(images, "__array__"):
            images = np.asarray(images)
            alone = images.ndim < 3 or (images.ndim == 3 and images.shape[-1] in (3, 4))
            if not alone and images.ndim == 3 and (images.shape[0] in (3, 4) or images.shape[-1] == 2):
                raise DataError(
                    f"{_EXPECTED}; found an array {list(images.shape)}: give colours on the last axis, or several grey "
                    "pictures as a list"
                )
        if isinstance(images, Mapping) or (not alone and not isinstance(images, Iterable)):
            raise DataError(f"{_EXPECTED}, one or several of them; found {type(images).__name__}")
        return cls(tuple(_picture(x, i) for i, x in enumerate([images] if alone else images)))

    def names(self) -> np.ndarray:
        """A path's own, "image N" for the others; object [N]."""
        return np.asarray([x if isinstance(x, str) else f"image {i}" for i, x in enumerate(self.items)], object)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> Any:
        item = self.items[i]
        return read_file(item) if isinstance(item, str) else item


def _picture(item: Any, position: int) -> str | bytes | np.ndarray:
    """A path as str, bytes, or pixels uint8 [H, W] or [H, W, 3]."""
    if isinstance(item, str | os.PathLike):
        if Path(item).is_dir():
            raise DataError(f"picture {position}: {os.fsdecode(item)} is a folder; `emojax predict` takes folders")
        return os.fsdecode(item)
    if isinstance(item, bytes | bytearray | memoryview):
        return bytes(item)
    if isinstance(item, Image.Image):
        return decode.pixels_of(ImageOps.exif_transpose(item))
    pixels = np.asarray(item) if hasattr(item, "__array__") else None
    if pixels is None:
        raise DataError(f"picture {position}: {_EXPECTED}; found {type(item).__name__}")
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or channels not in (1, 3, 4) or pixels.size == 0:
        hint = ", values 0 to 255" if pixels.dtype != np.uint8 else ""
        raise DataError(f"picture {position}: {_EXPECTED}{hint}; found {pixels.dtype} {list(pixels.shape)}")
    return decode.pixels_of(Image.fromarray(pixels, "RGBA")) if channels == 4 else pixels
