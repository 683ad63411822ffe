"""Sets of classes that hold the true one with a wanted probability: split conformal prediction.

A score says how badly a class fits a picture. The (n + 1)(1 - alpha)-th smallest score of the true classes of n
validation examples bounds the classes of a set; if those and the new picture are exchangeable, the set holds the true
class with probability at least `coverage` = 1 - alpha, and at most 1 / (n + 1) more where scores do not tie (Vovk et
al. 2005; Angelopoulos and Bates 2021, A Gentle Introduction to Conformal Prediction, arXiv:2107.07511). That is so on
average over validation splits; the coverage that one of them leads to is spread about it, see `spread`.

- lac: score 1 - p(class). The smallest sets on average; a picture of which all classes are improbable gets an empty
  one (Sadinle, Lei and Wasserman 2019, arXiv:1609.00451).
- aps: score = the sum of the probabilities above the class's own. Sets grow with the doubt about a picture and are
  never empty (Romano, Sesia and Candes 2020, arXiv:2006.02544, without its random tie-breaking: so where more than the
  wanted share of first guesses is right, sets of one class cover more than was asked for).
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from emojax import calibration
from emojax.errors import DataError
from emojax.types import Predictions


def _lac(probs: np.ndarray) -> np.ndarray:
    return 1 - probs


def _aps(probs: np.ndarray) -> np.ndarray:
    order = np.argsort(-probs, axis=1, kind="stable")  # ties go to the class that comes first, as in the metrics
    ranked = np.take_along_axis(probs, order, axis=1)
    scores = np.empty_like(probs)
    np.put_along_axis(scores, order, np.cumsum(ranked, axis=1) - ranked, axis=1)
    return scores


SCORES = {"lac": _lac, "aps": _aps}
"""kind → (probs float64 [N, K] → scores [N, K])"""


@dataclasses.dataclass(frozen=True, slots=True)
class Sets:
    """How sets are made: kind, wanted coverage in (0, 1), largest score of a class inside (inf = every class)."""

    kind: str
    coverage: float
    limit: float

    def __post_init__(self) -> None:
        if self.kind not in SCORES:
            raise DataError(f"conformal sets: expected one of {', '.join(SCORES)}, found {self.kind!r}")
        if not 0 < self.coverage < 1 or math.isnan(self.limit):
            raise DataError(f"conformal sets: the coverage must lie between 0 and 1, found {self.coverage:g}")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Covered:
    """What sets do on a split.

    Attributes:
      coverage: share of the examples whose set holds the true class.
      low, high: its 95 % Wilson interval.
      size: mean number of classes in a set.
      single, empty: share of sets of one class, and of none.
      per_class: {class id: coverage among the examples of that class}; classes without examples are left out.
    """

    coverage: float
    low: float
    high: float
    size: float
    single: float
    empty: float
    per_class: dict[int, float]


def fit(predictions: Predictions, *, kind: str, coverage: float) -> Sets:
    """Sets that hold the true class with probability `coverage`, from a validation split.

    Every example of positive weight counts once, and its true class is the argmax of its label. Raises `DataError` when
    there is none, `kind` is unknown or `coverage` is not in (0, 1).
    """
    everything = Sets(kind, coverage, math.inf)
    p = calibration.kept(predictions)
    scores = SCORES[kind](p.probs.astype(np.float64))
    true = np.sort(scores[np.arange(len(scores)), p.label.argmax(axis=1)])
    rank = math.ceil((len(true) + 1) * coverage - 1e-9)
    # With fewer than coverage / (1 - coverage) examples nothing but all classes is safe.
    return dataclasses.replace(everything, limit=float(true[rank - 1])) if rank <= len(true) else everything


def spread(n: int, coverage: float) -> tuple[float, float]:
    """Where the coverage on new examples lies in 95 of 100 cases when sets are fitted on n examples.

    It has the distribution Beta(n + 1 - l, l) with l = floor((n + 1)(1 - coverage)), where scores do not tie (Vovk
    2012, arXiv:1209.2673; Angelopoulos and Bates 2021, section 3.2). (1, 1) where nothing but all classes is safe.
    """
    from scipy import stats

    rank = math.ceil((n + 1) * coverage - 1e-9)
    if rank > n:
        return 1.0, 1.0
    low, high = stats.beta.ppf([0.025, 0.975], rank, n + 1 - rank)
    return float(low), float(high)


def members(sets: Sets, predictions: Predictions) -> np.ndarray:
    """Bool [N, K]: which classes each example's set holds."""
    # A probability is a float32: the same one may come out of another batch size a few units in its last digit away.
    return SCORES[sets.kind](predictions.probs.astype(np.float64)) <= sets.limit + 1e-6


def judge(sets: Sets, predictions: Predictions) -> Covered:
    """Coverage and size of the sets on a split; rows of weight 0 do not count."""
    return covered(members(sets, predictions), predictions)


def covered(inside: np.ndarray, predictions: Predictions) -> Covered:
    """The same for given sets, bool [N, K]."""
    good = predictions.weight > 0
    inside, true = inside[good], predictions.label[good].argmax(axis=1)
    hit = inside[np.arange(len(true)), true]
    low, high = calibration.wilson(float(hit.mean()), len(hit))
    size = inside.sum(axis=1)
    return Covered(
        coverage=float(hit.mean()),
        low=low,
        high=high,
        size=float(size.mean()),
        single=float((size == 1).mean()),
        empty=float((size == 0).mean()),
        per_class={int(k): float(hit[true == k].mean()) for k in np.unique(true)},
    )
