"""Max-pooling with a CPU lowering of its own.

GPUs and TPUs get XLA's. On CPUs its gradient is a loop over windows on one core (jaxlib 0.10: 25 ms for 32 maps of
32x32x64, a seventh of a ResNet-18's whole training step); there the nine pixels of all windows are compared as nine
shifted maps.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from emojax.models.platforms import per_platform

_Edges = tuple[tuple[int, int], tuple[int, int]]


def max_pool(x: Float[Array, "B H W C"], *, padding: int = 1, ceil: bool = False) -> Float[Array, "B Y X C"]:
    """3x3 maximum at stride 2 with `padding` pixels of -inf around, as torch's MaxPool2d(3, 2, padding).

    `ceil`, its ceil_mode, lets the last window reach past the lower and right edge, if it starts inside the map; Y is
    at least 1, even for maps that are smaller than the window and that torch refuses. Of equal pixels the first, row by
    row, gets the gradient; a NaN gets none on CPUs. First-order reverse-mode gradients only.
    """
    edges = []
    for side in x.shape[1:3]:
        free = side + 2 * padding - 3
        windows = max(1, -(-free // 2) + 1 if ceil else free // 2 + 1)
        windows -= windows > 1 and 2 * (windows - 1) >= side + padding
        edges.append((padding, 2 * windows + 1 - side - padding))
    return _max_pool(x, (edges[0], edges[1]))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _max_pool(x: Array, edges: _Edges) -> Array:
    return _native(x, edges)


def _max_pool_fwd(x: Array, edges: _Edges) -> tuple[Array, tuple[Array, Array]]:
    y: Any = _max_pool(x, edges)
    return y, (x, y)


def _max_pool_bwd(edges: _Edges, saved: tuple[Array, Array], dy: Array) -> tuple[Array]:
    def native(x: Array, y: Array, dy: Array) -> Array:
        del y
        return jax.vjp(functools.partial(_native, edges=edges), x)[1](dy)[0]

    return (per_platform(*saved, dy, cpu=functools.partial(_compared, edges=edges), default=native),)


_max_pool.defvjp(_max_pool_fwd, _max_pool_bwd)


def _native(x: Array, edges: _Edges) -> Array:
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), ((0, 0), *edges, (0, 0)))


def _compared(x: Array, y: Array, dy: Array, *, edges: _Edges) -> Array:
    """One pass per tap of the window, each adding to every other pixel; edges may be negative, as for `lax.pad`."""
    padded = lax.pad(x, jnp.asarray(-jnp.inf, x.dtype), ((0, 0, 0), *((a, b, 0) for a, b in edges), (0, 0, 0)))
    rows, columns = y.shape[1:3]
    free, total = jnp.ones(y.shape, bool), jnp.zeros(padded.shape, dy.dtype)
    for i, j in itertools.product(range(3), range(3)):
        stop = (x.shape[0], i + 2 * rows - 1, j + 2 * columns - 1, x.shape[3])
        hit = free & (lax.slice(padded, (0, i, j, 0), stop, (1, 2, 2, 1)) == y)
        free &= ~hit
        to = ((0, 0, 0), (i, padded.shape[1] - stop[1], 1), (j, padded.shape[2] - stop[2], 1), (0, 0, 0))
        total += lax.pad(jnp.where(hit, dy, 0), jnp.zeros((), dy.dtype), to)
    return lax.pad(total, jnp.zeros((), dy.dtype), ((0, 0, 0), *((-a, -b, 0) for a, b in edges), (0, 0, 0)))
