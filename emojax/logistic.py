"""Multinomial logistic regression on fixed features, with the strength of its penalty found by cross-validation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from emojax.errors import DataError

PENALTIES = tuple(10 ** (x / 2) for x in range(2, -11, -1))
"""Strengths that are tried, strongest first: 10 to 1e-5."""
_PATIENCE = 2
"""Weaker penalties in a row without a gain, after which none is tried any more."""
_ROUNDS, _COARSE_ROUNDS = 300, 100
"""Most steps of the solver, and of those that only compare penalties."""

Rows = np.ndarray | Array
Model = tuple[Float[np.ndarray, "D K"], Float[np.ndarray, " K"]]
"""(kernel, bias): logits are x @ kernel + bias."""


def fit(
    x: Float[Rows, "N D"],
    target: Float[Rows, "N K"],
    weight: Float[np.ndarray, " N"],
    *,
    penalty: float,
    start: Model | None = None,
    coarse: bool = False,
    poll: Callable[[], None] = lambda: None,
) -> Model:
    """Minimises the weighted mean cross-entropy plus penalty / 2 times the squared kernel, by L-BFGS.

    Args:
      x: features, float32; of like size in all columns, or the penalty means different things to them.
      target: class probabilities of each row, float32.
      weight: of each row, >= 0 and not all 0.
      penalty: strength, > 0. scikit-learn's C is 1 / (N penalty).
      start: where to begin; None = at 0.
      coarse: ends earlier, good enough to compare penalties.
      poll: is called in every round; what it raises ends the search.

    Returns:
      (kernel, bias), float64. The bias is not penalised.
    """
    x, target = jnp.asarray(x), jnp.asarray(target)
    width, classes = x.shape[1], target.shape[1]
    share = jnp.asarray(weight / weight.sum(dtype=np.float64), jnp.float32)

    from scipy import optimize  # most runs need none of it

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        poll()
        kernel, bias = flat[: width * classes].reshape(width, classes), flat[width * classes :]
        value, slope, of_bias = jax.device_get(_data_term(kernel, bias, x, target, share))
        slope = np.asarray(slope, np.float64) + penalty * kernel
        return float(value) + penalty / 2 * np.sum(kernel**2), np.concatenate([slope.reshape(-1), of_bias])

    kernel, bias = start or (np.zeros((width, classes)), np.zeros(classes))
    begin = np.concatenate([kernel.reshape(-1), bias])
    limits = {"maxiter": _COARSE_ROUNDS if coarse else _ROUNDS, "ftol": 1e-6 if coarse else 1e-9, "gtol": 1e-6}
    found = optimize.minimize(objective, begin, jac=True, method="L-BFGS-B", options=limits)
    return found.x[: width * classes].reshape(width, classes), found.x[width * classes :]


# Not NumPy: its threads wait for one another in a loop, and beside other work that takes three hundred times as long.
@jax.jit
def _data_term(kernel: Any, bias: Any, x: Any, target: Any, share: Any) -> tuple[Any, Any, Any]:
    """(cross-entropy, its slope by the kernel, by the bias); float32."""
    kernel, bias = kernel.astype(jnp.float32), bias.astype(jnp.float32)
    log_probs = jax.nn.log_softmax(jnp.dot(x, kernel, precision="highest") + bias, axis=1)
    error = (jnp.exp(log_probs) - target) * share[:, None]
    slope = jnp.dot(x.T, error, precision="highest")
    return -(log_probs * target * share[:, None]).sum(), slope, error.sum(0)


def best_penalty(
    x: Float[np.ndarray, "N D"],
    target: Float[np.ndarray, "N K"],
    weight: Float[np.ndarray, " N"],
    fold: Sequence[int] | np.ndarray,
    *,
    penalties: Sequence[float] = PENALTIES,
    poll: Callable[[], None] = lambda: None,
) -> tuple[float, float]:
    """(penalty, mean cross-entropy, nats) with the least cross-entropy on rows that were left out.

    Args:
      x, target, weight: as in `fit`.
      fold: part of each row; each part is left out once.
      poll: as in `fit`.
      penalties: strongest first; the end is not tried when the loss has risen before.

    Raises:
      DataError: in fewer than two parts rows have a weight.
    """
    rows, wanted = jnp.asarray(x), jnp.asarray(target)
    # Rows that are left out weigh nothing: all parts then share one program.
    held = [np.where(np.asarray(fold) == k, weight, np.float32(0)) for k in np.unique(fold)]
    parts = [(weight - part, part, part.sum(dtype=np.float64)) for part in held if part.any()]
    if len(parts) < 2:
        raise DataError("the strength of the penalty cannot be found: usable rows are in one part alone")
    models: dict[int, Model] = {}
    best, worse = (penalties[0], np.inf), 0
    for penalty in penalties:
        losses = []
        for i, (kept, left_out, mass) in enumerate(parts):
            models[i] = fit(rows, wanted, kept, penalty=penalty, start=models.get(i), coarse=True, poll=poll)
            share = jnp.asarray(left_out / mass, jnp.float32)
            losses.append(float(_data_term(*models[i], rows, wanted, share)[0]))
        found = float(np.average(losses, weights=[mass for *_, mass in parts]))
        best, worse = ((penalty, found), 0) if found < best[1] else (best, worse + 1)
        if worse == _PATIENCE:
            break
    return best
