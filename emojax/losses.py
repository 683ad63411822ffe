"""Per-example losses on label distributions. A loss is a function (logits [B, K], label [B, K]) → [B].

A new loss, smoothing, treatment of mixtures or regulariser is one function and one line of its table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from emojax.config import LossConfig
from emojax.errors import ConfigError

Loss = Callable[[Float[Array, "B K"], Float[Array, "B K"]], Float[Array, " B"]]
_ClassWeight = Float[Array, " K"] | Float[np.ndarray, " K"] | float
"""[K], or 1."""


class _Classes(NamedTuple):
    """What the data say about the classes: factors on their terms, and the margins of LDAM ([K], or 1 and 0)."""

    weight: _ClassWeight
    margin: _ClassWeight


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
    config: LossConfig, log_p: Float[Array, "B K"], label: Float[Array, "B K"], classes: _Classes
) -> Float[Array, " B"]:
    del config
    return cross_entropy(log_p, label, classes.weight)


def _focal(
    config: LossConfig, log_p: Float[Array, "B K"], label: Float[Array, "B K"], classes: _Classes
) -> Float[Array, " B"]:
    """Focal loss on distributions: alpha times -sum_k label_k weight_k (1 - p_k)^gamma log p_k (arXiv:1708.02002)."""
    focus = jnp.maximum(-jnp.expm1(log_p), _TINY) ** config.gamma
    return config.alpha * cross_entropy(focus * log_p, label, classes.weight)


def _ce_focal(
    config: LossConfig, log_p: Float[Array, "B K"], label: Float[Array, "B K"], classes: _Classes
) -> Float[Array, " B"]:
    """alpha (1 - q)^gamma CE with q = exp(-CE). With class weights q is no probability of a class, as in seed 003,
    unless the focusing term takes the unweighted CE (`focus_weighted` = 0)."""
    ce = cross_entropy(log_p, label, classes.weight)
    focusing = ce if config.focus_weighted else cross_entropy(log_p, label)
    return config.alpha * jnp.maximum(-jnp.expm1(-focusing), _TINY) ** config.gamma * ce


def _multi_target(
    config: LossConfig, log_p: Float[Array, "B K"], label: Float[Array, "B K"], classes: _Classes
) -> Float[Array, " B"]:
    """-log max_k t_k p_k with t_k = 1 where label_k > 0 and 0.001 elsewhere: any class of the label will do (Barsoum et
    al. 2016, arXiv:1608.01041). Weighted by the class that is the maximum."""
    del config
    reached = log_p + jnp.where(label > 0, 0.0, jnp.log(1e-3))
    best = jnp.argmax(reached, axis=-1)
    cost = -jnp.take_along_axis(reached, best[:, None], axis=-1)[:, 0]
    return cost * jnp.broadcast_to(jnp.asarray(classes.weight, jnp.float32), log_p.shape[-1:])[best]


def _ldam(
    config: LossConfig, log_p: Float[Array, "B K"], label: Float[Array, "B K"], classes: _Classes
) -> Float[Array, " B"]:
    """Label-distribution-aware margins: against class k, the logit of k alone is smaller by its margin, which is
    `margin` for the rarest class and falls with n_k^-1/4 (Cao et al. 2019, arXiv:1906.07413). For a distribution, the
    mean of that over its classes. Deferred re-weighting is a second stage with `class_weights`."""
    del config
    margin = jnp.broadcast_to(jnp.asarray(classes.margin, jnp.float32), log_p.shape[-1:])
    against = jax.nn.log_softmax(log_p[:, None, :] - jnp.diag(margin))
    return cross_entropy(jnp.diagonal(against, axis1=1, axis2=2), label, classes.weight)


def _gce(
    config: LossConfig, log_p: Float[Array, "B K"], label: Float[Array, "B K"], classes: _Classes
) -> Float[Array, " B"]:
    """Generalised cross-entropy sum_k label_k (1 - p_k^q) / q (Zhang & Sabuncu 2018, arXiv:1805.07836)."""
    return jnp.sum(label * classes.weight * -jnp.expm1(config.q * log_p), axis=-1) / config.q


def _sce(
    config: LossConfig, log_p: Float[Array, "B K"], label: Float[Array, "B K"], classes: _Classes
) -> Float[Array, " B"]:
    """alpha CE - reverse sum_k p_k log label_k, with log 0 = `log_zero` (Wang et al. 2019, arXiv:1908.06112). The class
    weight of the reverse part is the label's mean."""
    log_label = jnp.maximum(jnp.log(jnp.where(label > 0, label, 1.0)), config.log_zero)
    log_label = jnp.where(label > 0, log_label, config.log_zero)
    reverse = -jnp.sum(jnp.exp(log_p) * log_label, axis=-1) * jnp.sum(label * classes.weight, axis=-1)
    return config.alpha * cross_entropy(log_p, label, classes.weight) + config.reverse * reverse


def _bootstrap_soft(
    config: LossConfig, log_p: Float[Array, "B K"], label: Float[Array, "B K"], classes: _Classes
) -> Float[Array, " B"]:
    """CE against trust label + (1 - trust) p; the gradient goes through that p too, as in Reed et al. 2014,
    arXiv:1412.6596."""
    target = config.trust * label + (1 - config.trust) * jnp.exp(log_p)
    return cross_entropy(log_p, target, classes.weight)


def _bootstrap_hard(
    config: LossConfig, log_p: Float[Array, "B K"], label: Float[Array, "B K"], classes: _Classes
) -> Float[Array, " B"]:
    """CE against trust label + (1 - trust) the likeliest class (Reed et al. 2014, arXiv:1412.6596)."""
    own = jax.nn.one_hot(jnp.argmax(log_p, axis=-1), log_p.shape[-1])
    return cross_entropy(log_p, config.trust * label + (1 - config.trust) * own, classes.weight)


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


LOSSES = {
    "ce": _ce,
    "focal": _focal,
    "ce_focal": _ce_focal,
    "multi_target": _multi_target,
    "ldam": _ldam,
    "gce": _gce,
    "sce": _sce,
    "bootstrap_soft": _bootstrap_soft,
    "bootstrap_hard": _bootstrap_hard,
}
"""name → (config, log p [B, K], label [B, K], class weights and margins) → [B]"""
SMOOTHING = {"all": smooth_all, "others": smooth_others}
"""style → (label [B, K], amount) → label"""
MIXED = {"soft": _soft, "parts": _parts, "dominant": _dominant}
"""name → (label → loss of given logits, label [B, K]) → [B]; they differ only where a label is no single class"""
REGULARISERS = {"none": _none, "uniform": kl_to_uniform, "entropy": entropy}
"""name → (log p [B, K]) → [B]"""


def make(config: LossConfig, class_weight: np.ndarray | None = None, mass: np.ndarray | None = None) -> Loss:
    """The training loss of a config: `task` + `penalty`, (logits [B, K], label [B, K]) → [B]."""
    first, second = task(config, class_weight, mass), penalty(config)
    return lambda logits, label: first(logits, label) + second(logits)


def penalty(config: LossConfig) -> Callable[[Float[Array, "B K"]], Float[Array, " B"]]:
    """The regulariser times its weight, logits [B, K] → [B]. Raises `ConfigError` when its name is unknown."""
    regulariser = _choose(REGULARISERS, config.regulariser, knob="regulariser")
    return lambda logits: config.regulariser_weight * regulariser(jax.nn.log_softmax(logits))


def task(config: LossConfig, class_weight: np.ndarray | None = None, mass: np.ndarray | None = None) -> Loss:
    """The loss against the label, without the regulariser.

    Args:
      config: the knobs. Smoothing comes after the treatment of mixtures: with `parts` and `dominant`, it is the single
        classes that are smoothed. `smooth_mixed` looks at the label as it was given.
      class_weight: float [K], factor on each class's term of the label; None = 1. The mean over a batch stays one over
        examples: unlike torch's weighted cross-entropy, it is not divided by the classes' weights.
      mass: float [K] >= 0, images per class; read by `logit_adjust` and ldam, for which None is as many of each. A
        class without images counts as the rarest of the others.

    Returns:
      (logits [B, K], label [B, K]) → [B], finite with finite gradients for all finite logits.

    Raises:
      ConfigError: a name is unknown.
    """
    base = _choose(LOSSES, config.name, knob="name")
    smooth = _choose(SMOOTHING, config.smoothing_style, knob="smoothing_style")
    mixed = _choose(MIXED, config.mixed, knob="mixed")
    weight = 1.0 if class_weight is None else jnp.asarray(class_weight, jnp.float32)
    shift, classes = 0.0, _Classes(weight, config.margin)
    if mass is not None:
        mass = np.where(mass > 0, mass, np.min(mass, where=mass > 0, initial=np.inf))
        # Menon et al. 2020, arXiv:2007.07314, equation 10.
        shift = np.asarray(config.logit_adjust * np.log(mass / mass.sum()), np.float32)
        classes = _Classes(weight, np.asarray(config.margin * (mass.min() / mass) ** 0.25, np.float32))

    def loss(logits: Float[Array, "B K"], label: Float[Array, "B K"]) -> Float[Array, " B"]:
        log_p = jax.nn.log_softmax(logits + shift)
        pure = jnp.max(label, axis=-1, keepdims=True) >= _PURE
        amount = config.smoothing * (1.0 if config.smooth_mixed else pure.astype(jnp.float32))
        return mixed(lambda target: base(config, log_p, smooth(target, amount), classes), label)

    return loss


def _choose(table: Mapping[str, Callable[..., Array]], name: str, *, knob: str) -> Callable[..., Array]:
    if name not in table:
        raise ConfigError(f"config.loss.{knob}: expected one of {', '.join(table)}, found {name!r}")
    return table[name]
