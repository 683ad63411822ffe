"""The stamp of a split: whether someone looked for its pictures in the training data, and what they change."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from emojax import intervals, metrics
from emojax.types import Predictions


@dataclasses.dataclass(frozen=True, slots=True)
class Stamp:
    """What is known about leaks of one split.

    Attributes:
      checked: someone looked.
      leaked: images that show a picture of an earlier split.
      accuracy: of all images.
      left: images that are not leaked.
      numbers_without: numbers of the report without the leaked images, {} where none leaked or nothing is left.
      bounds_without: their 95 % intervals.
    """

    checked: bool
    leaked: int = 0
    accuracy: float = 0.0
    left: int = 0
    numbers_without: Mapping[str, float] = dataclasses.field(default_factory=dict)
    bounds_without: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)

    @property
    def text(self) -> str:
        """`leak-checked`, `not leak-checked`, or the accuracy with and without the leaked images, the latter with its
        95 % interval."""
        if not self.checked:
            return "not leak-checked"
        if not self.leaked:
            return "leak-checked"
        counted = f"{self.leaked:,} leaked: accuracy {self.accuracy:.4f} with"
        if not self.numbers_without:
            return f"{counted}, nothing left without them"
        low, high = self.bounds_without["accuracy"]
        return (
            f"{counted}, {self.numbers_without['accuracy']:.4f} (95 %: {low:.4f} to {high:.4f}) "
            f"without them, {self.left:,} left"
        )


def stamp(
    split: str,
    predictions: Predictions,
    class_names: tuple[str, ...],
    *,
    leaked: Mapping[str, frozenset[str]] | None,
) -> Stamp | None:
    """The stamp of `split` from `Dataset.leaked`; None for train without leaks: in a run's own data nothing can."""
    if split == "train" and not (leaked or {}).get(split):
        return None
    if leaked is None or split not in leaked:
        return Stamp(checked=False)
    clean = np.array([name not in leaked[split] for name in predictions.id.tolist()], bool)
    # An image of weight 0 could not be read and takes no part in any number.
    count = int((~clean & (predictions.weight > 0)).sum())
    if not count:
        return Stamp(checked=True)
    rest: Mapping[str, float] = {}
    bounds: Mapping[str, tuple[float, float]] = {}
    left = predictions.take(clean & (predictions.weight > 0))
    if len(left.weight):
        rest, bounds = metrics.evaluate(left, class_names).numbers(), intervals.of(left).numbers
    accuracy = metrics.evaluate(predictions, class_names).accuracy
    return Stamp(True, count, accuracy, len(left.weight), rest, bounds)
