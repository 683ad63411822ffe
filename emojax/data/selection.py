"""A choice of the classes of a data set, in another order or under other names."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from emojax.data import schemas
from emojax.errors import DataError
from emojax.types import Dataset, Split


def choose(dataset: Dataset, classes: Sequence[str], *, where: str) -> Dataset:
    """`dataset` with the classes `classes`, which are some of its own in any order and any known spelling.

    Records of other classes are left out, and told in the notes. Raises `DataError` for a class that it does not have.
    """
    found = [schemas.find(name, dataset.class_names) for name in classes]
    if (lost := [name for name, own in zip(classes, found, strict=True) if own is None]) or len(set(found)) < len(
        found
    ):
        said = f"{lost[0]!r} is none of its classes" if lost else "two of them are one class"
        raise DataError(f"{where}: {said}; {dataset.name} has {', '.join(dataset.class_names)}")
    own = {name: i for i, name in enumerate(dataset.class_names)}
    groups = [[own[str(name)]] for name in found]
    splits, notes = {}, []
    for key, split in dataset.splits.items():
        splits[key], gone = regroup(split, groups)
        lost_classes = [f"{n:,} {dataset.class_names[k]}" for k, n in gone.items()]
        notes += [f"{key}: left out {', '.join(lost_classes)}"] if lost_classes else []
    return dataclasses.replace(dataset, class_names=tuple(classes), splits=splits, notes=(*dataset.notes, *notes))


def regroup(split: Split, groups: Sequence[Sequence[int]]) -> tuple[Split, Mapping[int, int]]:
    """Joins classes: class i of the result is the sum of the old classes `groups[i]`.

    Records whose strongest class is in no group are left out; other labels keep their shares of what is left.
    Returns (the split, {old class: records left out}).
    """
    label = np.stack([split.label[:, list(group)].sum(1) for group in groups], 1)
    top = split.label.argmax(1)
    kept = np.flatnonzero(np.isin(top, [k for group in groups for k in group]))
    label = label[kept] / label[kept].sum(1, keepdims=True)
    numbers = np.bincount(np.delete(top, kept), minlength=split.label.shape[1])
    gone = {int(k): int(numbers[k]) for k in np.flatnonzero(numbers)}
    part = split if len(kept) == len(split) else split.take(kept)
    return dataclasses.replace(part, label=label.astype(np.float32)), gone
