"""One optax chain: freeze → clip → rule with decay → rates per parameter → learning rate → freeze → accumulate."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import optax
import optax.contrib

from emojax import paths, schedules
from emojax.config import OptimConfig
from emojax.errors import ConfigError
from emojax.lookahead import lookahead
from emojax.stages import Stage
from emojax.types import Tree

Rule = Callable[[OptimConfig, optax.GradientTransformation, Tree], list[optax.GradientTransformation]]
"""(config, weight decay, "muon" or "adam" per parameter) → links of the chain: gradient → step of length 1."""


def learning_rate(stages: Sequence[Stage]) -> schedules.Schedule:
    """The learning rate of the whole run as a function of the update."""
    return schedules.join([(stage.start, schedules.make(stage.spec, peak=stage.peak)) for stage in stages])


def make(
    config: OptimConfig,
    params: Tree,
    *,
    frozen: str,
    depth: Callable[[str], int],
    head: str,
) -> optax.GradientTransformationExtraArgs:
    """The update rule of one stage.

    The state has the same structure for every `frozen`, so it is carried from stage to stage. Lookahead counts updates,
    also under accumulation (`optax.MultiSteps`). The learning rate is an argument of `update`, `rate`, a scalar: the
    run knows the step, and an optimizer that counted for itself would be wrong once its state is made afresh.

    Args:
      config: the knobs.
      params: the parameters, or their shapes.
      frozen: regex over paths that must not move; matching parameters take no gradient, momentum step or decay.
      depth: path → number of blocks below the head, for layer-wise decay.
      head: regex over paths of the head, for `head_multiplier`; Muon leaves it to AdamW.

    Raises:
      ConfigError: the rule is unknown, a regex is broken, or `frozen` matches nothing.
    """
    if config.name not in RULES:
        raise ConfigError(f"config.optim.name: expected one of {', '.join(RULES)}, found {config.name!r}")
    paths.require_match(params, frozen, knob="stages.frozen", every=False)
    freeze = optax.transforms.freeze(paths.mask(params, frozen, knob="stages.frozen"))
    decays = jax.tree.map(lambda skip: not skip, paths.mask(params, config.no_decay, knob="optim.no_decay"))
    decay = optax.add_decayed_weights(config.weight_decay, mask=decays)
    downhill: Any = _downhill  # a forgotten `rate` is an error there, which optax's protocol cannot say
    chain = optax.chain(
        freeze,  # first: clipping must not see the gradient of frozen parameters
        optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity(),
        *RULES[config.name](config, decay, _kinds(params, head)),
        _rates(config, params, depth, head),
        optax.GradientTransformationExtraArgs(optax.init_empty_state, downhill),
        freeze,  # last: neither decay nor old momentum may move them
    )
    if config.lookahead:
        slow = lookahead(chain, every=config.lookahead, alpha=config.lookahead_alpha)
        chain = optax.chain(slow, freeze)  # nor may slow weights from before they were frozen
    if config.accumulate > 1:
        steps: Any = optax.MultiSteps(chain, config.accumulate)
        return optax.GradientTransformationExtraArgs(steps.init, steps.update)  # its own conversion loses `rate`
    return optax.with_extra_args_support(chain)


def perturbed(params: Tree, grads: Tree, *, rho: float) -> Tree:
    """The weights at distance `rho` uphill, whose gradient sharpness-aware minimisation follows.

    All of the tree is one vector; a gradient of 0 moves nothing. Source: Foret et al. 2020, arXiv:2010.01412.
    """
    norm = optax.tree.norm(grads) + 1e-12
    return jax.tree.map(lambda p, g: p + rho * g / norm, params, grads)


def _adamw(config: OptimConfig, decay: optax.GradientTransformation, _: Tree) -> list[optax.GradientTransformation]:
    return [optax.scale_by_adam(b1=config.beta1, b2=config.beta2), decay]


def _adam(config: OptimConfig, decay: optax.GradientTransformation, _: Tree) -> list[optax.GradientTransformation]:
    return [decay, optax.scale_by_adam(b1=config.beta1, b2=config.beta2)]


def _sgd(config: OptimConfig, decay: optax.GradientTransformation, _: Tree) -> list[optax.GradientTransformation]:
    # As in PyTorch's SGD, decay is part of the gradient and so of the momentum.
    return [decay, optax.trace(decay=config.momentum, nesterov=True)]


def _lamb(config: OptimConfig, decay: optax.GradientTransformation, _: Tree) -> list[optax.GradientTransformation]:
    adam = optax.scale_by_adam(b1=config.beta1, b2=config.beta2, eps=1e-6)  # epsilon of the paper
    return [adam, decay, optax.scale_by_trust_ratio()]


def _lion(config: OptimConfig, decay: optax.GradientTransformation, _: Tree) -> list[optax.GradientTransformation]:
    return [optax.scale_by_lion(b1=config.beta1, b2=config.beta2), decay]


def _muon(config: OptimConfig, decay: optax.GradientTransformation, kinds: Tree) -> list[optax.GradientTransformation]:
    """Orthogonalised momentum (Jordan 2024, https://kellerjordan.github.io/posts/muon), AdamW where `kinds` says so.

    A convolution is the matrix [H W I, O]. Steps are scaled to the size of AdamW's (Liu et al. 2025, arXiv:2502.16982),
    so that one learning rate and decay serve both.
    """

    def axes(updates: Tree) -> Tree:
        return jax.tree.map(lambda u: optax.contrib.MuonDimensionNumbers(tuple(range(u.ndim - 1)), u.ndim - 1), updates)

    def sized(updates: Tree, _: Tree) -> Tree:
        return jax.tree.map(lambda u: 0.2 * math.sqrt(max(u.size // u.shape[-1], u.shape[-1])) * u, updates)

    muon = optax.contrib.scale_by_muon(beta=config.momentum, weight_dimension_numbers=axes)
    adam = optax.scale_by_adam(b1=config.beta1, b2=config.beta2)
    return [optax.partition({"muon": optax.chain(muon, optax.stateless(sized)), "adam": adam}, kinds), decay]


RULES: dict[str, Rule] = {
    "adamw": _adamw,
    "adam": _adam,
    "sgd": _sgd,
    "lamb": _lamb,
    "lion": _lion,
    "muon": _muon,
}


def _kinds(params: Tree, head: str) -> Tree:
    """Which parameters Muon may take: kernels of hidden dense and convolutional layers, and no depthwise ones, since a
    filter per channel is no map between channels."""
    outer = paths.mask(params, rf"({head or '$^'})|^stem/", knob="optim.name")  # as Muon's author advises

    def kind(path: str, leaf: Any, outside: bool) -> str:
        matrix = path.endswith("kernel") and (leaf.ndim == 2 or (leaf.ndim == 4 and leaf.shape[2] > 1))
        return "muon" if matrix and not outside else "adam"

    flat = paths.flatten(outer)
    return paths.map_with_path(lambda path, leaf: kind(path, leaf, flat[path]), params)


def _rates(config: OptimConfig, params: Tree, depth: Callable[[str], int], head: str) -> optax.GradientTransformation:
    """Factors on the learning rate: layer_decay ** depth, and head_multiplier in the head."""
    if config.layer_decay == 1 and config.head_multiplier == 1:
        return optax.identity()
    layers = paths.map_with_path(lambda path, _: config.layer_decay ** depth(path), params)
    in_head = paths.mask(params, head, knob="optim.head_multiplier")
    rates = jax.tree.map(lambda r, inside: r * (config.head_multiplier if inside else 1.0), layers, in_head)
    return optax.stateless(lambda updates, _: jax.tree.map(lambda u, r: u * r, updates, rates))


def _downhill(updates: Tree, state: Tree, params: Tree | None = None, *, rate: Any, **extra: Any) -> tuple[Tree, Tree]:
    """Times -`rate`."""
    del params, extra
    return jax.tree.map(lambda u: u * -rate, updates), state
