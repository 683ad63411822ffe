"""Learning in spite of wrong labels, beyond a loss per example: what looks at the batch, at the past or at mirrors.

Everything here is a function of arrays. Rows of weight 0 are seen by none of it, and labels are distributions. "The
batch" is the micro-batch over all devices.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

_CLAMP = 1e-4
"""Probabilities are kept this far from 0 and 1 in the targets of ELR, as in the authors' code."""


def remembered(target: Float[Array, "B K"], logits: Float[Array, "B K"], momentum: float) -> Float[Array, "B K"]:
    """momentum target + (1 - momentum) p, no gradient: the running average of what was predicted for each image.

    Source: Liu et al. 2020, Early-Learning Regularization Prevents Memorization of Noisy Labels, arXiv:2007.00151.
    """
    p = jnp.clip(jax.nn.softmax(jax.lax.stop_gradient(logits)), _CLAMP, 1 - _CLAMP)
    return momentum * target + (1 - momentum) * p / p.sum(-1, keepdims=True)


def early_learning(logits: Float[Array, "B K"], target: Float[Array, "B K"]) -> Float[Array, " B"]:
    """log(1 - <p, target>), which pulls p towards what was predicted early on (ibid., equation 7)."""
    p = jnp.clip(jax.nn.softmax(logits), _CLAMP, 1 - _CLAMP)
    return jnp.log1p(-jnp.sum(p * target, axis=-1))


def small_losses(each: Float[Array, " B"], weight: Float[Array, " B"], forget: Array | float) -> Float[Array, " B"]:
    """The weights, 0 for the share `forget` of the examples with the largest losses; at least one example stays.

    In co-teaching each of two networks learns from what has small losses under the other (Han et al. 2018,
    arXiv:1804.06872).
    """
    count = jnp.sum(weight > 0)
    kept = jnp.maximum(1, jnp.round((1 - forget) * count).astype(jnp.int32))
    return jnp.where(_rank(jax.lax.stop_gradient(each), weight) < kept, weight, 0)


def forget_rate(step: Int[Array, ""], forget: float, ramp: float) -> Float[Array, ""]:
    """forget min(step / ramp, 1), ramp in updates (ibid., section 3 with c = 1); all of it at once for 0."""
    done = jnp.asarray(step, jnp.float32) / ramp if ramp > 0 else jnp.ones(())
    return forget * jnp.minimum(done, 1.0)


def unimportant(importance: Float[Array, " B"], weight: Float[Array, " B"], share: float) -> Bool[Array, " B"]:
    """Which examples are not among the `share` of the batch with the largest importance; at least one is."""
    count = jnp.sum(weight > 0)
    high = jnp.clip(jnp.round(share * count).astype(jnp.int32), 1, jnp.maximum(count - 1, 1))
    return (_rank(-jax.lax.stop_gradient(importance), weight) >= high) & (weight > 0)


def rank_regulariser(
    importance: Float[Array, " B"], low: Bool[Array, " B"], weight: Float[Array, " B"], margin: float
) -> Float[Array, ""]:
    """max(0, margin - (mean importance of the important - that of the others)), 0 where one of the groups is empty.

    Source: Wang et al. 2020, Suppressing Uncertainties for Large-Scale Facial Expression Recognition, arXiv:2002.10392.
    """
    live = weight > 0
    groups = [(live & group).astype(jnp.float32) for group in (~low, low)]
    high, rest = (jnp.sum(g * importance) / jnp.maximum(g.sum(), 1) for g in groups)
    both = (groups[0].sum() > 0) & (groups[1].sum() > 0)
    return jnp.where(both, jnp.maximum(0.0, margin - (high - rest)), 0.0)


def relabelled(
    label: Float[Array, "B K"], logits: Float[Array, "B K"], low: Bool[Array, " B"], lead: float
) -> Float[Array, "B K"]:
    """The likeliest class as label where an example is `low` and that class leads the label's probability, <label, p>,
    by more than `lead` (ibid., equation 4). Decided anew whenever the image is seen; no gradient."""
    p = jax.nn.softmax(jax.lax.stop_gradient(logits))
    change = low & (p.max(-1) - jnp.sum(label * p, axis=-1) > lead)
    return jnp.where(change[:, None], jax.nn.one_hot(jnp.argmax(p, -1), p.shape[-1]), label)


def divergence(a: Float[Array, "B K"], b: Float[Array, "B K"]) -> Float[Array, " B"]:
    """Jensen-Shannon divergence of softmax(a) and softmax(b), nats, in [0, log 2].

    Between a picture and its mirror image it is a simple form of the consistency of Zhang et al. 2022, Learn From All:
    Erasing Attention Consistency for Noisy Label Facial Expression Recognition, arXiv:2207.10299, which compares maps.
    """
    log_a, log_b = jax.nn.log_softmax(a), jax.nn.log_softmax(b)
    middle = jnp.logaddexp(log_a, log_b) - jnp.log(2.0)
    to_a, to_b = (jnp.sum(jnp.exp(x) * (x - middle), axis=-1) for x in (log_a, log_b))
    return (to_a + to_b) / 2


def _rank(value: Float[Array, " B"], weight: Float[Array, " B"]) -> Int[Array, " B"]:
    """Position of every example by its value, ascending, the first of equals first; those without weight come last."""
    order = jnp.argsort(jnp.where(weight > 0, value, jnp.inf), stable=True)
    return jnp.zeros_like(order).at[order].set(jnp.arange(len(order), dtype=order.dtype))
