"""What the readers of published layouts share: records of files with coded labels, and looks at folders."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from emojax.config import DataConfig
from emojax.data.csv_table import cells, shown
from emojax.data.schemas import Schema
from emojax.data.storage import EXTENSIONS, Files, Root, printable
from emojax.data.tables import Table, assemble
from emojax.errors import DataError
from emojax.types import Dataset


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """One image as a list names it: path relative to the root, its class name, "file:line", and columns for slices."""

    file: str
    label: str
    where: str
    slices: Mapping[str, str] = dataclasses.field(default_factory=dict)


def dataset(
    root: Path, splits: Mapping[str, list[Record]], *, schema: Schema, config: DataConfig, notes: Iterable[str] = ()
) -> Dataset:
    """The records of each split ("" = all in one) as a data set with the classes of `schema`."""
    place, seen = Root(root), {}
    tables = {name: table(place, records, names=schema.names, seen=seen) for name, records in splits.items()}
    return assemble(schema.title, tables, config=config, notes=tuple(notes))


def table(root: Root, records: list[Record], *, names: tuple[str, ...], seen: dict[str, str]) -> Table:
    """Records as a table. Names that leave `root` are refused with their place, and so is an image that is listed
    twice, also in two splits: `seen`, image -> place, goes from one to the next."""
    for record in records:
        listed_image(root, record.file, record.where, seen)
    return Table(
        images=Files.of(root.real, [record.file for record in records]),
        ids=[printable(record.file) for record in records],
        label=[record.label for record in records],
        names=names,
        slices={key: [record.slices[key] for record in records] for key in (records[0].slices if records else ())},
        where=lambda i: records[i].where,
    )


def listed_image(root: Root, name: str, where: str, seen: dict[str, str]) -> str:
    """`name` when it stays inside `root` and was not listed before; raises `DataError` with its place otherwise."""
    try:
        file = root.resolve(name)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    if file in seen:
        raise DataError(f"{where}: image {file!r} is already listed in {seen[file]}")
    seen[file] = where
    return file


def decoded(code: str, schema: Schema, where: str) -> str | None:
    """The class name of a code in a file, None for the codes of no class; raises `DataError` for any other."""
    text = code.strip()
    if text in schema.no_class:
        return None
    names = schema.name_of()
    if text not in names:
        raise DataError(
            f"{where}: label {text!r}; {schema.title} has {', '.join(f'{c} {n}' for c, n in names.items())}"
        )
    return names[text]


def header(file: Path, *, delimiter: str = ",") -> list[str]:
    """The stripped cells of the first row of a table; [] when it cannot be read."""
    try:
        return [cell.strip() for cell in next(cells(file, delimiter=delimiter), ("", []))[1]]
    except DataError:
        return []


def folders(path: Path) -> list[str]:
    """Sorted names of the folders in `path`, without hidden ones; [] when it is no folder."""
    if not path.is_dir():
        return []
    with os.scandir(path) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def pictures(path: Path) -> list[str]:
    """Sorted names of the images in `path` by their extension, without hidden ones."""
    with os.scandir(path) as entries:
        names = (entry.name for entry in entries)
        return sorted(name for name in names if name.lower().endswith(EXTENSIONS) and not name.startswith("."))


def listing(path: Path) -> str:
    """What lies at a path, for messages."""
    if not path.is_dir():
        return f"the file {path.name} ({shown(header(path)[:6]) or 'no table'})"
    names = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("."))
    return (", ".join(names[:6]) or "nothing") + (", …" if len(names) > 6 else "")


def first(*paths: Path) -> Path | None:
    """The first of the paths that exists."""
    return next((path for path in paths if path.exists()), None)
