"""Dense 2-D convolution with a CPU lowering of its own.

GPUs and TPUs get XLA's convolution. On CPUs XLA is fast for most forward passes, but (jaxlib 0.10, two AVX-512 cores,
float32, 100-200 GFLOP/s within reach) it runs at 20-35 GFLOP/s for the kernel gradient of a 3x3 convolution on maps of
12 px and more, at 5-70 for the kernel gradient of a 1x1 convolution, and at 1-7 where the kernel is larger than a map
of 2 px or more, for which it has only a plain loop. There the same sums are written as matrix products.

The chunks of `chunks.in_chunks` keep the unfolded patches in the cache; unfolding a whole batch at once is slower than
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

from emojax.models import products
from emojax.models.chunks import in_chunks

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def conv2d(
    x: Float[Array, "B H W C"], kernel: Float[Array, "h w C O"], *, stride: int = 1, padding: int = 0
) -> Float[Array, "B Y X O"]:
    """Cross-correlation as in torch: the same stride on both axes, `padding` zeros on all four sides.

    Y = (H + 2 padding - h) // stride + 1, X alike. Input and kernel have one floating type, which the result keeps; on
    CPUs the factors may be rounded, see `products.factor`. First-order reverse-mode gradients only (`jax.grad`); they
    are exact on every platform. The formulation is chosen when the program is lowered, so one export for several
    platforms holds the right one for each.
    """
    return _conv2d(x, kernel, stride, padding, products.factor(x.dtype))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _conv2d(x: Array, kernel: Array, stride: int, padding: int, dtype: Any) -> Array:
    native = functools.partial(_native, stride=stride, padding=padding)
    rule = _forward_rule(x.shape, kernel.shape, stride, dtype)
    if rule is None:
        return native(x, kernel)
    cpu = functools.partial(rule, stride=stride, padding=padding, dtype=dtype)
    return lax.platform_dependent(x, kernel, cpu=cpu, default=native)


def _conv2d_fwd(x: Array, kernel: Array, stride: int, padding: int, dtype: Any) -> tuple[Array, tuple[Array, Array]]:
    return _conv2d(x, kernel, stride, padding, dtype), (x, kernel)


def _conv2d_bwd(stride: int, padding: int, dtype: Any, saved: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    x, kernel = saved
    native = functools.partial(_native, stride=stride, padding=padding)

    def native_dx(x: Array, kernel: Array, dy: Array) -> Array:
        return jax.vjp(lambda a: native(a, kernel), x)[1](dy)[0]

    def native_dw(x: Array, kernel: Array, dy: Array) -> Array:
        return jax.vjp(lambda a: native(x, a), kernel)[1](dy)[0]

    def choose(rule: Callable[..., Array] | None, native: Callable[..., Array]) -> Array:
        if rule is None:
            return native(x, kernel, dy)
        cpu = functools.partial(rule, stride=stride, padding=padding, dtype=dtype)
        return lax.platform_dependent(x, kernel, dy, cpu=cpu, default=native)

    dx = choose(_input_gradient_rule(x.shape, kernel.shape, dy.shape, stride, dtype), native_dx)
    return dx, choose(_kernel_gradient_rule(x.shape, kernel.shape, stride, dtype), native_dw)


_conv2d.defvjp(_conv2d_fwd, _conv2d_bwd)

# Which formulation on a CPU. None: XLA's own, whose factors are float32. Every threshold is a measurement.


def _forward_rule(x: tuple[Any, ...], kernel: tuple[int, ...], stride: int, dtype: Any) -> Callable[..., Array] | None:
    (_, h, w, c), size = x, max(kernel[:2])
    if size == 1:
        return _pointwise
    if min(h, w) < size or (c <= 4 and size <= 3):  # the plain loop of XLA; colour images: too few channels for it
        return _unfold
    if _is_bfloat16(dtype) and (c >= 64 or c <= 4):
        many = not isinstance(x[0], int) or x[0] * h * w >= 1024  # pixels, for which turning the kernel pays
        return _fold if many and stride == 1 and kernel[0] == kernel[1] else _unfold
    return None


def _input_gradient_rule(
    x: tuple[int, ...], kernel: tuple[int, ...], dy: tuple[int, ...], stride: int, dtype: Any
) -> Callable[..., Array] | None:
    (_, h, w, _), size = x, max(kernel[:2])
    if size == 1:
        return _pointwise_dx
    if h * w <= 64 or min(dy[1:3]) < size or stride > 1 or kernel[3] >= (64 if _is_bfloat16(dtype) else 256):
        return _fold_dx
    return None


def _kernel_gradient_rule(
    x: tuple[int, ...], kernel: tuple[int, ...], stride: int, dtype: Any
) -> Callable[..., Array] | None:
    (_, h, w, c), size = x, max(kernel[:2])
    if size == 1:
        return _pointwise_dw
    if stride > 1 or c <= 4 or min(h, w) < size or (_is_bfloat16(dtype) and c >= 64):
        return _unfold_dw
    return None if h * w <= 64 or c >= 256 else _row_dw


def _is_bfloat16(dtype: Any) -> bool:
    return jnp.dtype(dtype) == jnp.bfloat16


def _native(x: Array, kernel: Array, *, stride: int, padding: int) -> Array:
    window, pads = (stride, stride), [(padding, padding)] * 2
    return lax.conv_general_dilated(x, kernel, window, pads, dimension_numbers=_DIMENSIONS)


# 1x1: a matrix product over pixels.


def _pointwise(x: Array, kernel: Array, *, stride: int, padding: int, dtype: Any) -> Array:
    return products.product(_pad(x, padding)[:, ::stride, ::stride], kernel[0, 0], dtype=dtype, out=x.dtype)


def _pointwise_dx(x: Array, kernel: Array, dy: Array, *, stride: int, padding: int, dtype: Any) -> Array:
    sent = products.product_t(dy, kernel[0, 0], dtype=dtype)
    return _place(sent, (0, 0), x.shape, stride=stride, padding=padding)


def _pointwise_dw(x: Array, kernel: Array, dy: Array, *, stride: int, padding: int, dtype: Any) -> Array:
    return products.outer(_pad(x, padding)[:, ::stride, ::stride], dy, dtype=dtype)[None, None]


# Unfolding: the h w C inputs of every output pixel side by side ("im2col"), then one matrix product.


def _unfold(x: Array, kernel: Array, *, stride: int, padding: int, dtype: Any) -> Array:
    h, w, c, o = kernel.shape

    def chunk(x: Array) -> Array:
        patches = _patches(x.astype(dtype), (h, w), stride=stride, padding=padding)
        return products.product(patches, kernel.reshape(h * w * c, o), dtype=dtype, out=x.dtype)

    return in_chunks(chunk, x, bytes_each=_patch_bytes(x, kernel, stride), reduce=False)


def _unfold_dw(x: Array, kernel: Array, dy: Array, *, stride: int, padding: int, dtype: Any) -> Array:
    h, w, _, _ = kernel.shape

    def chunk(x: Array, dy: Array) -> Array:
        patches = _patches(x.astype(dtype), (h, w), stride=stride, padding=padding)
        return products.outer(patches, dy, dtype=dtype)

    return in_chunks(chunk, x, dy, bytes_each=_patch_bytes(x, kernel, stride), reduce=True).reshape(kernel.shape)


# Folding: one matrix product gives what every pixel sends to each of the h w pixels it meets; shifted sums collect it.


def _fold(x: Array, kernel: Array, *, stride: int, padding: int, dtype: Any) -> Array:
    """The convolution as the input gradient of another one, with the kernel turned by 180 degrees. Stride 1."""
    turned = kernel[::-1, ::-1].swapaxes(2, 3)
    edge = kernel.shape[0] - 1 - padding
    shape = (*(n - 2 * edge + kernel.shape[0] - 1 for n in x.shape[1:3]), kernel.shape[3])
    return _collected(x, turned, shape, stride=stride, padding=edge, dtype=dtype)


def _fold_dx(x: Array, kernel: Array, dy: Array, *, stride: int, padding: int, dtype: Any) -> Array:
    return _collected(dy, kernel, x.shape[1:], stride=stride, padding=padding, dtype=dtype)


def _collected(dy: Array, kernel: Array, shape: tuple[int, ...], *, stride: int, padding: int, dtype: Any) -> Array:
    h, w, c, o = kernel.shape
    matrix = kernel.reshape(h * w * c, o)

    def chunk(dy: Array) -> Array:
        sent = products.product_t(dy, matrix, dtype=dtype)
        parts = [lax.slice_in_dim(sent, tap * c, (tap + 1) * c, axis=3) for tap in range(h * w)]
        to = (dy.shape[0], *shape)
        placed = [_place(p, divmod(tap, w), to, stride=stride, padding=padding) for tap, p in enumerate(parts)]
        return functools.reduce(operator.add, placed)

    # Nothing here is read twice, so only really large products gain from chunks.
    each = shape[0] * shape[1] * h * w * c * dy.dtype.itemsize // stride**2 // 6
    return in_chunks(chunk, dy, bytes_each=each, reduce=False)


def _row_dw(x: Array, kernel: Array, dy: Array, *, stride: int, padding: int, dtype: Any) -> Array:
    """Inputs shifted by column [w C] times gradients shifted by row [h O]: h + w copies of the maps instead of h w."""
    h, w, c, o = kernel.shape

    def chunk(x: Array, dy: Array) -> Array:
        x, zero = _pad(x, padding), jnp.zeros((), dy.dtype)
        n, rows, columns = x.shape[0], x.shape[1], dy.shape[2]
        left = [lax.slice(x, (0, 0, j, 0), (n, rows, j + columns, c)) for j in range(w)]
        right = [lax.pad(dy, zero, ((0, 0, 0), (i, rows - i - dy.shape[1], 0), (0, 0, 0), (0, 0, 0))) for i in range(h)]
        return products.outer(jnp.concatenate(left, -1), jnp.concatenate(right, -1), dtype=dtype)

    each = x.shape[1] * x.shape[2] * w * c * x.dtype.itemsize
    sums = in_chunks(chunk, x, dy, bytes_each=each, reduce=True)
    return sums.reshape(w, c, h, o).transpose(2, 0, 1, 3)


# Pieces.


def _pad(x: Array, padding: int) -> Array:
    return lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *[(padding, padding, 0)] * 2, (0, 0, 0)))


def _window(x: Array, tap: tuple[int, int], out: tuple[int, ...], *, stride: int) -> Array:
    """The input pixel under `tap` of the kernel for every output pixel; `x` is padded, `out` the output's shape."""
    stop = [start + (n - 1) * stride + 1 for start, n in zip(tap, out[1:3], strict=True)]
    return lax.slice(x, (0, *tap, 0), (x.shape[0], *stop, x.shape[3]), (1, stride, stride, 1))


def _patches(x: Array, size: tuple[int, int], *, stride: int, padding: int) -> Array:
    if x.dtype == jnp.bfloat16:  # XLA's CPU code moves bfloat16 about as float32, and integers as they are
        bits = lax.bitcast_convert_type(x, jnp.uint16)
        return lax.bitcast_convert_type(_patches(bits, size, stride=stride, padding=padding), jnp.bfloat16)
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
