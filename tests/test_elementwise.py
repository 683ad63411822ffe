"""GELU, layer and batch normalisation: values and gradients against plain formulas, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import norm

from emojax.models import elementwise


def random(*shape, dtype=np.float64):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(dtype)


def test_gelu_by_hand():
    """x Phi(x): Phi(0) = 1/2, Phi(1) = 0.8413447, Phi(-2) = 0.0227501."""
    got = elementwise.gelu(jnp.asarray([0.0, 1.0, -2.0, 30.0, -30.0]))
    np.testing.assert_allclose(got, [0, 0.8413447, -0.0455003, 30, 0], atol=1e-6)


def test_gelu_is_exact_with_its_gradient():
    with jax.enable_x64(True):
        x, dy = 3 * random(40, 7), random(7, 40).T
        got, expected = (jax.vjp(f, x) for f in (elementwise.gelu, lambda x: x * norm.cdf(x)))
        np.testing.assert_allclose(got[0], expected[0], rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(got[1](dy)[0], expected[1](dy)[0], rtol=1e-12, atol=1e-14)


def test_layer_norm_is_exact_with_its_gradients():
    def plain(x, scale, bias):
        mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        return (x - mean) / jnp.sqrt(variance + 1e-6) * scale + bias

    with jax.enable_x64(True):
        arguments = (5 + 2 * random(3, 4, 5, 9), random(9), random(1, 9)[0])
        dy = random(9, 5, 4, 3).T
        got = jax.vjp(lambda *a: elementwise.layer_norm(*a, 1e-6), *arguments)
        expected = jax.vjp(plain, *arguments)
        np.testing.assert_allclose(got[0], expected[0], rtol=1e-11, atol=1e-12)
        for a, b in zip(got[1](dy), expected[1](dy), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)


def test_batch_norm_is_exact_with_its_gradients():
    def plain(x, scale, bias):
        mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
        return (x - mean) / jnp.sqrt(variance + 1e-5) * scale + bias

    with jax.enable_x64(True):
        arguments = (5 + 2 * random(3, 4, 5, 9), random(9), random(1, 9)[0])
        dy, near = random(9, 5, 4, 3).T, 4 + random(2, 9)[0]
        (y, mean, variance), pull = jax.vjp(lambda *a: elementwise.batch_norm(*a, near, 1e-5), *arguments)
        expected, expected_pull = jax.vjp(plain, *arguments)
        np.testing.assert_allclose(y, expected, rtol=1e-11, atol=1e-12)
        np.testing.assert_allclose(mean, arguments[0].mean((0, 1, 2)), rtol=1e-12)
        np.testing.assert_allclose(variance, arguments[0].var((0, 1, 2)), rtol=1e-12)
        for a, b in zip(pull((dy, 0 * mean, 0 * mean)), expected_pull(dy), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(
    "function", [elementwise.gelu, lambda x: elementwise.layer_norm(x, jnp.ones(96), jnp.zeros(96), 1e-6)]
)
def test_bfloat16_is_computed_in_float32(function):
    """The error is that of rounding input, result and gradient once, not of arithmetic in eight bits."""
    x = jnp.asarray(random(64, 96, dtype=np.float32)).astype(jnp.bfloat16)
    y, pull = jax.vjp(function, x)
    exact, exact_pull = jax.vjp(function, x.astype(jnp.float32))
    np.testing.assert_allclose(y.astype(jnp.float32), exact, rtol=2**-8, atol=1e-6)
    dy = jnp.asarray(random(96, 64, dtype=np.float32).T).astype(y.dtype)
    gradient = pull(dy)[0]
    assert gradient.dtype == jnp.bfloat16
    expected = exact_pull(dy.astype(exact.dtype))[0]
    np.testing.assert_allclose(gradient.astype(jnp.float32), expected, rtol=2**-7, atol=2**-9)
