"""Which reader a path needs, and the data set as its files state it: no image is decoded, no split is cut."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from emojax.config import DataConfig
from emojax.data import (
    corrections,
    csv_table,
    emoji,
    folder,
    hugging_face,
    npz,
    pack,
    parquet_table,
    protocols,
    published,
    schemas,
)
from emojax.data.tables import split_files
from emojax.errors import DataError
from emojax.types import Dataset

_GENERIC: dict[str, Callable[..., Dataset]] = {
    "folder": folder.read,
    "csv": csv_table.read,
    "parquet": parquet_table.read,
    "npz": npz.read,
    "packed": pack.read,
    "huggingface": hugging_face.read,
}
NAMES = ("auto", "emoji", "tfds", *_GENERIC, *published.LAYOUTS)
"""What `config.data.format` may be."""

_SUFFIXES = {".csv": "csv", ".parquet": "parquet", ".npz": "npz"}
_EXPECTED = (
    "expected emoji, tfds:NAME, a .csv, .parquet or .npz file, a folder with train.csv, train.parquet or train.npz, "
    "a packed folder, a folder of Hugging Face's save_to_disk, a published data set as its authors lay it out "
    f"({', '.join(published.LAYOUTS)}), or a folder of class folders"
)


def read(config: DataConfig) -> Dataset:
    """The data set that `config` describes, under its protocol if it names one, then corrected if it says how.

    Raises `DataError` for what cannot be read, and for other numbers of records than the protocol's.
    """
    try:
        kind = recognise(config.path) if config.format == "auto" else config.format
        config = protocols.resolve(config, kind)
        dataset = protocols.check(_read(kind, config), config)
    except PermissionError as error:
        raise DataError(f"{error.filename}: may not be read ({error.strerror})") from error
    return corrections.apply(dataset, Path(config.corrections).expanduser()) if config.corrections else dataset


def _read(kind: str, config: DataConfig) -> Dataset:
    if kind == "emoji":
        return emoji.read(config=config)
    if kind == "tfds":
        from emojax.data import tfds

        return tfds.read(config.path.removeprefix("tfds:"), config=config)
    if not config.path:
        raise DataError("config.data.path is empty; it names a folder or file, see emojax/config.py")
    path = Path(config.path).expanduser()
    if not path.exists():
        raise DataError(f"{path}: there is no such file or folder")
    if kind in published.LAYOUTS:
        return published.read(kind, path, config=config)
    return _read_generic(kind, path, config)


def _read_generic(kind: str, path: Path, config: DataConfig) -> Dataset:
    if kind == "folder" and not path.is_dir():
        raise DataError(f"{path}: is a file; config.data.format = folder expects a folder")
    if kind not in _GENERIC:
        raise DataError(f"config.data.format: {kind!r} is unknown; {_EXPECTED}")
    dataset = _GENERIC[kind](path, config=config)
    if kind == "folder" and schemas.numbers_only(dataset.class_names):
        fitting = [name for name, layout in published.LAYOUTS.items() if layout.recognise(path)]
        hint = f"; if this is {' or '.join(fitting)}, say so by config.data.format" if fitting else ""
        note = f"the classes are bare numbers, which mean nothing beside other data{hint}"
        dataset = dataclasses.replace(dataset, notes=(*dataset.notes, note))
    return dataset


def recognise(path: str) -> str:
    """The format of `path`, one of `NAMES` but auto. Raises `DataError` for what is no data set."""
    if path == "emoji":
        return "emoji"
    if path.startswith("tfds:"):
        return "tfds"
    place = Path(path).expanduser()
    if not place.exists():
        raise DataError(f"{path}: there is no such file or folder; {_EXPECTED}")
    if found := published.recognise(place):
        return found
    if place.is_file():
        kind = _SUFFIXES.get(place.suffix.lower())
        if kind is None:
            raise DataError(f"{path}: a file of type {place.suffix or '(no suffix)'}; {_EXPECTED}")
        return kind
    if not place.is_dir():
        raise DataError(f"{path}: is neither a file nor a folder; {_EXPECTED}")
    if (place / pack.HEADER).is_file():
        return "packed"
    if hugging_face.recognise(place):
        return "huggingface"
    kinds = [kind for suffix, kind in _SUFFIXES.items() if _has_split_files(place, suffix)]
    if len(kinds) > 1:
        raise DataError(f"{path}: has training files of the types {', '.join(kinds)}; choose by config.data.format")
    if kinds:
        return kinds[0]
    visible = sorted(entry for entry in place.iterdir() if not entry.name.startswith("."))
    if any(entry.is_dir() for entry in visible):
        return "folder"
    shown = ", ".join(entry.name for entry in visible[:5]) or "nothing"
    raise DataError(f"{path}: found {shown}{', …' if len(visible) > 5 else ''}; {_EXPECTED}")


def _has_split_files(place: Path, suffix: str) -> bool:
    try:
        return bool(split_files(place, suffix))
    except DataError:
        return False
