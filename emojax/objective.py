"""What a step minimises: loss, regularisers, teacher and the kit against wrong labels, put together for one stage."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from emojax import distill, losses, noise
from emojax.config import DistillConfig, LossConfig
from emojax.step import Judged, Objective, Seen

_Each = Callable[[Float[Array, "B K"], Float[Array, "B K"]], Float[Array, " B"]]


def make(
    config: LossConfig,
    *,
    class_weight: np.ndarray | None,
    mass: np.ndarray | None,
    teaching: DistillConfig | None,
    per_epoch: float,
) -> Objective:
    """The objective of a stage.

    Args:
      config: its loss.
      class_weight, mass: as in `losses.task`.
      teaching: how a teacher counts; None = there is none.
      per_epoch: updates in an epoch, in which `forget_epochs` is given.

    Raises `ConfigError` for unknown names.
    """
    task, penalty = losses.task(config, class_weight, mass), losses.penalty(config)
    whole = losses.make(config, class_weight, mass)
    combine = distill.make(teaching, penalty) if teaching else None

    def objective(seen: Seen) -> Judged:
        added, target = jnp.zeros_like(seen.weight), None
        if config.flip_consistency and seen.mirrored is not None:
            added += config.flip_consistency * noise.divergence(seen.output.logits, seen.mirrored.logits)
        if config.elr:
            target = noise.remembered(seen.target, seen.output.logits, config.elr_momentum)
            added += config.elr * noise.early_learning(seen.output.logits, target)
        if seen.output.twins:
            each = tuple(whole(logits, seen.label) for logits in seen.output.twins)
        elif config.importance:
            each = (_weighed(config, task, seen) + penalty(seen.output.logits),)
        elif combine is not None:
            each = (combine(seen.output, seen.taught, task(seen.output.logits, seen.label)),)
        else:
            each = (whole(seen.output.logits, seen.label),)
        # What is added is of the mean of twins, of which each gets half of the gradient: so it goes to both.
        weights = _selected(config, seen, each, per_epoch)
        return Judged(tuple((e + added, w) for e, w in zip(each, weights, strict=True)), target)

    return objective


def _weighed(config: LossConfig, task: _Each, seen: Seen) -> Float[Array, " B"]:
    """SCN: (1 - gamma) times the loss on logits times importance, and gamma times the rank regularisation."""
    importance = seen.output.importance
    logits = seen.output.logits * importance[:, None]
    low = noise.unimportant(importance, seen.weight, config.importance_share)
    label = noise.relabelled(seen.label, logits, low, config.relabel) if config.relabel else seen.label
    ranked = noise.rank_regulariser(importance, low, seen.weight, config.importance_margin)
    return (1 - config.importance) * task(logits, label) + config.importance * ranked


def _selected(
    config: LossConfig, seen: Seen, each: tuple[Float[Array, " B"], ...], per_epoch: float
) -> tuple[Float[Array, " B"], ...]:
    """The weights with which each network learns: without the largest losses, twins by each other's."""
    if not config.forget:
        return (seen.weight,) * len(each)
    rate = noise.forget_rate(seen.step, config.forget, config.forget_epochs * per_epoch)
    return tuple(noise.small_losses(e, seen.weight, rate) for e in reversed(each))
