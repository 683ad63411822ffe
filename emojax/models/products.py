"""Matrix products of [..., M] arrays, laid out as XLA's CPU compiler has fast code for.

With bfloat16 factors and float32 sums (jaxlib 0.10, one AVX-512 core) x @ w and x @ w.T run at 500 GFLOP/s, twice as
fast as in float32. x.T @ y has no such code (170), unless x lies transposed in memory, which a layout constraint asks
for: a plain transpose is only another view of the same memory.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.experimental.layout import Layout, with_layout_constraint
from jaxtyping import Array, Float

from emojax.models.platforms import is_plain, per_platform

KEPT = "product"
"""Name of what `kept` marks."""


def kept(y: Array) -> Array:
    """A product or convolution, marked as what blocks with `remat = "products"` keep.

    The mark stands in forward passes that a backward pass follows, so programs for inference are free of it.
    """
    return checkpoint_name(y, KEPT)


def together(dx: Array, dw: Array) -> tuple[Array, Array]:
    """Gradients of input and kernel, the first not to be had before the second is known.

    Nobody waits for kernels' gradients but the optimizer, so XLA's schedulers put them last, and would keep what they
    are made of, input and output gradient of every layer, until then: three times the memory of a GPU's step with
    `remat`. On CPUs a barrier orders nothing, and costs the fusion of what it stands between.
    """
    return per_platform(dx, dw, cpu=lambda *grads: grads, default=lambda *grads: lax.optimization_barrier(grads))


def factor(dtype: Any) -> Any:
    """The type that factors of products are rounded to where activations are of `dtype`.

    "bfloat16" of `jax.default_matmul_precision` means here, on every platform, what it means on TPUs: bfloat16 factors
    and float32 sums. JAX itself ignores it on CPUs.
    """
    settings: Any = jax.config
    return jnp.bfloat16 if settings.jax_default_matmul_precision == "bfloat16" else dtype


def dense(x: Float[Array, "*B C"], kernel: Float[Array, "C O"]) -> Float[Array, "*B O"]:
    """x @ kernel in the type of `x`, with factors of the type `factor` says and sums of float32 or better.

    First-order reverse-mode gradients only (`jax.grad`). The formulation is chosen when the program is lowered, as in
    `conv.conv2d`.
    """
    if is_plain():
        return jnp.matmul(x, kernel)
    return _dense(x, kernel, factor(x.dtype))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _dense(x: Array, kernel: Array, dtype: Any) -> Array:
    return product(x, kernel, dtype=dtype, out=x.dtype)


def _dense_fwd(x: Array, kernel: Array, dtype: Any) -> tuple[Array, tuple[Array, Array]]:
    x_factor = x.astype(dtype)  # what is kept for the backward pass: half the memory
    return kept(product(x_factor, kernel, dtype=dtype, out=x.dtype)), (x_factor, kernel)


def _dense_bwd(dtype: Any, saved: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    x, kernel = saved
    return together(product_t(dy, kernel, dtype=dtype, out=dy.dtype), outer(x, dy, dtype=dtype))


_dense.defvjp(_dense_fwd, _dense_bwd)


def product(a: Float[Array, "*B M"], b: Float[Array, "M N"], *, dtype: Any, out: Any) -> Float[Array, "*B N"]:
    """a @ b with factors of `dtype`, in the type `out`."""
    return _dot(a, b, 1, 0, dtype).astype(out)


def product_t(a: Float[Array, "*B N"], b: Float[Array, "M N"], *, dtype: Any, out: Any) -> Float[Array, "*B M"]:
    """a @ b.T with factors of `dtype`, in the type `out`."""
    return _dot(a, b, 1, 1, dtype).astype(out)


def outer(a: Float[Array, "*B M"], b: Float[Array, "*B N"], *, dtype: Any) -> Float[Array, "M N"]:
    """a.T @ b with factors of `dtype`, summed over all axes but the last, in the type of `b`."""
    a, b = a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1])
    plain = functools.partial(_dot, axis_a=0, axis_b=0, dtype=dtype)
    if jnp.dtype(dtype) != jnp.bfloat16:
        return plain(a, b).astype(b.dtype)

    def transposed(a: Array, b: Array) -> Array:
        return _dot(in_memory_order(a.astype(dtype).T), b, 1, 0, dtype)

    return per_platform(a, b, cpu=transposed, default=plain).astype(b.dtype)


def in_memory_order(x: Array) -> Array:
    """`x` with its axes in that order in memory too: a transpose that moves the data.

    As it is under a mesh of several devices: XLA's partitioner would gather it whole on each of them. An export cannot
    hold such a constraint, so what is exported must not come here.
    """
    if jax.sharding.get_abstract_mesh().size > 1:
        return x
    return with_layout_constraint(x, Layout(major_to_minor=tuple(range(x.ndim))))


def _dot(a: Array, b: Array, axis_a: int, axis_b: int, dtype: Any) -> Array:
    """Sums over `axis_a` of a matrix, or the last axis of [..., M], and `axis_b` of the matrix b: float32 or better."""
    wide = jnp.promote_types(dtype, jnp.float32)
    flat = a if a.ndim == 2 else a.reshape(-1, a.shape[-1])  # XLA's CPU product is twice as slow on four axes
    contract = (((axis_a,), (axis_b,)), ((), ()))
    found = lax.dot_general(flat.astype(dtype), b.astype(dtype), contract, preferred_element_type=wide)
    if jnp.dtype(dtype) == jnp.bfloat16:
        # Behind the barrier nobody turns this into b.T @ a.T, for which jaxlib 0.10 and 0.12 lack code: an error.
        found = per_platform(found, cpu=lax.optimization_barrier, default=lambda x: x)
    return found.reshape(*a.shape[:-1], found.shape[-1]) if axis_a else found
