"""Attention over the body's last map: blocks that weigh channels or pixels, and self-attention over the pixels.

A block takes a map and returns one of the same shape and type. Maps are weighed in their own type; vectors of one image
are float32 throughout, since they cost nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from emojax.errors import ConfigError
from emojax.models import layers, norms


def _mean(x: Float[Array, "B Y X D"]) -> Float[Array, "B 1 1 D"]:
    return x.astype(jnp.float32).mean((1, 2), keepdims=True)


def _max(x: Float[Array, "B Y X D"]) -> Float[Array, "B 1 1 D"]:
    return x.astype(jnp.float32).max((1, 2), keepdims=True)


class EfficientChannel(nn.Module):
    """ECA (Wang et al. 2019, arXiv:1910.03151): x * sigmoid(k-tap filter along the channels of the mean).

    `kernel` is [k, 1, 1]; k is (log2 D + 1) / 2 rounded down, plus 1 where that is even: 5 at 768 to 1536 channels.
    """

    @nn.compact
    def __call__(self, x: Float[Array, "B Y X D"]) -> Float[Array, "B Y X D"]:
        channels = x.shape[-1]
        size = int((math.log2(channels) + 1) / 2) // 2 * 2 + 1
        kernel = self.param("kernel", nn.initializers.zeros, (size, 1, 1))[:, 0, 0]
        mean = jnp.pad(_mean(x), ((0, 0), (0, 0), (0, 0), (size // 2, size // 2)))
        gate = sum(kernel[i] * mean[..., i : i + channels] for i in range(size))
        return x * jax.nn.sigmoid(gate).astype(x.dtype)


class SqueezeExcite(nn.Module):
    """x * sigmoid(excite(silu(squeeze([mean, max])))), D / 4 in between, no biases.

    The published block (Hu et al. 2017, arXiv:1709.01507) squeezes the mean alone and uses ReLU; seed 000 does not.
    """

    @nn.compact
    def __call__(self, x: Float[Array, "B Y X D"]) -> Float[Array, "B Y X D"]:
        channels = x.shape[-1]
        y = jnp.concatenate([_mean(x), _max(x)], -1)
        y = jax.nn.silu(layers.Conv(max(channels // 4, 1), 1, name="squeeze")(y))
        return x * jax.nn.sigmoid(layers.Conv(channels, 1, name="excite")(y)).astype(x.dtype)


class ChannelThenSpatial(nn.Module):
    """CBAM (Woo et al. 2018, arXiv:1807.06521): first channels are weighed, then pixels.

    The pixels' weights are a 7x7 filter of their mean and maximum over the channels. As in seed 000, the channels' come
    from the mean alone, through D / 8 channels and SiLU; no biases.
    """

    @nn.compact
    def __call__(self, x: Float[Array, "B Y X D"]) -> Float[Array, "B Y X D"]:
        channels = x.shape[-1]
        y = jax.nn.silu(layers.Conv(max(channels // 8, 1), 1, name="squeeze")(_mean(x)))
        x = x * jax.nn.sigmoid(layers.Conv(channels, 1, name="excite")(y)).astype(x.dtype)
        y = jnp.concatenate([x.mean(-1, keepdims=True), x.max(-1, keepdims=True)], -1)
        return x * jax.nn.sigmoid(layers.Conv(1, 7, padding=3, dtype=x.dtype, name="spatial")(y))


class GlobalContext(nn.Module):
    """x + excite(silu(norm(squeeze(sum over pixels of x * sigmoid(mask)))))), D / 16 in between, with biases.

    The published block (Cao et al. 2019, arXiv:1904.11492) takes a softmax over the pixels; seed 000 a sum of sigmoids.
    """

    @nn.compact
    def __call__(self, x: Float[Array, "B Y X D"]) -> Float[Array, "B Y X D"]:
        channels = x.shape[-1]
        mask = jax.nn.sigmoid(layers.Conv(1, 1, bias=True, dtype=x.dtype, name="mask")(x))
        y = (x.astype(jnp.float32) * mask).sum((1, 2), keepdims=True)
        y = layers.Conv(max(channels // 16, 1), 1, bias=True, name="squeeze")(y)
        y = jax.nn.silu(norms.LayerNorm(epsilon=1e-5, name="norm")(y))
        return x + layers.Conv(channels, 1, bias=True, name="excite")(y).astype(x.dtype)


class ChannelCalibration(nn.Module):
    """x * sigmoid(excite(silu(norm(squeeze(x))))) pixel by pixel, D / 4 in between, with biases and batch norm."""

    @nn.compact
    def __call__(self, x: Float[Array, "B Y X D"], train: bool) -> Float[Array, "B Y X D"]:
        channels, dtype = x.shape[-1], x.dtype
        y = layers.Conv(max(channels // 4, 1), 1, bias=True, dtype=dtype, name="squeeze")(x)
        y = jax.nn.silu(norms.BatchNorm(dtype=dtype, name="norm")(y, train))
        return x * jax.nn.sigmoid(layers.Conv(channels, 1, bias=True, dtype=dtype, name="excite")(y))


class Gate(nn.Module):
    """x * sigmoid(excite(relu(squeeze(x)))), D / 16 in between, with biases: squeeze and excitation of a pooled vector.

    Weighing the channels of a map by its mean and pooling it afterwards gives the same vector.
    """

    @nn.compact
    def __call__(self, x: Float[Array, "B D"]) -> Float[Array, "B D"]:
        channels = x.shape[-1]
        y = jax.nn.relu(layers.Dense(max(channels // 16, 1), name="squeeze")(x))
        return x * jax.nn.sigmoid(layers.Dense(channels, name="excite")(y))


class SelfAttention(nn.Module):
    """Multi-head attention of a sequence to itself (Vaswani et al. 2017, arXiv:1706.03762): dense `qkv` and `project`.

    The columns of `qkv` are q of every head, then k, then v; the softmax is float32.

    Raises `ConfigError` when the heads cannot share the D channels equally.
    """

    heads: int

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        batch, length, width = x.shape
        if width % self.heads:
            raise ConfigError(
                f"config.model.head_attention: {self.heads} heads must divide the width of the body, found {width}"
            )
        qkv = layers.Dense(3 * width, x.dtype, name="qkv")(x)
        query, key, value = jnp.moveaxis(qkv.reshape(batch, length, 3, self.heads, -1), 2, 0)
        y = jax.nn.dot_product_attention(query, key, value, implementation="xla")
        return layers.Dense(width, x.dtype, name="project")(y.reshape(x.shape))


def initial(path: str, shapes: Mapping[str, tuple[int, ...]]) -> layers.Initial:
    """As torch starts them: kernels and biases U(-1 / sqrt(fan_in), 1 / sqrt(fan_in)), norms 1 and 0.

    Self-attention, again as torch: `qkv` U(-a, a) with a = sqrt(6 / (D + 3 D)), both biases 0.
    """
    module, _, leaf = path.rpartition("/")
    kernel = shapes.get(module + "/kernel")
    if kernel is None:
        return "constant", float(leaf == "scale")
    fan_in, own = math.prod(kernel[:-1]), module.rpartition("/")[2]
    if own in ("qkv", "project") and leaf == "bias":
        return "constant", 0.0
    return "uniform", (6 / sum(kernel) if own == "qkv" else 1 / fan_in) ** 0.5
