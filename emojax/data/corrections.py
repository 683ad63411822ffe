"""Corrections of a data set: a CSV file that drops records, labels them anew, or moves them to another split.

Columns: id, as reports and `emojax data` spell it; action: drop, label or split; value: the class, or train, val or
test; reason, which is for people and may be missing. The data stay as they are on disk, and the file goes with a paper.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from emojax.data import splits
from emojax.data.tables import SPLITS
from emojax.errors import DataError
from emojax.files import csv_text, write_text
from emojax.types import Dataset, Split

ACTIONS = ("drop", "label", "split")
_TITLES = ["id", "action", "value", "reason"]
_NEEDED = 3


class Row(NamedTuple):
    """One correction."""

    id: str
    action: str
    value: str = ""
    reason: str = ""


def write(path: Path, rows: Iterable[Row]) -> None:
    """Writes the file in one step."""
    write_text(path, csv_text([_TITLES, *rows]))


def read(path: Path) -> list[Row]:
    """The rows of such a file. Raises `DataError` naming file and line."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            titles, *rows = list(csv.reader(file, strict=True)) or [[]]
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file of corrections") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV file in UTF-8: {error}") from error
    if titles not in (_TITLES, _TITLES[:_NEEDED]):
        raise DataError(f"{path}: expected the columns {', '.join(_TITLES)}, found {', '.join(titles)}")
    seen: set[tuple[str, str]] = set()
    for line, row in enumerate(rows, start=2):
        if len(row) != len(titles) or row[1] not in ACTIONS:
            raise DataError(f"{path}:{line}: expected an id, one of {', '.join(ACTIONS)}, and a value")
        if (row[0], row[1]) in seen:
            raise DataError(f"{path}:{line}: a second {row[1]} for {row[0]}")
        seen.add((row[0], row[1]))
    return [Row(*row) for row in rows]


def apply(dataset: Dataset, path: Path) -> Dataset:
    """The data set with the corrections in a file: relabelled first, then moved, then dropped.

    A record name that several splits use is written SPLIT/NAME. Raises `DataError` for a record, class or split that
    there is none of: the file then belongs to other data.
    """
    rows = read(path)
    record = _finder(dataset, path, {row.id for row in rows})
    labels = {record[row.id]: _class(dataset, path, row.value) for row in rows if row.action == "label"}
    moves = {record[row.id]: _named_split(path, row.value) for row in rows if row.action == "split"}
    gone = {record[row.id] for row in rows if row.action == "drop"}
    parts: dict[str, list[Split]] = {name: [] for name in SPLITS}
    for name, original in dataset.splits.items():
        split = _relabelled(original, {i: k for (of, i), k in labels.items() if of == name}, len(dataset.class_names))
        to = np.array([moves.get((name, i), name) for i in range(len(split))])
        kept = np.array([(name, i) not in gone for i in range(len(split))], bool)
        for target in SPLITS:
            chosen = np.flatnonzero(kept & (to == target))
            if chosen.size:
                parts[target].append(split if len(chosen) == len(split) else split.take(chosen, name=target))
    made = {
        name: dataclasses.replace(functools.reduce(splits.joined, some), name=name)
        for name, some in parts.items()
        if some
    }
    note = f"corrected by {path.name}: {len(gone):,} dropped, {len(labels):,} relabelled, {len(moves):,} moved"
    return dataclasses.replace(dataset, splits=made, notes=(*dataset.notes, note))


def _finder(dataset: Dataset, path: Path, names: set[str]) -> dict[str, tuple[str, int]]:
    """name of a record → (split, position), for these names."""
    found: dict[str, tuple[str, int]] = {}
    for split, part in dataset.splits.items():
        for i, name in enumerate(part.id.tolist()):
            for spelled in (name, f"{split}/{name}"):
                if spelled not in names:
                    continue
                if spelled in found:
                    raise DataError(f"{path}: {spelled} is a record of several splits; write {split}/{spelled}")
                found[spelled] = (split, i)
    if unknown := sorted(names - found.keys()):
        raise DataError(f"{path}: {len(unknown):,} of its records are not in {dataset.name}, such as {unknown[0]}")
    return found


def _class(dataset: Dataset, path: Path, name: str) -> int:
    if name not in dataset.class_names:
        raise DataError(f"{path}: there is no class {name!r}; there are {', '.join(dataset.class_names)}")
    return dataset.class_names.index(name)


def _named_split(path: Path, name: str) -> str:
    if name not in SPLITS:
        raise DataError(f"{path}: there is no split {name!r}; there are {', '.join(SPLITS)}")
    return name


def _relabelled(split: Split, labels: dict[int, int], classes: int) -> Split:
    if not labels:
        return split
    label = split.label.copy()
    label[list(labels)] = np.eye(classes, dtype=np.float32)[list(labels.values())]
    return dataclasses.replace(split, label=label)
