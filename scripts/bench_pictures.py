"""Synthetic pictures for the benchmarks: the same at every call, as large on disk as real ones, and nobody's face."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = tuple("abcdefg")


def jpegs(folder: Path, *, count: int) -> Path:
    """folder/{train,val}/CLASS/*.jpg: `count` training pictures of about 500 px and 60 KB, and a few of val."""
    for split, n in (("train", count), ("val", len(CLASSES))):
        for i in range(n):
            rng = np.random.default_rng([i, n])
            width, height = (500, 375) if i % 2 else (400, 500)
            pixels = _texture(rng, height, width, 3, sizes=(4, 16, 60, 125), noise=9)
            place = folder / split / CLASSES[i % len(CLASSES)]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(place / f"{i:05d}.jpg", quality=87)
    return folder


def faces(folder: Path, *, count: int) -> Path:
    """folder/{train,val}.parquet: `count` and an eighth of it grey 48-px PNGs with labels, as FER2013 has them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    for split, n in (("train", count), ("val", validation_faces(count))):
        rng = np.random.default_rng(n)
        images = [_png(_texture(rng, 48, 48, 1, sizes=(3, 6, 12), noise=4)[..., 0]) for _ in range(n)]
        labels = [i % len(CLASSES) for i in range(n)]
        table = pa.table({"image": pa.array(images, pa.binary()), "label": pa.array(labels, pa.int64())})
        pq.write_table(table.replace_schema_metadata({"label_names": ",".join(CLASSES)}), folder / f"{split}.parquet")
    return folder


def validation_faces(count: int) -> int:
    """How many faces are made for val beside `count` for training."""
    return max(len(CLASSES), count // 8)


def _texture(
    rng: np.random.Generator, height: int, width: int, channels: int, *, sizes: tuple[int, ...], noise: float
) -> np.ndarray:
    """Clouds of several sizes (cells per side) and a little noise: uint8 [height, width, channels]."""
    found = 128 + noise * rng.standard_normal((height, width, channels), np.float32)
    for cells in sizes:
        strength = 45 / np.sqrt(cells / sizes[0])
        for channel in range(channels):
            cloud = Image.fromarray(rng.standard_normal((cells, cells), np.float32))
            found[..., channel] += strength * np.asarray(cloud.resize((width, height), Image.Resampling.BICUBIC))
    return found.clip(0, 255).astype(np.uint8)


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
