"""Heads: the body's last map -> logits. A body takes any of them.

A head is a module called as `head(x, train, pooled)` with the map `x` [B, Y, X, D], and with the body's own summary
`pooled` [B, D] where it has one (the class token of a ViT), else None. It returns (logits float32 [B, K], features
float32 [B, D'], taps): the taps are the maps that attention transfer compares.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from emojax.config import ModelConfig
from emojax.models import layers

Output = tuple[Float[Array, "B K"], Float[Array, "B D"], tuple[Float[Array, "B Y X D"], ...]]
Head = Callable[..., nn.Module]
"""A module's constructor less its name."""


def pool(x: Float[Array, "B Y X D"], pooled: Float[Array, "B D"] | None) -> Float[Array, "B D"]:
    """The body's own summary, or the mean over the map; float32."""
    return (x.astype(jnp.float32).mean((1, 2)) if pooled is None else pooled).astype(jnp.float32)


class Linear(nn.Module):
    """Pool, layer norm where the body leaves that to its head, dropout, one dense layer `dense`."""

    classes: int
    dropout: float
    norm: bool

    @nn.compact
    def __call__(self, x: Float[Array, "B Y X D"], train: bool, pooled: Any = None) -> Output:
        features = pool(x, pooled)
        if self.norm:
            features = layers.LayerNorm(name="norm")(features)
        dropped = nn.Dropout(self.dropout, deterministic=not train)(features)
        return layers.Dense(self.classes, name="dense")(dropped), features, (x,)


def _linear(config: ModelConfig, classes: int, *, norm: bool) -> Head:
    return functools.partial(Linear, classes, config.dropout, norm)


HEADS: dict[str, Callable[..., Head]] = {"linear": _linear}
"""`ModelConfig.head` -> (config, classes, norm) -> constructor."""


def make(config: ModelConfig, classes: int, *, norm: bool, own: Head | None = None) -> Head:
    """The head that `config.head` names.

    Args:
      config: the network.
      classes: K.
      norm: whether the head starts with a layer norm `norm` (epsilon 1e-6) because the body does not end with one:
        ConvNeXt normalises after pooling.
      own: what the head called "own" is for this body; None = linear.
    """
    if config.head == "own":
        return own or _linear(config, classes, norm=norm)
    return HEADS[config.head](config, classes, norm=norm)
