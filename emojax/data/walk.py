"""Pictures one after another, from files, folders and a list on standard input, without holding them all."""

# Text paths throughout: names may hold any bytes, and a Path object per image is slow.
# ruff: noqa: PTH112, PTH113, PTH118
from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from emojax.data.storage import EXTENSIONS
from emojax.errors import DataError

STDIN = "-"
_BLOCK = 1 << 16
_LONGEST = 1 << 16
"""Longest path of a list, bytes: a file that is no list does not fill the memory."""


def pictures(given: Sequence[str], listed: BinaryIO | None = None) -> Iterator[str]:
    """Paths of pictures: files as they are given, those below folders by name, "-" = those of `listed`.

    Memory grows with the names of the largest single folder, of which they are sorted. Links to folders are not
    followed. What a list names is passed on even if it does not exist: whoever reads it will tell.

    Raises `DataError` for a given path that does not exist, and for a given folder or a list without pictures.
    """
    for name in given:
        if name == STDIN and listed is not None:
            empty = True
            for line in lines(listed):
                for picture in below(line) if os.path.isdir(line) else (line,):
                    empty = False
                    yield picture
            if empty:
                raise DataError("standard input: expected paths of pictures or folders with some, found none")
        elif os.path.isdir(name):
            empty = True
            for picture in below(name):
                empty = False
                yield picture
            if empty:
                raise DataError(f"{name}: the folder has no pictures ({', '.join(sorted(EXTENSIONS))})")
        elif os.path.isfile(name):
            yield name
        else:
            raise DataError(f"{name}: no such file or folder")


def below(folder: str) -> Iterator[str]:
    """Sorted paths of the pictures in a folder and all folders below it; links that lead nowhere too, so that whoever
    reads them tells."""
    try:
        with os.scandir(folder) as entries:
            found = sorted(
                (entry.name, entry.is_dir(follow_symlinks=False))
                for entry in entries
                if entry.name.lower().endswith(EXTENSIONS) or entry.is_dir(follow_symlinks=False)
            )
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed: {error.strerror}") from error
    for name, is_folder in found:
        path = os.path.join(folder, name)
        if is_folder:
            yield from below(path)
        elif not os.path.isdir(path):
            yield path


def lines(stream: BinaryIO) -> Iterator[str]:
    """The paths of a list: one per line, or ended by NUL characters as by `find -print0`; empty ones are left out."""
    rest, mark = b"", b""
    read = getattr(stream, "read1", stream.read)  # what is there, not a full block: the list may grow slowly
    while block := read(_BLOCK):
        mark = mark or (b"\0" if b"\0" in block else b"\n")
        *whole, rest = (rest + block).split(mark)
        if len(rest) > _LONGEST:
            raise DataError(f"standard input: a path of more than {_LONGEST:,} bytes; expected one path per line")
        for line in whole:
            if name := line.removesuffix(b"\r") if mark == b"\n" else line:
                yield os.fsdecode(name)
    if rest:
        yield os.fsdecode(rest)
