"""Lookahead: weights that follow a fast optimizer slowly, as an optax transformation around its chain."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from emojax.types import Tree


class LookaheadState(NamedTuple):
    """State of the fast chain, the slow weights, and the updates since they last moved (int32 scalar)."""

    fast: Tree
    slow: Tree
    count: Int[Array, ""]


def lookahead(fast: optax.GradientTransformation, *, every: int, alpha: float) -> optax.GradientTransformationExtraArgs:
    """Every `every` updates, the slow weights go `alpha` of the way to the fast ones, which then start from there.

    Unlike `optax.lookahead`, it keeps the slow weights in its own state, so that the parameters stay one plain tree:
    the fast weights. After each `every` updates they are the slow ones too. Its updates must be applied as they are.
    Source: Zhang et al. 2019, arXiv:1907.08610.
    """
    chain = optax.with_extra_args_support(fast)

    def init(params: Tree) -> LookaheadState:
        # A copy: the step donates its input, and one buffer cannot be given away twice.
        return LookaheadState(chain.init(params), jax.tree.map(jnp.copy, params), jnp.zeros((), jnp.int32))

    def update(updates: Tree, state: Any, params: Tree | None = None, **extra: Any) -> tuple[Tree, LookaheadState]:
        updates, inner = chain.update(updates, state.fast, params, **extra)
        count = (state.count + 1) % every
        meet = count == 0
        slow = jax.tree.map(lambda s, p, u: jnp.where(meet, s + alpha * (p + u - s), s), state.slow, params, updates)
        updates = jax.tree.map(lambda s, p, u: jnp.where(meet, s - p, u), slow, params, updates)
        return updates, LookaheadState(inner, slow, count)

    return optax.GradientTransformationExtraArgs(init, update)
