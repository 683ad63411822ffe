"""Depthwise 2-D convolution, one filter per channel, with a CPU lowering of its own.

GPUs and TPUs get XLA's convolution. On CPUs XLA has only a plain loop for it (jaxlib 0.10, two AVX-512 cores: 34 ms for
7x7 on 32 maps of 16x16x96, 140 ms with gradients). There the same sums are written in float32, since bfloat16
arithmetic is four times as slow there, in one of two ways. Where there are many maps of few pixels, they are multiplied
by the matrix, one per channel, that leads from every pixel of the input to every pixel of the output. Others are
shifted and multiplied by rows of the kernel, element by element. No part of that is a loop over images: in a loop's
body XLA uses one core.
"""

from __future__ import annotations

import functools
import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from emojax.models import products
from emojax.models.platforms import per_platform
from emojax.models.windows import native, native_dw, native_dx, out_size, wide

_ROWS = 16
"""Rows of the output that one expression of the kernel gradient adds up."""
_TERMS = 160
"""Kernel gradients of more terms loop over the rows of the kernel: a third of the compile time, a little slower."""

_FEW = 64
"""Pixels of a map up to which all are joined with all."""
_MANY = 8
"""Images from which on it pays to make the matrices."""

_Pair = tuple[int, int]


def depthwise(
    x: Float[Array, "B H W C"], kernel: Float[Array, "k k 1 C"], *, stride: int = 1, padding: int = 0
) -> Float[Array, "B Y X C"]:
    """Cross-correlation of every channel with its own filter, as torch's Conv2d with groups = C.

    Y = (H + 2 padding - k) // stride + 1, X alike; `padding` zeros on all four sides, fewer than k. Input and kernel
    have one floating type, which the result keeps. First-order reverse-mode gradients only (`jax.grad`); they are exact
    on every platform. The formulation is chosen when the program is lowered, as in `conv.conv2d`. Raises `ValueError`
    unless image and kernel have as many channels.
    """
    if kernel.shape[2:] != (1, x.shape[3]):
        raise ValueError(f"expected a kernel [k, k, 1, {x.shape[3]}] for an image of {x.shape}, found {kernel.shape}")
    return _depthwise(x, kernel, stride, padding)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _depthwise(x: Array, kernel: Array, stride: int, padding: int) -> Array:
    cpu = functools.partial(_cpu, stride=stride, padding=padding)
    plain = functools.partial(native, stride=stride, padding=padding, groups=x.shape[3])
    return per_platform(x, kernel, cpu=cpu, default=plain)


def _depthwise_fwd(x: Array, kernel: Array, stride: int, padding: int) -> tuple[Array, tuple[Array, Array]]:
    return products.kept(_depthwise(x, kernel, stride, padding)), (x, kernel)


def _depthwise_bwd(stride: int, padding: int, saved: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    x, kernel = saved
    how = {"stride": stride, "padding": padding}
    plain_dx, plain_dw = (functools.partial(f, **how, groups=x.shape[3]) for f in (native_dx, native_dw))
    dx = per_platform(x, kernel, dy, cpu=functools.partial(_cpu_dx, **how), default=plain_dx)
    dw = per_platform(x, kernel, dy, cpu=functools.partial(_cpu_dw, **how), default=plain_dw)
    return products.together(dx, dw)


_depthwise.defvjp(_depthwise_fwd, _depthwise_bwd)


# The CPU formulations.


def _cpu(x: Array, kernel: Array, *, stride: int, padding: int) -> Array:
    out = out_size(x.shape, kernel.shape, stride, padding)
    if _few(x.shape, out):
        matrix, maps = _matrix(kernel, x.shape, out, stride, padding), wide(x)
        y = _channels_last(jnp.einsum("bqc,pqc->bpc", maps.reshape(maps.shape[0], -1, maps.shape[3]), matrix))
        return y.reshape(x.shape[0], *out, x.shape[3]).astype(x.dtype)
    return _shifted(x, kernel, stride=stride, padding=padding)


def _cpu_dx(x: Array, kernel: Array, dy: Array, *, stride: int, padding: int) -> Array:
    if _few(x.shape, dy.shape[1:3]):
        matrix, maps = _matrix(kernel, x.shape, dy.shape[1:3], stride, padding), wide(dy)
        dx = _channels_last(jnp.einsum("bpc,pqc->bqc", maps.reshape(maps.shape[0], -1, maps.shape[3]), matrix))
        return dx.reshape(x.shape).astype(x.dtype)
    return _shifted_dx(x.shape, kernel, dy, stride=stride, padding=padding)


def _cpu_dw(x: Array, kernel: Array, dy: Array, *, stride: int, padding: int) -> Array:
    if not _few(x.shape, dy.shape[1:3]):
        return _shifted_dw(x, kernel, dy, stride=stride, padding=padding)
    maps = [wide(a).reshape(a.shape[0], -1, a.shape[3]) for a in (dy, x)]
    matrix = jnp.einsum("bpc,bqc->pqc", *maps)
    meets = _meets(x.shape, dy.shape[1:3], kernel.shape[0], stride, padding)
    return (meets.T @ matrix.reshape(-1, matrix.shape[2])).reshape(kernel.shape).astype(kernel.dtype)


def _shifted(x: Array, kernel: Array, *, stride: int, padding: int) -> Array:
    out = out_size(x.shape, kernel.shape, stride, padding)
    low, high = _taps(x.shape, out, kernel.shape, stride, padding)
    kernel = kernel[low[0] : high[0], low[1] : high[1]]
    padded = _padded(x, (padding - low[0], padding - low[1]), out, kernel.shape, stride)
    return _correlate(padded, kernel, out, stride).astype(x.dtype)


def _shifted_dx(x: tuple[int, ...], kernel: Array, dy: Array, *, stride: int, padding: int) -> Array:
    """Gradients at distance `stride` with zeros between, correlated with the kernel turned by 180 degrees."""
    shape = (x[1], x[2])
    low, high = _taps(x, dy.shape[1:3], kernel.shape, stride, padding)
    kernel = kernel[low[0] : high[0], low[1] : high[1]][::-1, ::-1]
    edge = (high[0] - 1 - padding, high[1] - 1 - padding)
    padded = _padded(dy, edge, shape, kernel.shape, 1, spread=stride)
    return _correlate(padded, kernel, shape, 1).astype(dy.dtype)


def _shifted_dw(x: Array, kernel: Array, dy: Array, *, stride: int, padding: int) -> Array:
    """For every tap the products of gradient and shifted input, summed by rows of the map in one expression.

    XLA's CPU sums over an axis that is not the last without vector instructions unless the summed array is in memory,
    so rows are added by hand and the partial sums behind a barrier over columns, then images. Maps of more than
    `_ROWS` rows are read as groups of equally many rows, the last one filled up with zeros.
    """
    (size, _, _, channels), batch = kernel.shape, dy.shape[0]
    low, high = _taps(x.shape, dy.shape[1:3], kernel.shape, stride, padding)
    taps = (high[0] - low[0], high[1] - low[1])
    groups = -(-dy.shape[1] // _ROWS)
    rows, columns = -(-dy.shape[1] // groups), dy.shape[2]
    out = (groups * rows, columns)
    padded = _padded(x, (padding - low[0], padding - low[1]), out, taps, stride)
    filled = _padded(dy, (0, 0), out, (1, 1), 1)

    def tap_row(i: Any) -> Array:
        part = lax.dynamic_slice_in_dim(padded, i, (out[0] - 1) * stride + 1, axis=1)

        def tap(j: int) -> Array:
            terms = []
            for r in range(rows):
                stop = (batch, ((groups - 1) * rows + r) * stride + 1, j + (columns - 1) * stride + 1, channels)
                shifted = lax.slice(part, (0, r * stride, j, 0), stop, (1, rows * stride, stride, 1))
                terms.append(shifted * filled[:, r::rows])
            return functools.reduce(operator.add, terms)

        return lax.optimization_barrier(jnp.stack([tap(j) for j in range(taps[1])])).sum((2, 3))

    if taps[0] * taps[1] * rows > _TERMS:
        sums = lax.map(tap_row, jnp.arange(taps[0]))
    else:
        sums = jnp.stack([tap_row(i) for i in range(taps[0])])
    edges = [(lo, size - hi, 0) for lo, hi in zip(low, high, strict=True)]
    sums = lax.pad(sums.sum(2), jnp.zeros((), sums.dtype), (*edges, (0, 0, 0)))
    return sums[:, :, None].astype(kernel.dtype)


# Pieces.


def _few(x: tuple[Any, ...], out: tuple[Any, ...]) -> bool:
    """Whether a matrix between all pixels is no more work than shifting.

    Not for symbolic sizes: such a program is to be exported, and layout constraints cannot be stored.
    """
    if not all(isinstance(n, int) for n in (*x, *out)) or x[0] < _MANY:
        return False
    return x[1] * x[2] <= _FEW and out[0] * out[1] <= _FEW


def _meets(x: tuple[Any, ...], out: tuple[Any, ...], size: int, stride: int, padding: int) -> Array:
    """0/1 float32 [output pixels * input pixels, taps]: 1 where that tap of the kernel joins the two pixels."""
    (rows, columns), taps = x[1:3], np.arange(size)
    down, across = (
        (np.arange(n)[:, None, None] * stride - padding + taps == np.arange(side)[:, None])
        for n, side in zip(out, (rows, columns), strict=True)
    )  # [n, side, size]
    joined = down[:, None, :, None, :, None] & across[None, :, None, :, None, :]
    return jnp.asarray(joined.reshape(-1, size * size), jnp.float32)


def _matrix(kernel: Array, x: tuple[Any, ...], out: tuple[Any, ...], stride: int, padding: int) -> Array:
    """[output pixels, input pixels, C]."""
    meets = _meets(x, out, kernel.shape[0], stride, padding)
    flat = wide(kernel).reshape(-1, kernel.shape[3])
    return (meets.astype(flat.dtype) @ flat).reshape(out[0] * out[1], -1, flat.shape[1])


def _channels_last(x: Array) -> Array:
    """In memory too: the product leaves the channels first, and what follows would read them so, ten times as slow."""
    return products.in_memory_order(x)


def _taps(
    x: tuple[Any, ...], out: tuple[int, ...], kernel: tuple[int, ...], stride: int, padding: int
) -> tuple[_Pair, _Pair]:
    """First row and column of the kernel that meets the map and not only padding, and one past the last."""
    sides = list(zip(x[1:3], out, kernel, strict=False))
    low = [max(0, padding - (n - 1) * stride) for _, n, _ in sides]
    high = [min(size, side + padding) for side, _, size in sides]
    return (low[0], low[1]), (high[0], high[1])


def _padded(x: Array, low: _Pair, out: _Pair, size: tuple[int, ...], stride: int, *, spread: int = 1) -> Array:
    """Float32 or better: `x` with spread - 1 zeros between its pixels, `low` zeros (fewer than 0: cut) before them, and
    behind them what an output `out` needs. In memory, or every use of it would pad anew.
    """
    edges = [
        (lo, (n - 1) * stride + k - lo - (side - 1) * spread - 1, spread - 1)
        for side, lo, n, k in zip(x.shape[1:3], low, out, size, strict=False)
    ]
    x = wide(x)
    return lax.optimization_barrier(lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *edges, (0, 0, 0))))


def _correlate(padded: Array, kernel: Array, out: _Pair, stride: int) -> Array:
    batch, _, _, channels = padded.shape
    if kernel.dtype != padded.dtype:  # once, not in a program for every tap
        kernel = lax.optimization_barrier(kernel.astype(padded.dtype))
    terms = []
    for i in range(kernel.shape[0]):
        for j in range(kernel.shape[1]):
            stop = (batch, i + (out[0] - 1) * stride + 1, j + (out[1] - 1) * stride + 1, channels)
            terms.append(lax.slice(padded, (0, i, j, 0), stop, (1, stride, stride, 1)) * kernel[i, j, 0])
    # What XLA fuses into a following mean has no clamp, so it leaves the sum alone. It would write the last term's two
    # factors out as whole maps otherwise, which takes longer than all of the sum.
    return lax.clamp(-jnp.inf, functools.reduce(operator.add, terms), jnp.inf)
