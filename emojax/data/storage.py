"""Where encoded images live: sequences that are addressed by position and are cheap to send to loader processes."""

# Text paths throughout: names may hold any bytes, and a Path object per image is slow.
# ruff: noqa: PTH114, PTH118
from __future__ import annotations

import dataclasses
import os
import stat
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from emojax.errors import DataError

MAX_BYTES = 64 << 20
"""Largest encoded image that is read, bytes."""

MAX_RATIO = 200
"""How many times as large as its compressed form an array of an archive may be, from `MAX_BYTES` on."""

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
"""File names that count as images, in any case."""


class Unreadable(DataError):  # noqa: N818 (a finding about an image, caught where it is read)
    """One image cannot be used; the message is the reason alone, the caller knows the record's name."""


class TooLarge(Unreadable):
    """An image has more pixels than may be decoded, as its header tells."""


@dataclasses.dataclass(frozen=True, slots=True)
class Packed:
    """A sequence of byte strings in one buffer: 10^5 images travel to a loader process as two arrays.

    Attributes:
      buffer: uint8 [T], the strings end to end.
      offsets: int64 [N + 1]; string i is `buffer[offsets[i]:offsets[i + 1]]`.
    """

    buffer: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of(cls, parts: Iterable[bytes]) -> Packed:
        """Packs `parts` in their order."""
        parts = list(parts)
        offsets = np.zeros(len(parts) + 1, np.int64)
        np.cumsum([len(part) for part in parts], out=offsets[1:])
        return cls(np.frombuffer(b"".join(parts), np.uint8), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, i: int) -> bytes:
        return self.buffer[self.offsets[i] : self.offsets[i + 1]].tobytes()


@dataclasses.dataclass(frozen=True, slots=True)
class Files:
    """Images in files: `Files(root, names)[i]` reads `root/names[i]`. Names are bytes, so that any file name works."""

    root: str
    names: Packed

    @classmethod
    def of(cls, root: Path | str, names: Iterable[str]) -> Files:
        """Files `root/name` in the order of `names`."""
        return cls(str(root), Packed.of(os.fsencode(name) for name in names))

    def __len__(self) -> int:
        return len(self.names)

    def path(self, i: int) -> str:
        """Path of file i."""
        return os.path.join(self.root, os.fsdecode(self.names[i]))

    def __getitem__(self, i: int) -> bytes:
        return read_file(self.path(i))


def read_file(path: str) -> bytes:
    """The bytes of a regular file of at most `MAX_BYTES`; anything else raises `Unreadable` and never blocks."""
    try:
        # O_NONBLOCK: opening a FIFO that nobody writes to would otherwise wait for ever.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError) as error:
        raise Unreadable(getattr(error, "strerror", None) or str(error)) from error
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise Unreadable("is a directory, not a file")
        if not stat.S_ISREG(status.st_mode):
            raise Unreadable("is not a regular file")
        if status.st_size > MAX_BYTES:
            raise Unreadable(f"{status.st_size >> 20} MiB, more than the limit of {MAX_BYTES >> 20} MiB")
        parts = [os.read(descriptor, status.st_size + 1)]
        while parts[-1] and sum(map(len, parts)) != status.st_size:  # cut short by a signal, or the file changed
            parts.append(os.read(descriptor, MAX_BYTES + 1))
        return b"".join(parts)
    except OSError as error:
        raise Unreadable(f"reading failed: {error.strerror}") from error
    finally:
        os.close(descriptor)


def arrays(file: Path | BinaryIO, *, where: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file: plain ones, of which none is a decompression bomb.

    Raises `DataError` naming `where`. NumPy would run the code of pickled objects, and unpack a file of some KB into
    all of the memory; pictures do not shrink to less than a hundredth.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                if member.file_size > max(MAX_BYTES, MAX_RATIO * member.compress_size):
                    raise DataError(
                        f"{where}: {printable(member.filename)!r} is a decompression bomb: {member.compress_size:,} "
                        f"bytes that become {member.file_size:,}"
                    )
        if not isinstance(file, Path):
            file.seek(0)
        with np.load(file, allow_pickle=False) as found:
            members = {key: found[key] for key in found.files}
    except DataError:
        raise
    except (
        Exception
    ) as error:  # damaged headers raise whatever the parser stumbled over, SyntaxError and MemoryError too
        reason = str(error) or type(error).__name__
        raise DataError(f"{where}: not a readable .npz file of plain arrays: {reason[:200]}") from error
    if other := [key for key, value in members.items() if not isinstance(value, np.ndarray)]:
        raise DataError(f"{where}: not a readable .npz file of plain arrays: {printable(other[0])!r} is none")
    return members


def printable(name: str) -> str:
    """`name` as valid Unicode: bytes of a file name that are not UTF-8 become `\\xNN`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


class Root:
    """A folder that file names given by others must not leave, neither by their spelling nor through links."""

    def __init__(self, folder: Path) -> None:
        self.real = os.path.realpath(folder)
        self._parents: dict[str, str] = {}  # realpath costs a system call per component: once per folder is enough

    def resolve(self, name: str) -> str:
        """`name` when it stays inside; raises `DataError` with the reason when it does not."""
        if not name or "\0" in name:
            raise DataError("the image path is empty" if not name else "the image path contains a NUL character")
        if "\\" in name:
            raise DataError(f"image path {name!r} contains a backslash; write folders with forward slashes")
        if Path(name).is_absolute():
            raise DataError(f"image path {name!r} is absolute; paths are relative to the folder of the table")
        if ".." in name.split("/"):
            raise DataError(f"image path {name!r} contains '..'; images must be inside the folder of the table")
        self.check_links(name)
        return name

    def check_links(self, name: str) -> None:
        """Raises `DataError` when `name`, relative to the folder, leads out of it through a symbolic link."""
        parent, base = os.path.split(name)
        if parent not in self._parents:
            self._parents[parent] = os.path.realpath(os.path.join(self.real, parent))
        target = os.path.join(self._parents[parent], base)
        if os.path.islink(target):
            target = os.path.realpath(target)
        if os.path.commonpath([self.real, target]) != self.real:
            raise DataError(
                f"{printable(name)!r} is a link that leads out of {self.real}; copy the files, or give the folder that "
                "holds them"
            )
