"""Probabilities rescaled after training: temperature, vector scaling, another class prior. All are one affine map.

    new probabilities = softmax(scale * log(probabilities) + bias)

- Temperature scaling: scale = 1 / T for every class, bias 0 (Guo et al. 2017, On Calibration of Modern Neural Networks,
  arXiv:1706.04599). The order of the classes stays, so no decision changes.
- Vector scaling: a scale and a bias per class (ibid.). It also moves decisions.
- Post-hoc logit adjustment: bias - tau * log(prior), for a target on which all classes count alike (Menon et al. 2021,
  Long-tail learning via logit adjustment, arXiv:2007.07314).

Log-probabilities stand for logits, which they equal up to a constant per example: so the map is defined for averages
over views and for ensembles too.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from emojax.combine import log_probs, softmax
from emojax.errors import DataError
from emojax.types import Predictions

METHODS = ("none", "temperature", "vector")
"""What `fit` can do, from nothing to most."""
_SCALES = (0.1, 10.0)
"""Where scales are looked for: without a wrong decision the best one would be infinite."""
_BIASES = (-10.0, 10.0)


@dataclasses.dataclass(frozen=True, slots=True)
class Scaling:
    """The map above for K classes: `scale` and `bias`, K numbers each."""

    scale: tuple[float, ...]
    bias: tuple[float, ...]

    def __post_init__(self) -> None:
        numbers = (*self.scale, *self.bias)
        if len(self.scale) != len(self.bias) or not all(map(math.isfinite, numbers)) or min(self.scale) <= 0:
            raise DataError("scaling: expected one scale above 0 and one finite bias per class")

    @classmethod
    def none(cls, k: int) -> Scaling:
        """The map that changes nothing."""
        return cls((1.0,) * k, (0.0,) * k)

    def adjusted(self, prior: Sequence[float] | np.ndarray, tau: float) -> Scaling:
        """This map, and then the logit adjustment by tau for the class prior [K], see `prior`.

        A class of prior 0, which was never seen, is adjusted as the rarest of the others. Raises `DataError` when
        the prior is not K numbers >= 0 that are not all 0.
        """
        mass = np.asarray(prior, np.float64)
        if mass.shape != (len(self.bias),) or not (np.isfinite(mass).all() and (mass >= 0).all() and mass.any()):
            raise DataError(f"scaling: the class prior must be {len(self.bias)} numbers, 0 or more, that are not all 0")
        mass = np.where(mass > 0, mass, mass[mass > 0].min())
        shift = -tau * np.log(mass / mass.sum())
        bias = np.array(self.bias) + shift - shift.mean()
        return Scaling(self.scale, tuple(bias.tolist()))


def prior(predictions: Predictions, *, method: str, trained: np.ndarray) -> np.ndarray:
    """float64 [K], the class prior in rescaled probabilities, which `adjusted` takes out: `trained`, that of training;
    but the biases of vector scaling put the classes of the predictions that it was fitted on in its place."""
    if method != "vector":
        return trained
    return (predictions.label * predictions.weight[:, None]).sum(0, dtype=np.float64)


def apply(scaling: Scaling, predictions: Predictions) -> Predictions:
    """The predictions with rescaled probabilities. Raises `DataError` when the class count differs."""
    return dataclasses.replace(predictions, probs=rescaled(scaling, predictions.probs))


def rescaled(scaling: Scaling, probs: np.ndarray) -> np.ndarray:
    """Rescaled probabilities [N, K], float32. Raises as `apply` does."""
    if probs.shape[1] != len(scaling.scale):
        raise DataError(f"the scaling is for {len(scaling.scale)} classes, the predictions have {probs.shape[1]}")
    if scaling == Scaling.none(probs.shape[1]):
        return probs.astype(np.float32)  # to the last bit: log and exp would move it
    logits = log_probs(probs) * np.array(scaling.scale) + np.array(scaling.bias)
    return softmax(logits).astype(np.float32)


def fit(predictions: Predictions, *, method: str) -> Scaling:
    """The map of least weighted cross-entropy on the predictions of a validation split.

    Args:
      predictions: of the validation split; rows of weight 0 do not count, labels may be distributions.
      method: "none", "temperature" or "vector".

    Raises:
      DataError: no row has a positive weight, or the method is unknown.
    """
    good = predictions.weight > 0
    if not good.any():
        raise DataError("nothing to fit the scaling on: no example has a positive weight")
    if method not in METHODS:
        raise DataError(f"scaling: expected one of {', '.join(METHODS)}, found {method!r}")
    label, weight = predictions.label[good].astype(np.float64), predictions.weight[good].astype(np.float64)
    probs, k = predictions.probs[good], label.shape[1]
    start = Scaling.none(k)
    if method != "none":
        start = Scaling((1 / temperature(probs, label, weight),) * k, (0.0,) * k)
    return _vector(log_probs(probs), label, weight, start=start) if method == "vector" else start


def temperature(probs: np.ndarray, label: np.ndarray, weight: np.ndarray) -> float:
    """The temperature of least weighted cross-entropy, between 0.1 and 10.

    Cross-entropy is convex in 1 / temperature, so its slope there, the mean of (expected - true) logit, is bisected.
    """
    logits = log_probs(probs)
    true = (label * logits).sum(axis=1)
    low, high = (math.log(t) for t in _SCALES)
    for _ in range(50):
        middle = (low + high) / 2
        expected = (softmax(logits / math.exp(middle)) * logits).sum(axis=1)
        if (weight * (expected - true)).sum() > 0:
            low = middle  # too sharp
        else:
            high = middle
    return math.exp((low + high) / 2)


def choose(predictions: Predictions, *, folds: int = 5, seed: int = 0) -> tuple[str, dict[str, float]]:
    """(a method, {method: cross-fitted cross-entropy, nats}) by a validation split.

    A method must earn what it moves: a later one of `METHODS` is taken where its cross-entropy on examples that it was
    not fitted on is smaller by more than one standard error of the difference (Breiman et al. 1984, Classification and
    Regression Trees, section 3.4.3).
    """
    chosen, losses, each = METHODS[0], {}, {}
    for method in METHODS:
        after = cross_fitted(
            predictions,
            lambda fitted, held, method=method: apply(fit(fitted, method=method), held),
            folds=folds,
            seed=seed,
        )
        weight = after.weight / after.weight.sum(dtype=np.float64)
        each[method] = -(after.label * log_probs(after.probs)).sum(axis=1)
        losses[method] = float(weight @ each[method])
        gain = each[chosen] - each[method]
        if weight @ gain > np.sqrt((weight**2) @ (gain - weight @ gain) ** 2):
            chosen = method
    return chosen, losses


def cross_fitted(
    predictions: Predictions, function: Callable[[Predictions, Predictions], Predictions], *, folds: int, seed: int
) -> Predictions:
    """Every example of positive weight, in their order, after `function(fitted, held)`: what was fitted on the other
    folds."""
    parts = [function(fitted, held) for fitted, held in split(predictions, folds=folds, seed=seed)]
    return joined(parts).take(order(predictions, folds=folds, seed=seed))


def split(predictions: Predictions, *, folds: int, seed: int) -> Iterator[tuple[Predictions, Predictions]]:
    """(the other folds, one fold) for each fold; rows of weight 0 are in none, every other one is held out once.

    Folds are drawn within each true class. With fewer examples than folds, each example is a fold. Raises `DataError`
    when there are fewer than two.
    """
    held = _held(predictions, folds=folds, seed=seed)
    for i, inside in enumerate(held):
        outside = np.sort(np.concatenate([*held[:i], *held[i + 1 :]]))
        yield predictions.take(outside), predictions.take(inside)


def order(predictions: Predictions, *, folds: int, seed: int) -> np.ndarray:
    """Where each example of positive weight lies in the `joined` folds of `split`: what brings them into their own
    order again. What is drawn with a seed, such as a resample, depends on the order."""
    return np.argsort(np.concatenate(_held(predictions, folds=folds, seed=seed)))


def _held(predictions: Predictions, *, folds: int, seed: int) -> list[np.ndarray]:
    """The rows of each fold, ascending."""
    rows = np.flatnonzero(predictions.weight > 0)
    if len(rows) < 2:
        raise DataError(f"{len(rows)} examples cannot be cut into folds")
    shuffled = np.random.default_rng(seed).permutation(rows)
    ordered = shuffled[np.argsort(predictions.label[shuffled].argmax(axis=1), kind="stable")]
    return [np.sort(ordered[i::folds]) for i in range(min(folds, len(ordered)))]


def joined(parts: Sequence[Predictions]) -> Predictions:
    """The examples of all parts, one after the other."""
    first = parts[0]
    return Predictions(
        probs=np.concatenate([p.probs for p in parts]),
        label=np.concatenate([p.label for p in parts]),
        weight=np.concatenate([p.weight for p in parts]),
        id=np.concatenate([p.id for p in parts]),
        slices={name: np.concatenate([p.slices[name] for p in parts]) for name in first.slices},
    )


def _vector(logits: np.ndarray, label: np.ndarray, weight: np.ndarray, *, start: Scaling) -> Scaling:
    """Scale and bias per class by L-BFGS-B with bounds, from `start`; the problem is convex."""
    from scipy import optimize

    k, share = logits.shape[1], weight / weight.sum()

    def loss(numbers: np.ndarray) -> tuple[float, np.ndarray]:
        moved = logits * numbers[:k] + numbers[k:]
        top = moved.max(axis=1, keepdims=True)
        powers = np.exp(moved - top)
        total = powers.sum(axis=1, keepdims=True)
        slope = share[:, None] * (powers / total - label)
        value = float((share * ((np.log(total) + top)[:, 0] - (label * moved).sum(axis=1))).sum())
        return value, np.concatenate([(slope * logits).sum(axis=0), slope.sum(axis=0)])

    found = optimize.minimize(
        loss,
        np.array([*start.scale, *start.bias]),
        jac=True,
        method="L-BFGS-B",
        bounds=[_SCALES] * k + [_BIASES] * k,
        options={"maxiter": 500, "ftol": 1e-12, "gtol": 1e-8},
    )
    bias = found.x[k:] - found.x[k:].mean()  # a constant for all classes changes nothing
    return Scaling(tuple(found.x[:k].tolist()), tuple(bias.tolist()))
