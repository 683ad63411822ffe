"""FER2013: Kaggle's tables of pixels, and the folders of pictures that people made of them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from emojax.config import DataConfig
from emojax.data.csv_table import rows
from emojax.data.published import common
from emojax.data.published.common import Record
from emojax.data.schemas import SCHEMAS, find
from emojax.data.tables import Table, assemble, split_name
from emojax.errors import DataError
from emojax.types import Dataset

SIDE = 48
USAGE = {"Training": "train", "PublicTest": "val", "PrivateTest": "test"}
"""Kaggle's parts -> splits: published numbers are on PrivateTest."""
EXPECTED = (
    "fer2013.csv (emotion,pixels,Usage), icml_face_data.csv (the same columns), train.csv (emotion,pixels), or "
    "train/CLASS/ and test/CLASS/ of the seven classes with Kaggle's file names (Training_1.jpg, PrivateTest_2.jpg)"
)
_SCHEMA = SCHEMAS["fer2013"]
_FILES = ("fer2013.csv", "icml_face_data.csv", "train.csv")
_PICTURE = re.compile(r"(Training|PublicTest|PrivateTest)_\d+\.\w+")


def recognise(path: Path) -> bool:
    """A table with emotions and pixels, or folders of the seven classes in train and test."""
    return table_of(path) is not None or _are_folders(path)


def certain(path: Path) -> bool:
    """As `recognise`; folders of these names could be another data set, unless the pictures have Kaggle's names."""
    if table_of(path) is not None:
        return True
    if not _are_folders(path):
        return False
    names = common.folders(path / "train")
    return any(_PICTURE.fullmatch(file) for name in names for file in common.pictures(path / "train" / name)[:3])


def read(path: Path, *, config: DataConfig) -> Dataset:
    """Training as train, PublicTest as val, PrivateTest as test; grey pictures of 48 pixels."""
    file = table_of(path)
    if file is None:
        return _folders(path, config)
    kept, labels, splits, places, missing = [], [], [], [], 0
    for where, row in rows(file, ["emotion", "pixels"]):
        labels.append(common.decoded(row["emotion"], _SCHEMA, where))
        kept.append(face(row["pixels"], where))
        splits.append(_usage(row["Usage"], where) if "Usage" in row else "train")
        places.append(where)
    other = file.parent / "test.csv"
    if file.name == "train.csv" and other.is_file():
        missing = sum(1 for _ in rows(other, ["pixels"]))
    table = Table(
        images=np.stack(kept) if kept else np.zeros((0, SIDE, SIDE), np.uint8),
        ids=[f"{file.name}:{row}" for row in range(len(kept))],
        label=labels,
        names=_SCHEMA.names,
        split=splits,
        where=places.__getitem__,
    )
    notes = (f"test.csv was left out: Kaggle's {missing:,} test images there have no labels",) if missing else ()
    return assemble(_SCHEMA.title, {"": table}, config=config, notes=notes)


def table_of(path: Path) -> Path | None:
    """The file with emotions and pixels: `path` itself, or the first of Kaggle's names in the folder."""
    files = [path] if path.is_file() and path.suffix.lower() == ".csv" else [path / name for name in _FILES]
    return next((f for f in files if f.is_file() and {"emotion", "pixels"} <= set(common.header(f))), None)


def face(text: str, where: str) -> np.ndarray:
    """uint8 [48, 48] from 2,304 numbers with blanks between them. Raises `DataError` for anything else."""
    if not re.fullmatch(r"[0-9 ]*", text):
        raise DataError(f"{where}: pixels must be numbers with blanks between them, found {text[:40]!r}")
    values = np.fromstring(text, np.int64, sep=" ") if text.strip() else np.zeros(0, np.int64)
    if len(values) != SIDE * SIDE or values.max() > 255:
        found = f"{len(values)} numbers" + (f" up to {values.max()}" if len(values) else "")
        raise DataError(f"{where}: expected {SIDE * SIDE} pixels from 0 to 255, found {found}")
    return values.astype(np.uint8).reshape(SIDE, SIDE)


def _usage(text: str, where: str) -> str:
    if text.strip() not in USAGE:
        raise DataError(f"{where}: Usage {text!r}; expected one of {', '.join(USAGE)}")
    return USAGE[text.strip()]


def _are_folders(path: Path) -> bool:
    found = [{find(name, _SCHEMA.names) for name in common.folders(path / split)} for split in ("train", "test")]
    return all(names == set(_SCHEMA.names) for names in found)


def _folders(path: Path, config: DataConfig) -> Dataset:
    """The file names tell PublicTest from PrivateTest, which such copies have thrown together in `test`."""
    splits: dict[str, list[Record]] = {"train": [], "val": [], "test": []}
    named = 0
    for folder in common.folders(path):
        split = split_name(folder)
        for name in common.folders(path / folder) if split else ():
            label = find(name, _SCHEMA.names)
            if label is None:
                raise DataError(f"{path / folder / name}: expected a folder of {', '.join(_SCHEMA.names)}")
            for file in common.pictures(path / folder / name):
                part = _PICTURE.fullmatch(file)
                named += bool(part and split == "test")
                own = USAGE[part[1]] if part and split != "train" else split
                splits[str(own)].append(Record(f"{folder}/{name}/{file}", label, str(path / folder / name / file)))
    splits = {name: records for name, records in splits.items() if records}
    merged = not named and "val" not in splits
    note = "by their file names, PublicTest images of test/ are val and PrivateTest images are test"
    if merged:
        note = "test/ holds Kaggle's PublicTest and PrivateTest together: its numbers are not those on PrivateTest"
    return common.dataset(path, splits, schema=_SCHEMA, config=config, notes=(note,))
