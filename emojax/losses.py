"""Per-example losses on label distributions. A loss is a function (logits [B, K], label [B, K]) → [B].

A new loss, smoothing, treatment of mixtures or regulariser is one function and one line of its table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from emojax.config import LossConfig
from emojax.errors import ConfigError

Loss = Callable[[Float[Array, "B K"], Float[Array, "B K"]], Float[Array, " B"]]
_ClassWeight = Float[Array, " K"] | Float[np.ndarray, " K"] | float
"""[K], or 1."""

_TINY = 1e-12
"""Least base of a focusing power: x^gamma has no finite derivative at 0 for gamma < 1."""
_PURE = 1 - 1e-6
"""A label whose largest entry is below this is a mixture."""


def smooth_all(label: Float[Array, "B K"], amount: Float[Array, "B 1"] | float) -> Float[Array, "B K"]:
    """(1 - amount) label + amount / K (Szegedy et al. 2015, arXiv:1512.00567); rows still sum to 1."""
    return (1 - amount) * label + amount / label.shape[-1]


def smooth_others(label: Float[Array, "B K"], amount: Float[Array, "B 1"] | float) -> Float[Array, "B K"]:
    """(1 - amount) label + amount / (K - 1) (1 - label): the wrong classes share `amount`; rows still sum to 1."""
    return (1 - amount) * label + amount / max(label.shape[-1] - 1, 1) * (1 - label)


def cross_entropy(
    log_p: Float[Array, "B K"], label: Float[Array, "B K"], weight: _ClassWeight = 1.0
) -> Float[Array, " B"]:
    """-sum_k label_k weight_k log p_k, in nats."""
    return -jnp.sum(label * weight * log_p, axis=-1)


def _ce(
    config: LossConfig, log_p: Float[Array, "B K"], label: Float[Array, "B K"], weight: _ClassWeight
) -> Float[Array, " B"]:
    del config
    return cross_entropy(log_p, label, weight)


def _focal(
    config: LossConfig, log_p: Float[Array, "B K"], label: Float[Array, "B K"], weight: _ClassWeight
) -> Float[Array, " B"]:
    """Focal loss on distributions: alpha times -sum_k label_k weight_k (1 - p_k)^gamma log p_k (arXiv:1708.02002)."""
    focus = jnp.maximum(-jnp.expm1(log_p), _TINY) ** config.gamma
    return config.alpha * cross_entropy(focus * log_p, label, weight)


def _ce_focal(
    config: LossConfig, log_p: Float[Array, "B K"], label: Float[Array, "B K"], weight: _ClassWeight
) -> Float[Array, " B"]:
    """alpha (1 - q)^gamma CE with q = exp(-CE). With class weights q is no probability of a class, as in seed 003,
    unless the focusing term takes the unweighted CE (`focus_weighted` = 0)."""
    ce = cross_entropy(log_p, label, weight)
    focusing = ce if config.focus_weighted else cross_entropy(log_p, label)
    return config.alpha * jnp.maximum(-jnp.expm1(-focusing), _TINY) ** config.gamma * ce


def _multi_target(
    config: LossConfig, log_p: Float[Array, "B K"], label: Float[Array, "B K"], weight: _ClassWeight
) -> Float[Array, " B"]:
    """-log max_k t_k p_k with t_k = 1 where label_k > 0 and 0.001 elsewhere: any class of the label will do (Barsoum et
    al. 2016, arXiv:1608.01041). Weighted by the class that is the maximum."""
    del config
    reached = log_p + jnp.where(label > 0, 0.0, jnp.log(1e-3))
    best = jnp.argmax(reached, axis=-1)
    cost = -jnp.take_along_axis(reached, best[:, None], axis=-1)[:, 0]
    return cost * jnp.broadcast_to(jnp.asarray(weight, jnp.float32), log_p.shape[-1:])[best]


def _soft(each: Callable[[Array], Array], label: Float[Array, "B K"]) -> Float[Array, " B"]:
    return each(label)


def _parts(each: Callable[[Array], Array], label: Float[Array, "B K"]) -> Float[Array, " B"]:
    """sum_k label_k times the loss against class k: lambda l(a) + (1 - lambda) l(b) for a mixture of a and b."""
    classes = jnp.eye(label.shape[-1])
    against = jax.vmap(lambda one: each(jnp.broadcast_to(one, label.shape)), out_axes=-1)(classes)
    return jnp.sum(label * against, axis=-1)


def _dominant(each: Callable[[Array], Array], label: Float[Array, "B K"]) -> Float[Array, " B"]:
    """The loss against the heaviest class; of equals, the first."""
    return each(jax.nn.one_hot(jnp.argmax(label, axis=-1), label.shape[-1]))


def kl_to_uniform(log_p: Float[Array, "B K"]) -> Float[Array, " B"]:
    """KL(p || uniform) = log K - H(p) >= 0, nats: 0 only where p is uniform (a penalty on confidence)."""
    return jnp.log(float(log_p.shape[-1])) - entropy(log_p)


def entropy(log_p: Float[Array, "B K"]) -> Float[Array, " B"]:
    """H(p) = -sum_k p_k log p_k, nats."""
    return -jnp.sum(jnp.exp(log_p) * log_p, axis=-1)


def _none(log_p: Float[Array, "B K"]) -> Float[Array, " B"]:
    return jnp.zeros(log_p.shape[0])


LOSSES = {"ce": _ce, "focal": _focal, "ce_focal": _ce_focal, "multi_target": _multi_target}
"""name → (config, log p [B, K], label [B, K], class weight) → [B]"""
SMOOTHING = {"all": smooth_all, "others": smooth_others}
"""style → (label [B, K], amount) → label"""
MIXED = {"soft": _soft, "parts": _parts, "dominant": _dominant}
"""name → (label → loss of given logits, label [B, K]) → [B]; they differ only where a label is no single class"""
REGULARISERS = {"none": _none, "uniform": kl_to_uniform, "entropy": entropy}
"""name → (log p [B, K]) → [B]"""


def make(config: LossConfig, class_weight: np.ndarray | None = None) -> Loss:
    """The training loss of a config: `task` + `penalty`, (logits [B, K], label [B, K]) → [B]."""
    first, second = task(config, class_weight), penalty(config)
    return lambda logits, label: first(logits, label) + second(logits)


def penalty(config: LossConfig) -> Callable[[Float[Array, "B K"]], Float[Array, " B"]]:
    """The regulariser times its weight, logits [B, K] → [B]. Raises `ConfigError` when its name is unknown."""
    regulariser = _choose(REGULARISERS, config.regulariser, knob="regulariser")
    return lambda logits: config.regulariser_weight * regulariser(jax.nn.log_softmax(logits))


def task(config: LossConfig, class_weight: np.ndarray | None = None) -> Loss:
    """The loss against the label, without the regulariser.

    Args:
      config: the knobs. Smoothing comes after the treatment of mixtures: with `parts` and `dominant`, it is the single
        classes that are smoothed. `smooth_mixed` looks at the label as it was given.
      class_weight: float [K], factor on each class's term of the label; None = 1. The mean over a batch stays one over
        examples: unlike torch's weighted cross-entropy, it is not divided by the classes' weights.

    Returns:
      (logits [B, K], label [B, K]) → [B], finite with finite gradients for all finite logits.

    Raises:
      ConfigError: a name is unknown.
    """
    base = _choose(LOSSES, config.name, knob="name")
    smooth = _choose(SMOOTHING, config.smoothing_style, knob="smoothing_style")
    mixed = _choose(MIXED, config.mixed, knob="mixed")
    weight = 1.0 if class_weight is None else jnp.asarray(class_weight, jnp.float32)

    def loss(logits: Float[Array, "B K"], label: Float[Array, "B K"]) -> Float[Array, " B"]:
        log_p = jax.nn.log_softmax(logits)
        pure = jnp.max(label, axis=-1, keepdims=True) >= _PURE
        amount = config.smoothing * (1.0 if config.smooth_mixed else pure.astype(jnp.float32))
        return mixed(lambda target: base(config, log_p, smooth(target, amount), weight), label)

    return loss


def _choose(table: Mapping[str, Callable[..., Array]], name: str, *, knob: str) -> Callable[..., Array]:
    if name not in table:
        raise ConfigError(f"config.loss.{knob}: expected one of {', '.join(table)}, found {name!r}")
    return table[name]
