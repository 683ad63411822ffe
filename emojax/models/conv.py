"""Dense 2-D convolution with a CPU lowering of its own.

GPUs and TPUs get XLA's convolution. On CPUs XLA is fast for most forward passes, but (jaxlib 0.10, two AVX-512 cores,
float32, 100-200 GFLOP/s within reach) it runs at 20-35 GFLOP/s for the kernel gradient of a 3x3 convolution on maps of
12 px and more, at 5-70 for the kernel gradient of a 1x1 convolution, and at 1-7 where the kernel is larger than a map
of 2 px or more, for which it has only a plain loop. There the same sums are written as matrix products.

The chunks of `_in_chunks` keep the unfolded patches in the cache; unfolding a whole batch at once is slower than
XLA's own convolution, since most of its time goes into fresh memory pages.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")
_CHUNK = 4 << 20
"""Bytes of unfolded patches per chunk: about the cache of two cores. From 1 to 10 MB the speed varies by a fifth."""


def conv2d(
    x: Float[Array, "B H W C"], kernel: Float[Array, "h w C O"], *, stride: int = 1, padding: int = 0
) -> Float[Array, "B Y X O"]:
    """Cross-correlation as in torch: the same stride on both axes, `padding` zeros on all four sides.

    Y = (H + 2 padding - h) // stride + 1, X alike. Input and kernel have one floating type, which the result keeps.
    First-order reverse-mode gradients only (`jax.grad`); they are exact on every platform. The formulation is chosen
    when the program is lowered, so one export for several platforms holds the right one for each.
    """
    return _conv2d(x, kernel, stride, padding)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _conv2d(x: Array, kernel: Array, stride: int, padding: int) -> Array:
    native = functools.partial(_native, stride=stride, padding=padding)
    rule = _forward_rule(x.shape, kernel.shape)
    if rule is None:
        return native(x, kernel)
    cpu = functools.partial(rule, stride=stride, padding=padding)
    return lax.platform_dependent(x, kernel, cpu=cpu, default=native)


def _conv2d_fwd(x: Array, kernel: Array, stride: int, padding: int) -> tuple[Array, tuple[Array, Array]]:
    return _conv2d(x, kernel, stride, padding), (x, kernel)


def _conv2d_bwd(stride: int, padding: int, saved: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    x, kernel = saved
    native = functools.partial(_native, stride=stride, padding=padding)

    def native_dx(x: Array, kernel: Array, dy: Array) -> Array:
        return jax.vjp(lambda a: native(a, kernel), x)[1](dy)[0]

    def native_dw(x: Array, kernel: Array, dy: Array) -> Array:
        return jax.vjp(lambda a: native(x, a), kernel)[1](dy)[0]

    def choose(rule: Callable[..., Array] | None, native: Callable[..., Array]) -> Array:
        if rule is None:
            return native(x, kernel, dy)
        cpu = functools.partial(rule, stride=stride, padding=padding)
        return lax.platform_dependent(x, kernel, dy, cpu=cpu, default=native)

    dx = choose(_input_gradient_rule(x.shape, kernel.shape, dy.shape, stride), native_dx)
    return dx, choose(_kernel_gradient_rule(x.shape, kernel.shape, stride), native_dw)


_conv2d.defvjp(_conv2d_fwd, _conv2d_bwd)

# Which formulation on a CPU. None: XLA's own. Every threshold is a measurement on float32, see the module's docstring.


def _forward_rule(x: tuple[Any, ...], kernel: tuple[int, ...]) -> Callable[..., Array] | None:
    (_, h, w, c), size = x, max(kernel[:2])
    if size == 1:
        return _pointwise
    if min(h, w) < size or (c <= 4 and size <= 3):  # the plain loop of XLA; colour images: too few channels for it
        return _unfold
    return None


def _input_gradient_rule(
    x: tuple[int, ...], kernel: tuple[int, ...], dy: tuple[int, ...], stride: int
) -> Callable[..., Array] | None:
    (_, h, w, _), size = x, max(kernel[:2])
    if size == 1:
        return _pointwise_dx
    if h * w <= 64 or min(dy[1:3]) < size or stride > 1 or kernel[3] >= 256:
        return _fold_dx
    return None


def _kernel_gradient_rule(x: tuple[int, ...], kernel: tuple[int, ...], stride: int) -> Callable[..., Array] | None:
    (_, h, w, c), size = x, max(kernel[:2])
    if size == 1:
        return _pointwise_dw
    if stride > 1 or c <= 4 or min(h, w) < size:
        return _unfold_dw
    return None if h * w <= 64 or c >= 256 else _row_dw


def _native(x: Array, kernel: Array, *, stride: int, padding: int) -> Array:
    window, pads = (stride, stride), [(padding, padding)] * 2
    return lax.conv_general_dilated(x, kernel, window, pads, dimension_numbers=_DIMENSIONS)


# 1x1: a matrix product over pixels.


def _pointwise(x: Array, kernel: Array, *, stride: int, padding: int) -> Array:
    x = _pad(x, padding)
    return x[:, ::stride, ::stride] @ kernel[0, 0]


def _pointwise_dx(x: Array, kernel: Array, dy: Array, *, stride: int, padding: int) -> Array:
    return _place(dy @ kernel[0, 0].T, (0, 0), x.shape, stride=stride, padding=padding)


def _pointwise_dw(x: Array, kernel: Array, dy: Array, *, stride: int, padding: int) -> Array:
    return _outer(_pad(x, padding)[:, ::stride, ::stride], dy)[None, None]


# Unfolding: the h w C inputs of every output pixel side by side ("im2col"), then one matrix product.


def _unfold(x: Array, kernel: Array, *, stride: int, padding: int) -> Array:
    h, w, c, o = kernel.shape

    def chunk(x: Array) -> Array:
        return _patches(x, (h, w), stride=stride, padding=padding) @ kernel.reshape(h * w * c, o)

    return _in_chunks(chunk, x, bytes_each=_patch_bytes(x, kernel, stride), reduce=False)


def _unfold_dw(x: Array, kernel: Array, dy: Array, *, stride: int, padding: int) -> Array:
    h, w, _, _ = kernel.shape

    def chunk(x: Array, dy: Array) -> Array:
        return _outer(_patches(x, (h, w), stride=stride, padding=padding), dy)

    return _in_chunks(chunk, x, dy, bytes_each=_patch_bytes(x, kernel, stride), reduce=True).reshape(kernel.shape)


def _fold_dx(x: Array, kernel: Array, dy: Array, *, stride: int, padding: int) -> Array:
    """One matrix product gives what every output pixel sends to each of its h w inputs; shifted sums collect it."""
    h, w, c, o = kernel.shape
    matrix = kernel.reshape(h * w * c, o).T

    def chunk(dy: Array) -> Array:
        sent = dy @ matrix
        shape = (dy.shape[0], *x.shape[1:])
        parts = [lax.slice_in_dim(sent, tap * c, (tap + 1) * c, axis=3) for tap in range(h * w)]
        placed = [_place(p, divmod(tap, w), shape, stride=stride, padding=padding) for tap, p in enumerate(parts)]
        return functools.reduce(operator.add, placed)

    # Nothing here is read twice, so only really large products gain from chunks.
    return _in_chunks(chunk, dy, bytes_each=_patch_bytes(x, kernel, stride) // 6, reduce=False)


def _row_dw(x: Array, kernel: Array, dy: Array, *, stride: int, padding: int) -> Array:
    """Inputs shifted by column [w C] times gradients shifted by row [h O]: h + w copies of the maps instead of h w."""
    h, w, c, o = kernel.shape

    def chunk(x: Array, dy: Array) -> Array:
        x, zero = _pad(x, padding), jnp.zeros((), dy.dtype)
        n, rows, columns = x.shape[0], x.shape[1], dy.shape[2]
        left = [lax.slice(x, (0, 0, j, 0), (n, rows, j + columns, c)) for j in range(w)]
        right = [lax.pad(dy, zero, ((0, 0, 0), (i, rows - i - dy.shape[1], 0), (0, 0, 0), (0, 0, 0))) for i in range(h)]
        return _outer(jnp.concatenate(left, -1), jnp.concatenate(right, -1))

    each = x.shape[1] * x.shape[2] * w * c * x.dtype.itemsize
    sums = _in_chunks(chunk, x, dy, bytes_each=each, reduce=True)
    return sums.reshape(w, c, h, o).transpose(2, 0, 1, 3)


# Pieces.


def _pad(x: Array, padding: int) -> Array:
    return lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *[(padding, padding, 0)] * 2, (0, 0, 0)))


def _outer(a: Array, b: Array) -> Array:
    """[B, Y, X, M] and [B, Y, X, N] -> [M, N], summed over the rest; accumulated in float32 or better."""
    wide = jnp.promote_types(a.dtype, jnp.float32)
    a, b = a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1])  # XLA's CPU product is twice as slow on four axes
    return lax.dot_general(a, b, (((0,), (0,)), ((), ())), preferred_element_type=wide).astype(a.dtype)


def _window(x: Array, tap: tuple[int, int], out: tuple[int, ...], *, stride: int) -> Array:
    """The input pixel under `tap` of the kernel for every output pixel; `x` is padded, `out` the output's shape."""
    stop = [start + (n - 1) * stride + 1 for start, n in zip(tap, out[1:3], strict=True)]
    return lax.slice(x, (0, *tap, 0), (x.shape[0], *stop, x.shape[3]), (1, stride, stride, 1))


def _patches(x: Array, size: tuple[int, int], *, stride: int, padding: int) -> Array:
    x = _pad(x, padding)
    out = (0, (x.shape[1] - size[0]) // stride + 1, (x.shape[2] - size[1]) // stride + 1)
    taps = [divmod(tap, size[1]) for tap in range(size[0] * size[1])]
    return jnp.concatenate([_window(x, tap, out, stride=stride) for tap in taps], -1)


def _place(part: Array, tap: tuple[int, int], shape: tuple[int, ...], *, stride: int, padding: int) -> Array:
    """The transpose of padding and `_window`: [B, Y, X, C] spread over zeros of `shape` [B, H, W, C]."""
    edges = [
        (start - padding, full - 1 - (start - padding) - (n - 1) * stride, stride - 1)
        for start, n, full in zip(tap, part.shape[1:3], shape[1:3], strict=True)
    ]
    return lax.pad(part, jnp.zeros((), part.dtype), ((0, 0, 0), *edges, (0, 0, 0)))


def _patch_bytes(x: Array, kernel: Array, stride: int) -> int:
    """Bytes of the unfolded patches of one image."""
    return x.shape[1] * x.shape[2] * kernel[..., 0].size * x.dtype.itemsize // stride**2


def _in_chunks(function: Callable[..., Array], *arrays: Array, bytes_each: int, reduce: bool) -> Array:
    """`function` on equal parts of the batch, one after the other; results are summed or put together again.

    A chunk takes every n-th image: it is chosen along an axis that no device splits, so a batch sharded over devices
    stays where it is, as long as a chunk has images for every device. A batch of symbolic size (shape-polymorphic
    export) is one chunk.
    """
    batch = arrays[0].shape[0]
    if not isinstance(batch, int) or batch * bytes_each <= _CHUNK:
        return function(*arrays)
    n = next(n for n in range(1, batch + 1) if batch % n == 0 and (batch // n * bytes_each <= _CHUNK or n == batch))
    parts = [a.reshape(batch // n, n, *a.shape[1:]) for a in arrays]

    def take(i: Any) -> Array:
        return function(*[lax.dynamic_index_in_dim(a, i, axis=1, keepdims=False) for a in parts])

    if reduce:
        first = jax.eval_shape(take, 0)
        return lax.fori_loop(0, n, lambda i, sums: sums + take(i), jnp.zeros(first.shape, first.dtype))
    results = lax.map(take, jnp.arange(n))
    return jnp.moveaxis(results, 0, 1).reshape(batch, *results.shape[2:])
