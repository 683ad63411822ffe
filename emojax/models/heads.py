"""Heads: the body's last map -> logits. A body takes any of them.

A head is a module called as `head(x, train, pooled)` with the map `x` [B, Y, X, D], and with the body's own summary
`pooled` [B, D] where it has one (the class token of a ViT), else None. It returns (logits float32 [B, K], features
float32 [B, D'], taps): the features are the pooled vector, the taps the maps that attention transfer compares. The last
layer of every head is `dense`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from emojax.config import ModelConfig
from emojax.errors import ConfigError
from emojax.models import attention, emote, layers, norms, products

Output = emote.Output
Head = Callable[..., nn.Module]
"""A module's constructor less its name."""
COSINE_SCALE = 30.0
"""Logits of the head cosine are this times a cosine."""
Shapes = Mapping[str, tuple[int, ...]]


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
            features = norms.LayerNorm(name="norm")(features)
        dropped = nn.Dropout(self.dropout, deterministic=not train)(features)
        return self.logits(dropped), features, (x,)

    def logits(self, x: Float[Array, "B D"]) -> Float[Array, "B K"]:
        return layers.Dense(self.classes, name="dense")(x)


class Cosine(Linear):
    """As `Linear`, but the logits are 30 times the cosine between the features and a vector per class, the columns of
    `dense/kernel`; no bias. LDAM (Cao et al. 2019, arXiv:1906.07413) wants logits of one scale for its margins;
    NormFace (Wang et al. 2017, arXiv:1704.06369)."""

    def logits(self, x: Float[Array, "B D"]) -> Float[Array, "B K"]:
        return COSINE_SCALE * Directions(self.classes, name="dense")(x)


class Directions(nn.Module):
    """[B, D] -> [B, classes]: cosines with the columns of `kernel` [D, classes]; float32."""

    classes: int

    @nn.compact
    def __call__(self, x: Float[Array, "B D"]) -> Float[Array, "B K"]:
        kernel = self.param("kernel", nn.initializers.zeros, (x.shape[-1], self.classes))
        return products.dense(_unit(x, axis=-1), _unit(kernel, axis=0))


def _unit(x: Float[Array, "N M"], *, axis: int) -> Float[Array, "N M"]:
    """Vectors of length 1; one of zeros stays, with a finite gradient."""
    return x * jax.lax.rsqrt(jnp.maximum(jnp.square(x).sum(axis, keepdims=True), 1e-12))


class Mlp(nn.Module):
    """The head of seed 003: pool, then per hidden layer batch norm, dropout, dense, ReLU; batch norm, dropout, dense.

    The dropout rate halves from layer to layer. `hidden` is (D / 2,) when empty. Attention `tokens` attends over the
    pixels of the map (normalised one by one where the body leaves the norm to its head) before their mean is taken,
    `pooled` over the pooled vector as a sequence of one, both with 8 heads, a residual and a layer norm; `gate` weighs
    the pooled channels.
    """

    classes: int
    dropout: float
    norm: bool
    hidden: tuple[int, ...]
    attention: str
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "B Y X D"], train: bool, pooled: Any = None) -> Output:
        norm = norms.LayerNorm(name="norm") if self.norm else lambda x: x
        width = x.shape[-1]
        if self.attention == "tokens":
            tokens = norm(x).astype(self.dtype).reshape(x.shape[0], -1, width)
            features = self.attend(tokens).mean(1)
        else:
            features = norm(pool(x, pooled))
            if self.attention == "pooled":
                features = self.attend(features[:, None])[:, 0]
            elif self.attention == "gate":
                features = attention.Gate(name="gate")(features)
        y, rate = features, self.dropout
        for i, size in enumerate(self.hidden or (width // 2,), 1):
            y = self.drop(y, rate, train, name=f"norm{i}")
            y, rate = jax.nn.relu(layers.Dense(size, name=f"dense{i}")(y)), rate / 2
        y = self.drop(y, rate, train, name=f"norm{len(self.hidden or (0,)) + 1}")
        return layers.Dense(self.classes, name="dense")(y), features, (x,)

    def attend(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        y = x + attention.SelfAttention(8, name="attention")(x)
        return norms.LayerNorm(epsilon=1e-5, name="attention_norm")(y)

    def drop(self, x: Float[Array, "B D"], rate: float, train: bool, *, name: str) -> Float[Array, "B D"]:
        x = norms.BatchNorm(name=name)(x, train)
        return nn.Dropout(rate, deterministic=not train)(x)


class Deep(nn.Module):
    """The head of seed 004: pool, dropout, layer norm, then per hidden layer dense, GELU, dropout; dense.

    `hidden` is (D,) when empty. Where the body leaves the norm to its head, two norms follow one another, as in the
    seed: the library's and the head's own, with epsilons 1e-6 and 1e-5.
    """

    classes: int
    dropout: float
    norm: bool
    hidden: tuple[int, ...]

    @nn.compact
    def __call__(self, x: Float[Array, "B Y X D"], train: bool, pooled: Any = None) -> Output:
        features = pool(x, pooled)
        if self.norm:
            features = norms.LayerNorm(name="norm")(features)
        y = nn.Dropout(self.dropout, deterministic=not train)(features)
        y = norms.LayerNorm(epsilon=1e-5, name="norm1")(y)
        for i, size in enumerate(self.hidden or (x.shape[-1],), 1):
            y = jax.nn.gelu(layers.Dense(size, name=f"dense{i}")(y), approximate=False)
            y = nn.Dropout(self.dropout, deterministic=not train)(y)
        return layers.Dense(self.classes, name="dense")(y), features, (x,)


def _linear(config: ModelConfig, classes: int, *, norm: bool) -> Head:
    return functools.partial(Linear, classes, config.dropout, norm)


def _cosine(config: ModelConfig, classes: int, *, norm: bool) -> Head:
    return functools.partial(Cosine, classes, config.dropout, norm)


def _mlp(config: ModelConfig, classes: int, *, norm: bool) -> Head:
    hidden, dtype = tuple(config.head_hidden), jnp.dtype(config.compute)
    return functools.partial(Mlp, classes, config.dropout, norm, hidden, config.head_attention, dtype)


def _deep(config: ModelConfig, classes: int, *, norm: bool) -> Head:
    return functools.partial(Deep, classes, config.dropout, norm, tuple(config.head_hidden))


def _emote(config: ModelConfig, classes: int, *, norm: bool) -> Head:
    module = emote.Emote if config.head == "emote" else emote.EmoteLite
    return functools.partial(module, classes, config.dropout, config.feature_dropout, norm, jnp.dtype(config.compute))


def _start_mlp(path: str, shapes: Shapes) -> layers.Initial:
    """Dense kernels N(0, 2 / (fan_in + fan_out)) (Glorot & Bengio 2010), biases 0; self-attention as torch's."""
    if path.startswith("head/attention/"):
        return attention.initial(path, shapes)
    if path.endswith("/kernel"):
        return "normal", (2 / sum(shapes[path])) ** 0.5
    return "constant", float(path.endswith("/scale"))


def _start_deep(path: str, shapes: Shapes) -> layers.Initial:
    """Dense kernels N(0, 0.02^2), biases 0; the seed cuts the normal at +-2, a hundred standard deviations: never."""
    del shapes
    if path.endswith("/kernel"):
        return "normal", 0.02
    return "constant", float(path.endswith("/scale"))


HEADS: dict[str, tuple[Callable[..., Head], Callable[[str, Shapes], layers.Initial] | None]] = {
    "linear": (_linear, None),
    "cosine": (_cosine, None),
    "mlp": (_mlp, _start_mlp),
    "deep": (_deep, _start_deep),
    "emote": (_emote, emote.initial),
    "emote_lite": (_emote, emote.initial),
}
"""`ModelConfig.head` -> ((config, classes, norm) -> constructor, (path, shapes) -> start; None: by the body's rule)."""

_READ_BY = {"head_attention": ("mlp",), "head_hidden": ("mlp", "deep"), "feature_dropout": ("emote", "emote_lite")}
"""Knobs that only some heads read."""


def make(config: ModelConfig, classes: int, *, norm: bool, own: Head | None = None) -> Head:
    """The head that `config.head` names.

    Args:
      config: the network.
      classes: K.
      norm: whether the head starts with a layer norm `norm` (epsilon 1e-6) because the body does not end with one:
        ConvNeXt normalises after pooling. Heads that read the map normalise its pixels.
      own: what the head called "own" is for this body; None = linear.

    Raises:
      ConfigError: a knob of the head is unknown or out of range, or another head's.
    """
    _require("head", config, config.head in ("own", *HEADS), f"one of own, {', '.join(HEADS)}")
    kinds = ("none", "tokens", "pooled", "gate")
    _require("head_attention", config, config.head_attention in kinds, f"one of {', '.join(kinds)}")
    sizes = all(isinstance(size, int) and size > 0 for size in config.head_hidden)
    _require("head_hidden", config, sizes, "whole numbers of at least 1")
    _require("feature_dropout", config, 0 <= config.feature_dropout <= 1, "a rate in [0, 1]")
    _require("head_scale", config, config.head_scale >= 0, "0 or more")
    for knob, readers in _READ_BY.items():
        default = getattr(ModelConfig(), knob)
        if config.head not in readers and getattr(config, knob) != default:
            raise ConfigError(
                f"config.model.{knob}: only read by config.model.head = {' or '.join(readers)}, and this is "
                f"{config.head}; leave it at {default!r}, found {getattr(config, knob)!r}"
            )
    if config.head == "own" and own:
        return own
    return HEADS["linear" if config.head == "own" else config.head][0](config, classes, norm=norm)


def initial(path: str, shapes: Shapes, config: ModelConfig) -> layers.Initial | None:
    """How a parameter under `head/` starts, `config.head_scale` included; None where the body's own rule applies.

    That is everywhere outside `head/`, and for the heads own, linear and cosine. `shapes` holds all parameters.
    """
    rule = HEADS[config.head][1] if config.head in HEADS else None
    if rule is None or not path.startswith("head/"):
        return None
    kind, size = rule(path, shapes)
    return kind, size * (config.head_scale if path.startswith("head/dense/") else 1.0)


def _require(knob: str, config: ModelConfig, ok: bool, expected: str) -> None:
    if not ok:
        raise ConfigError(f"config.model.{knob}: expected {expected}, found {getattr(config, knob)!r}")
