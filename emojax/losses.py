"""Per-example losses on label distributions. A loss is a function (logits [B, K], label [B, K]) → [B]."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from emojax.config import LossConfig

Loss = Callable[[Float[Array, "B K"], Float[Array, "B K"]], Float[Array, " B"]]


def smooth(label: Float[Array, "B K"], amount: float) -> Float[Array, "B K"]:
    """Label smoothing (Szegedy et al. 2015, arXiv:1512.00567): (1 - amount) label + amount / K; rows still sum to 1."""
    return (1 - amount) * label + amount / label.shape[-1]


def cross_entropy(logits: Float[Array, "B K"], label: Float[Array, "B K"]) -> Float[Array, " B"]:
    """-sum_k label_k log softmax(logits)_k, in nats."""
    return -jnp.sum(label * jax.nn.log_softmax(logits), axis=-1)


def make(config: LossConfig) -> Loss:
    """The training loss of a config."""

    def loss(logits: Float[Array, "B K"], label: Float[Array, "B K"]) -> Float[Array, " B"]:
        return cross_entropy(logits, smooth(label, config.smoothing))

    return loss
