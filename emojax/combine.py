"""Arithmetic on several `Predictions`: ensembles of models, out-of-fold predictions, means over runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from emojax.errors import ConfigError, DataError
from emojax.types import Predictions

HOW = ("probs", "logits")
"""What `combine` can average."""


def combine(
    predictions: Sequence[Predictions], *, how: str, class_names: Sequence[tuple[str, ...]], names: Sequence[str] = ()
) -> Predictions:
    """The ensemble of M models that predicted the same records.

    Args:
      predictions: M of them, with equal ids and labels in the same order.
      how: "probs", the mean of the probabilities, or "logits", softmax of the mean logarithm of the probabilities. That
        is the mean of the logits, which are log-probabilities up to a constant, if each model's prediction is of one
        view or `eval.view_average` is logits; otherwise it is the geometric mean of the members.
      class_names: the K class names of each of the M.
      names: what messages call the M; by default "model 1" and so on.

    Returns:
      Predictions with the labels and slices of the first; the weight of a record is the smallest of the M, so one that
      any model could not read does not count.

    Raises:
      DataError: there are none, or two differ in classes, records, their order or their labels.
      ConfigError: `how` is neither.
    """
    if how not in HOW:
        raise ConfigError(f"how to combine: expected one of {', '.join(HOW)}, found {how!r}")
    if not predictions:
        raise DataError("there are no predictions to combine")
    names = names or [f"model {i}" for i in range(1, len(predictions) + 1)]
    first = predictions[0]
    for name, other, classes in zip(names, predictions, class_names, strict=True):
        if tuple(classes) != tuple(class_names[0]):
            raise DataError(
                f"the classes differ: {names[0]} has {', '.join(class_names[0])}, {name} has {', '.join(classes)}"
            )
        _check_same_records(first, other, (names[0], name))
    probs = np.stack([p.probs for p in predictions], dtype=np.float64)
    if how == "logits":
        mean = softmax(log_probs(probs).mean(axis=0))
    else:
        mean = probs.mean(axis=0)
    return Predictions(
        probs=mean.astype(np.float32),
        label=first.label,
        weight=np.min([p.weight for p in predictions], axis=0),
        id=first.id,
        slices=first.slices,
    )


def out_of_fold(folds: Sequence[Predictions]) -> Predictions:
    """The held-out predictions of all folds, one after the other: every record once, by a model that never saw it.

    Slice columns that a fold lacks are left out. Raises `DataError` when there are none, class counts differ, or a
    record is in two of them.
    """
    if not folds:
        raise DataError("there are no folds to join")
    counts = [fold.probs.shape[1] for fold in folds]
    if len(set(counts)) > 1:
        raise DataError(f"the folds differ in their number of classes: {', '.join(map(str, counts))}")
    ids = np.concatenate([fold.id for fold in folds])
    found, first = np.unique(ids, return_index=True)
    if len(found) < len(ids):
        again = np.setdiff1d(np.arange(len(ids)), first)
        raise DataError(f"the folds overlap: {len(again)} records come twice (first: {ids[again[0]]})")
    columns = [name for name in folds[0].slices if all(name in fold.slices for fold in folds)]
    return Predictions(
        probs=np.concatenate([fold.probs for fold in folds]),
        label=np.concatenate([fold.label for fold in folds]),
        weight=np.concatenate([fold.weight for fold in folds]),
        id=ids,
        slices={name: np.concatenate([fold.slices[name] for fold in folds]) for name in columns},
    )


def log_probs(probs: np.ndarray) -> np.ndarray:
    """Logarithms, float64. The smallest float32 stands for 0, as in the metrics: a 0 is no veto of minus infinity."""
    return np.log(np.maximum(probs, np.finfo(np.float32).tiny), dtype=np.float64)


def softmax(logits: np.ndarray) -> np.ndarray:
    """exp(logits) over its sum along the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def _check_same_records(one: Predictions, two: Predictions, names: tuple[str, str]) -> None:
    """Raises `DataError` naming the first record in which two predictions differ."""
    ids = [p.id.astype(str) for p in (one, two)]
    for a, b, (has, lacks) in ((*ids, names), (*ids[::-1], names[::-1])):
        if (missing := ~np.isin(a, b)).any():
            raise DataError(
                f"the records differ: {has} has {a[missing.argmax()]}, {lacks} has not "
                f"({missing.sum()} of {len(a)} are missing there); predict the same split with both"
            )
    if len(ids[0]) != len(ids[1]):
        raise DataError(f"the records differ: {names[0]} has {len(ids[0])}, {names[1]} has {len(ids[1])}")
    if (other := ids[0] != ids[1]).any():
        i = int(other.argmax())
        raise DataError(
            f"the records are in another order: at position {i}, {names[0]} has {ids[0][i]}, {names[1]} has {ids[1][i]}"
        )
    # Labels may have been through a text file; what people could call another label differs by far more.
    if (other := np.abs(one.label - two.label).max(axis=1) > 1e-5).any():
        i = int(other.argmax())
        raise DataError(
            f"the labels of {ids[0][i]} differ: {one.label[i].tolist()} in {names[0]}, "
            f"{two.label[i].tolist()} in {names[1]} ({other.sum()} such records)"
        )
