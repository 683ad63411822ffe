"""Where a model is worse than elsewhere: every group of a slice column against all other examples.

A group is flagged when its share of wrong answers is significantly larger than that of the other examples: Fisher's
exact test, one-sided (Fisher 1935), at level 0.05 over all groups of all columns of the split together, by Holm's step
down (Holm 1979), so that the chance of any false flag is at most 5 %. Groups of fewer than `LEAST` examples are shown
and not tested. Examples of positive weight count once.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from emojax import calibration, intervals
from emojax.errors import DataError
from emojax.types import Predictions

T = TypeVar("T")

LEVEL = 0.05
"""Chance of any false flag in a split."""
LEAST = 10
"""Examples that a group needs to be tested."""
ENTROPY = "vote entropy"
"""Column of `with_vote_entropy`."""
_MOST = 100
"""A column of more groups is a list of names, and no slice; one group tells nothing."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One value of one column.

    Attributes:
      column, value: which examples.
      n: their number.
      accuracy, low, high: share of right answers, and its 95 % Wilson interval.
      bounds: "balanced_accuracy" and "macro_f1" → their 95 % intervals, see `intervals`.
      others: accuracy of all other examples; NaN when there are none.
      p: adjusted p-value of "no worse than the others"; NaN where it was not tested.
      worse: p is at most `LEVEL`.
    """

    column: str
    value: str
    n: int
    accuracy: float
    low: float
    high: float
    bounds: Mapping[str, tuple[float, float]]
    others: float
    p: float
    worse: bool


def judge(predictions: Predictions) -> tuple[Group, ...]:
    """Every group of every slice column, in the order of columns and values. `DataError` as `calibration.kept`."""
    from scipy import stats

    p = calibration.kept(predictions)
    hit, rows, k = calibration.hits(p).astype(bool), [], p.probs.shape[1]
    true, said, weight = p.label.argmax(axis=1), p.probs.argmax(axis=1), p.weight.astype(np.float64)
    for column, values in p.slices.items():
        names, member = np.unique(np.asarray(values).astype(str), return_inverse=True)
        if not 1 < len(names) <= _MOST:
            continue
        for i, name in enumerate(names):
            inside = member.reshape(-1) == i
            n, right, rest = int(inside.sum()), int(hit[inside].sum()), int((~inside).sum())
            found = np.nan
            if n >= LEAST and rest:
                wrong = len(hit) - int(hit.sum())
                found = float(stats.hypergeom.sf(n - right - 1, len(hit), wrong, n))
            low, high = calibration.wilson(right / n, n)
            cells = intervals.confusions(true[inside], said[inside], weight[inside], k=k)
            bounds = intervals.of_confusion(*cells).numbers
            others = float(hit[~inside].mean()) if rest else np.nan
            rows.append(
                Group(
                    column=column,
                    value=str(name),
                    n=n,
                    accuracy=right / n,
                    low=low,
                    high=high,
                    bounds={name: bounds[name] for name in ("balanced_accuracy", "macro_f1")},
                    others=others,
                    p=found,
                    worse=False,
                )
            )
    adjusted = holm([row.p for row in rows])
    return tuple(
        dataclasses.replace(row, p=float(q), worse=bool(q <= LEVEL)) for row, q in zip(rows, adjusted, strict=True)
    )


def in_order(values: Mapping[str, T], count: Callable[[T], int], *, most: int) -> list[tuple[str, T]]:
    """The groups of a column as a table shows them, the `most` largest: by the numbers that their names begin with
    where all do, "?" last; else largest first."""
    largest = sorted(values.items(), key=lambda item: -count(item[1]))[:most]
    number = {name: re.match(r"-?\d+(\.\d+)?", name) for name, _ in largest if name != "?"}
    if not all(number.values()):
        return largest
    return sorted(largest, key=lambda item: float(found[0]) if (found := number.get(item[0])) else math.inf)


def holm(p: Sequence[float]) -> np.ndarray:
    """Holm's adjusted p-values; NaN, a test that was not made, stays and does not count."""
    values = np.asarray(p, np.float64)
    found = np.full(len(values), np.nan)
    tested = np.flatnonzero(np.isfinite(values))
    order = tested[np.argsort(values[tested], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    found[order] = np.minimum(1, np.maximum.accumulate(values[order] * factors))
    return found


def quantile_groups(values: np.ndarray, *, unit: str, count: int = 4) -> np.ndarray:
    """Strings [N] that put numbers into up to `count` groups of about equal size, named by their range; "?" for NaN.

    Equal numbers share a group. Names sort as their ranges do: they begin with the number of the group.
    """
    values = np.asarray(values, np.float64)
    good = np.isfinite(values)
    found = np.full(len(values), "?", dtype=object)
    if not good.any():
        return found.astype(np.str_)
    edges = np.unique(np.quantile(values[good], np.arange(1, count) / count))
    member = np.searchsorted(edges, values, side="left")  # up to and including an edge
    for number, i in enumerate(np.unique(member[good]), start=1):
        inside = good & (member == i)
        low, high = values[inside].min(), values[inside].max()
        text = _digits(low) if low == high else f"{_digits(low)} to {_digits(high)}"
        found[inside] = f"{number}: {text} {unit}".rstrip()
    return found.astype(np.str_)


def _digits(value: float) -> str:
    """Three digits or all that stand before the point; never in powers of ten."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def with_columns(predictions: Predictions, columns: Mapping[str, np.ndarray]) -> Predictions:
    """The predictions with more slice columns; those of one value tell nothing and are left out."""
    more = {name: column for name, column in columns.items() if len(np.unique(column)) > 1}
    for name, column in more.items():
        if len(column) != len(predictions.weight):
            raise DataError(f"slices: {len(column)} values of {name} for {len(predictions.weight)} examples")
    return dataclasses.replace(predictions, slices={**predictions.slices, **more})


def with_looks(predictions: Predictions, images: Any) -> Predictions:
    """The predictions with what their pictures are like as slice columns: quarters by size, brightness and sharpness.

    `images[i]` belongs to the i-th prediction, see `types.Split.images`.
    """
    from emojax.data import pictures  # here: decoders are heavy, and most users of slices have none to decode

    look = pictures.look(images)
    columns = {
        "picture size": quantile_groups(look.size, unit="px"),
        "brightness": quantile_groups(look.brightness, unit="of 255"),
        "sharpness": quantile_groups(np.sqrt(look.sharpness), unit="grey values"),
    }
    return with_columns(predictions, columns)


def with_vote_entropy(predictions: Predictions) -> Predictions:
    """The predictions with the entropy of their label distributions as a slice column; as they are with hard labels.

    Groups: unanimous, then thirds of the rest; nats.
    """
    label = predictions.label.astype(np.float64)
    entropy = -(label * np.log(np.where(label > 0, label, 1))).sum(axis=1)
    split = entropy > 1e-6
    if not split.any():
        return predictions
    groups = np.full(len(label), "0: unanimous", dtype=object)
    groups[split] = quantile_groups(entropy[split], unit="nats", count=3)
    return with_columns(predictions, {ENTROPY: groups.astype(np.str_)})


def to_json(groups: Sequence[Group]) -> dict[str, Any]:
    """In JSON's own types, with what the flags mean."""
    return {
        "test": f"Fisher's exact, one-sided, Holm over {sum(np.isfinite(g.p) for g in groups)} groups, level {LEVEL}",
        "groups": [dataclasses.asdict(group) for group in groups],
    }
