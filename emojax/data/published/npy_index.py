"""One number from each of very many tiny .npy files, read once and kept."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from emojax import files
from emojax.data.storage import read_file
from emojax.errors import DataError

_SUFFIX = "_exp.npy"


def read(folder: Path) -> dict[str, str]:
    """{id: code} of the files `ID_exp.npy` in a folder.

    Each holds a number or, in AffectNet's release of 2021, a zero-dimensional array of text. The result is kept in the
    user's cache folder under a digest of all names, sizes and times of change, so that a changed file is read anew.
    """
    total, names = hashlib.sha256(str(folder.resolve()).encode(errors="surrogateescape")), []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(_SUFFIX):
                status = entry.stat()
                names.append((entry.name, status.st_size, status.st_mtime_ns))
    names.sort()
    total.update(repr(names).encode())
    kept = _cache() / f"npy2-{total.hexdigest()[:32]}.json"
    with contextlib.suppress(OSError, ValueError, AttributeError):  # no cache, or a damaged one: read the files
        found = files.parse_json(kept.read_text(encoding="utf-8"))
        if isinstance(found, dict) and len(found) == len(names):
            return {str(key): str(value) for key, value in found.items()}
    with ThreadPoolExecutor(max_workers=8) as pool:  # on a disk that is cold, waiting is most of it
        codes = list(pool.map(lambda name: _code(folder / name[0]), names))
    found = {name.removesuffix(_SUFFIX): code for (name, _, _), code in zip(names, codes, strict=True)}
    with contextlib.suppress(OSError):  # a cache that cannot be written is no error
        kept.parent.mkdir(parents=True, exist_ok=True)
        files.write_text(kept, json.dumps(found))
    return found


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "emojax"


def _code(file: Path) -> str:
    try:
        value = np.asarray(np.load(io.BytesIO(read_file(str(file))), allow_pickle=False))
        if value.size != 1:
            raise ValueError(f"found {value.size} values")
        number = float(value.reshape(-1)[0])
        if not number.is_integer():  # infinity and NaN are none either
            raise ValueError(f"found {number:g}")
        return str(int(number))
    except (DataError, ValueError, TypeError, OSError, EOFError) as error:
        raise DataError(f"{file}: expected one whole number: {error}") from error
