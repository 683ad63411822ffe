"""The CPU formulations of the convolution against XLA's own, in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec as P
from jax.test_util import check_grads

from emojax.models import conv, depthwise, windows

SHAPES = [  # batch, height, width, in, out, kernel, stride, padding
    (4, 9, 9, 8, 6, 3, 1, 1),
    (3, 11, 13, 5, 6, 3, 1, 0),
    (2, 8, 8, 6, 4, 3, 1, 1),
    (2, 9, 8, 64, 72, 3, 1, 1),  # separable
    (2, 8, 9, 64, 4, 3, 2, 1),
    (2, 9, 8, 64, 4, 5, 3, 2),
    (2, 7, 7, 64, 64, 3, 4, 1),  # a phase that meets no tap
    (2, 8, 8, 6, 4, 3, 2, 1),  # even size at stride 2: the last row and column meet the kernel once
    (2, 9, 7, 6, 4, 3, 2, 1),
    (2, 10, 11, 6, 4, 3, 3, 1),
    (4, 16, 16, 3, 8, 3, 1, 1),  # colour images
    (4, 15, 17, 3, 8, 3, 2, 1),
    (2, 20, 20, 3, 4, 7, 2, 3),  # the ImageNet stem
    (2, 13, 13, 5, 4, 7, 1, 3),
    (2, 6, 6, 4, 8, 1, 1, 0),
    (2, 7, 6, 4, 8, 1, 2, 0),
    (2, 8, 9, 4, 8, 4, 4, 0),  # patches, with a rest that no patch covers
    (2, 9, 9, 4, 8, 2, 2, 0),
    (3, 2, 2, 8, 8, 3, 1, 1),  # kernel larger than the map
    (3, 1, 1, 8, 8, 3, 1, 1),
    (3, 3, 2, 8, 8, 3, 2, 1),
    (3, 4, 4, 8, 8, 5, 1, 2),
    (2, 10, 10, 4, 64, 3, 1, 1),  # input gradient by channels
]


def arrays(shape, dtype=np.float64):
    batch, height, width, c, o, size, stride, padding = shape
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, height, width, c)).astype(dtype)
    kernel = rng.standard_normal((size, size, c, o)).astype(dtype)
    return x, kernel, {"stride": stride, "padding": padding}


def results(function, x, kernel, dy=None):
    y, pull = jax.vjp(function, x, kernel)
    return (y, *pull(jnp.cos(y) if dy is None else dy))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_result_and_gradients_are_those_of_the_native_convolution(shape):
    with jax.enable_x64(True):
        x, kernel, options = arrays(shape)
        got = jax.jit(lambda x, k: results(functools.partial(conv.conv2d, **options), x, k))(x, kernel)
        expected = jax.jit(lambda x, k: results(functools.partial(windows.native, **options), x, k))(x, kernel)
        for a, b in zip(got, expected, strict=True):
            assert a.shape == b.shape and a.dtype == np.float64
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kernel", [(1, 1, 8, 4), (3, 3, 3, 8), (3, 3, 64, 8), (7, 7, 3, 64), (4, 4, 3, 8)], ids=str)
def test_an_empty_batch_is_no_error(kernel, dtype):
    x, k = jnp.zeros((0, 16, 16, kernel[2]), dtype), jnp.ones(kernel, dtype)
    y, back = jax.vjp(functools.partial(conv.conv2d, padding=1), x, k)
    dx, dk = back(y)
    assert y.shape[0] == dx.shape[0] == 0 and y.shape[3] == kernel[3]
    assert dk.shape == kernel and not dk.any()


@pytest.mark.parametrize("shape", [(1, 8, 7, 64, 1), (1, 8, 7, 3, 1), (3, 5, 12, 32, 2)], ids=str)
@pytest.mark.parametrize("window", [(1, 3), (3, 1), (2, 2), (5, 3)], ids=str)
def test_kernels_that_are_not_square_and_even_ones(shape, window):
    """One output channel, batch 1, padding as wide as the kernel."""
    batch, h, w, c, o = shape
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(batch, h, w, c)), rng.normal(size=(*window, c, o))
    for stride, padding in ((1, 0), (2, 1), (1, 3)):
        options = {"stride": stride, "padding": padding}
        with jax.enable_x64(True):
            got = jax.jit(lambda x, k, o=options: results(functools.partial(conv.conv2d, **o), x, k))(x, kernel)
            expected = results(functools.partial(windows.native, **options), x, kernel)
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("function", [conv.conv2d, depthwise.depthwise])
def test_channels_that_do_not_match(function):
    with pytest.raises(ValueError, match=r"channels|expected a kernel"):
        function(jnp.ones((2, 8, 8, 1)), jnp.ones((3, 3, 4, 4)))


def test_gradient_is_that_of_finite_differences():
    with jax.enable_x64(True):
        x, kernel, options = arrays((2, 5, 6, 3, 4, 3, 2, 1))
        f = jax.jit(functools.partial(conv.conv2d, **options))
        check_grads(f, (jnp.asarray(x), jnp.asarray(kernel)), order=1, modes=["rev"])


@pytest.mark.parametrize(
    "shape",
    [
        (8, 16, 16, 64, 8, 3, 1, 1),
        (2, 9, 8, 32, 72, 3, 1, 1),
        (16, 9, 8, 64, 8, 3, 1, 0),
        (4, 9, 8, 64, 8, 3, 2, 1),
        (2, 20, 20, 3, 8, 7, 2, 3),
        (3, 2, 2, 64, 64, 3, 1, 1),
        (4, 8, 8, 64, 16, 1, 2, 0),
        (4, 12, 12, 8, 8, 3, 1, 1),  # XLA's own forward pass, float32
    ],
    ids=str,
)
def test_rounded_factors_give_the_convolution_of_rounded_arrays(shape):
    """Within the rounding of the gradient that comes in, 2^-8, and float32 sums; types stay float32."""
    x, kernel, options = arrays(shape, np.float32)
    x, kernel = (np.asarray(jnp.asarray(a, jnp.bfloat16).astype(jnp.float32)) for a in (x, kernel))
    with jax.default_matmul_precision("bfloat16"):
        got = jax.jit(lambda x, k: results(functools.partial(conv.conv2d, **options), x, k))(x, kernel)
    expected = results(functools.partial(windows.native, **options), x, kernel)
    for a, b, tolerance in zip(got, expected, (1e-5, 2**-8, 2**-8), strict=True):
        assert a.dtype == np.float32
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * float(np.abs(b).max()))


def test_bfloat16_sums_in_float32():
    """4096 products of about 1 each: summing them in bfloat16 would stop near 256."""
    x, dy = jnp.ones((16, 16, 16, 8), jnp.bfloat16), jnp.ones((16, 16, 16, 8), jnp.bfloat16)
    kernel = jnp.zeros((1, 1, 8, 8), jnp.bfloat16)
    gradient = results(conv.conv2d, x, kernel, dy)[2]
    assert gradient.dtype == jnp.bfloat16 and float(gradient[0, 0, 0, 0]) == 4096


@pytest.mark.parametrize("shape", [SHAPES[0], SHAPES[3], SHAPES[4], SHAPES[14]], ids=str)
def test_batch_sharded_over_two_devices(shape):
    """The same numbers, the input gradient stays sharded, and no device ever gathers the whole batch."""
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:2])
    x, kernel, options = arrays((8, *shape[1:]), np.float32)
    function = jax.jit(lambda x, k: results(functools.partial(conv.conv2d, **options), x, k))
    expected = function(x, kernel)
    with jax.set_mesh(mesh):
        sharded = jax.device_put(x, NamedSharding(mesh, P("data")))
        whole = jax.device_put(kernel, NamedSharding(mesh, P()))
        got = function(sharded, whole)
        assert "all-gather" not in function.lower(sharded, whole).compile().as_text()
    assert got[1].sharding.spec[0] == "data"
    for a, b in zip(got, expected, strict=True):  # float32 sums in another order: of the size of the largest numbers
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * float(np.abs(b).max()))


def test_other_platforms_get_the_native_convolution():
    """Lowered for CUDA on a machine without one: a convolution; for the CPU: a matrix product and no convolution."""
    x, kernel = jnp.ones((2, 2, 2, 4)), jnp.ones((3, 3, 4, 4))
    function = jax.jit(functools.partial(conv.conv2d, padding=1))
    text = {p: function.trace(x, kernel).lower(lowering_platforms=(p,)).as_text() for p in ("cpu", "cuda", "tpu")}
    assert "stablehlo.convolution" not in text["cpu"] and "dot_general" in text["cpu"]
    for platform in ("cuda", "tpu"):
        assert "stablehlo.convolution" in text[platform] and "dot_general" not in text[platform]


def test_export_with_symbolic_batch():
    x, kernel, options = arrays((8, 16, 16, 3, 8, 3, 2, 1), np.float32)
    function = jax.jit(functools.partial(conv.conv2d, **options))
    (batch,) = jax.export.symbolic_shape("b")
    spec = jax.ShapeDtypeStruct((batch, *x.shape[1:]), x.dtype)
    exported = jax.export.export(function, platforms=("cpu", "cuda"))(spec, jax.ShapeDtypeStruct(kernel.shape, x.dtype))
    np.testing.assert_allclose(exported.call(x, kernel), function(x, kernel), rtol=1e-5, atol=1e-5)


def test_native_padding_is_symmetric():
    """At stride 2 on even sizes, the case where "SAME" differs: output 0 sees one row of zeros above."""
    x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    y = conv.conv2d(x, jnp.ones((3, 3, 1, 1)), stride=2, padding=1)
    assert float(y[0, 0, 0, 0]) == 0 + 1 + 4 + 5
    same = lax.conv_general_dilated(x, jnp.ones((3, 3, 1, 1)), (2, 2), "SAME", dimension_numbers=windows._DIMENSIONS)
    assert float(same[0, 0, 0, 0]) != float(y[0, 0, 0, 0])
