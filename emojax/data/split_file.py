"""Split files: a CSV that says where each record of a data set belongs, so that a corrected split can be kept.

Columns: `source` (the split in which the data have the record), `id`, `split` (train, val, test, or exclude) and
`reason`, which is for people. Every record has one row.
"""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from emojax.data.tables import SPLITS
from emojax.errors import DataError
from emojax.files import write_text
from emojax.types import Dataset

EXCLUDE = "exclude"
_COLUMNS = ("source", "id", "split", "reason")


def write(path: Path, rows: Iterable[tuple[str, str, str, str]]) -> None:
    """Writes rows of (source, id, split, reason) in one step."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(_COLUMNS)
    table.writerows(rows)
    write_text(path, text.getvalue())


def apply(dataset: Dataset, path: Path) -> Dataset:
    """`dataset` with the splits of the file `path`; excluded records are gone.

    Raises `DataError`, naming file and line, for a file that is damaged or was made for other data.
    """
    target = _read(path, dataset)
    parts: dict[str, tuple[str, np.ndarray]] = {}
    excluded = 0
    for source, split in dataset.splits.items():
        known = target.get(source, {})
        for record in split.id.tolist():
            if record not in known:
                raise DataError(
                    f"{path}: has no row for {record} of {source}; it was made for other data, or records have been "
                    "added since: make it again with emojax data check --write-clean"
                )
        goes = np.array([known[record] for record in split.id.tolist()])
        excluded += int((goes == EXCLUDE).sum())
        for name in SPLITS:
            positions = np.flatnonzero(goes == name)
            if not positions.size:
                continue
            if name in parts:
                raise DataError(
                    f"{path}: {name} takes records of both {parts[name][0]} and {source}; it can take one's"
                )
            parts[name] = source, positions
    splits = {name: dataset.splits[parts[name][0]].take(parts[name][1], name=name) for name in SPLITS if name in parts}
    note = f"splits from {path.name}, which leaves {excluded:,} records out"
    return dataclasses.replace(dataset, splits=splits, notes=(*dataset.notes, note))


def _read(path: Path, dataset: Dataset) -> dict[str, dict[str, str]]:
    """source -> id -> split."""
    found: dict[str, dict[str, str]] = {name: {} for name in dataset.splits}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            if not set(_COLUMNS[:3]) <= set(rows.fieldnames or ()):
                raise DataError(f"{path}: expected the columns {', '.join(_COLUMNS)} in its first line")
            for row in rows:
                where, source, record, split = f"{path}:{rows.line_num}", row["source"], row["id"], row["split"]
                if source not in found:
                    raise DataError(f"{where}: the data have no split {source!r}; they have {', '.join(found)}")
                if split not in (*SPLITS, EXCLUDE):
                    raise DataError(f"{where}: split {split!r} is not one of {', '.join((*SPLITS, EXCLUDE))}")
                if record in found[source]:
                    raise DataError(f"{where}: a second row for {record} of {source}")
                found[source][record] = split
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a readable split file (config.data.split_file): {error}") from error
    return found
