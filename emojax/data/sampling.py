"""What is drawn at a position of the endless training stream: random numbers, substitutes of records that cannot be
read and, for the balanced sampler, the records themselves.

All are pure functions of (seed, position), so that a resumed run and any number of loader processes see the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from emojax.errors import DataError
from emojax.types import Split

MIXING = 1 << 63  # keep the keys of batches and of the sampler apart from those of images
_SAMPLING = 1 << 62
_SUBSTITUTES = MIXING + _SAMPLING

TRIES = 8
"""Substitutes that are tried of the record's own class, and then of any."""
_DRAWING = 3 << 61


def generator(seed: int, position: int) -> np.random.Generator:
    """The random numbers of one image: Philox, a counter-based generator with the same stream on every machine.

    Salmon et al. 2011, Parallel random numbers: as easy as 1, 2, 3, doi:10.1145/2063384.2063405.
    """
    key: Any = _Key(seed, position)  # NumPy takes any ISeedSequence; its type stubs only know one
    return np.random.Generator(np.random.Philox(key))


def drawn(label: np.ndarray, *, seed: int, positions: Sequence[int]) -> np.ndarray:
    """float32 [B, K]: for every row of `label` one class, drawn from its distribution by (seed, position)."""
    out = np.zeros_like(label)
    for i, position in enumerate(positions):
        edges = np.cumsum(label[i], dtype=np.float64)
        point = generator(seed, _DRAWING + position).random() * edges[-1]
        out[i, int(np.searchsorted(edges[:-1], point, side="right"))] = 1
    return out


class _Key(np.random.bit_generator.ISeedSequence):
    """Hands Philox its 128-bit key as it is; `Philox(key=...)` does the same but first asks the system for entropy,
    which takes longer than all the random numbers of an image."""

    def __init__(self, seed: int, position: int) -> None:
        self._key = np.array([seed, position], np.uint64)

    def generate_state(self, n_words: int, dtype: type = np.uint64) -> np.ndarray:
        del n_words, dtype  # Philox asks for two words of 64 bits
        return self._key


@dataclasses.dataclass(frozen=True, slots=True)
class Balanced:
    """Position -> record, with replacement: every class that has records is equally likely, and so is every record
    within its class. Make it with `balanced`.

    Attributes:
      seed: of the draws.
      records: int64 [M]; the records that may be drawn, class by class.
      start: int64 [classes + 1]; where each class begins in `records`.
    """

    seed: int
    records: np.ndarray
    start: np.ndarray

    def __call__(self, position: int, record: int) -> int:
        """The record at `position`, instead of `record` (as Grain's `map_with_index` wants it)."""
        del record
        choice, draw = generator(self.seed, _SAMPLING + position).random(2).tolist()
        i = int(choice * (len(self.start) - 1))
        first, stop = self.start[i : i + 2].tolist()
        return int(self.records[first + int(draw * (stop - first))])


def balanced(split: Split, seed: int) -> Balanced:
    """The balanced sampler of a split.

    The class of a record is the largest entry of its label. Records of weight 0 are never drawn, other weights change
    nothing. Raises `DataError` when no record has a weight.
    """
    live, classes = _by_class(split)
    if not len(live):
        raise DataError("config.data.sampler: balanced: every record of the training split has weight 0")
    _, count = np.unique(classes, return_counts=True)
    return Balanced(seed, live, np.concatenate([[0], np.cumsum(count)]))


def _by_class(split: Split) -> tuple[np.ndarray, np.ndarray]:
    """(records with weight, class by class and in their order within each, their classes)."""
    live = np.flatnonzero(split.weight > 0)
    classes = split.label[live].argmax(axis=1)
    order = np.argsort(classes, kind="stable")
    return live[order], classes[order]


@dataclasses.dataclass(frozen=True, slots=True)
class Substitutes:
    """(position, record) -> the records to take instead of one that cannot be read. Make it with `substitutes`.

    First `TRIES` draws of the record's class, each of its other records equally likely, so that the mass of the
    classes stays; then `TRIES` of all records, for a class of which nothing else can be read.

    Attributes:
      seed: of the draws.
      records: int64 [M]; the records with weight, class by class, ascending within each.
      start: int64 [K + 1]; where each class begins in `records`.
      owner: int64 [N]; class of every record.
    """

    seed: int
    records: np.ndarray
    start: np.ndarray
    owner: np.ndarray

    def __call__(self, position: int, record: int) -> Iterator[int]:
        """At most 2 `TRIES` records; which of them can be read is for the caller to find out."""
        draws = generator(self.seed, _SUBSTITUTES + position).random((2, TRIES)).tolist()
        first, stop = self.start[self.owner[record] : self.owner[record] + 2].tolist()
        own = self.records[first:stop]
        for pool, row in ((own, draws[0]), (self.records, draws[1])):
            others = pool[pool != record]
            yield from (int(others[int(draw * len(others))]) for draw in row if len(others))


def substitutes(split: Split, seed: int) -> Substitutes:
    """The substitutes of a split's records; the class of a record is the largest entry of its label."""
    live, classes = _by_class(split)
    start = np.searchsorted(classes, np.arange(split.label.shape[1] + 1))
    return Substitutes(seed, live, start, split.label.argmax(axis=1))
