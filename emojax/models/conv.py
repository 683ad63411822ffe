"""Dense 2-D convolution with a CPU lowering of its own.

GPUs and TPUs get XLA's convolution. On CPUs (jaxlib 0.10, two AVX-512 cores) that runs a float32 convolution of fewer
than 128 channels on one core, the kernel gradient of a 3x3 convolution at half the pace of its forward pass, and has
only a plain loop, a hundred times slower, where the kernel is larger than a map of 2 px or more. There the same sums
are written as matrix products: "separable" for most, "unfolded" for few channels, tiny maps and patches side by side.

Everything is written for whole batches: in the body of a loop XLA uses one core.
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
from emojax.models.platforms import per_platform
from emojax.models.windows import native, native_dw, native_dx, out_size


def conv2d(
    x: Float[Array, "B H W C"], kernel: Float[Array, "h w C O"], *, stride: int = 1, padding: int = 0
) -> Float[Array, "B Y X O"]:
    """Cross-correlation as in torch: the same stride on both axes, `padding` zeros on all four sides.

    Y = (H + 2 padding - h) // stride + 1, X alike. Input and kernel have one floating type, which the result keeps; on
    every platform the factors are rounded as `products.factor` says, and gradients are exact otherwise: first-order
    reverse-mode ones only (`jax.grad`). The formulation is chosen when the program is lowered, so one export for
    several platforms holds the right one for each. Raises `ValueError` unless image and kernel have as many channels.
    """
    if x.shape[3] != kernel.shape[2]:
        raise ValueError(
            f"the image has {x.shape[3]} channels, the kernel {kernel.shape[2]}: {x.shape}, {kernel.shape}"
        )
    return _conv2d(x, kernel, stride, padding, products.factor(x.dtype))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _conv2d(x: Array, kernel: Array, stride: int, padding: int, dtype: Any) -> Array:
    rule = _forward_rule(x.shape, kernel.shape, stride, dtype)

    def plain(x: Array, kernel: Array) -> Array:
        return native(_rounded(x, dtype), _rounded(kernel, dtype), stride=stride, padding=padding)

    return _chosen(rule, plain, x, kernel, stride=stride, padding=padding, dtype=dtype)


def _conv2d_fwd(x: Array, kernel: Array, stride: int, padding: int, dtype: Any) -> tuple[Array, tuple[Array, Array]]:
    return products.kept(_conv2d(x, kernel, stride, padding, dtype)), (x, kernel)


def _conv2d_bwd(stride: int, padding: int, dtype: Any, saved: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    x, kernel = saved
    how: dict[str, Any] = {"stride": stride, "padding": padding}

    def plain_dx(x: Array, kernel: Array, dy: Array) -> Array:
        return native_dx(x, _rounded(kernel, dtype), _rounded(dy, dtype), **how)

    def plain_dw(x: Array, kernel: Array, dy: Array) -> Array:
        return native_dw(_rounded(x, dtype), kernel, _rounded(dy, dtype), **how)

    rule = _input_gradient_rule(x.shape, kernel.shape, dy.shape, stride, dtype)
    dx = _chosen(rule, plain_dx, x, kernel, dy, **how, dtype=dtype)
    rule = _kernel_gradient_rule(x.shape, kernel.shape, stride)
    return products.together(dx, _chosen(rule, plain_dw, x, kernel, dy, **how, dtype=dtype))


_conv2d.defvjp(_conv2d_fwd, _conv2d_bwd)


def _chosen(rule: Callable[..., Array] | None, plain: Callable[..., Array], *arrays: Array, **how: Any) -> Array:
    """`rule` on CPUs where there is one, else XLA's own."""
    if rule is None:
        return plain(*arrays)
    return per_platform(*arrays, cpu=functools.partial(rule, **how), default=plain)


# Which formulation on a CPU. None: XLA's own, in float32. Every threshold is a measurement.


def _forward_rule(x: tuple[Any, ...], kernel: tuple[int, ...], stride: int, dtype: Any) -> Callable[..., Array] | None:
    (_, h, w, c), size = x, max(kernel[:2])
    if size == 1:
        return _pointwise
    if min(h, w) < size or size <= stride or (c <= 4 and size <= 3):
        return _unfold
    return _separable if c >= _separable_from(dtype) else None


def _input_gradient_rule(
    x: tuple[int, ...], kernel: tuple[int, ...], dy: tuple[int, ...], stride: int, dtype: Any
) -> Callable[..., Array] | None:
    size = max(kernel[:2])
    if size == 1:
        return _pointwise_dx
    return None if kernel[3] < _separable_from(dtype) and stride == 1 and min(dy[1:3]) >= size else _separable_dx


def _kernel_gradient_rule(x: tuple[int, ...], kernel: tuple[int, ...], stride: int) -> Callable[..., Array]:
    if max(kernel[:2]) == 1:
        return _pointwise_dw
    return _unfold_dw if x[3] <= 4 or max(kernel[:2]) <= stride else _separable_dw


def _separable_from(dtype: Any) -> int:
    """From how many channels on separable products beat XLA's convolution."""
    return 32 if jnp.dtype(dtype) == jnp.bfloat16 else 64


def _rounded(x: Array, dtype: Any) -> Array:
    """`x` in its own type with the values that `dtype` has. A pair of conversions would be "simplified" away."""
    if jnp.dtype(dtype) == x.dtype:
        return x
    found = jnp.finfo(dtype)
    return lax.reduce_precision(x, exponent_bits=found.nexp, mantissa_bits=found.nmant)


# 1x1: a matrix product over pixels.


def _pointwise(x: Array, kernel: Array, *, stride: int, padding: int, dtype: Any) -> Array:
    return products.product(_pad(x, padding)[:, ::stride, ::stride], kernel[0, 0], dtype=dtype, out=x.dtype)


def _pointwise_dx(x: Array, kernel: Array, dy: Array, *, stride: int, padding: int, dtype: Any) -> Array:
    sent = products.product_t(dy, kernel[0, 0], dtype=dtype, out=dy.dtype)
    return _spread(sent, (-padding, -padding), x.shape, stride)


def _pointwise_dw(x: Array, kernel: Array, dy: Array, *, stride: int, padding: int, dtype: Any) -> Array:
    return products.outer(_pad(x, padding)[:, ::stride, ::stride], dy, dtype=dtype)[None, None]


# Unfolded: the h w C inputs of every output pixel side by side ("im2col"), then one matrix product.


def _unfold(x: Array, kernel: Array, *, stride: int, padding: int, dtype: Any) -> Array:
    h, w, c, o = kernel.shape
    out = out_size(x.shape, kernel.shape, stride, padding)

    def patches(x: Array) -> Array:
        x = _pad(x, padding)
        return jnp.concatenate([_window(x, divmod(tap, w), out, stride) for tap in range(h * w)], -1)

    return products.product(_moved(patches, x, dtype), kernel.reshape(h * w * c, o), dtype=dtype, out=x.dtype)


def _unfold_dw(x: Array, kernel: Array, dy: Array, *, stride: int, padding: int, dtype: Any) -> Array:
    _, w, _, o = kernel.shape

    def patches(x: Array) -> Array:
        x = _pad(x, padding, axis=2)
        taps = [divmod(tap, w) for tap in range(kernel[..., 0, 0].size)]
        return jnp.concatenate([_window(x, tap, dy.shape[1:3], stride, axis=2) for tap in taps])

    turned = _moved(patches, _turned(x, dtype), dtype)
    flat = turned.reshape(turned.shape[0], -1)
    return products.product(flat, dy.reshape(-1, o), dtype=dtype, out=dy.dtype).reshape(kernel.shape)


# Separable: unfolded along rows, folded along columns. Copies of the map shifted by rows lie side by side, one product
# says what every pixel sends to each column of the kernel, and shifted sums collect that: h copies and w sums where
# unfolding makes h w copies. Under a stride the rows (or columns) of one phase meet the taps of one phase only, and
# each phase has a product of its own.


def _separable(x: Array, kernel: Array, *, stride: int, padding: int, dtype: Any) -> Array:
    h, w, c, o = kernel.shape
    out_h, out_w = out_size(x.shape, kernel.shape, stride, padding)
    rows = _moved(lambda x: _side_by_side(x, [i - padding for i in range(h)], out_h, stride), x, dtype)
    parts = []
    for phase, taps, offsets in _phases(x.shape[2], w, stride, padding):
        matrix = kernel[:, taps.start :: stride].swapaxes(1, 2).reshape(h * c, -1)
        sent = products.product(rows[:, :, phase::stride], matrix, dtype=dtype, out=x.dtype)
        parts += [_shifted(part, 2, -by, out_w) for part, by in zip(_split(sent, o), offsets, strict=True)]
    return functools.reduce(operator.add, parts)


def _separable_dx(x: Array, kernel: Array, dy: Array, *, stride: int, padding: int, dtype: Any) -> Array:
    h, w, c, _ = kernel.shape
    parts = [jnp.zeros_like(x)]
    for row, taps, offsets in _phases(x.shape[1], h, stride, padding):
        height = len(range(row, x.shape[1], stride))
        rows = _moved(functools.partial(_side_by_side, starts=offsets, size=height), dy, dtype)
        matrix = jnp.concatenate([kernel[tap] for tap in taps], -1).reshape(w * c, -1)
        sent = _split(products.product_t(rows, matrix, dtype=dtype, out=dy.dtype), c)
        for column, meets, starts in _phases(x.shape[2], w, stride, padding):
            width = len(range(column, x.shape[2], stride))
            found = [_shifted(sent[tap], 2, start, width) for tap, start in zip(meets, starts, strict=True)]
            parts.append(_spread(functools.reduce(operator.add, found), (row, column), x.shape, stride))
    return functools.reduce(operator.add, parts[1:] or parts)


def _separable_dw(x: Array, kernel: Array, dy: Array, *, stride: int, padding: int, dtype: Any) -> Array:
    h, w, c, o = kernel.shape
    turned, found = _turned(x, dtype), {}

    def columns(x: Array, row: int) -> Array:
        x = x[:, :, row::stride]
        return jnp.concatenate([_shifted(x, 3, tap - padding, dy.shape[2], stride) for tap in range(w)])

    for row, taps, offsets in _phases(x.shape[1], h, stride, padding):
        height = len(range(row, x.shape[1], stride))
        left = _moved(functools.partial(columns, row=row), turned, dtype).reshape(w * c, -1)
        right = _moved(functools.partial(_side_by_side, starts=offsets, size=height), dy, dtype)
        sums = products.product(left, right.reshape(-1, right.shape[-1]), dtype=dtype, out=dy.dtype)
        found.update(zip(taps, _split(sums.reshape(w, c, right.shape[-1]), o), strict=True))
    return jnp.stack([found.get(tap, jnp.zeros((w, c, o), dy.dtype)) for tap in range(h)])


def _phases(size: int, kernel: int, stride: int, padding: int) -> list[tuple[int, range, list[int]]]:
    """(phase, taps, offsets): tap k carries pixel `phase + stride m` of the input to pixel m + offset of the output."""
    phases = [(phase, range((phase + padding) % stride, kernel, stride)) for phase in range(min(stride, size))]
    return [(phase, taps, [(phase + padding - tap) // stride for tap in taps]) for phase, taps in phases if taps]


# Pieces.


def _moved(move: Callable[[Array], Array], x: Array, dtype: Any) -> Array:
    """move(x in `dtype`). XLA's CPU code moves bfloat16 about as float32, and integers as they are."""
    x = x.astype(dtype)
    if x.dtype != jnp.bfloat16:
        return move(x)
    return lax.bitcast_convert_type(move(lax.bitcast_convert_type(x, jnp.uint16)), jnp.bfloat16)


def _turned(x: Array, dtype: Any) -> Array:
    """[B, H, W, C] -> [C, B, H, W], in memory too: rows of pixels are copied as they are, and a product of the result
    with [B H W, O] is one that has fast code.
    """
    return products.in_memory_order(_moved(lambda x: x.transpose(3, 0, 1, 2), x, dtype))


def _pad(x: Array, padding: int, axis: int = 1) -> Array:
    edges = [(padding, padding, 0) if i in (axis, axis + 1) else (0, 0, 0) for i in range(4)]
    return lax.pad(x, jnp.zeros((), x.dtype), edges)


def _window(x: Array, tap: tuple[int, int], out: tuple[int, ...], stride: int, axis: int = 1) -> Array:
    """The pixel of the padded input under `tap` of the kernel, for every output pixel; rows are `axis`."""
    for i in range(2):
        x = lax.slice_in_dim(x, tap[i], tap[i] + (out[i] - 1) * stride + 1, stride, axis + i)
    return x


def _shifted(x: Array, axis: int, start: int, size: int, stride: int = 1) -> Array:
    """x[start], x[start + stride], ... along `axis`, `size` of them, with zeros outside of `x`."""
    edges = [(0, 0, 0)] * x.ndim
    edges[axis] = (-start, start + stride * (size - 1) + 1 - x.shape[axis], 0)
    return lax.slice_in_dim(lax.pad(x, jnp.zeros((), x.dtype), edges), 0, None, stride, axis)


def _side_by_side(x: Array, starts: list[int], size: int, stride: int = 1) -> Array:
    return jnp.concatenate([_shifted(x, 1, start, size, stride) for start in starts], -1)


def _split(x: Array, size: int) -> list[Array]:
    return [lax.slice_in_dim(x, i, i + size, axis=-1) for i in range(0, x.shape[-1], size)]


def _spread(x: Array, start: tuple[int, int], shape: tuple[int, ...], stride: int) -> Array:
    """Zeros of `shape` [B, H, W, C] with `x` at every `stride`-th row and column from `start` on."""
    zeros = [
        full - first - (n - 1) * stride - 1 for first, full, n in zip(start, shape[1:3], x.shape[1:3], strict=True)
    ]
    edges = [(first, after, stride - 1) for first, after in zip(start, zeros, strict=True)]
    return lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *edges, (0, 0, 0)))
