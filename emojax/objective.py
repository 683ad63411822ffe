"""What a step minimises: loss, regularisers, teacher and the kit against wrong labels, put together for one stage."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from emojax import distill, losses, noise
from emojax.config import DistillConfig, LossConfig
from emojax.losses import Loss
from emojax.step import Judged, Objective, Seen

_Terms = tuple[Float[Array, " B"], ...]
"""One number per example, of each network."""


def make(
    config: LossConfig,
    *,
    class_weight: np.ndarray | None,
    mass: np.ndarray | None,
    teaching: DistillConfig | None,
    per_epoch: float,
    start: int = 0,
) -> Objective:
    """The objective of a stage.

    Args:
      config: its loss.
      class_weight, mass: as in `losses.task`.
      teaching: how a teacher counts; None = there is none.
      per_epoch: updates in an epoch, in which `forget_epochs` is given.
      start: the update from which on they are counted.

    Raises `ConfigError` for unknown names.
    """
    task, penalty = losses.task(config, class_weight, mass), losses.penalty(config)
    # Whose label is doubted is not asked of class weights, by which all examples of a rare class have large losses.
    plain = task if class_weight is None else losses.task(config, None, mass)
    combine = distill.make(teaching, penalty) if teaching else None

    def terms(seen: Seen, task: Loss) -> _Terms:
        logits, label = seen.output.logits, seen.label
        if seen.output.twins:
            return tuple(task(twin, label) + penalty(twin) for twin in seen.output.twins)
        if config.importance:
            return (_weighed(config, task, seen) + penalty(logits),)
        if combine is not None:
            return (combine(seen.output, seen.taught, task(logits, label)),)
        return (task(logits, label) + penalty(logits),)

    def objective(seen: Seen) -> Judged:
        added, target = jnp.zeros_like(seen.weight), None
        if config.flip_consistency and seen.mirrored is not None:
            added += config.flip_consistency * noise.divergence(seen.output.logits, seen.mirrored.logits)
        if config.elr:
            target = noise.remembered(seen.target, seen.output.logits, config.elr_momentum)
            added += config.elr * noise.early_learning(seen.output.logits, target)
        each = terms(seen, task)
        # What is added is of the mean of twins, of which each gets half of the gradient: so it goes to both.
        weights = _selected(config, seen, each if plain is task else terms(seen, plain), per_epoch, start)
        return Judged(tuple((e + added, w) for e, w in zip(each, weights, strict=True)), target)

    return objective


def _weighed(config: LossConfig, task: Loss, seen: Seen) -> Float[Array, " B"]:
    """SCN: (1 - gamma) times the loss on logits times importance, and gamma times the rank regularisation."""
    importance = seen.output.importance
    logits = seen.output.logits * importance[:, None]
    low = noise.unimportant(importance, seen.weight, config.importance_share)
    label = noise.relabelled(seen.label, logits, low, config.relabel) if config.relabel else seen.label
    ranked = noise.rank_regulariser(importance, low, seen.weight, config.importance_margin)
    return (1 - config.importance) * task(logits, label) + config.importance * ranked


def _selected(config: LossConfig, seen: Seen, each: _Terms, per_epoch: float, start: int) -> _Terms:
    """The weights with which each network learns: without the largest losses, twins by each other's."""
    if not config.forget:
        return (seen.weight,) * len(each)
    rate = noise.forget_rate(seen.step - start, config.forget, config.forget_epochs * per_epoch)
    return tuple(noise.small_losses(e, seen.weight, rate) for e in reversed(each))
