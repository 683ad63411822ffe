"""Step → learning rate. Every schedule is a function of the step alone, so nothing about it needs saving."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

Schedule = Callable[[Any], Float[Array, ""]]
"""Number of updates already done → learning rate of the next update."""


def _constant(progress: Float[Array, ""], final: float) -> Float[Array, ""]:
    del final
    return jnp.ones_like(progress)


def _cosine(progress: Float[Array, ""], final: float) -> Float[Array, ""]:
    return final + (1 - final) * 0.5 * (1 + jnp.cos(jnp.pi * progress))


_SHAPES = {"constant": _constant, "cosine": _cosine}


def make(name: str, *, peak: float, start: int, stop: int, warmup: int = 0, final: float = 0.0) -> Schedule:
    """Linear warm-up, then `name` from the peak on.

    Args:
      name: "cosine" (Loshchilov & Hutter 2016, arXiv:1608.03983, one cycle without restarts) or "constant".
      peak: highest learning rate.
      start, stop: the span in updates; outside it the rate stays at its ends.
      warmup: updates; the first has rate peak / warmup (not 0, which would waste it), the last one the peak.
      final: rate at `stop` as a share of the peak.

    Returns:
      A jit-able function of the step.
    """
    shape = _SHAPES[name]

    def learning_rate(step: Int[Array, ""] | int) -> Float[Array, ""]:
        t = jnp.clip(jnp.asarray(step, jnp.float32) - start, 0, stop - start)
        progress = jnp.clip((t - warmup) / (stop - start - warmup), 0, 1)
        rate = shape(progress, final)
        return peak * (jnp.where(t < warmup, (t + 1) / warmup, rate) if warmup else rate)

    return learning_rate


def join(pieces: list[tuple[int, Schedule]]) -> Schedule:
    """One schedule out of several: `pieces` are (first step, schedule), in order; each gets the run's own step."""

    def learning_rate(step: Int[Array, ""] | int) -> Float[Array, ""]:
        rate = pieces[0][1](step)
        for start, piece in pieces[1:]:
            rate = jnp.where(jnp.asarray(step) >= start, piece(step), rate)
        return rate

    return learning_rate
