"""One optax chain: freeze → clip → rule with decay → layer rates → learning rate → freeze → accumulate."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import optax

from emojax import paths, schedules
from emojax.config import OptimConfig
from emojax.stages import Stage
from emojax.types import Tree


def learning_rate(config: OptimConfig, stages: Sequence[Stage]) -> schedules.Schedule:
    """The learning rate of the whole run as a function of the update."""
    pieces = []
    for stage in stages:
        start, stop = stage.span
        piece = schedules.make(
            stage.schedule, peak=config.learning_rate, start=start, stop=stop, warmup=stage.warmup, final=stage.final
        )
        pieces.append((stage.start, piece))
    return schedules.join(pieces)


def make(
    config: OptimConfig, params: Tree, *, rate: schedules.Schedule, frozen: str, depth: Callable[[str], int]
) -> optax.GradientTransformation:
    """The update rule of one stage.

    The state has the same structure for every `frozen`, so it is carried from stage to stage. Schedules count updates,
    also under accumulation (`optax.MultiSteps`).

    Args:
      config: the knobs.
      params: the parameters, or their shapes.
      rate: update → learning rate.
      frozen: regex over paths that must not move; matching parameters take no gradient, momentum step or decay.
      depth: path → number of blocks below the head, for layer-wise decay.

    Raises:
      ConfigError: a regex is broken, or `frozen` matches nothing.
    """
    paths.require_match(params, frozen, knob="stages.frozen")
    is_frozen = paths.mask(params, frozen, knob="stages.frozen")
    decays = jax.tree.map(lambda skip: not skip, paths.mask(params, config.no_decay, knob="optim.no_decay"))
    chain = optax.chain(
        optax.transforms.freeze(is_frozen),  # first: clipping must not see the gradient of frozen parameters
        optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity(),
        *_rule(config, decays),
        _layer_rates(config.layer_decay, params, depth),
        optax.scale_by_learning_rate(rate),
        optax.transforms.freeze(is_frozen),  # last: neither decay nor old momentum may move them
    )
    if config.accumulate > 1:
        return optax.MultiSteps(chain, config.accumulate).gradient_transformation()
    return chain


def _rule(config: OptimConfig, decays: Tree) -> list[optax.GradientTransformation]:
    decay = optax.add_decayed_weights(config.weight_decay, mask=decays)
    if config.name == "adamw":
        return [optax.scale_by_adam(b1=config.beta1, b2=config.beta2), decay]
    # As in PyTorch's SGD, decay is part of the gradient and so of the momentum.
    return [decay, optax.trace(decay=config.momentum, nesterov=True)]


def _layer_rates(decay: float, params: Tree, depth: Callable[[str], int]) -> optax.GradientTransformation:
    if decay == 1:
        return optax.identity()
    rates = paths.map_with_path(lambda path, _: decay ** depth(path), params)
    return optax.stateless(lambda updates, _: jax.tree.map(lambda u, r: u * r, updates, rates))
