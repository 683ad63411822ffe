"""A Parquet table that survives kills: rows wait in a text file beside it, as Parquet has no half-written form."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from emojax.errors import DataError
from emojax.growing_text import Columns, JsonForm, Row, TextTable
from emojax.seen import Seen

if TYPE_CHECKING:
    import pyarrow

_ROWS = 16_384
"""Rows of one row group: what is in memory at once."""


class ParquetTable:
    """`FILE.parquet`, and `FILE.parquet.partial` with the rows that it does not have yet."""

    def __init__(
        self, path: Path, file: BinaryIO, columns: Columns, *, key: str, size: str, flat: Callable[[Row], Row]
    ) -> None:
        """`file` is the text file as `held` gives it; who has opened it closes it when this raises.

        Raises `DataError` when one of the two files is damaged.
        """
        self._path, self._columns, self._key, self._flat = path, columns, key, flat
        self._lines = TextTable(partial_file(path), file, JsonForm(), key=key, size=size)
        self.seen, self.rows, self._old = self._lines.seen, self._lines.rows, Seen()
        # After a kill between the last lines of `finish`, rows are in both files: they count once.
        self.rows += sum(name not in self.seen for name in self._keys())
        for name in self._keys():
            self._old.add(name)
            self.seen.add(name)

    def write(self, group: Sequence[Row]) -> None:
        """Appends the rows of one picture to the text file."""
        self._lines.write([self._flat(row) for row in group])
        self.rows += len(group)

    def read(self) -> Iterator[dict[str, Any]]:
        """The rows that the Parquet file does not have yet."""
        return self._lines.read()

    def cells(self, name: str) -> Iterator[Any]:
        """One column of the rows of both files."""
        for batch in self._batches([name]):
            yield from batch.column(0).to_pylist()
        yield from (row.get(name) for row in self._lines.read() if str(row[self._key]) not in self._old)

    def clear(self) -> None:
        """Takes the Parquet file away, and all rows of the text file."""
        self._path.unlink(missing_ok=True)
        self._lines.clear()
        self.seen, self.rows, self._old = self._lines.seen, 0, Seen()

    def finish(self) -> None:
        """Writes the Parquet file in one step, in memory of one row group, and removes the text file."""
        import pyarrow.parquet as pq

        new = (row for row in self._lines.read() if str(row[self._key]) not in self._old)
        first = next(new, None)
        if first is not None or not self._path.exists():
            rows = itertools.chain([] if first is None else [first], new)
            temporary = self._path.with_name(f".{self._path.name}.tmp")
            with pq.ParquetWriter(temporary, self._schema()) as writer:
                for batch in self._batches(list(self._columns)):
                    writer.write_batch(batch)
                while part := list(itertools.islice(rows, _ROWS)):
                    writer.write_batch(self._batch(part))
            temporary.replace(self._path)
        partial_file(self._path).unlink()  # `held` sees to it that nobody goes on in a file without a name
        self._lines.close()

    def close(self) -> None:
        """Closes the text file, which goes where it has no rows: then it was nothing but the lock."""
        if not self._lines.closed and not self._lines.rows:
            partial_file(self._path).unlink(missing_ok=True)
        self._lines.close()

    def _keys(self) -> Iterator[str]:
        for batch in self._batches([self._key]):
            yield from map(str, batch.column(0).to_pylist())

    def _schema(self) -> pyarrow.Schema:
        import pyarrow as pa

        kinds = {str: pa.string(), int: pa.int64(), float: pa.float64()}
        return pa.schema([(name, kinds[kind]) for name, kind in self._columns.items()])

    def _batch(self, rows: list[dict[str, Any]]) -> pyarrow.RecordBatch:
        import pyarrow as pa

        return pa.RecordBatch.from_pylist(rows, schema=self._schema())

    def _batches(self, names: list[str]) -> Iterator[pyarrow.RecordBatch]:
        """Columns of the Parquet file as it is, if it is."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not self._path.exists():
            return
        try:
            with pq.ParquetFile(self._path) as file:
                if file.schema_arrow.names != list(self._columns):
                    raise DataError(f"{self._path}: the columns are not {', '.join(self._columns)}")
                yield from file.iter_batches(_ROWS, columns=names)
        except pa.ArrowException as error:
            raise DataError(f"{self._path}: not a readable Parquet file: {error}") from error


def partial_file(path: Path) -> Path:
    """Where the rows of a Parquet file wait until it can be written."""
    return path.with_name(f"{path.name}.partial")
