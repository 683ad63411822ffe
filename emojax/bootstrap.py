"""Percentile bootstrap over examples: how far a number would move if other images of the same kind had been judged.

A resample is a vector of weights: an example that is drawn twice weighs twice. Every number that is a weighted sum over
examples is then one product for all resamples at once, and any other function of `Predictions` is called once each.

Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13. Examples count as independent of each
other: pictures of one person, or duplicates, make the intervals too narrow.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from emojax.errors import DataError
from emojax.types import Predictions

DRAWS, LEVEL = 1000, 0.95
"""Resamples and coverage of an interval unless a caller says otherwise."""

_AT_ONCE = 2_000_000
"""Weights of resamples held at once: 16 MB."""

Statistic = Callable[[Predictions, np.ndarray], np.ndarray]
"""(predictions, weights float64 [D, N]) → the number, or a vector of them, under each row of weights: [D, ...].

A statistic must read `weights`, which already hold `predictions.weight`, and not `predictions.weight`."""


class Interval(NamedTuple):
    """A number on the data as they are, and the bounds of its interval."""

    value: float
    low: float
    high: float


def each(number: Callable[[Predictions], float | np.ndarray]) -> Statistic:
    """The statistic of a plain function of `Predictions` that honours `weight`, called once per resample."""

    def statistic(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
        return np.array([number(dataclasses.replace(predictions, weight=row)) for row in weights], np.float64)

    return statistic


def mean(values: Callable[[Predictions], np.ndarray]) -> Statistic:
    """The statistic of a weighted mean over examples: `values` gives one number per example, [N] or [N, M]."""

    def statistic(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
        total = weights.sum(axis=1)
        found = weights @ np.asarray(values(predictions), np.float64)
        return (found.T / total).T

    return statistic


def weights(
    predictions: Predictions, *, draws: int = DRAWS, seed: int = 0, strata: np.ndarray | None = None
) -> Iterator[np.ndarray]:
    """The weights of `draws` resamples, float64 [D, N] at a time with D as large as memory allows.

    As many examples are drawn, with replacement, as have a positive weight; the others keep 0. The same seed and the
    same examples give the same resamples, so two models that judged the same records can be compared draw by draw.

    Args:
      predictions: of N examples.
      draws: resamples in all, >= 1.
      seed: of the random numbers.
      strata: [N] values; resampling keeps the number of examples of each value, such as that of each true class.

    Raises:
      DataError: no example has a positive weight, or `strata` is not one value per example.
    """
    n = len(predictions.weight)
    if strata is not None and len(strata) != n:
        raise DataError(f"bootstrap: {len(strata)} strata for {n} examples")
    kept = np.flatnonzero(predictions.weight > 0)
    if not len(kept):
        raise DataError("bootstrap: no example has a positive weight")
    groups = [kept]
    if strata is not None:
        member = np.unique(np.asarray(strata)[kept], return_inverse=True)[1].reshape(-1)
        groups = [kept[member == i] for i in range(int(member.max()) + 1)]
    weight = predictions.weight.astype(np.float64)
    rng, left = np.random.default_rng(seed), draws
    while left:
        rows = min(left, max(1, _AT_ONCE // n))
        found = np.zeros((rows, n))
        for group in groups:
            drawn = rng.integers(len(group), size=(rows, len(group))) + len(group) * np.arange(rows)[:, None]
            counts = np.bincount(drawn.ravel(), minlength=rows * len(group)).reshape(rows, -1)
            found[:, group] = counts * weight[group]
        yield found
        left -= rows


def samples(
    predictions: Predictions,
    statistic: Statistic,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    strata: np.ndarray | None = None,
) -> np.ndarray:
    """The statistic under each of `draws` resamples, float64 [draws, ...]. Arguments and errors as `weights`."""
    parts = weights(predictions, draws=draws, seed=seed, strata=strata)
    return np.concatenate([statistic(predictions, part) for part in parts])


def percentiles(found: np.ndarray, *, level: float = LEVEL) -> tuple[np.ndarray, np.ndarray]:
    """(low, high) bounds that hold the middle `level` of the resamples [draws, ...]; resamples of NaN do not count.

    NaN where no resample has a number.
    """
    edges = np.array([(1 - level) / 2, (1 + level) / 2])
    flat = found.reshape(len(found), -1)
    bounds = np.full((2, flat.shape[1]), np.nan)
    for i, column in enumerate(flat.T):
        if (finite := column[np.isfinite(column)]).size:
            bounds[:, i] = np.quantile(finite, edges)
    low, high = bounds.reshape(2, *found.shape[1:])
    return low, high


def mean_interval(
    predictions: Predictions, values: np.ndarray, *, draws: int = DRAWS, seed: int = 0, level: float = LEVEL
) -> Interval:
    """The weighted mean of one number per example, [N], with its bootstrap-t interval.

    The resamples tell how the mean is spread in units of its standard error, instead of how it is spread: with skewed
    values, such as the losses of a good model, the percentiles of the mean end too early (Efron and Tibshirani 1993,
    section 12.5). A resample without any of the few large values would count as infinitely sure; its standard error is
    taken as a tenth of the sample's at least. Arguments and errors as `weights`.
    """
    weight, values = predictions.weight.astype(np.float64), np.asarray(values, np.float64)
    values = np.where(weight > 0, values, 0.0)
    middle, error = (float(x[0]) for x in _mean_and_error(values, weight, weight[None]))
    parts = [_mean_and_error(values, weight, part) for part in weights(predictions, draws=draws, seed=seed)]
    means, errors = (np.concatenate(column) for column in zip(*parts, strict=True))
    if error == 0:
        return Interval(middle, middle, middle)
    units = (means - middle) / np.maximum(errors, 0.1 * error)
    low, high = np.quantile(units, [(1 - level) / 2, (1 + level) / 2])
    least = float(values[weight > 0].min())
    return Interval(middle, max(least, middle - float(high) * error), middle - float(low) * error)


def _mean_and_error(values: np.ndarray, weight: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(weighted means, their standard errors), [D] each, under the rows of weights [D, N]."""
    total = weights.sum(axis=1)
    means = weights @ values / total
    squares = weights * weight  # an example of weight 2 that is drawn twice has two squares of 4
    centred = values - values.mean()  # so that squares of large means do not swallow the spread
    shifted = means - values.mean()
    spread = squares @ centred**2 - 2 * shifted * (squares @ centred) + shifted**2 * squares.sum(axis=1)
    return means, np.sqrt(np.maximum(spread, 0)) / total


def interval(
    predictions: Predictions,
    statistic: Statistic,
    *,
    level: float = LEVEL,
    draws: int = DRAWS,
    seed: int = 0,
    strata: np.ndarray | None = None,
) -> Interval:
    """A single number with its percentile interval. Other arguments and errors as `weights`."""
    found = samples(predictions, statistic, draws=draws, seed=seed, strata=strata)
    low, high = percentiles(found, level=level)
    value = statistic(predictions, predictions.weight.astype(np.float64)[None])[0]
    return Interval(float(value), float(low), float(high))
