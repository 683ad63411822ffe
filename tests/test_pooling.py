"""The CPU's gradient of max-pooling against XLA's own, ties included; values are in test_models_small.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emojax.models import pooling

CASES = [
    ((2, 9, 8, 3), 1, False),
    ((2, 7, 7, 3), 0, True),
    ((1, 2, 2, 3), 0, True),  # smaller than the window
    ((2, 6, 5, 2), 1, True),
    ((1, 1, 1, 2), 1, False),
]


@pytest.mark.parametrize(("shape", "padding", "ceil"), CASES, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gradient_is_that_of_the_native_pooling(shape, padding, ceil, dtype, monkeypatch):
    """Few different values, so windows have several largest pixels: the first one gets all."""
    x = jnp.asarray(np.random.default_rng(0).integers(0, 4, shape), dtype)
    pool = functools.partial(pooling.max_pool, padding=padding, ceil=ceil)
    y, pull = jax.vjp(pool, x)
    dy = jnp.asarray(np.random.default_rng(1).integers(-8, 8, y.shape), dtype)
    monkeypatch.setattr(pooling, "_max_pool", pooling._native)
    expected, native = jax.vjp(pool, x)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(pull(dy)[0], native(dy)[0])
    assert pull(dy)[0].dtype == x.dtype


def test_pixels_that_no_window_covers_have_gradient_0():
    """Where XLA's own gradient is an error, since the padding is negative."""
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 8, 8, 3)), jnp.float32)
    whole = jax.grad(lambda x: jnp.square(pooling.max_pool(x, padding=0)).sum())(x)
    inside = jax.grad(lambda x: jnp.square(pooling.max_pool(x, padding=0)).sum())(x[:, :7, :7])
    np.testing.assert_array_equal(whole[:, :7, :7], inside)
    assert not whole[:, 7].any() and not whole[:, :, 7].any()


def test_other_platforms_get_the_native_pooling():
    text = {
        platform: jax.jit(jax.grad(lambda x: pooling.max_pool(x).sum()))
        .trace(jnp.ones((1, 8, 8, 2)))
        .lower(lowering_platforms=(platform,))
        .as_text()
        for platform in ("cpu", "cuda", "tpu")
    }
    assert "select_and_scatter" not in text["cpu"]
    assert "select_and_scatter" in text["cuda"] and "select_and_scatter" in text["tpu"]
