"""Whether probabilities mean what they say: calibration errors, the reliability diagram, proper scores.

The confidence of an example is its largest probability, and it is a hit when that is the true class. The expected
calibration error (ECE) is the mean over bins of |share of hits - mean confidence|, each bin with its share of the
weight (Naeini et al. 2015; Guo et al. 2017, arXiv:1706.04599). Bins are of equal mass, that is of equally many examples
(Nguyen and O'Connor 2015, arXiv:1508.05154), or of equal width, (i/M, (i+1)/M].

On few examples the ECE is far above 0 even for a perfect model, so two things stand beside it. `chance` is what a
perfect model with these confidences would show: hits drawn with the stated probabilities (Broecker and Smith 2007,
Increasing the Reliability of Reliability Diagrams). And the interval allows for that bias: the bootstrap's percentiles
and their mirror image about the value, whichever reaches further, and down to 0 where the ECE is within chance.
Resampling alone would hold the truth in none of 200 simulations of a perfect model; docs/evaluation.md tells what this
does. Fewer than 300 examples get fewer bins of equal mass.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from emojax import bootstrap
from emojax.bootstrap import Interval
from emojax.combine import log_probs
from emojax.errors import DataError
from emojax.shares import effective_count, wilson
from emojax.types import Predictions

BINS, PER_BIN = 15, 20
"""As in Guo et al. 2017; and how many examples a bin of equal mass holds at least, where two bins can."""
BINNINGS = ("equal_mass", "equal_width")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """One bar of a reliability diagram.

    Attributes:
      n, weight: examples in it and the sum of their weights.
      confidence, accuracy: weighted means, in [0, 1].
      low, high: bounds of the accuracy's 95 % Wilson interval.
    """

    n: int
    weight: float
    confidence: float
    accuracy: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Error:
    """A calibration error: its interval, and the mean and 95th percentile that chance alone would give."""

    interval: Interval
    chance: float
    chance_95: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Everything about the calibration of one split.

    Attributes:
      n: examples of positive weight.
      ece: {binning: calibration error}, both `BINNINGS`.
      brier: mean over examples of the sum over classes of (probability - label)^2, 0 to 2 (Brier 1950).
      nll: mean cross-entropy against the label distribution, nats; `Report.loss` with an interval.
      confidence, accuracy: their means; confidence above accuracy is overconfidence.
      bins: of equal mass, from unsure to sure, those of the ECE.
      histogram: examples by confidence, in 20 steps of equal width from 0 to 1.
    """

    n: int
    ece: dict[str, Error]
    brier: Interval
    nll: Interval
    confidence: float
    accuracy: float
    bins: tuple[Bin, ...]
    histogram: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """In JSON's own types; intervals are {"value", "low", "high"}."""
        return {
            "n": self.n,
            "bin_count": {binning: bin_count(self.n, binning=binning) for binning in BINNINGS},
            "confidence": self.confidence,
            "accuracy": self.accuracy,
            "ece": {
                binning: {**error.interval._asdict(), "chance": error.chance, "chance_95": error.chance_95}
                for binning, error in self.ece.items()
            },
            "brier": self.brier._asdict(),
            "nll": self.nll._asdict(),
            "bins": [dataclasses.asdict(row) for row in self.bins],
            "histogram": list(self.histogram),
        }


def from_json(values: Mapping[str, Any]) -> Calibration:
    """What `Calibration.to_json` wrote."""
    interval = {name: Interval(*(float(values[name][x]) for x in Interval._fields)) for name in ("brier", "nll")}
    errors = {
        name: Error(
            interval=Interval(*(float(row[x]) for x in Interval._fields)),
            chance=float(row["chance"]),
            chance_95=float(row["chance_95"]),
        )
        for name, row in values["ece"].items()
    }
    return Calibration(
        n=int(values["n"]),
        ece=errors,
        **interval,
        confidence=float(values["confidence"]),
        accuracy=float(values["accuracy"]),
        bins=tuple(Bin(**row) for row in values["bins"]),
        histogram=tuple(values["histogram"]),
    )


def confidence(predictions: Predictions) -> np.ndarray:
    """The largest probability of each example, float64 [N]."""
    return predictions.probs.max(axis=1).astype(np.float64)


def hits(predictions: Predictions) -> np.ndarray:
    """1 where the most probable class is the true one, else 0, float64 [N]; ties go to the class that comes first."""
    return (predictions.probs.argmax(axis=1) == predictions.label.argmax(axis=1)).astype(np.float64)


def brier_scores(predictions: Predictions) -> np.ndarray:
    """The sum over classes of (probability - label)^2 of each example, float64 [N]."""
    return ((predictions.probs.astype(np.float64) - predictions.label) ** 2).sum(axis=1)


def log_losses(predictions: Predictions) -> np.ndarray:
    """The cross-entropy of each example against its label distribution, nats, float64 [N]."""
    return -(predictions.label.astype(np.float64) * log_probs(predictions.probs)).sum(axis=1)


def kept(predictions: Predictions) -> Predictions:
    """The examples of positive weight. Raises `DataError` when there is none, or a probability is no number."""
    good = predictions.weight > 0
    if not good.any():
        raise DataError("calibration: no example has a positive weight")
    if not np.isfinite(predictions.probs[good]).all():
        raise DataError("calibration: some probabilities are NaN or infinite")
    return predictions.take(good)


def bin_count(n: int, *, binning: str) -> int:
    """How many bins n examples get: `BINS`; of equal mass as many as hold `PER_BIN` each, at least two, up to that."""
    return BINS if binning == "equal_width" else min(BINS, max(2, n // PER_BIN))


def bin_of(sure: np.ndarray, weight: np.ndarray, *, binning: str, bins: int) -> np.ndarray:
    """The bin of each confidence, int [N] in [0, bins).

    Equal mass: an example lies in the bin that holds the middle of its stretch of the weight, in order of confidence.
    Equal confidences always share a bin, so bins may be empty.
    """
    if binning == "equal_width":
        return np.clip(np.ceil(sure * bins).astype(int) - 1, 0, bins - 1)
    values, position = np.unique(sure, return_inverse=True)
    mass = np.bincount(position.reshape(-1), weights=weight, minlength=len(values))
    middle = (np.cumsum(mass) - mass / 2) / mass.sum()
    return np.minimum((middle * bins).astype(int), bins - 1)[position.reshape(-1)]


def ece(predictions: Predictions, *, binning: str = "equal_mass", bins: int = 0) -> float:
    """The expected calibration error, in [0, 1]. Rows of weight 0 do not count."""
    p = kept(predictions)
    weight = p.weight.astype(np.float64)
    sure = confidence(p)
    member = bin_of(sure, weight, binning=binning, bins=bins or bin_count(len(sure), binning=binning))
    return float(np.abs(np.bincount(member, weights=weight * (hits(p) - sure))).sum() / weight.sum())


def reliability(predictions: Predictions, *, binning: str = "equal_mass", bins: int = 0) -> tuple[Bin, ...]:
    """The bars of the reliability diagram that hold examples, from unsure to sure."""
    p = kept(predictions)
    weight, sure, hit = p.weight.astype(np.float64), confidence(p), hits(p)
    member = bin_of(sure, weight, binning=binning, bins=bins or bin_count(len(sure), binning=binning))
    rows = []
    for i in np.unique(member):
        w = weight * (member == i)
        accuracy = float((w * hit).sum() / w.sum())
        low, high = wilson(accuracy, effective_count(w))
        rows.append(
            Bin(
                n=int((w > 0).sum()),
                weight=float(w.sum()),
                confidence=float((w * sure).sum() / w.sum()),
                accuracy=accuracy,
                low=low,
                high=high,
            )
        )
    return tuple(rows)


def measure(predictions: Predictions, *, draws: int = bootstrap.DRAWS, seed: int = 0) -> Calibration:
    """All of it, with 95 % intervals from `draws` resamples. Raises `DataError` as `kept` does."""
    p = kept(predictions)
    weight = p.weight.astype(np.float64)
    sure = confidence(p)
    return Calibration(
        n=len(weight),
        ece={binning: _error(p, binning, draws=draws, seed=seed) for binning in BINNINGS},
        brier=bootstrap.mean_interval(p, brier_scores(p), draws=draws, seed=seed),
        nll=bootstrap.mean_interval(p, log_losses(p), draws=draws, seed=seed),
        confidence=float((weight * sure).sum() / weight.sum()),
        accuracy=float((weight * hits(p)).sum() / weight.sum()),
        bins=reliability(p),
        histogram=tuple(np.bincount(bin_of(sure, weight, binning="equal_width", bins=20), minlength=20).tolist()),
    )


def ece_statistic(predictions: Predictions, *, binning: str = "equal_mass") -> bootstrap.Statistic:
    """The ECE under resamples of these predictions; the bins stay those of the whole."""
    off = _one_hot(predictions, binning) * (hits(predictions) - confidence(predictions))[:, None]

    def statistic(_: Predictions, weights: np.ndarray) -> np.ndarray:
        return np.abs(weights @ off).sum(axis=1) / weights.sum(axis=1)

    return statistic


def _one_hot(p: Predictions, binning: str) -> np.ndarray:
    """Which bin each example is in, [N, bins]; the number of bins is that of the examples of positive weight."""
    bins = bin_count(int((p.weight > 0).sum()), binning=binning)
    return np.eye(bins)[bin_of(confidence(p), p.weight.astype(np.float64), binning=binning, bins=bins)]


def _error(p: Predictions, binning: str, *, draws: int, seed: int) -> Error:
    weight, sure = p.weight.astype(np.float64), confidence(p)
    one_hot = _one_hot(p, binning)
    value = ece(p, binning=binning)
    moved = bootstrap.samples(p, ece_statistic(p, binning=binning), draws=draws, seed=seed)
    low, high = map(float, bootstrap.percentiles(moved))
    rng, share = np.random.default_rng([seed, 1]), one_hot * (weight / weight.sum())[:, None]
    chance = np.array([np.abs(((rng.random(len(sure)) < sure) - sure) @ share).sum() for _ in range(draws)])
    limit = float(np.quantile(chance, 0.95))
    if value <= limit:
        found = Interval(value, 0.0, min(1.0, max(value, high, 2 * value - low)))
    else:
        found = Interval(value, max(0.0, min(low, 2 * value - high)), min(1.0, max(high, 2 * value - low)))
    return Error(interval=found, chance=float(chance.mean()), chance_95=limit)
