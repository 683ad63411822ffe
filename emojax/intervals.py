"""95 % intervals of every number of a report, made for small splits and few mistakes too.

Resampling a class of ten images that are all right gives ten right images every time, and an interval of no width. So
shares are never resampled:

- accuracy, top-2 accuracy, precision and recall are shares of examples: Wilson 1927, with the effective number of
  unequally weighted examples.
- F1 = 2J / (1 + J), where J is the share of right answers among the examples that belong to the class or were given to
  it: Wilson's bounds of J, moved through that formula (Lam, Gopal and Qian 2023, arXiv:2309.14621, "Wilson indirect").
- balanced accuracy, macro-F1 and weighted F1 are means of those: their bounds add up by MOVER, the root of the sum of
  squared distances, with the correlations between classes (Zou and Donner 2008, Statistics in Medicine 27; Newcombe
  2011). Those of balanced accuracy are at least as far as its standard error says, see `_least`. Macro-F1 lies a little
  below the truth on few examples, since F1 is concave in J; its upper bound, not the number, is moved up by that bias,
  a second-order Taylor term.
- the loss is a mean of skewed values: bootstrap-t, see `bootstrap.mean_interval`.

docs/evaluation.md has the measured coverage. Examples count as independent of each other, and a class without images,
which has no recall, takes no part.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from emojax import bootstrap, metrics, shares
from emojax.types import Predictions

Bounds = tuple[float, float]


@dataclasses.dataclass(frozen=True, slots=True)
class Intervals:
    """95 % intervals over examples.

    Attributes:
      numbers: name of `metrics.NUMBERS` → (low, high).
      per_class: K rows of "precision", "recall" and "f1" → (low, high); NaN where there is nothing to divide by.
    """

    numbers: Mapping[str, Bounds]
    per_class: tuple[Mapping[str, Bounds], ...]


def of(predictions: Predictions, *, seed: int = 0, draws: int = bootstrap.DRAWS) -> Intervals:
    """The intervals of all numbers that `metrics.evaluate` gives for these predictions; `draws` are for the loss."""
    kept = predictions.take(predictions.weight > 0)
    each = metrics.per_example(kept.probs.astype(np.float64), kept.label.astype(np.float64))
    weight = kept.weight.astype(np.float64)
    k = kept.probs.shape[1]
    found = of_confusion(*confusions(kept.label.argmax(axis=1), kept.probs.argmax(axis=1), weight, k=k))
    share = float(np.average(each["top2_accuracy"], weights=weight))
    loss = bootstrap.mean_interval(kept, each["loss"], draws=draws, seed=seed)
    more = {"top2_accuracy": shares.wilson(share, shares.effective_count(weight)), "loss": (loss.low, loss.high)}
    numbers = {**found.numbers, **more}
    return Intervals({name: numbers[name] for name in metrics.NUMBERS}, found.per_class)


def of_confusion(confusion: Float[np.ndarray, "K K"], squares: Float[np.ndarray, "K K"]) -> Intervals:
    """The intervals of the numbers that a confusion matrix gives: accuracy, balanced accuracy, the F1s.

    Args:
      confusion: sum of the weights of each cell, rows are true classes; not all 0.
      squares: sum of the squared weights; equals `confusion` where all weights are 0 or 1.
    """
    hits, support, chosen = np.diagonal(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    support2, chosen2 = squares.sum(axis=1), squares.sum(axis=0)
    union, union2 = support + chosen - hits, support2 + chosen2 - np.diagonal(squares)
    recall, right = _share(hits, support, support2), _share(hits, union, union2)
    f1 = _Estimate(*(2 * j / (1 + j) for j in right))
    rows = {"precision": _share(hits, chosen, chosen2), "recall": recall, "f1": f1}
    total, accuracy = confusion.sum(), float(hits.sum() / confusion.sum())
    related = _correlations(squares, np.nan_to_num(f1.value), support + chosen)
    return Intervals(
        numbers={
            "accuracy": shares.wilson(accuracy, float(total**2 / squares.sum())),
            "balanced_accuracy": _mean(
                recall, np.ones(len(hits)), least=_least(recall.value, _counts(support, support2))
            ),
            "macro_f1": _mean(f1, np.ones(len(hits)), related, shift=_bias(right.value, _counts(union, union2))),
            "weighted_f1": _weighted(f1, support, squares, related, support + chosen),
        },
        per_class=tuple(
            {name: (float(row.low[k]), float(row.high[k])) for name, row in rows.items()} for k in range(len(hits))
        ),
    )


def confusions(true: np.ndarray, predicted: np.ndarray, weight: np.ndarray, *, k: int) -> tuple[np.ndarray, np.ndarray]:
    """(confusion matrix, the same of squared weights), float64 [K, K], as `of_confusion` wants them."""
    cell = true * k + predicted
    first, second = (np.bincount(cell, weights=w, minlength=k * k).reshape(k, k) for w in (weight, weight**2))
    return first, second


class _Estimate(NamedTuple):
    """A number of each class with its bounds, float64 [K] each; NaN where there is nothing to divide by."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


def _share(part: np.ndarray, whole: np.ndarray, whole2: np.ndarray) -> _Estimate:
    seen = whole > 0
    value = np.divide(part, whole, out=np.full(len(whole), np.nan), where=seen)
    low, high = shares.bounds(value, _counts(whole, whole2))
    return _Estimate(value, low, high)


def _counts(whole: np.ndarray, whole2: np.ndarray) -> np.ndarray:
    """Effective numbers of examples, see `shares.effective_count`."""
    return np.divide(whole**2, whole2, out=np.zeros(len(whole)), where=whole > 0)


def _mean(
    found: _Estimate,
    weight: np.ndarray,
    related: np.ndarray | None = None,
    *,
    shift: float = 0.0,
    least: float = 0.0,
) -> Bounds:
    """MOVER: bounds of the weighted mean over the classes that have a value; `shift` is what it is too low by, `least`
    the least distance of each bound."""
    seen = np.isfinite(found.value)
    share = weight[seen] / weight[seen].sum()
    among = np.eye(int(seen.sum())) if related is None else related[np.ix_(seen, seen)]
    value = float(share @ found.value[seen])
    down, up = ((share * side[seen]) for side in (found.value - found.low, found.high - found.value))
    below, above = (max(least, _length(parts, among)) for parts in (down, up))
    return _within(value, value - below, value + shift + above)


def _least(share: np.ndarray, count: np.ndarray) -> float:
    """1.96 standard errors of the mean of the classes' shares, by the unbiased variance of each: s (1 - s) / (n - 1).

    Wilson's bounds of a middling share of few examples are nearer to it than that, which over many classes adds up to
    an interval that is too narrow. A class with fewer than two has no variance of its own and takes that of the mean.
    """
    seen = count > 0
    value, n = share[seen], count[seen]
    mean = float(value.mean())
    alone = np.full(len(n), mean * (1 - mean))
    each = np.divide(value * (1 - value), n - 1, out=alone, where=n >= 2)
    return 1.96 * float(np.sqrt(each.sum())) / len(n)


def _weighted(f1: _Estimate, support: np.ndarray, squares: np.ndarray, related: np.ndarray, size: np.ndarray) -> Bounds:
    """MOVER for weighted F1, of which the classes' shares are estimates too: one more part, correlated with the F1s."""
    value, low, high = (np.nan_to_num(x) for x in f1)
    total = support.sum()
    share = support / total
    mean = float(share @ value)
    moved = value - mean  # what an example of each class adds to the mean by its class alone
    each = squares.sum(axis=1) * moved
    variance = float(each @ moved)
    own, size = np.diagonal(squares), np.where(size > 0, size, 1)
    mistaken = each + squares.T @ moved - 2 * own * moved
    together = (2 * (1 - value) * own * moved - value * mistaken) / size
    deviation = np.sqrt(_variances(squares, value, size) * variance)
    beside = np.divide(together, deviation, out=np.zeros(len(value)), where=deviation > 0)
    among = np.block([[related, beside[:, None]], [beside[None], np.ones((1, 1))]])
    spread = shares.Z * np.sqrt(variance) / total
    down, up = (np.append(share * side, spread) for side in (value - low, high - value))
    return _within(mean, mean - _length(down, among), mean + _length(up, among))


def _correlations(squares: np.ndarray, f1: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Of the F1s of K classes, [K, K], by the delta method: a mistake between two classes lowers both.

    An example moves F1 of class k by (2 [right] - F1 ([true is k] + [predicted is k])) / size, where size is the weight
    of the images of the class and of the answers so.
    """
    size = np.where(size > 0, size, 1)
    slope = f1 / size
    covariance = (squares + squares.T) * np.outer(slope, slope)
    np.fill_diagonal(covariance, _variances(squares, f1, size))
    deviation = np.sqrt(np.diagonal(covariance))
    scale = np.outer(deviation, deviation)
    found = np.divide(covariance, scale, out=np.zeros_like(covariance), where=scale > 0)
    np.fill_diagonal(found, 1)
    return found


def _variances(squares: np.ndarray, f1: np.ndarray, size: np.ndarray) -> np.ndarray:
    own = np.diagonal(squares)
    others = squares.sum(axis=0) + squares.sum(axis=1) - 2 * own
    return ((2 - 2 * f1) ** 2 * own + f1**2 * others) / size**2


def _bias(share: np.ndarray, count: np.ndarray) -> float:
    """How far below the truth macro-F1 lies on average: -f''(J) / 2 times the variance of J, with f = 2J / (1 + J).

    The share is drawn towards one half: a class with only hits would seem to have no variance.
    """
    seen = count > 0
    settled = (share[seen] * count[seen] + 1) / (count[seen] + 2)
    return float(np.mean(2 * settled * (1 - settled) / ((1 + settled) ** 3 * count[seen])))


def _length(parts: np.ndarray, among: np.ndarray) -> float:
    return float(np.sqrt(max(0.0, parts @ among @ parts)))


def _within(value: float, low: float, high: float) -> Bounds:
    """Bounds in [0, 1] that hold the value."""
    return max(0.0, min(low, value)), min(1.0, max(high, value))


def statistic(predictions: Predictions) -> bootstrap.Statistic:
    """All numbers of a report as one vector: `metrics.NUMBERS`, then precision, recall and F1 of the K classes.

    For the differences of two models. What does not depend on the weights is worked out once, for these predictions.
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
