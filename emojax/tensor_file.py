"""Files of named arrays from elsewhere: safetensors and npz, read without running anything that is in them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

import ml_dtypes  # also: without it safetensors does not know bfloat16
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from emojax import files
from emojax.errors import CheckpointError
from emojax.visible import one_line

SUFFIXES = (".safetensors", ".npz")
MAX_TENSORS = 100_000
MAX_RATIO = 100
"""A member of an npz that unpacks to more than this many times its size is a bomb: weights hardly shrink at all."""
MAX_HEADER = 16 << 20
"""Bytes of a safetensors header; the library itself allows 100 MB, and a tensor takes about 100 bytes."""
_METADATA = "__metadata__"
_FLOATS = tuple(map(np.dtype, (np.float32, np.float16, np.float64, ml_dtypes.bfloat16)))
_CODES = {"F32": "float32", "F16": "float16", "F64": "float64", "BF16": "bfloat16"}


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """Type and shape of one array, known from the header."""

    dtype: str
    shape: tuple[int, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Header:
    """What a file holds, without its numbers.

    Attributes:
      entries: name -> type and shape, in the order of the names.
      metadata: text that the writer left beside the arrays.
    """

    entries: dict[str, Entry]
    metadata: dict[str, str]


def header(path: Path) -> Header:
    """Names, types and shapes. Raises `CheckpointError` for a file that is none of `SUFFIXES`, damaged or hostile."""
    _check_file(path)
    if path.suffix == ".npz":
        arrays, metadata = _npz(path)
        entries = {name: Entry(str(array.dtype), array.shape) for name, array in arrays.items()}
    else:
        with _opened(path) as file:
            metadata = dict(file.metadata() or {})
            views = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            entries = {
                name: Entry(_CODES.get(str(view.get_dtype()), str(view.get_dtype())), tuple(view.get_shape()))
                for name, view in views.items()
            }
    if len(entries) > MAX_TENSORS:
        raise CheckpointError(f"{_told(path)}: expected at most {MAX_TENSORS:,} arrays, found {len(entries):,}")
    return Header(dict(sorted(entries.items())), metadata)


def read(path: Path) -> dict[str, np.ndarray]:
    """{name: float32 array}; torch's counters `num_batches_tracked` are left out.

    Raises `CheckpointError` as `header` does, and for numbers of another kind (quantised weights, for example) or that
    are not finite.
    """
    found, arrays = header(path), {}
    names = [name for name in found.entries if not name.endswith("num_batches_tracked")]
    if odd := [name for name in names if found.entries[name].dtype not in map(str, _FLOATS)]:
        kinds, kind = ", ".join(map(str, _FLOATS)), found.entries[odd[0]].dtype
        raise CheckpointError(f"{_told(path)}: expected numbers of type {kinds}, found {kind} in {one_line(odd[0])}")
    if path.suffix == ".npz":
        arrays = _npz(path)[0]
    else:
        with _opened(path) as file:
            try:
                arrays = {name: file.get_tensor(name) for name in names}
            except SafetensorError as error:
                raise _damaged(path, error) from error
    floats = {name: np.asarray(arrays[name], np.float32) for name in names}
    if bad := [name for name, array in floats.items() if not np.isfinite(array).all()]:
        count = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        raise CheckpointError(
            f"{_told(path)}: {one_line(bad[0])}{count} hold numbers that are not finite: the weights are useless or "
            "damaged"
        )
    return floats


def write(path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Writes arrays and text in one step, as safetensors. Raises `CheckpointError` for another suffix."""
    if path.suffix != ".safetensors":
        raise CheckpointError(f"{_told(path)}: expected a name that ends in .safetensors")
    files.write_bytes(path, save({name: np.ascontiguousarray(a) for name, a in arrays.items()}, dict(metadata)))


def digest(path: Path) -> str:
    """SHA-256 (hex) of a file."""
    _check_file(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise CheckpointError(f"{_told(path)}: there is no such file")
    if path.suffix not in SUFFIXES:
        raise CheckpointError(
            f"{_told(path)}: expected a file that ends in {' or '.join(SUFFIXES)}. Pickled weights (.pth, .pt, .bin) "
            "can run code when they are read; scripts/torch_to_safetensors.py converts them where torch is installed"
        )


def _opened(path: Path) -> safe_open:
    """A safetensors file whose offsets tile it without overlap, which the library checks."""
    with path.open("rb") as file:
        first = file.read(8)
    size = int.from_bytes(first, "little")
    if size > MAX_HEADER and first[:2] in (b"PK", *(bytes((128, protocol)) for protocol in range(2, 6))):
        raise CheckpointError(
            f"{_told(path)}: expected safetensors, found a pickle as torch.save writes it, which can run code; "
            "scripts/torch_to_safetensors.py converts it where torch is installed"
        )
    if len(first) == 8 and size > MAX_HEADER:
        raise CheckpointError(f"{_told(path)}: expected a header of at most {MAX_HEADER:,} bytes, found {size:,}")
    try:
        return safe_open(path, "np")
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error


def _npz(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """(arrays, metadata) of a zip of plain arrays; NumPy would run the code of pickled objects."""
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if member.file_size > max(1 << 20, MAX_RATIO * member.compress_size):
                    raise CheckpointError(
                        f"{_told(path)}: {one_line(member.filename)} is a decompression bomb: "
                        f"{member.compress_size:,} bytes that become {member.file_size:,}"
                    )
        with np.load(path, allow_pickle=False) as found:
            arrays = {name: found[name] for name in found.files}
        if odd := [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]:
            raise CheckpointError(f"{_told(path)}: {one_line(odd[0])} is no array")
        text = arrays.pop(_METADATA, None)
        metadata = files.parse_json(str(text)) if text is not None else {}
        return arrays, {str(key): str(value) for key, value in metadata.items()}
    except CheckpointError:
        raise
    except Exception as error:  # damaged headers raise whatever the parser stumbled over
        raise _damaged(path, error) from error


def _damaged(path: Path, error: BaseException) -> CheckpointError:
    reason = one_line(str(error) or type(error).__name__)[:200]
    return CheckpointError(f"{_told(path)}: not a readable {path.suffix[1:]} file of plain arrays: {reason}")


def _told(path: Path) -> str:
    return one_line(str(path))


def facts(metadata: Mapping[str, str], key: str) -> dict[str, object] | None:
    """The JSON object that the metadata hold under `key`; None where there is none or it is no object."""
    try:
        found = files.parse_json(metadata.get(key, "null"))
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def as_metadata(key: str, values: Mapping[str, object]) -> dict[str, str]:
    """What `facts` reads back."""
    return {key: json.dumps(values, sort_keys=True)}
