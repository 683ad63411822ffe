"""Two models on the same examples: is one better, or does it look so?"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from emojax import bootstrap, intervals, metrics
from emojax.errors import DataError
from emojax.types import Predictions

LEVEL = 0.05
"""Chance that two equally good models have any clear row."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A number of both models and what lies between them, b minus a.

    Attributes:
      name, a, b: the number.
      low, high: 95 % paired bootstrap interval of this difference alone.
      p: of "all rows of the comparison are equal", adjusted for how many rows there are.
      clear: p is at most `LEVEL`.
    """

    name: str
    a: float
    b: float
    low: float
    high: float
    p: float

    @property
    def clear(self) -> bool:
        """Whether the models differ here, with all rows taken together."""
        return self.p <= LEVEL


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OverSeeds:
    """A number of two recipes, means over seeds, and the 95 % interval of what lies between them, b minus a."""

    name: str
    a: float
    b: float
    low: float
    high: float

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out 0; of many such rows, chance alone makes one in twenty clear."""
        return not self.low <= 0 <= self.high


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two models on the same n examples.

    Attributes:
      n: examples.
      numbers: one row per number of `metrics.NUMBERS`.
      f1: one row per class.
      only_a, only_b: examples that only a, only b classifies correctly.
      p: of McNemar's exact test that both are equally often right: of those examples, half would be a's.
    """

    n: int
    numbers: tuple[Difference, ...]
    f1: tuple[Difference, ...]
    only_a: int
    only_b: int
    p: float

    def to_json(self) -> dict[str, Any]:
        """In JSON's own types."""
        values = dataclasses.asdict(self)
        for name in ("numbers", "f1"):
            rows = zip(values[name], getattr(self, name), strict=True)
            values[name] = [{**row, "clear": found.clear} for row, found in rows]
        return values


def compare(a: Predictions, b: Predictions, class_names: tuple[str, ...], *, draws: int = 2000) -> Comparison:
    """Compares two models example by example.

    The paired bootstrap draws the same examples for both (Efron and Tibshirani 1993, chapter 13), so what makes an
    example hard for both cancels. Of a dozen rows, one or two would stand out by chance alone: so the p-value of a row
    is the share of resamples in which any row, in units of its standard error, moves as far as this one lies from 0
    (Westfall and Young 1993, Resampling-Based Multiple Testing, single-step max-T). McNemar's test (Psychometrika 12,
    1947) is taken with exact binomial probabilities.

    Args:
      a, b: of the same split; the order of the examples may differ.
      class_names: of both.
      draws: resamples.

    Raises:
      DataError: the examples, or their labels, are not the same.
    """
    from scipy import stats  # above, it would be a third of the time in which a run starts

    a, b = _pair(a, b)
    weight = a.weight
    pair = [bootstrap.samples(p, intervals.statistic(p), draws=draws) for p in (a, b)]
    moved = pair[1] - pair[0]
    one = a.weight.astype(np.float64)[None]
    first, second = (intervals.statistic(p)(p, one)[0] for p in (a, b))
    k, count = len(class_names), len(metrics.NUMBERS)
    shown = [*range(count), *range(count + 2 * k, count + 3 * k)]  # precision and recall stay away
    moved, first, second = moved[:, shown], first[shown], second[shown]
    low, high = bootstrap.percentiles(moved)
    p_values = _together(moved, second - first)
    rows = [
        Difference(
            name=name,
            a=float(first[i]),
            b=float(second[i]),
            low=float(low[i]),
            high=float(high[i]),
            p=float(p_values[i]),
        )
        for i, name in enumerate([*metrics.NUMBERS, *class_names])
    ]
    kept = weight > 0
    right = [(p.probs.argmax(1) == p.label.argmax(1))[kept] for p in (a, b)]
    only_a, only_b = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    p = float(stats.binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    return Comparison(
        n=int(kept.sum()),
        numbers=tuple(rows[:count]),
        f1=tuple(rows[count:]),
        only_a=only_a,
        only_b=only_b,
        p=p,
    )


def shown(p: float) -> str:
    """A p-value with three digits; never 0, which no test can say."""
    return f"{p:.3f}" if p >= 0.001 else "<0.001"


def over_seeds(a: Sequence[Predictions], b: Sequence[Predictions], *, draws: int = 2000) -> tuple[OverSeeds, ...]:
    """Two recipes, each trained with the same S seeds and judged on the same examples: one row per number of
    `metrics.NUMBERS`, means over the seeds, with the interval of what lies between them, b minus a.

    Seeds and examples are drawn independently of each other, both paired: the seed that two runs share and what makes
    an example hard for all of them cancel (crossed bootstrap; Owen 2007, doi:10.1214/07-AOAS122, which errs to the wide
    side). S seeds drawn from S show their spread too small, by the root of (S - 1) / S, and few of them know little of
    it: what a draw of seeds changes is stretched by the root of S / (S - 1), and as Student's t with S - 1 degrees of
    freedom is stretched against the normal. With one seed the interval is that of the examples alone.

    Args:
      a, b: of the same split, one per seed, in the order of the seeds; the order of the examples may differ.
      draws: resamples.

    Raises:
      DataError: the examples, or their labels, are not the same, or there are more runs of one than of the other.
    """
    if len(a) != len(b) or not a:
        raise DataError(f"expected as many runs of both recipes, found {len(a)} and {len(b)}")
    runs = [a[0], *(_in_order_of(a[0], p) for p in (*a[1:], *b))]
    weight = np.prod([p.weight > 0 for p in runs], axis=0) * a[0].weight
    runs = [dataclasses.replace(p, weight=weight.astype(np.float32)) for p in runs]
    count, number = len(a), len(metrics.NUMBERS)
    one = weight.astype(np.float64)[None]
    values = np.stack([intervals.statistic(p)(p, one)[0, :number] for p in runs]).reshape(2, count, number).mean(1)
    found = [bootstrap.samples(p, intervals.statistic(p), draws=draws)[:, :number] for p in runs]
    change = np.stack(found[count:], 1) - np.stack(found[:count], 1)
    share = np.full((draws, count), 1 / count)
    if count > 1:
        from scipy import stats

        stretch = math.sqrt(count / (count - 1)) * stats.t.ppf(0.975, count - 1) / stats.norm.ppf(0.975)
        drawn = np.random.default_rng(1).multinomial(count, share[0], size=draws)
        share += stretch * (drawn - 1) / count
    low, high = bootstrap.percentiles((share[:, :, None] * change).sum(1))
    # Stretched draws go beyond what shares can differ by.
    most = np.array([np.inf if name in metrics.LOWER_IS_BETTER else 1.0 for name in metrics.NUMBERS])
    low, high = np.maximum(low, -most), np.minimum(high, most)
    return tuple(
        OverSeeds(name=name, a=float(x), b=float(y), low=float(lo), high=float(hi))
        for name, x, y, lo, hi in zip(metrics.NUMBERS, *values, low, high, strict=True)
    )


def change(
    a: Predictions, b: Predictions, statistic: Callable[[Predictions], bootstrap.Statistic], *, draws: int = 1000
) -> bootstrap.Interval:
    """One number of b minus that of a on the same examples, with its 95 % paired bootstrap interval.

    `statistic` makes the statistic of a model's predictions. Raises as `compare`.
    """
    a, b = _pair(a, b)
    found = [bootstrap.samples(p, statistic(p), draws=draws) for p in (a, b)]
    one = a.weight.astype(np.float64)[None]
    first, second = (float(statistic(p)(p, one)[0]) for p in (a, b))
    low, high = bootstrap.percentiles(found[1] - found[0])
    return bootstrap.Interval(second - first, float(low), float(high))


def _pair(a: Predictions, b: Predictions) -> tuple[Predictions, Predictions]:
    """Both in the order of a; what one of them could not read counts for neither."""
    b = _in_order_of(a, b)
    weight = a.weight * (b.weight > 0)
    return dataclasses.replace(a, weight=weight), dataclasses.replace(b, weight=weight)


def _together(moved: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Adjusted p-values [M] of the differences `found` [M] from their resamples [D, M]; 1 for one that never moves."""
    error = moved.std(axis=0)
    scale = np.where(error > 0, error, 1)
    chance = (np.abs(moved - found) / scale * (error > 0)).max(axis=1)
    seen = np.abs(found) / scale
    p = (1 + (chance[:, None] >= seen).sum(axis=0)) / (1 + len(moved))
    return np.where(error > 0, p, 1.0)


def _in_order_of(a: Predictions, b: Predictions) -> Predictions:
    """b with its examples in the order of a."""
    place = {name: i for i, name in enumerate(b.id.tolist())}
    missing = [name for name in a.id.tolist() if name not in place]
    if missing or len(a.id) != len(b.id):
        more = f", such as {missing[0]}" if missing else ""
        raise DataError(
            f"the two were judged on different examples: {len(a.id):,} and {len(b.id):,}, of which "
            f"{len(missing):,} of the first are not among the second's{more}"
        )
    order = np.array([place[name] for name in a.id.tolist()])
    b = b.take(order)
    if a.label.shape != b.label.shape or not np.allclose(a.label, b.label, atol=1e-6):
        raise DataError("the two were judged against different labels of the same examples")
    return b
