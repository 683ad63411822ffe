"""The CPU formulation of the depthwise convolution against XLA's own, in float64."""

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec as P
from jax.test_util import check_grads

from emojax.models import depthwise, windows

MAPS = [(9, 12), (2, 5), (1, 1), (19, 6)]  # even and odd, smaller than the kernel, more rows than one group takes
CASES = [
    (2, *size, 5, kernel, stride, kernel // 2)
    for kernel, stride, size in itertools.product((3, 5, 7), (1, 2), MAPS)
    if (kernel, size) != (5, (1, 1))
] + [
    (3, 8, 9, 4, 3, 1, 0),
    (2, 8, 9, 4, 3, 2, 0),  # a last row that no window covers
    (2, 7, 8, 3, 4, 1, 1),  # even kernels
    (2, 8, 8, 3, 4, 2, 1),
    (2, 6, 5, 3, 2, 2, 0),
    (2, 6, 6, 3, 3, 1, 2),  # a map that grows
    (2, 6, 7, 3, 1, 2, 0),
    (8, 4, 4, 3, 7, 1, 3),  # matrices between pixels: maps of few pixels, many images
    (8, 7, 5, 3, 3, 2, 1),
    (9, 8, 8, 2, 5, 1, 2),
    (8, 1, 1, 3, 3, 1, 1),
    (8, 6, 6, 3, 3, 1, 2),
    (8, 6, 7, 3, 4, 2, 1),
    (1, 35, 4, 2, 7, 2, 3),  # two groups of rows and a loop over the rows of the kernel
]


def arrays(shape, dtype: Any = np.float64):
    batch, height, width, channels, size, stride, padding = shape
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, height, width, channels)).astype(dtype)
    kernel = rng.standard_normal((size, size, 1, channels)).astype(dtype)
    return x, kernel, {"stride": stride, "padding": padding}


def results(function, x, kernel):
    y, pull = jax.vjp(function, x, kernel)
    return (y, *pull(jnp.cos(y)))


@pytest.mark.parametrize("shape", CASES, ids=str)
def test_result_and_gradients_are_those_of_the_native_convolution(shape):
    with jax.enable_x64(True):
        x, kernel, options = arrays(shape)
        got = jax.jit(lambda x, k: results(functools.partial(depthwise.depthwise, **options), x, k))(x, kernel)
        expected = jax.jit(lambda x, k: results(functools.partial(windows.native, groups=x.shape[3], **options), x, k))(
            x, kernel
        )
        for a, b in zip(got, expected, strict=True):
            assert a.shape == b.shape and a.dtype == np.float64
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11)


def test_by_hand():
    """Two channels that do not mix: the sum of the 3x3 neighbourhood, and the pixel to the right."""
    x = jnp.arange(16.0).reshape(1, 4, 4, 1) * jnp.asarray([1.0, 10.0])
    kernel = jnp.stack([jnp.ones((3, 3)), jnp.zeros((3, 3)).at[1, 2].set(1)], -1)[:, :, None]
    y = depthwise.depthwise(x, kernel, stride=2, padding=1)
    np.testing.assert_array_equal(
        y[0, :, :, 0], [[0 + 1 + 4 + 5, 1 + 2 + 3 + 5 + 6 + 7], [4 + 5 + 8 + 9 + 12 + 13, 90]]
    )
    np.testing.assert_array_equal(y[0, :, :, 1], [[10, 30], [90, 110]])


def test_gradient_is_that_of_finite_differences():
    with jax.enable_x64(True):
        x, kernel, options = arrays((2, 5, 6, 3, 3, 2, 1))
        f = jax.jit(functools.partial(depthwise.depthwise, **options))
        check_grads(f, (jnp.asarray(x), jnp.asarray(kernel)), order=1, modes=["rev"])


def test_bfloat16_sums_in_float32():
    """A kernel gradient of 4096 products of 1 each: summing them in bfloat16 would stop near 256."""
    x = jnp.ones((16, 16, 16, 2), jnp.bfloat16)
    y, pull = jax.vjp(lambda k: depthwise.depthwise(x, k, padding=1), jnp.ones((3, 3, 1, 2), jnp.bfloat16))
    gradient = pull(jnp.ones_like(y))[0]
    assert y.dtype == gradient.dtype == jnp.bfloat16
    assert float(y[0, 5, 5, 0]) == 9 and float(gradient[1, 1, 0, 0]) == 4096


@pytest.mark.parametrize("shape", [(8, 9, 10, 4, 3, 2, 1), (8, 12, 9, 4, 7, 1, 3)], ids=str)
def test_batch_sharded_over_two_devices(shape):
    """The same numbers, the input gradient stays sharded, and no device ever gathers the whole batch."""
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:2])
    x, kernel, options = arrays(shape, np.float32)
    function = jax.jit(lambda x, k: results(functools.partial(depthwise.depthwise, **options), x, k))
    expected = function(x, kernel)
    with jax.set_mesh(mesh):
        sharded = jax.device_put(x, NamedSharding(mesh, P("data")))
        whole = jax.device_put(kernel, NamedSharding(mesh, P()))
        got = function(sharded, whole)
        text = function.lower(sharded, whole).compile().as_text() or ""
    assert "all-gather" not in text and text.count(" all-reduce(") == 1
    assert got[1].sharding.spec[0] == "data"
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_other_platforms_get_the_native_convolution():
    x, kernel = jnp.ones((2, 6, 6, 4)), jnp.ones((3, 3, 1, 4))
    function = jax.jit(jax.grad(lambda x, k: jnp.square(depthwise.depthwise(x, k, padding=1)).sum(), (0, 1)))
    text = {p: function.trace(x, kernel).lower(lowering_platforms=(p,)).as_text() for p in ("cpu", "cuda", "tpu")}
    assert "stablehlo.convolution" not in text["cpu"]
    assert all(text[platform].count("stablehlo.convolution") == 3 for platform in ("cuda", "tpu"))


def test_export_with_symbolic_batch():
    x, kernel, options = arrays((4, 8, 8, 3, 5, 1, 2), np.float32)
    function = jax.jit(functools.partial(depthwise.depthwise, **options))
    (batch,) = jax.export.symbolic_shape("b")
    spec = jax.ShapeDtypeStruct((batch, *x.shape[1:]), x.dtype)
    exported = jax.export.export(function, platforms=("cpu", "cuda"))(spec, jax.ShapeDtypeStruct(kernel.shape, x.dtype))
    np.testing.assert_allclose(exported.call(x, kernel), function(x, kernel), rtol=1e-5, atol=1e-5)
