"""Folders that `save_to_disk` of Hugging Face's `datasets` writes, read with pyarrow alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from emojax.config import DataConfig
from emojax.data.parquet_table import table
from emojax.data.tables import SPLITS, assemble, group_columns, split_name
from emojax.errors import DataError
from emojax.files import parse_json
from emojax.types import Dataset

STATE, SPLIT_LIST = "state.json", "dataset_dict.json"


def recognise(path: Path) -> bool:
    """A saved `Dataset` (state.json) or `DatasetDict` (dataset_dict.json)."""
    return (path / STATE).is_file() or (path / SPLIT_LIST).is_file()


def read(path: Path, *, config: DataConfig) -> Dataset:
    """A saved `Dataset`, or a `DatasetDict` with train and, where they exist, val and test.

    Columns, class names and image columns are as for Parquet files; paths are relative to the split's folder.
    """
    homes = {"": path}
    if (path / SPLIT_LIST).is_file():
        stored = _json(path / SPLIT_LIST).get("splits", [])
        found = {str(split_name(str(name))): path / str(name) for name in stored if split_name(str(name))}
        homes = {name: found[name] for name in SPLITS if name in found}
        if "train" not in homes:
            raise DataError(f"{path / SPLIT_LIST}: no training split; the splits are {', '.join(map(str, stored))}")
    tables = {}
    for name, home in homes.items():
        files = _files(home)
        tables[name] = table(files, [_read(file, config) for file in files], config)
    return assemble(path.resolve().name, tables, config=config)


def _files(home: Path) -> list[Path]:
    """The Arrow files of one saved `Dataset`, in order."""
    state = _json(home / STATE)
    if state.get("_indices_data_files"):
        raise DataError(
            f"{home / STATE}: the rows are chosen by an index file (written by datasets before 2.0); save it again "
            "after flatten_indices()"
        )
    files = [home / str(entry.get("filename")) for entry in state.get("_data_files", []) if isinstance(entry, dict)]
    if not files:
        raise DataError(f"{home / STATE}: lists no data files")
    return files


def _json(file: Path) -> dict[str, Any]:
    try:
        found = parse_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: not readable JSON: {error}") from error
    if not isinstance(found, dict):
        raise DataError(f"{file}: expected an object")
    return found


def _read(file: Path, config: DataConfig) -> Any:
    import pyarrow

    wanted = [config.image_column, *(config.vote_columns or (config.label_column,)), *group_columns(config)]
    try:
        with pyarrow.memory_map(str(file)) as source, pyarrow.ipc.open_stream(source) as stream:
            found = stream.schema.names
            if missing := [column for column in wanted if column not in found]:
                raise DataError(f"{file}: no column {missing[0]!r}; the columns are {', '.join(found)}")
            optional = [column for column in (config.split_column, *config.slice_columns) if column in found]
            return stream.read_all().select(list(dict.fromkeys([*wanted, *optional])))
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{file}: not a readable Arrow stream: {error}") from error
