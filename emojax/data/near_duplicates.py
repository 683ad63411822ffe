"""Pairs of images that are one picture, although mirrored, cropped, encoded again, or of another brightness.

Candidates come from products of descriptors: the low frequencies of a thumbnail's cosine transform, in coordinates
where pictures of this data set differ most in relation to what a crop, a brightness change or noise does to one picture
(linear discriminant analysis, Fisher 1936; what changes do is measured on a sample). Mirroring changes the sign of the
transform's odd columns and nothing else, so one product of the even part and one of the odd part, added and subtracted,
compare a picture with another and with its mirror image. `alignment` then judges the candidates.

With P = N² / 2 pairs the products take 128 P operations: 0.64 TFLOP for 100,000 images.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from emojax.data import alignment
from emojax.data.thumbnails import SIDE

VERSION = 3
"""Of what is found; cached results of another one are not used."""

FLAT = 4.0
"""Thumbnails with a standard deviation below this many levels show nothing that could be recognised."""

DRAWN = 6.0
"""Bits. A thumbnail whose grey levels have less entropy is taken for a drawing: few colours, each over an area. So are
0.9 % of FER2013's photographs and 5 % of CIFAR-10's, and 99.5 % of a set of emoji (as JPEGs of quality 90: 86 %)."""

_WAVES = 10
"""Cosines, in half waves a side, that a descriptor is made from."""

_PARTS = 32
"""Numbers of the even and of the odd half of a descriptor."""

_SAMPLE = 1500
_PER_IMAGE, _AT_LEAST = 3, 20_000
"""Candidates that are judged at most, about: so many per image, or so many in all; the most similar ones."""

_FEW = 100
"""Of so few images, all pairs are judged: a sample would say nothing about them."""

_ROWS, _COLUMNS, _JUDGED = 512, 2048, 2048
"""Sizes of the pieces: scores of 4 MB stay in the cache of a core."""


@dataclasses.dataclass(frozen=True, slots=True)
class Pairs:
    """P pairs that look like one picture.

    Attributes:
      index: int64 [P, 2], first < second, sorted.
      mirrored: bool [P].
      detail: float32 [P], correlation of the aligned pictures' details, at most 1.
      worst: float32 [P], the largest difference of any part, see `alignment`.
      drawn: bool [P], one of the two is a drawing, see `drawings`.
    """

    index: np.ndarray
    mirrored: np.ndarray
    detail: np.ndarray
    worst: np.ndarray
    drawn: np.ndarray

    def take(self, chosen: np.ndarray) -> Pairs:
        """The pairs that `chosen`, bool [P] or positions, names."""
        return Pairs(*(getattr(self, name)[chosen] for name in Pairs.__slots__))


def none() -> Pairs:
    """No pairs."""
    truth, number = np.zeros(0, bool), np.zeros(0, np.float32)
    return Pairs(np.zeros((0, 2), np.int64), truth, number, number, truth)


def search(thumbs: np.ndarray, *, groups: np.ndarray | None = None, poll: Callable[[], None] = lambda: None) -> Pairs:
    """All pairs of copies among N thumbnails, uint8 [N, 32, 32].

    Args:
      groups: int [N], ascending: only pairs from two different groups are looked for, such as splits. None = all pairs.
      poll: called now and then; what it raises ends the search.

    Flat pictures (`flat`) have no copies here.
    """
    # The pieces are small and there is a thread for each core: BLAS's own threads would wait for one another.
    with threadpool_limits(1, user_api="blas"):
        return _search(thumbs, groups, poll)


def _search(thumbs: np.ndarray, groups: np.ndarray | None, poll: Callable[[], None]) -> Pairs:
    textured = np.flatnonzero(~flat(thumbs))
    thumbs, n = thumbs[textured], len(textured)
    if groups is None:
        reach = np.arange(1, n + 1)
    else:
        own = groups[textured]
        reach = np.searchsorted(own, own, side="right")
    if n <= _FEW:
        found = [(i, j, side) for i in range(n) for j in range(reach[i], n) for side in (0, 1)]
        candidates = np.array(found, np.int64).reshape(-1, 3)
    else:
        candidates = _candidates(thumbs, reach, poll)
    return _judged(thumbs, candidates, textured, poll)


def merged(first: Pairs, second: Pairs | None) -> Pairs:
    """The pairs of both, each once."""
    if second is None:
        return first
    both = [np.concatenate([getattr(part, name) for part in (first, second)]) for name in Pairs.__slots__]
    index, rows = np.unique(both[0], axis=0, return_index=True)
    return Pairs(index, *(part[rows] for part in both[1:]))


def flat(thumbs: np.ndarray) -> np.ndarray:
    """bool [N]: thumbnails, uint8 [N, 32, 32], that show nothing, such as one colour."""
    return thumbs.std((1, 2)) < FLAT if len(thumbs) else np.zeros(0, bool)


def drawings(thumbs: np.ndarray) -> np.ndarray:
    """bool [N]: thumbnails, uint8 [N, 32, 32], that look like drawings, not like photographs."""
    counts = np.array([np.bincount(x.ravel(), minlength=256).astype(np.uint16) for x in thumbs]).reshape(-1, 256)
    share = counts / SIDE**2
    bits = share * -np.log2(np.maximum(share, 1 / SIDE**2))
    return bits.sum(axis=1) < DRAWN


def _judged(thumbs: np.ndarray, candidates: np.ndarray, names: np.ndarray, poll: Callable[[], None]) -> Pairs:
    """The candidates, int64 [M, 3] (first, second, mirrored), that are copies, under the names of their images."""

    def part(start: int) -> np.ndarray:
        some = candidates[start : start + _JUDGED]
        second = thumbs[some[:, 1]]
        mirrored = some[:, 2] == 1
        second[mirrored] = second[mirrored, :, ::-1]
        return np.stack(alignment.judge(thumbs[some[:, 0]], second))

    parts = _threaded(part, range(0, len(candidates), _JUDGED), poll)
    detail, worst = np.concatenate([np.zeros((2, 0), np.float32), *parts], 1)
    copies = alignment.alike(detail, worst)
    found, detail, worst = candidates[copies], detail[copies], worst[copies]
    # A picture that is its own mirror image is found both ways; the better one stays.
    order = np.lexsort((found[:, 2], -detail, found[:, 1], found[:, 0]))
    first = np.ones(len(found), bool)
    first[1:] = (found[order][1:, :2] != found[order][:-1, :2]).any(1)
    order = order[first]
    found = found[order]
    index = found[:, :2].reshape(-1, 2)
    seen, place = np.unique(index, return_inverse=True)  # a picture may be in many pairs
    drawn = np.asarray(drawings(thumbs[seen])[place.reshape(-1, 2)].any(axis=1))
    return Pairs(names[index], found[:, 2] == 1, np.minimum(detail[order], 1), worst[order], drawn)


def _candidates(thumbs: np.ndarray, reach: np.ndarray, poll: Callable[[], None]) -> np.ndarray:
    """int64 [M, 3]: (i, j, mirrored) with j >= reach[i] whose descriptors are alike enough."""
    even, odd, least = _descriptors(thumbs)
    n, rng = len(thumbs), np.random.default_rng(0)
    rows = np.sort(rng.choice(n, min(n, 500), replace=False))
    scores = even[rows] @ even.T + np.abs(odd[rows] @ odd.T)
    share = (n - reach).sum() / n**2
    most = min(1.0, max(_PER_IMAGE * n, _AT_LEAST) / max(1, share * n**2))
    least = max(least, float(np.quantile(scores, 1 - most)))

    def tile(corner: tuple[int, int]) -> np.ndarray:
        top, left = corner
        down, right = slice(top, top + _ROWS), slice(left, left + _COLUMNS)
        same = even[down] @ even[right].T
        turn = odd[down] @ odd[right].T
        both = np.abs(turn)
        both += same
        flat_index = np.flatnonzero(both.ravel() >= least)
        if not flat_index.size:
            return np.zeros((0, 3), np.int64)
        i, j = np.divmod(flat_index, same.shape[1])
        same, turn = same.ravel()[flat_index], turn.ravel()[flat_index]
        ahead = j + left >= reach[i + top]
        pieces = [
            np.stack([i[ok] + top, j[ok] + left, np.full(ok.sum(), side)], 1)
            for side, ok in ((0, ahead & (same + turn >= least)), (1, ahead & (same - turn >= least)))
        ]
        return np.concatenate(pieces).astype(np.int64)

    corners = [(t, c) for t in range(0, n, _ROWS) for c in range(_floor(int(reach[t])), n, _COLUMNS)]
    return np.concatenate([np.zeros((0, 3), np.int64), *_threaded(tile, corners, poll)])


def _floor(column: int) -> int:
    return column // _COLUMNS * _COLUMNS


def _threaded(work: Callable[[Any], Any], items: Iterable[Any], poll: Callable[[], None]) -> Iterator[Any]:
    """Results of `work` in the order of `items`, by as many threads as there are cores (NumPy lets go of the lock)."""
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        waiting, items = [], iter(items)
        for item in itertools.islice(items, 4 * (os.cpu_count() or 1)):
            waiting.append(pool.submit(work, item))
        while waiting:
            poll()
            yield waiting.pop(0).result()
            for item in itertools.islice(items, 1):
                waiting.append(pool.submit(work, item))


def _descriptors(thumbs: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """(even [N, 32], odd [N, 32], least score): the score of a pair is the product of the even parts plus that of the
    odd ones, minus for the mirror image; at most 1. No changed picture of the sample scores less."""
    even, odd = _waves(thumbs)
    rng = np.random.default_rng(0)
    sample = np.tile(rng.choice(len(thumbs), min(_SAMPLE, len(thumbs)), replace=False), 4)
    changed_even, changed_odd = _waves(_changed(thumbs[sample], rng))
    centre = even.mean(0, dtype=np.float64).astype(np.float32)
    in_even = _directions(changed_even - even[sample], even - centre)
    in_odd = _directions(changed_odd - odd[sample], odd)

    def descriptor(even: np.ndarray, odd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        even, odd = (even - centre) @ in_even, odd @ in_odd
        length = np.sqrt((even**2).sum(1) + (odd**2).sum(1))[:, None] + 1e-9
        return even / length, odd / length

    even, odd = descriptor(even, odd)
    changed_even, changed_odd = descriptor(changed_even, changed_odd)
    scores = (changed_even * even[sample]).sum(1) + (changed_odd * odd[sample]).sum(1)
    return even, odd, float(scores.min())


@functools.cache
def _cosines() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(cosines [10, 32], which coefficients [10, 10] are even in x, which are odd), the mean left out."""
    k = np.arange(_WAVES)
    matrix = np.sqrt(2 / SIDE) * np.cos(np.pi * np.outer(k, (np.arange(SIDE) + 0.5) / SIDE))
    matrix[0] /= np.sqrt(2)
    kept = (k[:, None] ** 2 + k**2 <= _WAVES**2) & (k[:, None] + k > 0)
    return matrix.astype(np.float32), kept & (k % 2 == 0), kept & (k % 2 == 1)


def _waves(thumbs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Even and odd low-frequency coefficients, float32 [N, about 40] each; both together have length 1."""
    cosines, is_even, is_odd = _cosines()
    found = np.empty((len(thumbs), _WAVES, _WAVES), np.float32)
    for start in range(0, len(thumbs), 4096):
        some = slice(start, start + 4096)
        found[some] = cosines @ thumbs[some].astype(np.float32) @ cosines.T
    even, odd = found[:, is_even], found[:, is_odd]
    length = np.sqrt((even**2).sum(1) + (odd**2).sum(1))[:, None] + 1e-3
    return even / length, odd / length


def _changed(thumbs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each thumbnail cropped to 90 % of its area, brighter or darker with clipping, and with a little noise."""
    n = len(thumbs)
    wide = 0.9 ** rng.uniform(0, 1, n)
    sides = np.stack([wide, 0.9 / wide], 1)
    shift = rng.uniform(-0.5, 0.5, (n, 2)) * (1 - sides)
    move = np.stack([sides - 1, shift], 2).reshape(n, 4).astype(np.float32)
    cropped, _ = alignment.moved(thumbs.astype(np.float32), move)
    gain, offset = rng.uniform(0.7, 1.3, (n, 1, 1)), rng.uniform(-30, 30, (n, 1, 1))
    return np.clip(cropped * gain + offset + rng.normal(0, 3, cropped.shape), 0, 255).astype(np.uint8)


def _directions(changes: np.ndarray, pictures: np.ndarray) -> np.ndarray:
    """float32 [D, 32]: along these, `pictures` [N, D] vary most in relation to `changes` [M, D], and by 1."""
    within = changes.T.astype(np.float64) @ changes / len(changes)
    total = pictures.T.astype(np.float64) @ pictures / len(pictures)
    within += np.eye(len(within)) * (1e-6 * np.trace(within) + 1e-12)
    half = np.linalg.inv(np.linalg.cholesky(within))
    ratio, vectors = np.linalg.eigh(half @ total @ half.T)
    ratio, vectors = ratio[::-1][:_PARTS], vectors[:, ::-1][:, :_PARTS]
    return (half.T @ vectors / np.sqrt(np.maximum(ratio, 1e-9))).astype(np.float32)
