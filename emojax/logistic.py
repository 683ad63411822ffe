"""Multinomial logistic regression on fixed features, with the strength of its penalty found by cross-validation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy import optimize, special

PENALTIES = tuple(10 ** (x / 2) for x in range(2, -11, -1))
"""Strengths that are tried, strongest first: 10 to 1e-5."""
_PATIENCE = 2
"""Weaker penalties in a row without a gain, after which none is tried any more."""
_ROUNDS, _COARSE_ROUNDS = 300, 100
"""Most steps of the solver, and of those that only compare penalties."""

Model = tuple[Float[np.ndarray, "D K"], Float[np.ndarray, " K"]]
"""(kernel, bias): logits are x @ kernel + bias."""


def fit(
    x: Float[np.ndarray, "N D"],
    target: Float[np.ndarray, "N K"],
    weight: Float[np.ndarray, " N"],
    *,
    penalty: float,
    start: Model | None = None,
    coarse: bool = False,
) -> Model:
    """Minimises the weighted mean cross-entropy plus penalty / 2 times the squared kernel, by L-BFGS.

    Args:
      x: features, float32; of like size in all columns, or the penalty means different things to them.
      target: class probabilities of each row.
      weight: of each row, >= 0 and not all 0.
      penalty: strength, > 0. scikit-learn's C is 1 / (N penalty).
      start: where to begin; None = at 0.
      coarse: ends three digits earlier, good enough to compare penalties.

    Returns:
      (kernel, bias), float64. The bias is not penalised.
    """
    width, classes = x.shape[1], target.shape[1]
    share = (weight / weight.sum(dtype=np.float64)).astype(np.float32)[:, None]
    weighted = target * share

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        kernel, bias = flat[: width * classes].reshape(width, classes), flat[width * classes :]
        log_probs = special.log_softmax(x @ kernel.astype(np.float32) + bias.astype(np.float32), axis=1)
        error = (np.exp(log_probs) - target) * share
        value = -np.sum(log_probs * weighted, dtype=np.float64) + penalty / 2 * np.sum(kernel**2)
        slope = (x.T @ error).astype(np.float64) + penalty * kernel
        return value, np.concatenate([slope.reshape(-1), error.sum(0, dtype=np.float64)])

    kernel, bias = start or (np.zeros((width, classes)), np.zeros(classes))
    begin = np.concatenate([kernel.reshape(-1), bias])
    limits = {"maxiter": _COARSE_ROUNDS if coarse else _ROUNDS, "ftol": 1e-6 if coarse else 1e-9, "gtol": 1e-6}
    found = optimize.minimize(objective, begin, jac=True, method="L-BFGS-B", options=limits)
    return found.x[: width * classes].reshape(width, classes), found.x[width * classes :]


def loss(
    model: Model, x: Float[np.ndarray, "N D"], target: Float[np.ndarray, "N K"], weight: Float[np.ndarray, " N"]
) -> float:
    """Weighted mean cross-entropy, nats."""
    log_probs = special.log_softmax(x @ model[0] + model[1], axis=1)
    return float(-(log_probs * target * weight[:, None]).sum() / weight.sum(dtype=np.float64))


def best_penalty(
    x: Float[np.ndarray, "N D"],
    target: Float[np.ndarray, "N K"],
    weight: Float[np.ndarray, " N"],
    fold: Sequence[int] | np.ndarray,
    *,
    penalties: Sequence[float] = PENALTIES,
) -> tuple[float, float]:
    """(penalty, mean cross-entropy) with the least cross-entropy on rows that were left out.

    Args:
      x, target, weight: as in `fit`.
      fold: part of each row; each part is left out once.
      penalties: strongest first; the end is not tried when the loss has risen before.
    """
    parts = [np.asarray(fold) == k for k in np.unique(fold)]
    models: dict[int, Model] = {}
    best, worse = (penalties[0], np.inf), 0
    for penalty in penalties:
        losses, mass = [], []
        for i, left_out in enumerate(parts):
            kept = ~left_out
            model = fit(x[kept], target[kept], weight[kept], penalty=penalty, start=models.get(i), coarse=True)
            losses.append(loss(model, x[left_out], target[left_out], weight[left_out]))
            mass.append(weight[left_out].sum())
            models[i] = model
        found = float(np.average(losses, weights=mass))
        best, worse = ((penalty, found), 0) if found < best[1] else (best, worse + 1)
        if worse == _PATIENCE:
            break
    return best
