"""Bootstrap intervals of every number of a report."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from emojax import bootstrap, metrics
from emojax.types import Predictions

Bounds = tuple[float, float]

_CLASS_NUMBERS = ("precision", "recall", "f1")


@dataclasses.dataclass(frozen=True, slots=True)
class Intervals:
    """95 % percentile intervals over examples, see `bootstrap`.

    Attributes:
      numbers: name of `metrics.NUMBERS` → (low, high).
      per_class: K rows of "precision", "recall" and "f1" → (low, high).
    """

    numbers: Mapping[str, Bounds]
    per_class: tuple[Mapping[str, Bounds], ...]


def of(predictions: Predictions, *, seed: int = 0, draws: int = bootstrap.DRAWS) -> Intervals:
    """The intervals of all numbers that `metrics.evaluate` gives for these predictions."""
    found = bootstrap.samples(predictions, statistic(predictions), seed=seed, draws=draws)
    low, high = bootstrap.percentiles(found)
    bounds = [(float(a), float(b)) for a, b in zip(low, high, strict=True)]
    count, k = len(metrics.NUMBERS), predictions.probs.shape[1]
    rows = [{name: bounds[count + i * k + j] for i, name in enumerate(_CLASS_NUMBERS)} for j in range(k)]
    return Intervals(dict(zip(metrics.NUMBERS, bounds[:count], strict=True)), tuple(rows))


def statistic(predictions: Predictions) -> bootstrap.Statistic:
    """All numbers of a report as one vector: `metrics.NUMBERS`, then precision, recall and F1 of the K classes.

    What does not depend on the weights is worked out once, for these predictions.
    """
    k = predictions.probs.shape[1]
    probs, label = predictions.probs.astype(np.float64), predictions.label.astype(np.float64)
    cell = label.argmax(axis=1) * k + probs.argmax(axis=1)
    each = metrics.per_example(probs, label)

    def found(_: Predictions, weights: Float[np.ndarray, "D N"]) -> Float[np.ndarray, "D M"]:
        confusion = np.stack([np.bincount(cell, weights=row, minlength=k * k) for row in weights]).reshape(-1, k, k)
        total = weights.sum(axis=1)
        numbers = {name: weights @ values / total for name, values in each.items()} | metrics.headline(confusion)
        return np.concatenate(
            [np.stack([numbers[name] for name in metrics.NUMBERS], axis=1), *metrics.per_class(confusion)], axis=1
        )

    return found
