"""Parquet files with one image per row: bytes or a path, and a label or votes. Reads what Hugging Face writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from emojax.config import DataConfig
from emojax.data.storage import Files, Packed, Root, printable
from emojax.data.tables import Table, assemble, group_columns, split_files
from emojax.errors import DataError
from emojax.files import parse_json
from emojax.types import Dataset


def read(path: Path, *, config: DataConfig) -> Dataset:
    """A .parquet file, or a folder with train.parquet, val.parquet, test.parquet (or numbered shards of them).

    The image column is binary, struct{bytes, path}, or a string with a path relative to the file's folder. Class names:
    `config.classes`, else the schema's `label_names` (comma separated), else the ClassLabel of Hugging Face's metadata,
    else the sorted labels; for one list column of votes also the schema's `vote_names`. Rows are counted from 0.
    """
    files = split_files(path, ".parquet")
    tables = {name: table(parts, [_read(file, config) for file in parts], config) for name, parts in files.items()}
    return assemble(path.stem, tables, config=config)


def table(files: list[Path], parts: list[Any], config: DataConfig) -> Table:
    """The Arrow tables `parts`, read from `files`, as one table of records."""
    places = [f"{file.name}:{row}" for file, part in zip(files, parts, strict=True) for row in range(part.num_rows)]
    whole = _concat(parts, files)
    images = _images(whole.column(config.image_column), files, config, places)
    votes = _votes(whole, config.vote_columns) if config.vote_columns else None
    label = None if votes is not None else _labels(whole.column(config.label_column), files[0], config.label_column)
    split = whole.column(config.split_column).to_pylist() if config.split_column in whole.column_names else None
    return Table(
        images=images,
        ids=[printable(images.names[i].decode()) for i in range(len(images))] if isinstance(images, Files) else places,
        label=label,
        votes=votes,
        names=_names(whole.schema.metadata or {}, config, len(votes[0]) if votes else 0),
        slices={
            c: ["" if v is None else str(v) for v in whole.column(c).to_pylist()]
            for c in (*config.slice_columns, *group_columns(config))
            if c in whole.column_names
        },
        split=None if split is None else ["" if value is None else str(value) for value in split],
        where=lambda i: f"{files[0].parent / places[i].rpartition(':')[0]}: row {places[i].rpartition(':')[2]}",
    )


def _read(file: Path, config: DataConfig) -> Any:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise DataError(f"{file}: reading Parquet needs pyarrow: pip install pyarrow") from error
    wanted = [config.image_column, *(config.vote_columns or (config.label_column,)), *group_columns(config)]
    try:
        with parquet.ParquetFile(file) as opened:
            found = opened.schema_arrow.names
            if missing := [column for column in wanted if column not in found]:
                raise DataError(f"{file}: no column {missing[0]!r}; the columns are {', '.join(found)}")
            optional = [column for column in (config.split_column, *config.slice_columns) if column in found]
            return opened.read(columns=list(dict.fromkeys([*wanted, *optional])))
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{file}: not a readable Parquet file: {error}") from error


def _concat(parts: list[Any], files: list[Path]) -> Any:
    import pyarrow

    try:
        return pyarrow.concat_tables(parts)
    except pyarrow.ArrowException as error:
        raise DataError(f"{files[0].parent}: the shards of {files[0].name} have different columns: {error}") from error


def _images(column: Any, files: list[Path], config: DataConfig, places: list[str]) -> Files | Packed:
    from pyarrow import types

    kind = column.type
    if types.is_struct(kind) and {"bytes", "path"} <= {field.name for field in kind}:
        data = [chunk.flatten()[kind.get_field_index("bytes")] for chunk in column.chunks]
        if any(chunk.null_count < len(chunk) for chunk in data):
            return _packed(data)
        column = [path for chunk in column.chunks for path in chunk.flatten()[kind.get_field_index("path")].to_pylist()]
    elif types.is_binary(kind) or types.is_large_binary(kind):
        return _packed(column.chunks)
    elif types.is_string(kind) or types.is_large_string(kind):
        column = column.to_pylist()
    else:
        expected = "binary, struct{bytes, path} or string"
        raise DataError(f"{files[0]}: column {config.image_column!r} is {kind}; expected {expected}")
    root, names = Root(files[0].parent), []
    for place, path in zip(places, column, strict=True):
        try:
            names.append(root.resolve(path or ""))
        except DataError as error:
            raise DataError(f"{files[0].parent / place}: {error}") from error
    return Files.of(root.real, names)


def _packed(chunks: list[Any]) -> Packed:
    """Arrow binary arrays as one buffer, without a Python object per image; missing values become empty strings."""
    import pyarrow

    data, lengths = [np.zeros(0, np.uint8)], [np.zeros(0, np.int64)]
    for chunk in chunks:
        if len(chunk) == 0:
            continue
        array = chunk.cast(pyarrow.large_binary()).fill_null(b"")
        _, offsets, values = array.buffers()
        ends = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
        lengths.append(np.diff(ends))
        data.append(np.frombuffer(values or b"", np.uint8)[ends[0] : ends[-1]])
    return Packed(np.concatenate(data), np.concatenate([[0], np.cumsum(np.concatenate(lengths))]).astype(np.int64))


def _labels(column: Any, file: Path, name: str) -> list[Any]:
    from pyarrow import types

    kind = column.type.value_type if types.is_dictionary(column.type) else column.type
    if not (types.is_integer(kind) or types.is_string(kind) or types.is_large_string(kind)):
        raise DataError(
            f"{file}: column {name!r} is {kind}; expected integers or strings (votes: config.data.vote_columns)"
        )
    return column.to_pylist()


def _votes(table: Any, columns: tuple[str, ...]) -> list[Any]:
    if len(columns) == 1:
        values = table.column(columns[0]).to_pylist()
        return [value if isinstance(value, list) else [value] for value in values]
    return [list(row) for row in zip(*(table.column(column).to_pylist() for column in columns), strict=True)]


def _names(metadata: dict[bytes, bytes], config: DataConfig, votes: int) -> tuple[str, ...]:
    """Class names from the schema, or (); for `votes` > 0 only a list of that length counts."""
    choices = [_text(metadata, b"label_names"), _hugging_face(metadata, config.label_column)]
    if votes:
        own = config.vote_columns if len(config.vote_columns) > 1 else ()
        choices = [own, _text(metadata, b"vote_names"), *choices]
    return next((names for names in choices if names and votes in (0, len(names))), ())


def _text(metadata: dict[bytes, bytes], key: bytes) -> tuple[str, ...]:
    text = metadata.get(key, b"").decode("utf-8", "replace").strip()
    return tuple(name.strip() for name in text.split(",")) if text else ()


def _hugging_face(metadata: dict[bytes, bytes], column: str) -> tuple[str, ...]:
    try:
        return tuple(parse_json(metadata[b"huggingface"])["info"]["features"][column]["names"])
    except (KeyError, TypeError, ValueError):
        return ()
