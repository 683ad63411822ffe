"""Averages of weights and batch statistics along the run, kept in `TrainState.average`, and of whole checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from emojax import paths
from emojax.config import AverageConfig
from emojax.types import Tree

Update = Callable[[Tree, Tree, Tree, Int[Array, ""]], Tree]
"""(average, params, model_state, number of updates done) → new average."""


def _kinds(config: AverageConfig) -> list[str]:
    return [] if config.name == "none" else config.name.split("+")


def init(config: AverageConfig, params: Tree, model_state: Tree) -> Tree:
    """The averages before the first update.

    Returns:
      {"ema": {"params", "model_state"}} and/or {"swa": {"params", "model_state", "count"}}, or {} without averaging.
      The trees are copies; `count`, int32, is the number of snapshots in the mean, at first 0: the copy is not one.
    """
    average = {}
    for kind in _kinds(config):
        # A copy: the step donates its input, and one buffer cannot be given away twice.
        average[kind] = jax.tree.map(jnp.copy, {"params": params, "model_state": model_state})
    if "swa" in average:
        average["swa"]["count"] = jnp.zeros((), jnp.int32)
    return average


def make(config: AverageConfig, *, swa_steps: tuple[int, ...]) -> Update:
    """How the averages follow the weights.

    Args:
      config: the knobs.
      swa_steps: updates after which SWA takes a snapshot.
    """

    def update(average: Tree, params: Tree, model_state: Tree, step: Int[Array, ""]) -> Tree:
        new = {}
        if "ema" in average:
            new["ema"] = ema(average["ema"], params, model_state, ema_decay(config, step))
        if "swa" in average:
            due = jnp.isin(step, jnp.asarray(swa_steps, jnp.int32))
            new["swa"] = jax.lax.cond(due, snapshot, lambda swa, *_: swa, average["swa"], params, model_state)
        return new

    return update


def ema_decay(config: AverageConfig, step: Int[Array, ""]) -> Float[Array, ""]:
    """With warm-up min(decay, (1 + step) / (10 + step)): early on, the average forgets its random start quickly."""
    t = jnp.asarray(step, jnp.float32)
    return jnp.minimum(config.decay, (1 + t) / (10 + t)) if config.warmup else jnp.full_like(t, config.decay)


def ema(average: Tree, params: Tree, model_state: Tree, decay: Float[Array, ""]) -> Tree:
    """decay average + (1 - decay) new, for {"params", "model_state"}."""
    new = {"params": params, "model_state": model_state}
    # Batch statistics are averaged too: averaged weights with the last statistics would not fit together.
    return jax.tree.map(lambda a, x: a + (1 - decay) * (x - a), average, new)


def snapshot(swa: Tree, params: Tree, model_state: Tree) -> Tree:
    """SWA with one more snapshot: the plain mean of them all (Izmailov et al. 2018, arXiv:1803.05407).

    The first one replaces what `swa` held, so that the weights that the run began with have no part in the mean.
    """
    count = swa["count"] + 1
    old = {"params": swa["params"], "model_state": swa["model_state"]}
    new = {"params": params, "model_state": model_state}
    mean = jax.tree.map(lambda a, x: jnp.where(count == 1, x, a + (x - a) / count), old, new)
    return {**mean, "count": count}


def refresh(
    apply_train: Callable[[Tree, Tree, Any], Tree],
    params: Tree,
    model_state: Tree,
    images: Iterable,
    *,
    stored: Sequence[str] = (),
) -> Tree:
    """BatchNorm statistics estimated anew for weights that no batch has gone through, such as averaged ones.

    Args:
      apply_train: (params, model_state, image) → the statistics of one batch, see `norms.own_statistics`.
      params: the weights.
      model_state: statistics of any value, for their structure; {} stays {}.
      images: at least one batch of images as `apply_train` takes them.
      stored: which statistics `apply_train` uses and keeps, see `paths.is_stored`: they stay those of `model_state`.

    Returns:
      The plain mean of the batches' own statistics, as torch's update_bn has it.
    """
    if not jax.tree.leaves(model_state):
        return model_state
    total, batches = jax.tree.map(jnp.zeros_like, model_state), 0
    for image in images:
        total = jax.tree.map(jnp.add, total, apply_train(params, model_state, image))
        batches += 1
    if not batches:
        raise ValueError("refresh: expected at least one batch of images")
    held = paths.map_with_path(lambda path, _: paths.is_stored(path, stored), total)
    return jax.tree.map(lambda hold, x, sums: x if hold else sums / batches, held, model_state, total)


def mean(trees: Sequence[Tree]) -> Tree:
    """The plain mean of trees of arrays: a model soup (Wortsman et al. 2022, arXiv:2203.05482).

    Returns:
      NumPy arrays of the first tree's dtypes; the sums are float64.
    """

    def leaf(*arrays: Any) -> np.ndarray:
        total = sum((np.asarray(a, np.float64) for a in arrays), start=np.zeros(()))
        return (total / len(arrays)).astype(arrays[0].dtype)

    return jax.tree.map(leaf, *trees)
