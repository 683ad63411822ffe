"""NumPy archives: arrays `image` and `label`, or `train_image`, `train_label`, `val_image`, ..."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from emojax.config import DataConfig
from emojax.data import storage
from emojax.data.tables import SPLITS, Table, assemble, split_files, split_name
from emojax.errors import DataError
from emojax.types import Dataset


def read(path: Path, *, config: DataConfig) -> Dataset:
    """A .npz file, or a folder with train.npz, val.npz, test.npz. Pickled objects are refused.

    `image`: uint8 [N, H, W], [N, H, W, 1] or [N, H, W, 3]; `label`: integer ids or names [N], or votes [N, K]; optional
    `class_names`: K strings. One file holds all splits when the keys start with their names (`val_image`).
    """
    tables: dict[str, Table] = {}
    for name, files in split_files(path, ".npz").items():
        if len(files) > 1:
            raise DataError(f"{path}: two files for {name}: {files[0].name}, {files[1].name}")
        arrays = storage.arrays(files[0], where=files[0])
        keys = _keys(arrays, files[0], config)
        if name and set(keys) != {""}:
            raise DataError(f"{files[0]}: expected {config.image_column!r} and {config.label_column!r} without prefix")
        tables |= {name or split: _table(arrays, prefix, files[0], config) for split, prefix in keys.items()}
    return assemble(path.stem, {s: tables[s] for s in ("", *SPLITS) if s in tables}, config=config)


def _keys(arrays: dict[str, np.ndarray], file: Path, config: DataConfig) -> dict[str, str]:
    """{split: prefix of its keys}; {"": ""} when the file holds one table."""
    if config.image_column in arrays:
        return {"": ""}
    prefixes = [key.removesuffix(config.image_column) for key in arrays if key.endswith("_" + config.image_column)]
    found = {name: prefix for prefix in prefixes if (name := split_name(prefix[:-1]))}
    if "train" not in found:
        wanted = f"{config.image_column!r} or 'train_{config.image_column}'"
        raise DataError(f"{file}: expected an array {wanted}; the arrays are {', '.join(arrays) or '(none)'}")
    return found


def _table(arrays: dict[str, np.ndarray], prefix: str, file: Path, config: DataConfig) -> Table:
    image_key, label_key = prefix + config.image_column, prefix + config.label_column
    if label_key not in arrays:
        raise DataError(f"{file}: no array {label_key!r}; the arrays are {', '.join(arrays)}")
    image, label = arrays[image_key], arrays[label_key]
    grey = image.ndim == 3 or (image.ndim == 4 and image.shape[3] in (1, 3))
    if image.dtype != np.uint8 or not grey:
        expected = "uint8 [N, H, W], [N, H, W, 1] or [N, H, W, 3]"
        raise DataError(f"{file}: array {image_key!r} is {image.dtype} {list(image.shape)}; expected {expected}")
    if label.ndim not in (1, 2) or len(label) != len(image) or (label.ndim == 1 and label.dtype.kind not in "iuU"):
        expected = f"integers or names [{len(image)}], or votes [{len(image)}, K]"
        raise DataError(f"{file}: array {label_key!r} is {label.dtype} {list(label.shape)}; expected {expected}")
    names = arrays.get("class_names", np.zeros(0, np.str_))
    return Table(
        images=image[..., 0] if image.ndim == 4 and image.shape[3] == 1 else image,
        ids=[f"{file.name}:{prefix}{row}" for row in range(len(image))],
        label=label.tolist() if label.ndim == 1 else None,
        votes=label.tolist() if label.ndim == 2 else None,
        names=tuple(str(name) for name in np.atleast_1d(names)),
        where=lambda row: f"{file}: {label_key}[{row}]",
    )
