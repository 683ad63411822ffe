"""Tables that grow in a file: what was written survives a kill at any moment, and a second call goes on after it.

A table is a sequence of groups of rows, one group per picture, told apart by the cell in its key column. A group is
written in one go. When a file is opened again, a last line that was cut off, and the rows of a last group that is not
whole, are taken away; then every group is there once, or not at all.

Beside `FILE` lies `FILE.about.json`, which says what made the rows. A file of other origin is refused, not mixed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from emojax.errors import ConfigError
from emojax.files import parse_json, plain, write_json
from emojax.growing_parquet import ParquetTable, partial_file
from emojax.growing_text import Columns, CsvForm, JsonForm, Row, TextTable, held
from emojax.seen import Seen

_SUFFIXES = (".csv", ".jsonl", ".parquet")


class Table(Protocol):
    """What `open_table` gives: `seen` are the keys of the groups that are there, `rows` how many rows there are."""

    seen: Seen
    rows: int

    def read(self) -> Iterator[dict[str, Any]]:
        """The rows that are text still: CSV cells, or what the JSON says; not while others are written."""
        ...

    def cells(self, name: str) -> Iterator[Any]:
        """The cells of one column of all rows, None or "" for an empty one; not while others are written."""
        ...

    def write(self, group: Sequence[Row]) -> None:
        """Appends the rows of one picture."""
        ...

    def clear(self) -> None:
        """Takes all rows away; nobody else can write the file meanwhile."""
        ...

    def finish(self) -> None:
        """Makes the file what it is to be in the end, and closes it."""
        ...

    def close(self) -> None:
        """Closes the file; it may be opened again."""
        ...


def open_table(
    path: Path, columns: Columns, *, key: str, size: str = "", about: Row, flat: Callable[[Row], Row] = dict
) -> Table:
    """Opens a .csv, .jsonl or .parquet file for appending; what is there already is read, repaired and kept.

    Args:
      path: the file; its parent folder must exist.
      columns: of CSV and Parquet. JSON lines hold the rows as they are.
      key: the column that names the picture.
      size: the column with the number of rows of its group, where 0 and an empty cell mean one; "" = always one.
      about: what makes the rows, for `FILE.about.json`.
      flat: a row as one with `columns` only; for the forms that are no JSON.

    Raises:
      ConfigError: another kind of file, no such folder, another process writes it, or it is of other origin.
      DataError: a line in its midst is damaged.
    """
    if path.suffix.lower() not in _SUFFIXES:
        raise ConfigError(f"{path}: expected a name that ends in {', '.join(_SUFFIXES)}")
    if not path.parent.is_dir():
        raise ConfigError(f"{path}: its folder {path.parent} does not exist; create it first")
    if path.is_dir():
        raise ConfigError(f"{path} is a folder")
    parquet = path.suffix.lower() == ".parquet"
    file = held(partial_file(path) if parquet else path)
    try:
        _settle_about(path, _origin(columns, about))  # under the lock: a call that is refused leaves the note alone
        if parquet:
            return ParquetTable(path, file, columns, key=key, size=size, flat=flat)
        form = CsvForm(columns, flat) if path.suffix.lower() == ".csv" else JsonForm()
        return TextTable(path, file, form, key=key, size=size)
    except BaseException:
        if parquet and not os.fstat(file.fileno()).st_size:  # without rows it is nothing but the lock
            partial_file(path).unlink(missing_ok=True)
        file.close()
        raise


def _origin(columns: Columns, about: Row) -> Any:
    """What `FILE.about.json` holds."""
    return parse_json(json.dumps(plain({"columns": list(columns), **about})))


def about_file(path: Path) -> Path:
    """Where the origin of a table is told."""
    return path.with_name(f"{path.name}.about.json")


def _settle_about(path: Path, wanted: Any) -> None:
    """Writes `FILE.about.json`, or compares it when there is a table already."""
    note = about_file(path)
    started = any(f.is_file() and f.stat().st_size for f in (path, partial_file(path)))
    if not started:
        write_json(note, wanted)
        return
    try:
        found = parse_json(note.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path} exists, and there is no readable {note.name} that tells how it was made: give another name, or "
            "remove it"
        ) from error
    if found != wanted:
        names = [k for k in wanted if not isinstance(found, dict) or found.get(k) != wanted[k]] or ["more than that"]
        raise ConfigError(
            f"{path} holds rows of another origin ({', '.join(names)} differ, see {note.name}): give another name, or "
            "remove it"
        )
