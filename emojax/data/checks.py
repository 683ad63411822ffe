"""The check before training: every image is decoded once, and the labels are looked at as a whole."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from emojax import files
from emojax.data.decode import FORMATS, MAX_PIXELS, verify, whole
from emojax.data.storage import MAX_BYTES, Files, Unreadable
from emojax.errors import DataError
from emojax.types import Dataset, Split

Progress = Callable[[int, int], None]
"""(images done, images in all)."""

HELD_BYTES = 512 << 20
"""A split whose images all have one size and that takes no more than this as RGB is kept decoded."""


_AT_ONCE = 32
"""Images that a thread of the check takes at once."""


@dataclasses.dataclass(frozen=True, slots=True)
class Scan:
    """What the check found out about N images.

    Attributes:
      reason: position -> why it is unreadable.
      lost: position -> digest at an earlier check, of those that were readable then.
      digest: N strings, equal exactly for images with equal bytes; "" where the file could not be read.
      pixels: uint8 [N, H, W] (all grey) or [N, H, W, 3] when the images are small and of one size, else None.
    """

    reason: Mapping[int, str]
    digest: list[str]
    pixels: np.ndarray | None
    lost: Mapping[int, str] = dataclasses.field(default_factory=dict)


class Cache:
    """Results of earlier checks in a JSON file: record -> [stamp, digest, reason]. A file's stamp is its size and time
    of change, that of other images their digest. Another version of the decoder or its limits starts afresh.

    A record that was readable once keeps that entry when it is not any more: see `before`."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._key = f"1 pillow {PIL.__version__} {MAX_BYTES} {MAX_PIXELS} {FORMATS}"
        self._known: dict[str, list[str]] = {}
        self._new: dict[str, list[str]] = {}
        try:
            stored = json.loads(path.read_text(encoding="utf-8")) if path else {}
            if stored.get("key") == self._key:
                self._known = {k: v for k, v in stored["records"].items() if len(v) == 3}
        except (OSError, ValueError, AttributeError, KeyError, TypeError):
            self._known = {}  # no cache, or not ours: the check is simply made again

    def get(self, record: str, stamp: str) -> tuple[str, str] | None:
        """(digest, reason) of an earlier check of the same bytes; reason "" = readable."""
        stored = self._known.get(record)
        if stored is None or stored[0] != stamp:
            return None
        self._new[record] = stored
        return stored[1], stored[2]

    def put(self, record: str, stamp: str, digest: str, reason: str) -> None:
        """Keeps a result; "" = readable."""
        self._new[record] = self._known[record] if reason and self.before(record) else [stamp, digest, reason]

    def before(self, record: str) -> str:
        """Digest of a record that was readable at an earlier check, else ""."""
        _, digest, reason = self._known.get(record, ("", "", ""))
        return "" if reason else digest

    def save(self) -> None:
        """Replaces the file in one step; a cache that cannot be written is no error."""
        if self._path is None or self._new == self._known:
            return
        text = json.dumps({"key": self._key, "records": self._new}, separators=(",", ":"))
        with contextlib.suppress(OSError):
            files.write_text(self._path, text)


def scan(split: Split, *, cache: Cache, progress: Progress) -> Scan:
    """Decodes every image of `split` once in a few threads (Pillow's decoders release the interpreter lock).

    `progress` is called about a hundred times with numbers within this split. Arrays of pixels are not decoded.
    """
    images, n = split.images, len(split)
    if isinstance(images, np.ndarray):
        return Scan({}, [_digest(np.ascontiguousarray(image)) for image in images], images)
    reasons: dict[int, str] = {}
    digests = [""] * n
    held = _Held(images, n)
    every = max(1, n // 100)

    def look(i: int) -> None:
        digests[i], reason = _look(images, i, record=f"{split.name}/{split.id[i]}", cache=cache, held=held)
        if reason:
            reasons[i] = reason

    def look_at(part: range) -> int:
        for i in part:
            look(i)
        return len(part)

    done = told = 0
    # One at a time, small images cost less than handing them to a thread does.
    parts = [range(n)[i : i + _AT_ONCE] for i in range(0, n, _AT_ONCE)]
    with ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1)) as pool:
        try:
            for some in pool.map(look_at, parts):
                done += some
                if done - told >= every or done == n:
                    told = done
                    progress(done, n)
        except BaseException:  # a signal, told by `progress`: nobody waits for the rest
            pool.shutdown(cancel_futures=True)
            raise
    before = {i: cache.before(f"{split.name}/{split.id[i]}") for i in reasons}
    lost = {i: digest for i, digest in before.items() if digest}
    return Scan(dict(sorted(reasons.items())), digests, held.result(reasons), lost)


def _look(images: Any, i: int, *, record: str, cache: Cache, held: _Held) -> tuple[str, str]:
    """(digest, reason) of image i; reads the file only when the cache does not know it."""
    stamp = _stamp(images.path(i)) if isinstance(images, Files) else ""
    if stamp and held.pixels is None and (known := cache.get(record, stamp)):
        return known
    digest = ""
    try:
        data = images[i]
        digest = _digest(data)
        if not stamp and held.pixels is None and (known := cache.get(record, digest)):
            return known
        if held.pixels is not None:
            held.put(i, whole(data))
        else:
            verify(data)
    except Unreadable as error:
        reason = str(error)
    else:
        reason = ""
    cache.put(record, stamp or digest, digest, reason)
    return digest, reason


class _Held:
    """Collects decoded images while they all have the size of the first one that is readable."""

    def __init__(self, images: Any, n: int) -> None:
        self.pixels: np.ndarray | None = None
        self._lock = threading.Lock()
        for i in range(min(n, 10)):
            try:
                height, width = whole(images[i]).shape[:2]
            except Unreadable:
                continue
            if n * height * width * 3 <= HELD_BYTES:
                self.pixels = np.zeros((n, height, width), np.uint8)
            return

    def put(self, i: int, image: np.ndarray) -> None:
        """Keeps uint8 [H, W] or [H, W, 3]; the first one with colours makes room for colours."""
        if image.ndim == 3 and (image[..., 0] == image[..., 1]).all() and (image[..., 0] == image[..., 2]).all():
            image = image[..., 0]
        with self._lock:  # or another thread would write to an array that is being replaced
            if self.pixels is None or self.pixels.shape[1:3] != image.shape[:2]:
                self.pixels = None
                return
            if image.ndim == 3 and self.pixels.ndim == 3:
                self.pixels = np.repeat(self.pixels[..., None], 3, -1)
            self.pixels[i] = image if image.ndim == self.pixels.ndim - 1 else image[..., None]

    def result(self, reasons: Mapping[int, str]) -> np.ndarray | None:
        return None if self.pixels is None or len(reasons) == len(self.pixels) else self.pixels


def _digest(data: Any) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def _stamp(path: str) -> str:
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return "missing"
    return f"{status.st_size}:{status.st_mtime_ns}"


def check_bad(found: list[tuple[str, str]], *, total: int, limit: float) -> None:
    """Raises `DataError` when more than `limit` of `total` images are unreadable, naming the first ten."""
    if len(found) <= limit * total:
        return
    shown = "; ".join(f"{name}: {reason}" for name, reason in found[:10])
    more = f"; and {len(found) - 10} more" if len(found) > 10 else ""
    share = f"{len(found)} of {total} images cannot be read ({len(found) / total:.1%})"
    raise DataError(f"{share}, more than config.data.bad_limit = {limit:g}: {shown}{more}")


def check_labels(dataset: Dataset) -> None:
    """Raises `DataError` for a set without training records, an empty split, fewer than two classes, a class without
    training images (also when only `val` or `test` has it), or a record name that occurs twice."""
    names = dataset.class_names
    if "train" not in dataset.splits:
        raise DataError(f"found the splits {', '.join(dataset.splits)} but no training records")
    for name, split in dataset.splits.items():
        if len(split) == 0:
            raise DataError(f"{dataset.name}: the split {name} is empty")
        unique, first = np.unique(split.id, return_index=True)
        if len(unique) < len(split):
            twice = split.id[np.setdiff1d(np.arange(len(split)), first)[0]]
            raise DataError(f"{dataset.name}: two records of {name} are called {str(twice)!r}")
    if len(names) < 2:
        raise DataError(f"found only the class {', '.join(names) or '(none)'}; training needs two or more")
    mass = dataset.splits["train"].label.sum(0)
    if (absent := np.flatnonzero(mass == 0)).size:
        lacking = ", ".join(names[k] for k in absent)
        raise DataError(
            f"{dataset.name}: no training images for {lacking}; remove the class from every split or add images"
        )


def leaks(digests: Mapping[str, list[str]]) -> list[str]:
    """Notes on images of `val` and `test` whose bytes are also in `train`: {split: digests} -> lines."""
    train = set(digests.get("train", ())) - {""}
    notes = []
    for name in ("val", "test"):
        count = sum(digest in train for digest in digests.get(name, ()))
        if count:
            notes.append(f"{count} of {len(digests[name])} {name} images are also in the training split, byte for byte")
    return notes
