"""A model as one folder or one zip file, safe to open: weights, and a manifest in JSON that says what they are.

    manifest.json         format and version; a size and a SHA-256 for every other file; config, class names and schema,
                          preprocessing, calibration, versions, and what was measured of every export beside it
    weights.safetensors   parameters and statistics, float32, under emojax's own paths
    README.md             the model card

A bundle may come from a stranger. It is read with JSON and safetensors alone: nothing in it is executed, names of files
in it never become paths outside of it, and no byte is used before its digest is right. Zip files hold their entries as
they are, without compression: weights do not compress, and so no small file can turn into a large one.
"""

from __future__ import annotations

import hashlib
import json
import re
import stat
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from emojax import __version__, checkpoint_meta, files
from emojax.checkpoint_meta import Meta
from emojax.errors import CheckpointError, DamagedError

FORMAT, VERSION = "emojax-bundle", 1
MANIFEST, WEIGHTS, CARD = "manifest.json", "weights.safetensors", "README.md"
MAX_MANIFEST = 32 << 20
"""Largest manifest that is read, bytes."""
MAX_WEIGHTS = 16 << 30
"""Largest file of weights that is read, bytes."""
MAX_FILES = 100
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


class Reader:
    """The files of a bundle by name, whole, and only those of the manifest; from a folder or a zip file."""

    def __init__(self, path: Path) -> None:
        """Reads the manifest and checks it. Raises `CheckpointError` for what is no bundle, or of another version, and
        `DamagedError` for one that has changed."""
        self.path = path
        self.manifest: dict[str, Any] = self._manifest()

    def _manifest(self) -> dict[str, Any]:
        try:
            values = files.parse_json(_read(self.path, MANIFEST, limit=MAX_MANIFEST))
        except ValueError as error:
            raise DamagedError(f"{self.path}: {MANIFEST} is not JSON: {error}") from error
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise CheckpointError(f"{self.path}: {MANIFEST} is not that of an emojax bundle")
        if values.get("version") != VERSION:
            raise CheckpointError(
                f"{self.path}: is a bundle of version {values.get('version')!r}, written by emojax "
                f"{values.get('emojax')!r}; this is emojax {__version__}, which reads version {VERSION}"
            )
        seal = values.pop("seal", None)
        try:
            good = seal == checkpoint_meta.seal(values)
        except RecursionError:
            good = False
        if not good:
            raise DamagedError(f"{self.path}: {MANIFEST} is not the one that was written: it has changed")
        listed = values.get("files")
        if not isinstance(listed, dict) or len(listed) > MAX_FILES:
            raise DamagedError(f"{self.path}: {MANIFEST} has no usable list of files")
        return values

    def file(self, name: str) -> bytes:
        """The bytes of a file, after its size and digest were found right. Raises as the constructor does."""
        listed = self.manifest["files"].get(name)
        if listed is None:
            raise CheckpointError(
                f"{self.path}: has no {name}; `emojax export --format=bundle` writes a folder that can be opened"
            )
        size = listed.get("bytes") if isinstance(listed, dict) else None
        if type(size) is not int or not 0 <= size <= MAX_WEIGHTS:
            raise DamagedError(f"{self.path}: {MANIFEST} says that {name} has {size!r} bytes")
        data = _read(self.path, name, limit=size)
        if len(data) != size or hashlib.sha256(data).hexdigest() != listed.get("sha256"):
            raise DamagedError(f"{self.path}: {name} has changed since it was written: its SHA-256 is another one")
        return data

    def meta(self) -> Meta:
        """What the weights are."""
        values = self.manifest.get("meta")
        if not isinstance(values, dict):
            raise DamagedError(f"{self.path}: {MANIFEST} does not say what the weights are")
        try:
            meta = Meta.from_json(values, f"{self.path}: {MANIFEST}")
        except (TypeError, KeyError, AttributeError) as error:
            raise DamagedError(f"{self.path}: {MANIFEST} is unusable: {error!r}") from error
        names, size = meta.class_names, meta.image_size
        if not names or not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
            raise DamagedError(f"{self.path}: expected different names of classes, found {names!r}")
        if type(size) is not int or not 1 <= size <= 8192:
            raise DamagedError(f"{self.path}: expected an image size of 1 to 8192 px, found {size!r}")
        return meta

    def weights(self) -> dict[str, np.ndarray]:
        """{path: float32 array}."""
        from safetensors import SafetensorError, numpy as safetensors

        try:
            arrays = safetensors.load(self.file(WEIGHTS))
        except (SafetensorError, ValueError, TypeError, KeyError) as error:
            raise DamagedError(f"{self.path}: {WEIGHTS} is not in safetensors' format: {error}") from error
        for name, array in arrays.items():
            if array.dtype != np.float32:
                raise DamagedError(f"{self.path}: {WEIGHTS}: expected float32, found {array.dtype} for {name!r}")
        return arrays


def is_bundle(path: Path) -> bool:
    """Whether `path` looks like a bundle and not like the work directory of a run."""
    return path.is_file() or (path / MANIFEST).is_file()


def merge(arrays: Mapping[str, np.ndarray], like: Mapping[str, tuple[int, ...]], where: Path) -> dict[str, np.ndarray]:
    """`arrays` if they are just those of the network, `like` = {path: shape}. Raises `CheckpointError` naming what is
    missing, unexpected or of another shape."""
    problems = [f"{path} is missing" for path in like if path not in arrays]
    problems += [f"{path} is unexpected" for path in arrays if path not in like]
    problems += [
        f"{path} is {list(arrays[path].shape)}, expected {list(shape)}"
        for path, shape in like.items()
        if path in arrays and arrays[path].shape != tuple(shape)
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise CheckpointError(f"{where}: the weights are not those of its network: {'; '.join(problems[:3])}{more}")
    return dict(arrays)


def plausible(meta: Meta, count: int, where: Path) -> None:
    """Raises `DamagedError` for a config whose network would be far larger than the weights that come with it: to
    describe that network could take for ever."""
    sizes = (*meta.config.model.depths, *meta.config.model.widths, *meta.config.model.head_hidden)
    if any(type(n) is not int or n > 1_000_000 for n in sizes) or sum(meta.config.model.depths) > count:
        raise DamagedError(f"{where}: the config describes another network than the {count} arrays of {WEIGHTS} are of")


def write(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Completes a folder of files to a bundle: the manifest with digests of all of them, and a seal."""
    listed = {path.name: _listed(path) for path in sorted(folder.iterdir()) if path.name != MANIFEST}
    values = {"format": FORMAT, "version": VERSION, "emojax": __version__, **files.plain(manifest), "files": listed}
    values = files.parse_json(json.dumps(values))
    files.write_json(folder / MANIFEST, {**values, "seal": checkpoint_meta.seal(values)})


def zipped(folder: Path, to: Path) -> None:
    """The folder as a zip file that `Reader` opens; the same files give the same bytes."""
    with zipfile.ZipFile(to, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(folder.iterdir()):
            entry = zipfile.ZipInfo(path.name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            with path.open("rb") as source, archive.open(entry, "w", force_zip64=True) as target:
                for part in iter(lambda: source.read(1 << 20), b""):
                    target.write(part)


def _listed(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}


def _read(path: Path, name: str, *, limit: int) -> bytes:
    """At most `limit` + 1 bytes of a file of the bundle."""
    if not _NAME.fullmatch(name):
        raise DamagedError(f"{path}: {name!r} cannot be the name of a file in a bundle")
    try:
        return _read_zip(path, name, limit) if path.is_file() else _read_folder(path, name, limit)
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError) as error:
        if isinstance(error, FileNotFoundError):
            raise DamagedError(f"{path}: {name} is missing") from error
        raise DamagedError(f"{path}: {name} cannot be read: {error}") from error


def _read_folder(path: Path, name: str, limit: int) -> bytes:
    status = (path / name).lstat()
    if not stat.S_ISREG(status.st_mode):
        raise DamagedError(f"{path}: {name} is a link or no plain file; a bundle holds plain files alone")
    with (path / name).open("rb") as file:
        return file.read(limit + 1)


def _read_zip(path: Path, name: str, limit: int) -> bytes:
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: entry for entry in _entries(archive, path)}
        if name not in entries:
            raise FileNotFoundError(name)
        with archive.open(entries[name]) as file:
            return file.read(limit + 1)


def _entries(archive: zipfile.ZipFile, path: Path) -> Iterator[zipfile.ZipInfo]:
    """The entries of a zip file, if all of them are plain."""
    found = archive.infolist()
    rules: tuple[tuple[Callable[[zipfile.ZipInfo], bool], str], ...] = (
        (lambda e: not _NAME.fullmatch(e.filename), "has a name that leads elsewhere"),
        (lambda e: stat.S_IFMT(e.external_attr >> 16) not in (0, stat.S_IFREG), "is a link or no plain file"),
        (lambda e: bool(e.flag_bits & 1), "is encrypted"),
        (lambda e: e.compress_type != zipfile.ZIP_STORED or e.compress_size != e.file_size, "is compressed"),
    )
    for entry in found:
        for broken, why in rules:
            if broken(entry):
                raise DamagedError(
                    f"{path}: the entry {entry.filename[:100]!r} {why}; a bundle is a zip file as "
                    "`emojax export --format=bundle OUT.zip` writes it"
                )
    names = [entry.filename for entry in found]
    if len(names) > MAX_FILES or len(set(names)) != len(names):
        raise DamagedError(f"{path}: expected at most {MAX_FILES} entries with different names, found {len(names)}")
    if sum(entry.file_size for entry in found) > path.stat().st_size:
        raise DamagedError(f"{path}: its entries overlap")
    yield from found
