"""The two heads of EmoteNet, seed 000: attention blocks, dilated pyramid and learned pooling over the body's last map.

`F` is the map after the body's last norm. The convolutions before a batch norm have a bias although the norm takes it
away again: the seed's parameter counts have them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from emojax.models import attention, layers, norms

_WIDTH = 1024
"""Channels of the maps that are added up and pooled."""
_BRANCH = 512
"""Channels of each branch of the pyramid, and of its fusion's first layer."""

Output = tuple[Float[Array, "B K"], Float[Array, "B D"], tuple[Float[Array, "B Y X D"], ...]]
Activation = Callable[[Array], Array]


def _gelu(x: Array) -> Array:
    return jax.nn.gelu(x, approximate=False)


class DilatedConv(nn.Module):
    """3x3 convolution whose taps lie `dilation` pixels apart (Yu & Koltun 2015, arXiv:1511.07122), map size kept.

    Parameters as those of `layers.Conv`.
    """

    features: int
    dilation: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "B Y X C"]) -> Float[Array, "B Y X O"]:
        kernel = self.param("kernel", nn.initializers.zeros, (3, 3, x.shape[-1], self.features)).astype(self.dtype)
        y = lax.conv_general_dilated(
            x.astype(self.dtype),
            kernel,
            (1, 1),
            [(self.dilation, self.dilation)] * 2,
            rhs_dilation=(self.dilation, self.dilation),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return y + self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)


class ConvNorm(nn.Module):
    """activation(norm(conv(x))): a 1x1 convolution, or with `dilation` a 3x3 one whose taps lie that far apart."""

    features: int
    activation: Activation
    dtype: Any
    dilation: int = 0

    @nn.compact
    def __call__(self, x: Float[Array, "B Y X C"], train: bool) -> Float[Array, "B Y X O"]:
        if self.dilation > 1:
            y = DilatedConv(self.features, self.dilation, self.dtype, name="conv")(x)
        else:
            size = 2 * self.dilation + 1
            conv = layers.Conv(self.features, size, padding=self.dilation, bias=True, dtype=self.dtype, name="conv")
            y = conv(x)
        return self.activation(norms.BatchNorm(dtype=self.dtype, name="norm")(y, train))


class Pyramid(nn.Module):
    """3x3 convolutions with dilation 1, 2 and 3 side by side, then two 1x1 ones that mix them."""

    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "B Y X D"], train: bool) -> Float[Array, "B Y X O"]:
        silu, dtype = jax.nn.silu, self.dtype
        branches = [ConvNorm(_BRANCH, silu, dtype, d, name=f"branch{d}")(x, train) for d in (1, 2, 3)]
        x = ConvNorm(_BRANCH, silu, dtype, name="fuse1")(jnp.concatenate(branches, -1), train)
        return ConvNorm(_WIDTH, silu, dtype, name="fuse2")(x, train)


class LearnedPool(nn.Module):
    """[w0 mean + w1 max, max] over the map, w = softmax(theta): [B, 2 D] float32, `theta` [2]."""

    @nn.compact
    def __call__(self, x: Float[Array, "B Y X D"]) -> Float[Array, "B E"]:
        x = x.astype(jnp.float32)
        weight = jax.nn.softmax(self.param("theta", nn.initializers.zeros, (2,)))
        mean, high = x.mean((1, 2)), x.max((1, 2))
        return jnp.concatenate([weight[0] * mean + weight[1] * high, high], -1)


def _classify(
    x: Float[Array, "B E"],
    classes: int,
    hidden: Sequence[tuple[int, float]],
    *,
    activation: Activation,
    train: bool,
) -> Float[Array, "B K"]:
    """Dense, layer norm, activation and dropout per (width, rate) of `hidden`, then `dense`; layers of the caller."""
    for i, (width, rate) in enumerate(hidden, 1):
        x = layers.Dense(width, name=f"dense{i}")(x)
        x = activation(norms.LayerNorm(epsilon=1e-5, name=f"norm{i}")(x))
        x = nn.Dropout(rate, deterministic=not train)(x)
    return layers.Dense(classes, name="dense")(x)


class Emote(nn.Module):
    """The full head. Taps: F, the calibrated map G, and U, which is pooled; features are the 2048 pooled numbers."""

    classes: int
    dropout: float
    feature_dropout: float
    norm: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "B Y X D"], train: bool, pooled: Any = None) -> Output:
        del pooled  # both heads read the map
        x = norms.LayerNorm(self.dtype, name="norm")(x) if self.norm else x.astype(self.dtype)
        mixed = x + attention.ChannelThenSpatial(name="cbam")(x) + attention.EfficientChannel(name="eca")(x)
        mixed = mixed + attention.SqueezeExcite(name="se")(x) + attention.GlobalContext(name="context")(x)
        calibrated = attention.ChannelCalibration(name="calibration")(mixed, train)

        refined = ConvNorm(_WIDTH, jax.nn.silu, self.dtype, name="refine")(calibrated, train)
        refined = nn.Dropout(self.feature_dropout, broadcast_dims=(1, 2), deterministic=not train)(refined)
        same = calibrated
        if x.shape[-1] != _WIDTH:
            same = layers.Conv(_WIDTH, 1, dtype=self.dtype, name="project")(calibrated)
        fused = refined + same + Pyramid(self.dtype, name="pyramid")(calibrated, train)

        features = LearnedPool(name="pool")(fused)
        hidden = ((768, self.dropout), (384, 0.8 * self.dropout))
        logits = _classify(features, self.classes, hidden, activation=jax.nn.silu, train=train)
        return logits, features, (x, calibrated, fused)


class EmoteLite(nn.Module):
    """The light head, from an earlier version of the seed. Tap: F; features are the 2048 pooled numbers."""

    classes: int
    dropout: float
    feature_dropout: float
    norm: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "B Y X D"], train: bool, pooled: Any = None) -> Output:
        del pooled
        x = norms.LayerNorm(self.dtype, name="norm")(x) if self.norm else x.astype(self.dtype)
        y = ConvNorm(_WIDTH, _gelu, self.dtype, name="refine")(attention.EfficientChannel(name="eca")(x), train)
        y = nn.Dropout(self.feature_dropout, broadcast_dims=(1, 2), deterministic=not train)(y).astype(jnp.float32)
        features = jnp.concatenate([y.mean((1, 2)), y.max((1, 2))], -1)
        dropped = nn.Dropout(self.dropout, deterministic=not train)(features)
        hidden = ((512, self.dropout), (256, 0.8 * self.dropout))
        return _classify(dropped, self.classes, hidden, activation=_gelu, train=train), features, (x,)


_ATTENTION = ("eca", "se", "cbam", "context", "calibration")


def initial(path: str, shapes: Mapping[str, tuple[int, ...]]) -> layers.Initial:
    """Kernels N(0, 2 / fan_out) (He et al. 2015, arXiv:1502.01852), the last one N(0, 0.001^2); biases 0, norms 1
    and 0, theta 0.5; attention blocks as torch starts them.
    """
    _, block, *_ = path.split("/")
    leaf = path.rpartition("/")[2]
    if block in _ATTENTION:
        return attention.initial(path, shapes)
    if path == "head/dense/kernel":
        return "normal", 0.001
    if leaf == "kernel":
        *window, _, out = shapes[path]
        return "normal", (2 / (math.prod(window) * out)) ** 0.5
    return "constant", {"scale": 1.0, "theta": 0.5}.get(leaf, 0.0)
