"""Answering only when sure: the risk-coverage curve, its area, and the threshold for a risk that one can live with.

An example is answered when its confidence, the largest probability, reaches the threshold. Coverage is the share of
examples that are answered, risk the share of wrong answers among them (El-Yaniv and Wiener 2010). The area under the
curve (AURC; Geifman, Uziel and El-Yaniv 2019, arXiv:1805.08206) is the mean risk over all coverages; 0 is best.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from emojax import bootstrap, calibration
from emojax.bootstrap import Interval
from emojax.errors import DataError
from emojax.types import Predictions

CONFIDENCE = 0.95
"""Probability with which a threshold keeps its promise."""
STEPS = 20
"""Thresholds that are tried: coverage 5 %, 10 % ... 100 %."""


@dataclasses.dataclass(frozen=True, slots=True)
class Curve:
    """Risk over coverage, one point per distinct confidence, from sure to unsure; float64 [P] each."""

    threshold: np.ndarray
    coverage: np.ndarray
    risk: np.ndarray


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """Coverage, and the risk among the answers (0 when there are none) with its 95 % Wilson interval."""

    coverage: float
    risk: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Selective:
    """The curve of one split in numbers.

    Attributes:
      aurc: with its 95 % interval.
      best_aurc: of the same answers with every wrong one less sure than every right one; no ordering is below it.
      at: {coverage: risk} at 50, 60 ... 100 % coverage.
    """

    aurc: Interval
    best_aurc: float
    at: dict[float, float]

    def to_json(self) -> dict[str, Any]:
        """In JSON's own types."""
        return {
            "aurc": self.aurc._asdict(),
            "best_aurc": self.best_aurc,
            "risk_at_coverage": {f"{coverage:g}": risk for coverage, risk in self.at.items()},
        }


def curve(predictions: Predictions) -> Curve:
    """The risk-coverage curve; equally sure examples are answered together. Rows of weight 0 do not count."""
    p = calibration.kept(predictions)
    sure, weight = calibration.confidence(p), p.weight.astype(np.float64)
    risk, coverage, last = _risks(sure, 1 - calibration.hits(p), weight[None])
    ends = np.unique(last)
    return Curve(threshold=np.sort(sure)[::-1][ends], coverage=coverage[0, ends], risk=risk[0, ends])


def aurc(predictions: Predictions) -> float:
    """The mean over examples of the risk when everything as sure as this example, or surer, is answered."""
    p = calibration.kept(predictions)
    return float(areas(p, p.weight.astype(np.float64)[None])[0])


def measure(predictions: Predictions, *, draws: int = bootstrap.DRAWS, seed: int = 0) -> Selective:
    """AURC with its interval from `draws` resamples, and risks at round coverages."""
    p = calibration.kept(predictions)
    found, hit = curve(p), calibration.hits(p)
    order = np.argsort(-hit, kind="stable")
    weight = p.weight.astype(np.float64)[order]
    risk = np.cumsum(weight * (1 - hit[order])) / np.cumsum(weight)
    rounds = [round(0.1 * i, 1) for i in range(5, 11)]
    return Selective(
        aurc=bootstrap.interval(p, areas, draws=draws, seed=seed),
        best_aurc=float((weight * risk).sum() / weight.sum()),
        at={c: float(found.risk[np.searchsorted(found.coverage, c - 1e-9)]) for c in rounds},
    )


def answered(predictions: Predictions, chosen: np.ndarray) -> Answered:
    """Coverage and risk where the examples in `chosen`, bool [N], are answered. Rows of weight 0 do not count."""
    weight = predictions.weight.astype(np.float64)
    mass = float(weight[chosen].sum())
    wrong = float((weight * (1 - calibration.hits(predictions)))[chosen].sum())
    low, high = calibration.wilson(wrong / mass, calibration.effective_count(weight[chosen])) if mass else (0.0, 1.0)
    return Answered(coverage=mass / float(weight.sum()), risk=wrong / mass if mass else 0.0, low=low, high=high)


def threshold(predictions: Predictions, *, risk: float, confidence: float = CONFIDENCE) -> float:
    """The threshold of largest coverage whose risk on new examples is at most `risk`, with probability `confidence`.

    Thresholds at `STEPS` coverages, fixed without a look at the labels, are tested each at level (1 - confidence) /
    STEPS by the exact binomial bound (Clopper and Pearson 1934), as in Geifman and El-Yaniv 2017, Selective
    Classification for Deep Neural Networks, arXiv:1705.08500. Unequal weights count as their effective number.

    Args:
      predictions: of a validation split on which the probabilities were not trained.
      risk: wanted share of wrong answers, in (0, 1).
      confidence: in (0, 1).

    Returns:
      A confidence in [0, 1]; 0 when everything may be answered.

    Raises:
      DataError: `risk` is out of range, or no threshold is safe on so few examples; the message tells what is.
    """
    from scipy import stats

    if not 0 < risk < 1:
        raise DataError(f"abstention: the wanted risk must lie between 0 and 1, found {risk:g}")
    found, n = curve(predictions), calibration.effective_count(calibration.kept(predictions).weight.astype(np.float64))
    level, lowest = (1 - confidence) / STEPS, 1.0
    for share in np.arange(STEPS, 0, -1) / STEPS:
        at = int(np.searchsorted(found.coverage, share - 1e-9))
        answers = found.coverage[at] * n
        wrong = found.risk[at] * answers
        bound = float(stats.beta.ppf(1 - level, wrong + 1, answers - wrong)) if answers > wrong else 1.0
        if bound <= risk:
            return float(found.threshold[at]) if at < len(found.threshold) - 1 else 0.0
        lowest = min(lowest, bound)
    raise DataError(
        f"abstention: no threshold keeps the share of wrong answers below {risk:g} with {confidence:.0%} confidence on "
        f"these {n:.0f} examples; the least that can be promised is {lowest:.3f}"
    )


def areas(p: Predictions, weights: np.ndarray) -> np.ndarray:
    """AURC under each row of weights [D, N], as a `bootstrap.Statistic`."""
    risk, _, _ = _risks(calibration.confidence(p), 1 - calibration.hits(p), weights)
    order = np.argsort(-calibration.confidence(p), kind="stable")
    return (weights[:, order] * risk).sum(axis=1) / weights.sum(axis=1)


def _risks(sure: np.ndarray, wrong: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(risk [D, N], coverage [D, N], last position of equal confidence [N]) in order of falling confidence."""
    order = np.argsort(-sure, kind="stable")
    ranked = sure[order]
    last = len(sure) - 1 - np.searchsorted(ranked[::-1], ranked, side="left")
    mass = np.cumsum(weights[:, order], axis=1)
    errors = np.cumsum(weights[:, order] * wrong[order], axis=1)
    # A resample may hold none of the surest examples: no answers, no risk.
    risk = np.divide(errors, mass, out=np.zeros_like(mass), where=mass > 0)
    return risk[:, last], (mass / mass[:, -1:])[:, last], last
