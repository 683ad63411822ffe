"""Running averages of weights and batch statistics, kept in `TrainState.average`."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from emojax.config import AverageConfig
from emojax.types import Tree

Update = Callable[[Tree, Tree, Tree, Int[Array, ""]], Tree]
"""(average, params, model_state, number of updates done) → new average."""


def init(config: AverageConfig, params: Tree, model_state: Tree) -> Tree:
    """The average before the first update: a copy of the weights and statistics, or {} when averaging is off."""
    if config.name == "none":
        return {}
    # A copy: the step donates its input, and one buffer cannot be given away twice.
    return jax.tree.map(jnp.copy, {"params": params, "model_state": model_state})


def make(config: AverageConfig) -> Update:
    """How the average follows the weights."""
    return {"none": _none, "ema": _ema(config.decay)}[config.name]


def _none(average: Tree, params: Tree, model_state: Tree, step: Int[Array, ""]) -> Tree:
    del params, model_state, step
    return average


def ema_decay(decay: float, step: Int[Array, ""]) -> Float[Array, ""]:
    """min(decay, (1 + step) / (10 + step)): early on, the average forgets its random start quickly."""
    t = jnp.asarray(step, jnp.float32)
    return jnp.minimum(decay, (1 + t) / (10 + t))


def _ema(decay: float) -> Update:
    def update(average: Tree, params: Tree, model_state: Tree, step: Int[Array, ""]) -> Tree:
        rate = 1 - ema_decay(decay, step)
        new = {"params": params, "model_state": model_state}
        # Batch statistics are averaged too: averaged weights with the last statistics would not fit together.
        return jax.tree.map(lambda a, x: a + rate * (x - a), average, new)

    return update
