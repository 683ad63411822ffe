"""Packed data sets: the encoded images of each split in one ArrayRecord file, instead of many small files.

A pack is a folder of `pack.json` (name, class names, notes; per split the count of records, the size of its ArrayRecord
file and the SHA-256 of its table), `SPLIT.array_record` (one record per image, byte for byte what was read) and
`SPLIT.table.npz` (label float32 [N, K], weight float32 [N], id [N], and slice:NAME [N] strings). ArrayRecord is
Google's indexed record file with checksums: https://github.com/google/array_record.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from emojax import files
from emojax.config import DataConfig
from emojax.data import storage
from emojax.data.decode import verify
from emojax.data.storage import MAX_BYTES, Unreadable
from emojax.data.tables import SPLITS
from emojax.errors import DataError
from emojax.types import Dataset, Split

HEADER = "pack.json"
"""The file that makes a folder a pack; written last."""

_FORMAT = "emojax pack 1"


@dataclasses.dataclass(frozen=True, slots=True)
class Records:
    """The images of one ArrayRecord file: `Records(path, n)[i]` reads record i. Each process opens the file itself."""

    path: str
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> bytes:
        try:
            found = _reader(self.path).read([int(i)])[0]
        except (
            Exception
        ) as error:  # the reader raises what its storage layer does: ValueError, IndexError, RuntimeError
            raise Unreadable(f"reading failed: {error}") from error
        if len(found) > MAX_BYTES:
            raise Unreadable(f"{len(found) >> 20} MiB, more than the limit of {MAX_BYTES >> 20} MiB")
        return found


@functools.lru_cache(maxsize=16)
def _reader(path: str) -> Any:
    # Random access: neither reads ahead nor starts threads; the default buffer is 1 MiB for an image of some KB.
    options = "readahead_buffer_size:0,max_parallelism:0"
    return _library().ArrayRecordReader(path, options, file_reader_buffer_size=1 << 16)


def _library() -> Any:
    return importlib.import_module("array_record.python.array_record_module")  # compiled, and without type stubs


def write(dataset: Dataset, folder: Path, *, progress: Callable[[int, int], None]) -> int:
    """Packs every split of `dataset`, as its reader found it, into `folder`, which must be new or empty.

    `progress` is called with (images done, images in all). Returns how many images could not be read or are no images;
    they are kept, empty or as they are, so that the pack leaves out what the original leaves out. Raises `DataError`
    for images that are arrays, which no encoded bytes stand for, for a folder that holds something or cannot be made,
    and when there is not one image.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise DataError(f"{folder}: is not empty; give a new folder for the pack")
    for split in dataset.splits.values():
        if isinstance(split.images, np.ndarray):
            raise DataError(f"{dataset.name}: its images are arrays in one file already; there is nothing to pack")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: cannot be made: {error.strerror}") from error
    header: dict[str, Any] = {}
    total, done, lost = sum(map(len, dataset.splits.values())), 0, 0
    for name, split in dataset.splits.items():
        place = folder / f"{name}.array_record"
        # One image a group: each can be read alone. Encoded images do not shrink any more.
        writer = _library().ArrayRecordWriter(str(place), "group_size:1,uncompressed")
        try:
            for i in range(len(split)):
                try:
                    data = split.images[i]
                except Unreadable:
                    data = b""
                if not isinstance(data, bytes):
                    raise DataError(f"{dataset.name}: {split.id[i]} is an array; only encoded images can be packed")
                lost += not _decodes(data)
                writer.write(data)
                done += 1
                progress(done, total)
        finally:
            writer.close()
        table = _table_bytes(split)
        files.write_bytes(folder / f"{name}.table.npz", table)
        header[name] = {
            "records": len(split),
            "bytes": place.stat().st_size,
            "table_sha256": hashlib.sha256(table).hexdigest(),
        }
    if lost == total:
        raise DataError(
            f"{dataset.name}: not one of its {total:,} files is an image that can be read; {folder} is no pack"
        )
    about: dict[str, Any] = {"name": dataset.name, "class_names": dataset.class_names, "notes": dataset.notes}
    about |= {"group_column": dataset.group_column} if dataset.group_column else {}
    files.write_json(folder / HEADER, {"format": _FORMAT, **about, "splits": header})
    return lost


def _decodes(data: bytes) -> bool:
    try:
        verify(data)
    except Unreadable:
        return False
    return True


def _table_bytes(split: Split) -> bytes:
    buffer = io.BytesIO()
    slices: dict[str, Any] = {f"slice:{key}": column for key, column in split.slices.items()}
    np.savez(buffer, label=split.label, weight=split.weight, id=split.id, **slices)
    return buffer.getvalue()


def read(path: Path, *, config: DataConfig) -> Dataset:
    """The data set in a pack: the names, labels and image bytes of the original. Raises `DataError` for a damaged pack,
    and when `config.classes` are others than the pack's."""
    header = _header(path)
    names = tuple(header["class_names"])
    if config.classes and config.classes != names:
        raise DataError(
            f"{path}: the pack has the classes {', '.join(names)}; config.data.classes = {', '.join(config.classes)} "
            "needs a pack made with them"
        )
    splits = {name: _split(path, name, header["splits"][name], names) for name in SPLITS if name in header["splits"]}
    group = str(header.get("group_column", ""))
    return Dataset(name=header["name"], class_names=names, splits=splits, notes=(*header["notes"],), group_column=group)


def _header(path: Path) -> Mapping[str, Any]:
    place = path / HEADER
    if not place.is_file():
        raise DataError(f"{path}: not a finished pack, it has no {HEADER}; make one with emojax data pack")
    try:
        found = files.parse_json(place.read_text(encoding="utf-8"))
        version = found["format"]
        whole = all(found[key] is not None for key in ("name", "class_names", "notes", "splits"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{place}: damaged ({error}); pack the data again") from error
    if version != _FORMAT or not whole:
        raise DataError(f"{place}: expected the format {_FORMAT!r}, found {version!r}; pack the data again")
    return found


def _split(path: Path, name: str, about: Mapping[str, Any], names: tuple[str, ...]) -> Split:
    images, table = path / f"{name}.array_record", path / f"{name}.table.npz"
    try:
        count, size, digest = (about[key] for key in ("records", "bytes", "table_sha256"))
        data, found = table.read_bytes(), images.stat().st_size
    except OSError as error:
        raise DataError(f"{error.filename}: {error.strerror}; the pack is not whole, pack the data again") from error
    except (KeyError, TypeError) as error:
        raise DataError(f"{path / HEADER}: damaged ({error}); pack the data again") from error
    if hashlib.sha256(data).hexdigest() != digest:
        raise DataError(f"{table}: its bytes are not those that were packed; pack the data again")
    if found != size:
        raise DataError(f"{images}: has {found} bytes, {size} were packed; copy it again, or pack the data again")
    columns = storage.arrays(io.BytesIO(data), where=table)
    if lacking := {"label", "weight", "id"} - columns.keys():
        raise DataError(f"{table}: has no array {min(lacking)!r}; pack the data again")
    if len(columns["id"]) != count or columns["label"].shape != (count, len(names)):
        raise DataError(f"{path / HEADER}: says {count} records of {name}, {table.name} has {len(columns['id'])}")
    try:
        held = _reader(str(images)).num_records()
    except Exception as error:  # as in `Records`
        raise DataError(f"{images}: not a readable ArrayRecord file: {error}; pack the data again") from error
    if held != count:
        raise DataError(f"{images}: holds {held} records, {count} were packed; pack the data again")
    return Split(
        name=name,
        images=Records(str(images), count),
        label=columns["label"],
        weight=columns["weight"],
        id=columns["id"],
        slices={key.removeprefix("slice:"): column for key, column in columns.items() if key.startswith("slice:")},
    )
