"""CSV files with one image per row: a path and a label or votes."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from emojax.config import DataConfig
from emojax.data.storage import Files, Root, printable
from emojax.data.tables import Table, assemble, group_columns, split_files
from emojax.errors import DataError
from emojax.types import Dataset

_SHOWN = 40
"""Characters of a cell that a message shows."""


def read(path: Path, *, config: DataConfig) -> Dataset:
    """A .csv file (UTF-8, first row = column names), or a folder with train.csv, val.csv, test.csv.

    Image paths are relative to the folder of the CSV and stay inside it. Every error names file:line.
    """
    files = split_files(path, ".csv")
    seen: dict[str, str] = {}  # one image in two rows would be counted twice, or leak from train to val
    tables = {name: _table(parts, config, seen) for name, parts in files.items()}
    return assemble(path.stem, tables, config=config)


def _table(files: list[Path], config: DataConfig, seen: dict[str, str]) -> Table:
    root_folder = files[0].parent
    root = Root(root_folder)
    wanted = [config.image_column, *(config.vote_columns or (config.label_column,)), *group_columns(config)]
    names, places, found = [], [], []
    for file in files:
        for place, row in rows(file, wanted):
            try:
                name = root.resolve(row[config.image_column].strip())
            except DataError as error:
                raise DataError(f"{place}: {error}") from error
            if name in seen:
                raise DataError(f"{place}: image {name!r} is already listed in {seen[name]}; every image needs one row")
            seen[name] = place
            names.append(name)
            places.append(place)
            found.append(row)
    votes = [_votes(row, config.vote_columns) for row in found] if config.vote_columns else None
    has_split = bool(found) and config.split_column in found[0]
    return Table(
        images=Files.of(root.real, names),
        ids=[printable(name) for name in names],
        label=None if config.vote_columns else [row[config.label_column] for row in found],
        votes=votes,
        names=config.vote_columns if len(config.vote_columns) > 1 else (),
        slices={
            c: [row[c] for row in found]
            for c in (*config.slice_columns, *group_columns(config))
            if found and c in found[0]
        },
        split=[row[config.split_column] for row in found] if has_split else None,
        where=places.__getitem__,
    )


def _votes(row: dict[str, str], columns: tuple[str, ...]) -> list[str]:
    """The vote cells; a single column holds a list such as `[1, 0, 9]` or `1 0 9`."""
    if len(columns) != 1:
        return [row[column] for column in columns]
    return row[columns[0]].strip().strip("[]()").replace(",", " ").replace(";", " ").split()


def rows(file: Path, wanted: list[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yields ("file:line", {column: cell}) for every row that is not blank; names of columns lose stray blanks."""
    found = cells(file)
    header = [cell.strip() for cell in next(found, ("", []))[1]]
    if missing := [column for column in wanted if column not in header]:
        raise DataError(f"{file}:1: no column {missing[0]!r}; the columns are {shown(header) or '(none)'}")
    if len(set(header)) != len(header):
        raise DataError(f"{file}:1: two columns have the same name: {shown(header)}")
    for place, row in found:
        if len(row) != len(header):
            raise DataError(f"{place}: {len(row)} cells, but the header has {len(header)}")
        yield place, dict(zip(header, row, strict=True))


def shown(row: list[str]) -> str:
    """Cells for a message: in a file without a header, one of them may hold thousands of characters."""
    return ", ".join(cell if len(cell) <= _SHOWN else f"{cell[:_SHOWN]}…" for cell in row)


def cells(file: Path, *, delimiter: str = ",") -> Iterator[tuple[str, list[str]]]:
    """Yields ("file:line", cells) for every row that is not blank, the header included."""
    line = 1
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True, delimiter=delimiter)
            for row in reader:
                line = reader.line_num
                if row:
                    yield f"{file}:{line}", row
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 text after line {line}: {error.reason} at byte {error.start}") from error
    except csv.Error as error:
        raise DataError(f"{file}: not valid CSV after line {line}: {error}") from error
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from error
