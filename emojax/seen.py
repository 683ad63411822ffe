"""A set of names that stays small: 16 bytes a name, however long the names are."""

from __future__ import annotations

import hashlib

import numpy as np

_RECENT = 1 << 16
"""New names wait in an ordinary set until there are so many; then they are sorted in."""


class Seen:
    """Which names there have been, by the first 128 bits of their BLAKE2b digests.

    A million names take 16 MB; as strings in a set they would take 150 MB and more. Two different names with one digest
    are less likely than a fault of the memory.
    """

    def __init__(self) -> None:
        self._high = np.empty(0, np.uint64)
        self._low = np.empty(0, np.uint64)
        self._recent: set[tuple[int, int]] = set()

    def __len__(self) -> int:
        return len(self._high) + len(self._recent)

    def __contains__(self, name: str) -> bool:
        return self._has(_digest(name))

    def add(self, name: str) -> bool:
        """Takes the name in; whether it is new."""
        digest = _digest(name)
        if self._has(digest):
            return False
        self._recent.add(digest)
        if len(self._recent) >= _RECENT:
            self._settle()
        return True

    def _has(self, digest: tuple[int, int]) -> bool:
        if digest in self._recent:
            return True
        high, low = digest
        i = int(np.searchsorted(self._high, np.uint64(high)))
        while i < len(self._high) and int(self._high[i]) == high:
            if int(self._low[i]) == low:
                return True
            i += 1
        return False

    def _settle(self) -> None:
        new = np.array(list(self._recent), np.uint64)
        high, low = np.concatenate([self._high, new[:, 0]]), np.concatenate([self._low, new[:, 1]])
        order = np.argsort(high)
        self._high, self._low = high[order], low[order]
        self._recent = set()


def _digest(name: str) -> tuple[int, int]:
    digest = hashlib.blake2b(name.encode("utf-8", "backslashreplace"), digest_size=16).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")
