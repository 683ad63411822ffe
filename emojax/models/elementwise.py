"""GELU, layer and batch normalisation with backward passes that read as little as they can.

Left to itself, differentiation keeps every intermediate result: memory traffic that costs more than the arithmetic.
The functions here keep their input and its statistics, and compute the rest again.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from emojax.models import platforms
from emojax.models.windows import wide


def gelu(x: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """x Phi(x), exact (Hendrycks & Gimpel 2016, arXiv:1606.08415), computed in float32 with erf, as torch does.

    First-order reverse-mode gradients only.
    """
    if platforms.is_plain():
        return jax.nn.gelu(wide(x), approximate=False).astype(x.dtype)
    found: Any = _gelu(x)
    return found


@jax.custom_vjp
def _gelu(x: Array) -> Array:
    x32 = wide(x)
    return (x32 * _normal_cdf(x32)).astype(x.dtype)


def _normal_cdf(x: Array) -> Array:
    return 0.5 + 0.5 * lax.erf(x * math.sqrt(0.5))


def _gelu_fwd(x: Array) -> tuple[Array, Array]:
    return _gelu(x), x


def _gelu_bwd(x: Array, dy: Array) -> tuple[Array]:
    x32 = wide(x)
    density = jnp.exp(-0.5 * x32 * x32) * (1 / math.sqrt(2 * math.pi))
    return (((_normal_cdf(x32) + x32 * density) * wide(dy)).astype(dy.dtype),)


_gelu.defvjp(_gelu_fwd, _gelu_bwd)


def layer_norm(
    x: Float[Array, "*B C"], scale: Float[Array, " C"], bias: Float[Array, " C"], epsilon: float
) -> Float[Array, "*B C"]:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias over the last axis, float32 or better.

    First-order reverse-mode gradients only. Ba et al. 2016, arXiv:1607.06450.
    """
    if platforms.is_plain():  # Flax's own, which converters turn into one operation
        norm = nn.LayerNorm(epsilon=epsilon)
        normal: Any = norm.apply({"params": {"scale": scale, "bias": bias}}, wide(x))
        return normal
    found: Any = _layer_norm(x, scale, bias, epsilon)
    return found


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _layer_norm(x: Array, scale: Array, bias: Array, epsilon: float) -> Array:
    mean, factor = _statistics(x, epsilon)
    return (wide(x) - mean) * factor * scale + bias


def _statistics(x: Array, epsilon: float) -> tuple[Array, Array]:
    x32 = wide(x)
    mean = x32.mean(-1, keepdims=True)
    return mean, lax.rsqrt(jnp.square(x32 - mean).mean(-1, keepdims=True) + epsilon)


def _layer_norm_fwd(x: Array, scale: Array, bias: Array, epsilon: float) -> tuple[Array, tuple[Array, ...]]:
    mean, factor = _statistics(x, epsilon)
    return (wide(x) - mean) * factor * scale + bias, (x, mean, factor, scale)


def _layer_norm_bwd(epsilon: float, saved: tuple[Array, ...], dy: Array) -> tuple[Array, Array, Array]:
    del epsilon
    x, mean, factor, scale = saved
    normal = (wide(x) - mean) * factor
    pixels = tuple(range(x.ndim - 1))
    pulled = dy * scale
    along = (pulled * normal).mean(-1, keepdims=True)
    dx = factor * (pulled - pulled.mean(-1, keepdims=True) - normal * along)
    return dx.astype(x.dtype), (dy * normal).sum(pixels), dy.sum(pixels)


_layer_norm.defvjp(_layer_norm_fwd, _layer_norm_bwd)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def batch_norm(
    x: Float[Array, "*B C"],
    scale: Float[Array, " C"],
    bias: Float[Array, " C"],
    near: Float[Array, " C"],
    epsilon: float,
) -> tuple[Float[Array, "*B C"], Float[Array, " C"], Float[Array, " C"]]:
    """(y, mean, variance): y = (x - mean) / sqrt(variance + epsilon) * scale + bias over all axes but the last.

    float32 or better; the variance is the biased one. `near` is a guess of the mean: both moments come from one pass
    over x - near, half the time of two, and little cancels when the guess is good. First-order reverse-mode gradients
    only, of `y` alone: mean and variance count as constants. Ioffe & Szegedy 2015, arXiv:1502.03167.
    """
    return _batch_norm_fwd(x, scale, bias, near, epsilon)[0]


def _batch_norm_fwd(
    x: Array, scale: Array, bias: Array, near: Array, epsilon: float
) -> tuple[tuple[Array, Array, Array], tuple[Array, ...]]:
    x32, pixels = wide(x), tuple(range(x.ndim - 1))
    shifted = x32 - near
    offset = shifted.mean(pixels)
    mean, variance = near + offset, jnp.maximum(jnp.square(shifted).mean(pixels) - jnp.square(offset), 0.0)
    factor = lax.rsqrt(variance + epsilon)
    return ((x32 - mean) * (scale * factor) + bias, mean, variance), (x, scale, mean, factor)


def _batch_norm_bwd(epsilon: float, saved: tuple[Array, ...], pulled: tuple[Array, Array, Array]) -> tuple[Array, ...]:
    del epsilon
    x, scale, mean, factor = saved
    dy, pixels = pulled[0], tuple(range(x.ndim - 1))
    count = math.prod(x.shape[:-1])
    central = wide(x) - mean
    dbias, dscale = dy.sum(pixels), (dy * central).sum(pixels) * factor
    dx = (dy - dbias / count - central * (dscale * factor / count)) * (scale * factor)
    return dx.astype(x.dtype), dscale, dbias, jnp.zeros_like(mean)


batch_norm.defvjp(_batch_norm_fwd, _batch_norm_bwd)
