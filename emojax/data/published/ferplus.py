"""FER+: ten votes for every picture of FER2013, beside Kaggle's pixels or beside pictures."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np

from emojax.config import DataConfig
from emojax.data.csv_table import cells, rows
from emojax.data.published import common
from emojax.data.published.fer2013 import USAGE, face, table_of
from emojax.data.schemas import SCHEMAS
from emojax.data.storage import Files, Root, printable
from emojax.data.tables import Table, assemble
from emojax.errors import DataError
from emojax.types import Dataset

EXPECTED = (
    "fer2013new.csv beside fer2013.csv or icml_face_data.csv, or FER2013Train/, FER2013Valid/ and FER2013Test/, each "
    "with label.csv and its pictures (also below data/)"
)
_SCHEMA = SCHEMAS["ferplus"]
_COLUMNS = (*_SCHEMA.names, *_SCHEMA.no_class)
_PICTURE = re.compile(r"fer(\d+)\.png", re.IGNORECASE)
_PEOPLE = 10
_FOLDERS = {"train": "FER2013Train", "val": "FER2013Valid", "test": "FER2013Test"}


def recognise(path: Path) -> bool:
    """The votes, with pixels or pictures."""
    return _pixels(path) is not None or _home(path) is not None


def read(path: Path, *, config: DataConfig) -> Dataset:
    """Labels by `config.vote_rule`, which is `share` when empty; votes for unknown and not-a-face are no classes."""
    config = dataclasses.replace(config, vote_rule=config.vote_rule or "share")
    home = _home(path)
    if home is not None:
        seen: dict[str, str] = {}
        tables = {split: _folder(home / name, seen) for split, name in _FOLDERS.items() if (home / name).is_dir()}
        return assemble(_SCHEMA.title, tables, config=config)
    return assemble(_SCHEMA.title, {"": _table(path / "fer2013new.csv", _pixels(path) or path)}, config=config)


def _pixels(path: Path) -> Path | None:
    found = table_of(path) if path.is_dir() and (path / "fer2013new.csv").is_file() else None
    return found if found is not None and "Usage" in common.header(found) else None


def _home(path: Path) -> Path | None:
    return next((home for home in (path, path / "data") if _has_pictures(home / _FOLDERS["train"])), None)


def _has_pictures(folder: Path) -> bool:
    # The authors' repository has these folders with label.csv alone: then the pixels come from fer2013.csv.
    return (folder / "label.csv").is_file() and bool(common.pictures(folder))


def _table(votes: Path, pixels: Path) -> Table:
    """Row by row: the files have no key in common but the order, so `Usage` is compared in every row."""
    images, counts, ids, splits, places = [], [], [], [], []
    last = -1
    faces = rows(pixels, ["pixels", "Usage"])
    for where, row in rows(votes, ["Usage", "Image name", *_COLUMNS]):
        place, other = next(faces, ("", {}))
        if not place:
            raise DataError(f"{where}: {pixels.name} has fewer rows; the two files belong together row by row")
        usage, name = row["Usage"].strip(), row["Image name"].strip()
        if usage != other["Usage"].strip() or usage not in USAGE:
            raise DataError(
                f"{where}: Usage is {usage}, and {other['Usage'].strip()} in {place}: the rows are not aligned"
            )
        if not name:  # FER+ has taken these pictures out: they show no face
            continue
        number = _PICTURE.fullmatch(name)
        if number is None or int(number[1]) <= last:
            raise DataError(
                f"{where}: image {name!r} after number {last}; expected fer0000000.png and so on, each number above "
                "the one before: the rows are not in the published order, and belong to other pixels"
            )
        last = int(number[1])
        images.append(face(other["pixels"], place))
        counts.append(_votes([row[column] for column in _COLUMNS], where))
        ids.append(name)
        splits.append(USAGE[usage])
        places.append(where)
    if (more := next(faces, None)) is not None:
        raise DataError(f"{more[0]}: {votes.name} ends before this row; the two files belong together row by row")
    return Table(
        images=np.stack(images) if images else np.zeros((0, 48, 48), np.uint8),
        ids=ids,
        votes=counts,
        names=_COLUMNS,
        split=splits,
        where=places.__getitem__,
    )


def _votes(found: list[str], where: str) -> list[str]:
    """The votes of one row: whole numbers of the ten people that were asked."""
    if not all(re.fullmatch(r"\s*\d{1,2}\s*", cell) and int(cell) <= _PEOPLE for cell in found):
        raise DataError(f"{where}: votes {', '.join(found)}; expected whole numbers from 0 to {_PEOPLE}")
    return found


def _folder(folder: Path, seen: dict[str, str]) -> Table:
    """`fer0000000.png,"(0, 0, 48, 48)",4,0,...`: no header, with or without the box."""
    root, files, counts, places = Root(folder.parent), [], [], []
    for where, row in cells(folder / "label.csv"):
        if len(row) not in (len(_COLUMNS) + 1, len(_COLUMNS) + 2):
            raise DataError(f"{where}: {len(row)} cells; expected file, box and votes for {', '.join(_COLUMNS)}")
        files.append(common.listed_image(root, f"{folder.name}/{row[0].strip()}", where, seen))
        counts.append(_votes(row[-len(_COLUMNS) :], where))
        places.append(where)
    return Table(
        images=Files.of(root.real, files),
        ids=[printable(file) for file in files],
        votes=counts,
        names=_COLUMNS,
        where=places.__getitem__,
    )
