"""Factors per class against imbalance, and how much each class weighs in the end."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from emojax.errors import ConfigError

_Counts = Float[np.ndarray, " K"]


def _balanced(counts: _Counts, beta: float) -> _Counts:
    del beta
    return counts.sum() / (len(counts) * counts)


def _sqrt(counts: _Counts, beta: float) -> _Counts:
    del beta
    return _to_mean_one(counts**-0.5)


def _effective(counts: _Counts, beta: float) -> _Counts:
    """One over the effective number of images (1 - beta^n) / (1 - beta) (Cui et al. 2019, arXiv:1901.05555)."""
    return _to_mean_one((1 - beta) / (1 - beta**counts))


def _to_mean_one(weight: _Counts) -> _Counts:
    return weight * (len(weight) / weight.sum())


KINDS = {"none": None, "balanced": _balanced, "sqrt": _sqrt, "effective": _effective}
"""kind → (counts > 0 [K], beta) → [K]"""


def weights(kind: str, counts: np.ndarray, *, beta: float) -> np.ndarray | None:
    """The factor on each class's term of the loss.

    Args:
      kind: balanced (N / (K n_k), scikit-learn's), sqrt (n_k^-1/2, sum K), effective (sum K) or none.
      counts: [K], >= 0; images per class, or the sum of their weights.
      beta: of `effective`, in [0, 1).

    Returns:
      float32 [K], or None for "none". A class without images weighs 0 and is not counted in K: the others are weighted
      as if it did not exist, and label smoothing does not ask for a class that was never seen.

    Raises:
      ConfigError: `kind` is unknown.
    """
    if kind not in KINDS:
        raise ConfigError(f"config.loss.class_weights: expected one of {', '.join(KINDS)}, found {kind!r}")
    rule = KINDS[kind]
    if rule is None:
        return None
    counts = np.asarray(counts, np.float64)
    found, weight = counts > 0, np.zeros(len(counts), np.float32)
    weight[found] = rule(counts[found], beta)
    return weight


def effective_mass(
    counts: np.ndarray, *, sampler: str, weight: np.ndarray | None, adjust: float = 0.0
) -> Float[np.ndarray, " K"]:
    """The share of the loss that each class gets by sampling and class weights, were all images equally hard.

    Args:
      counts: [K], >= 0; images per class, or the sum of their weights.
      sampler: "shuffle" or "balanced", as in `DataConfig`; balanced draws no class that has no images.
      weight: [K] class weights, or None.
      adjust: `LossConfig.logit_adjust`, which divides by that power of what is drawn: the prior that is left in the
        logits.

    Returns:
      float64 [K], sums to 1.
    """
    counts = np.asarray(counts, np.float64)
    drawn = (counts > 0).astype(np.float64) if sampler == "balanced" else counts
    mass = drawn if weight is None else drawn * weight
    mass = np.divide(mass, drawn**adjust, out=np.zeros_like(mass), where=drawn > 0)
    return mass / mass.sum()
