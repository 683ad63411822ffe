"""Cutting records into the folds of a cross-validation."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from emojax.errors import DataError

_TURNS = 20
"""Bound on the rounds of exchanges; one or two are usual, and the last one changes nothing."""


def folds(
    label: np.ndarray, *, content: Sequence[str], k: int, seed: int, groups: Sequence[str] | None = None
) -> np.ndarray:
    """The fold, 0 to k - 1, of each of N records: int64 [N], stratified by class (the argmax of the label).

    Args:
      label: float [N, K].
      content: N digests of the images' bytes; identical images are always in one fold.
      k: number of folds, at least 2.
      seed: another seed, another cut, as far as the groups leave a choice.
      groups: N names (a person, a video) or None; records of one group are always in one fold. A record whose name is
        empty is on its own.

    Groups are dealt out whole, the largest first (in shares of the classes, so that rare classes count as much as
    frequent ones), each to the fold that holds least of the group's classes; then groups are moved or exchanged as long
    as that evens the classes out. Among equals, a hash of (seed, content) decides, so neither order nor names of the
    files matter. Without groups and identical images, the counts of a class differ by at most 1 between folds, and so
    do the sizes.

    Raises:
      DataError: k < 2, or fewer groups of records than folds.
    """
    if k < 2:
        raise DataError(f"a cross-validation needs at least 2 folds, found {k}")
    unit = connected(content, groups)
    count = int(unit.max()) + 1 if len(unit) else 0
    if count < k:
        what = "records" if groups is None else "groups of records"
        raise DataError(
            f"{k} folds need at least {k} {what} (identical images count once), but there are {count}; use fewer folds"
        )
    mass, weight, rank = _table(label, unit, content, f"fold:{seed}")
    square, main = (mass**2 * weight).sum(axis=1).round(9), mass.argmax(axis=1)
    order = sorted(range(count), key=lambda u: (-square[u], main[u], rank[u]))
    fold = _deal(mass, weight, order, k=k)
    _exchange(mass, weight, fold, np.array([u for u in order if mass[u].sum() > 1], np.int64), k=k)
    return fold[unit]


def cut(
    label: np.ndarray, *, content: Sequence[str], groups: Sequence[str], fractions: Mapping[str, float], seed: int
) -> dict[str, np.ndarray]:
    """Positions of each part of a set of N records, like `splits.cut`, but no group is in two parts.

    Args:
      label: float [N, K].
      content: N digests of the images' bytes; identical images are in one part.
      groups: N names (a person, a video); a record whose name is empty is on its own.
      fractions: part -> share, in (0, 1), in sum below 1; "train" takes what is left.
      seed: another seed, another cut, as far as the groups leave a choice.

    Groups are dealt out whole, the largest first, each to the part that is furthest from its share of the group's
    classes; among equals a hash of (seed, content) decides. Every part gets at least one group.

    Returns {"train": int64 [N_train], part: int64 [N_part], ...}, each ascending; disjoint, and complete together.
    Raises `DataError` when there are fewer groups than parts.
    """
    share = np.array([1 - sum(fractions.values()), *fractions.values()])
    unit = connected(content, groups)
    mass, weight, rank = _table(label, unit, content, f"cut:{seed}")
    if len(mass) < len(share):
        raise DataError(f"{len(mass)} groups of records cannot be cut into {', '.join(['train', *fractions])}")
    due = share[:, None] * mass.sum(axis=0)
    held = np.zeros_like(due)
    part = np.zeros(len(mass), np.int64)
    order = sorted(range(len(mass)), key=lambda u: (-(mass[u] ** 2 * weight).sum().round(9), rank[u]))
    for left, u in zip(range(len(order), 0, -1), order, strict=True):
        # By how much the squared distance from the shares falls, in relation to the size of the part.
        gain = (((held - due) ** 2 - (held + mass[u] - due) ** 2) * weight).sum(axis=1) / share
        empty = held.sum(axis=1) == 0
        if empty.sum() >= left:
            gain[~empty] = -np.inf
        part[u] = int(gain.argmax())
        held[part[u]] += mass[u]
    return {name: np.flatnonzero(part[unit] == i) for i, name in enumerate(("train", *fractions))}


def check(label: np.ndarray, *, k: int, class_names: Sequence[str], where: str) -> None:
    """Raises `DataError` where a class (argmax of `label`, float [N, K]) has fewer records than there are folds."""
    count = np.bincount(label.argmax(axis=1), minlength=len(class_names))
    rare = [f"{name} ({n})" for name, n in zip(class_names, count.tolist(), strict=True) if 0 < n < k]
    if rare:
        raise DataError(
            f"{where}: {k} folds cannot be stratified: too few records of {', '.join(rare)}; use fewer folds"
        )


def notes(label: np.ndarray, fold: np.ndarray, *, class_names: Sequence[str]) -> tuple[str, ...]:
    """One line for every class that has no record in some fold and so is not judged there.

    Args:
      label: float [N, K].
      fold: int [N], from `folds`.
      class_names: K names.
    """
    k = int(fold.max()) + 1
    classes = label.argmax(axis=1)
    lines = []
    for c, name in enumerate(class_names):
        held = np.bincount(fold[classes == c], minlength=k)
        if held.any() and not held.all():
            absent = ", ".join(str(f + 1) for f in np.flatnonzero(held == 0))
            lines.append(f"class {name} ({held.sum()} records) is missing from the validation part of fold {absent}")
    return tuple(lines)


def in_one_fold(label: np.ndarray, fold: np.ndarray) -> tuple[int, ...]:
    """Ids of the classes whose records all lie in one fold, for `label` float [N, K] and `fold` int [N]."""
    classes = label.argmax(axis=1)
    return tuple(int(c) for c in np.unique(classes) if len(np.unique(fold[classes == c])) == 1)


def _table(
    label: np.ndarray, unit: np.ndarray, content: Sequence[str], salt: str
) -> tuple[np.ndarray, np.ndarray, list[bytes]]:
    """(records of each class in each unit [U, K], weight of a class [K], an order that hangs on `salt` alone [U])."""
    mass = np.zeros((int(unit.max(initial=-1)) + 1, label.shape[1]))
    np.add.at(mass, (unit, label.argmax(axis=1)), 1)
    weight = len(label) / np.maximum(mass.sum(axis=0), 1) ** 2
    least: dict[int, str] = {}
    for u, digest in zip(unit.tolist(), content, strict=True):
        least[u] = min(digest, least.get(u, digest))
    return mass, weight, [hashlib.sha256(f"{salt}:{least[u]}".encode()).digest() for u in range(len(mass))]


def connected(content: Sequence[str], groups: Sequence[str] | None) -> np.ndarray:
    """int64 [N]: records that share a content or a group, directly or through others, get one number."""
    parent = list(range(len(content)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for names in (content, groups or ()):
        seen: dict[str, int] = {}
        for i, name in enumerate(names):
            if name != "":
                parent[root(i)] = root(seen.setdefault(name, i))
    return np.unique([root(i) for i in range(len(content))], return_inverse=True)[1].astype(np.int64)


# Below, U units have `mass` [U, K] records of each class, and a fold that holds h [K] records costs sum(weight h²); the
# weight [K] makes shares of the classes count, not records. Costs are rounded: equal ones are equal on every machine.


def _deal(mass: np.ndarray, weight: np.ndarray, order: Sequence[int], *, k: int) -> np.ndarray:
    """int64 [U] folds: each unit in turn to the fold whose cost grows least, among equals to the smallest."""
    fold = np.zeros(len(mass), np.int64)
    held = np.zeros((k, mass.shape[1]))
    for u in order:
        cost = (held * (mass[u] * weight)).sum(axis=1).round(9)
        fold[u] = np.where(cost == cost.min(), held.sum(axis=1), np.inf).argmin()
        held[fold[u]] += mass[u]
    return fold


def _exchange(mass: np.ndarray, weight: np.ndarray, fold: np.ndarray, units: np.ndarray, *, k: int) -> None:
    """Moves `units` to other folds, or two of them into each other's, in place, as long as the folds' total cost falls.

    At most `_TURNS` turns; each looks once at every pair.
    """
    held = np.stack([mass[fold == f].sum(axis=0) for f in range(k)])
    for _ in range(_TURNS):
        before = fold[units]
        for u in units:
            f = fold[u]
            # Half of what the total changes by when u goes to each fold, and when it changes places with each unit.
            moved = (weight * mass[u] * (held - held[f] + mass[u])).sum(axis=1).round(9)
            moved[f] = 0
            more = mass[units] - mass[u]
            swapped = (weight * more * (more + held[f] - held[fold[units]])).sum(axis=1).round(9)
            swapped[fold[units] == f] = 0
            if moved.min() == swapped.min() == 0:
                continue
            if moved.min() <= swapped.min():
                trips = [(u, f, int(moved.argmin()))]
            else:
                other = units[swapped.argmin()]
                trips = [(u, f, fold[other]), (other, fold[other], f)]
            for v, source, target in trips:
                held[source] -= mass[v]
                held[target] += mass[v]
                fold[v] = target
        if (fold[units] == before).all():
            break
