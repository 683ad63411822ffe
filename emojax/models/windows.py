"""What the convolutions share: XLA's own, its gradients, sizes, and arithmetic types."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def native(
    x: Float[Array, "B H W C"], kernel: Float[Array, "h w D O"], *, stride: int, padding: int, groups: int = 1
) -> Float[Array, "B Y X O"]:
    """XLA's convolution; D = C / groups."""
    window, pads = (stride, stride), [(padding, padding)] * 2
    return lax.conv_general_dilated(x, kernel, window, pads, dimension_numbers=_DIMENSIONS, feature_group_count=groups)


def native_dx(x: Array, kernel: Array, dy: Array, **how: int) -> Array:
    """XLA's gradient with respect to `x`."""
    return jax.vjp(lambda a: native(a, kernel, **how), x)[1](dy)[0]


def native_dw(x: Array, kernel: Array, dy: Array, **how: int) -> Array:
    """XLA's gradient with respect to `kernel`."""
    return jax.vjp(lambda a: native(x, a, **how), kernel)[1](dy)[0]


def out_size(x: tuple[Any, ...], kernel: tuple[int, ...], stride: int, padding: int) -> tuple[int, int]:
    """(Y, X) of the result for shapes [B, H, W, C] and [h, w, D, O]."""
    height, width = ((n + 2 * padding - k) // stride + 1 for n, k in zip(x[1:3], kernel[:2], strict=True))
    return height, width


def wide(x: Array) -> Array:
    """`x` in float32 or better: on CPUs bfloat16 arithmetic is four times as slow, and sums need the digits anyway."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
