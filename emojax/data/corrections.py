"""Corrections of a data set: a CSV file that drops records, labels them anew, or moves them to another split.

Columns: id, as reports and `emojax data` spell it; action: drop, label or split; value: the class, or train, val or
test; reason, which is for people and may be missing. The data stay as they are on disk, and the file goes with a paper.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from emojax.data import schemas, splits
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
    line: int = 0
    """Of the file it was read from."""


def write(path: Path, rows: Iterable[Row]) -> None:
    """Writes the file in one step."""
    write_text(path, csv_text([_TITLES, *(row[: len(_TITLES)] for row in rows)]))


def read(path: Path) -> list[Row]:
    """The rows of such a file, as this module or a spreadsheet writes it (with a byte order mark, empty rows and empty
    cells at the end of a row). Raises `DataError` naming file and line."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            titles, *rows = [(reader.line_num, _filled(row)) for row in reader] or [(1, [])]
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file of corrections") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV file in UTF-8: {error}") from error
    if titles[1] not in (_TITLES, _TITLES[:_NEEDED]):
        raise DataError(f"{path}: expected the columns {', '.join(_TITLES)}, found {', '.join(titles[1])}")
    found = []
    for line, row in rows:
        if not row:
            continue
        if not 1 < len(row) <= len(_TITLES) or row[1].strip() not in ACTIONS:
            raise DataError(f"{path}:{line}: expected an id, one of {', '.join(ACTIONS)}, and a value")
        record, action, value, reason = (*row, *[""] * (len(_TITLES) - len(row)))
        found.append(Row(record, action.strip(), value.strip(), reason, line))
    return found


def _filled(row: list[str]) -> list[str]:
    """The cells without empty ones at the end; [] for a row of blanks."""
    while row and not row[-1].strip():
        row = row[:-1]
    return row


def apply(dataset: Dataset, path: Path) -> Dataset:
    """The data set with the corrections in a file: relabelled first, then moved, then dropped.

    A record name that several splits use is written SPLIT/NAME; a class may be spelled as in `schemas.find`. Raises
    `DataError`, naming the line, for a record, class or split that there is none of (the file then belongs to other
    data), and for two rows that do the same to one record, or something to one that is dropped.
    """
    rows = read(path)
    record = _finder(dataset, path, rows)
    _check_once(path, rows, record)
    labels = {record[row.id]: _class(dataset, path, row) for row in rows if row.action == "label"}
    moves = {record[row.id]: _named_split(path, row) for row in rows if row.action == "split"}
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


def _finder(dataset: Dataset, path: Path, rows: list[Row]) -> dict[str, tuple[str, int]]:
    """name of a record → (split, position), for the names in `rows`."""
    names = {row.id: row.line for row in reversed(rows)}
    found: dict[str, tuple[str, int]] = {}
    for split, part in dataset.splits.items():
        for i, name in enumerate(part.id.tolist()):
            for spelled in (name, f"{split}/{name}"):
                if spelled not in names:
                    continue
                if spelled in found:
                    place = f"{path}:{names[spelled]}"
                    raise DataError(f"{place}: {spelled} is a record of several splits; write {split}/{spelled}")
                found[spelled] = (split, i)
    if unknown := sorted(names.keys() - found.keys(), key=names.__getitem__):
        raise DataError(
            f"{path}:{names[unknown[0]]}: there is no record {unknown[0]!r} in {dataset.name} ({len(unknown):,} of the "
            "records in this file are not in it)"
        )
    return found


def _check_once(path: Path, rows: list[Row], record: Mapping[str, tuple[str, int]]) -> None:
    """A record has two names, NAME and SPLIT/NAME: what is done to it twice, or beside dropping it, contradicts."""
    done: dict[tuple[str, int], dict[str, Row]] = {}
    for row in rows:
        before = done.setdefault(record[row.id], {})
        other = before.get(row.action) or (next(iter(before.values()), None) if row.action == "drop" else None)
        if other := other or before.get("drop"):
            same = f"a second {row.action}" if other.action == row.action else row.action
            raise DataError(f"{path}:{row.line}: {same} for {row.id}; line {other.line} has {other.action}: leave one")
        before[row.action] = row


def _class(dataset: Dataset, path: Path, row: Row) -> int:
    name = schemas.find(row.value, dataset.class_names)
    if name is None:
        known = ", ".join(dataset.class_names)
        raise DataError(f"{path}:{row.line}: there is no class {row.value!r}; there are {known}")
    return dataset.class_names.index(name)


def _named_split(path: Path, row: Row) -> str:
    if row.value not in SPLITS:
        raise DataError(f"{path}:{row.line}: there is no split {row.value!r}; there are {', '.join(SPLITS)}")
    return row.value


def _relabelled(split: Split, labels: dict[int, int], classes: int) -> Split:
    if not labels:
        return split
    label = split.label.copy()
    label[list(labels)] = np.eye(classes, dtype=np.float32)[list(labels.values())]
    return dataclasses.replace(split, label=label)
