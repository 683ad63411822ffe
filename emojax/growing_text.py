"""Tables in text files, line by line, CSV or JSON: what is there is kept, and what is not whole is cut off."""

from __future__ import annotations

import csv
import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from emojax.errors import ConfigError, DataError, full
from emojax.files import csv_text, parse_json, plain
from emojax.seen import Seen

Row = Mapping[str, Any]
Columns = Mapping[str, type]
"""{name: str, int or float}, in order. A row may leave columns out: their cells are empty."""


_TRIES = 100
"""How often a file may vanish between being opened and being locked, before that is no coincidence."""


class CsvForm:
    """CSV with a header."""

    def __init__(self, columns: Columns, flat: Callable[[Row], Row]) -> None:
        self.columns, self._flat = list(columns), flat
        self.header = csv_text([self.columns])

    def text(self, row: Row) -> str:
        """One row, newline included."""
        cells = self._flat(row)
        return csv_text([[_cell(cells.get(name)) for name in self.columns]])

    def read(self, file: BinaryIO, where: Path) -> Iterator[tuple[dict[str, Any], int]]:
        """(row, offset of its end) of all whole rows; raises `DataError` for a damaged one in the midst."""
        end, last, line = 0, b"", 0

        def lines() -> Iterator[str]:
            nonlocal end, last, line
            for last in file:
                end, line = end + len(last), line + 1
                yield last.decode("utf-8", "backslashreplace")

        reader = csv.reader(lines(), strict=True)
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if file.read(1):
                    raise DataError(f"{where}:{line}: {error}") from error
                return  # the last row ends inside its quotes
            if not last.endswith(b"\n"):
                return
            if end == len(self.header.encode()):
                if cells != self.columns:
                    raise DataError(f"{where}:1: the columns are {', '.join(cells)}, not {', '.join(self.columns)}")
                continue
            if len(cells) != len(self.columns):
                raise DataError(f"{where}:{line}: {len(cells)} cells, but there are {len(self.columns)} columns")
            yield dict(zip(self.columns, cells, strict=True)), end


class JsonForm:
    """One JSON object per line."""

    header = ""

    def text(self, row: Row) -> str:
        """One row, newline included."""
        return json.dumps(plain(row), ensure_ascii=False, allow_nan=False) + "\n"

    def read(self, file: BinaryIO, where: Path) -> Iterator[tuple[dict[str, Any], int]]:
        """(row, offset of its end) of all whole rows; raises `DataError` for a damaged one in the midst."""
        end = 0
        for number, line in enumerate(file, start=1):
            end += len(line)
            if not line.endswith(b"\n"):
                return
            try:
                row = parse_json(line)
            except ValueError as error:
                raise DataError(f"{where}:{number}: is not JSON: {error}") from error
            if not isinstance(row, dict):
                raise DataError(f"{where}:{number}: is not a JSON object")
            yield row, end


class TextTable:
    """A table in a text file, line by line."""

    def __init__(self, path: Path, file: BinaryIO, form: CsvForm | JsonForm, *, key: str, size: str = "") -> None:
        """`file` is `path` as `held` gives it; who has opened it closes it when this raises.

        Raises `DataError` when a line in its midst is damaged.
        """
        self.seen, self.rows = Seen(), 0
        self._path, self._file, self._form, self._key, self._size = path, file, form, key, size
        self._repair()

    def read(self) -> Iterator[dict[str, Any]]:
        """The rows that are there; not while it is written."""
        with self._path.open("rb") as file:
            for row, _ in self._form.read(file, self._path):
                yield row

    def cells(self, name: str) -> Iterator[Any]:
        """One column of the rows that are there; not while it is written."""
        return (row.get(name) for row in self.read())

    def write(self, group: Sequence[Row]) -> None:
        """Appends the rows of one picture, and hands them to the operating system."""
        self._file.write("".join(map(self._form.text, group)).encode("utf-8", "backslashreplace"))
        self._file.flush()
        self.rows += len(group)

    def clear(self) -> None:
        """Takes all rows away. The file itself stays, and with it the lock."""
        self._file.truncate(0)
        self._file.write(self._form.header.encode())
        self._file.flush()
        self.seen, self.rows = Seen(), 0

    def finish(self) -> None:
        """Waits until the disk has all rows."""
        os.fsync(self._file.fileno())
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    @property
    def closed(self) -> bool:
        """Whether the file is closed, and perhaps another process's by now."""
        return self._file.closed

    def _repair(self) -> None:
        """Notes what is there, and cuts off what is not whole."""
        header = self._form.header.encode()
        self._file.seek(0)
        if self._file.read(len(header)) != header:
            self._file.seek(0)
            if b"\n" in self._file.read(1 << 20):
                raise DataError(f"{self._path}:1: the columns are not {self._form.header.strip()}")
            self._file.truncate(0)
            self._file.write(header)
            self._file.flush()
        self._file.seek(0)
        good, name, count, wanted = len(header), "", 0, 0  # of the group that is being read
        for row, end in self._form.read(self._file, self._path):
            if count == wanted:
                name, count, wanted = str(row.get(self._key)), 0, self._group(row)
            if str(row.get(self._key)) != name:
                raise DataError(f"{self._path}: {name} has {count} rows of {wanted}")
            count += 1
            if count == wanted:
                self.seen.add(name)
                self.rows += wanted
                good = end
        self._file.truncate(good)
        self._file.seek(0, os.SEEK_END)

    def _group(self, row: Row) -> int:
        try:
            return max(1, int(row.get(self._size) or 1))
        except ValueError as error:
            raise DataError(f"{self._path}: {self._size} = {row[self._size]!r} is no number") from error


def held(path: Path) -> BinaryIO:
    """The file, made where there is none, open for appending; no other process can have it until it is closed.

    Raises `ConfigError` when it cannot be written, or another process has it.
    """
    for _ in range(_TRIES):
        try:
            file = path.open("ab+")
        except OSError as error:
            raise full(error) or ConfigError(f"{path} cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.close()
            raise ConfigError(f"{path}: another process is writing it") from error
        except OSError:  # a file system without locks; two writers at once are rare enough not to refuse one
            pass
        if _is_at(file, path):
            return file
        file.close()  # its last writer has removed it since it was opened: rows in it would have no name
    raise ConfigError(f"{path}: other processes make it and remove it again and again")


def _is_at(file: BinaryIO, path: Path) -> bool:
    """Whether this name still leads to this open file."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6f}".rstrip("0").rstrip(".")
    return str(value)
