"""Matrix products with rounded factors: numbers, gradients, and the formulations that XLA's CPU has no code for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emojax import models, paths
from emojax.config import ModelConfig
from emojax.models import products


def arrays(m=24, c=12, o=40, dtype=np.float32):
    rng = np.random.default_rng(0)
    return rng.standard_normal((2, m, c)).astype(dtype), rng.standard_normal((c, o)).astype(dtype)


def results(function, x, kernel):
    y, pull = jax.vjp(function, x, kernel)
    return (y, *pull(jnp.cos(y)))


def test_plain_factors_are_exact():
    with jax.enable_x64(True):
        x, kernel = arrays(dtype=np.float64)
        got = jax.jit(lambda x, k: results(products.dense, x, k))(x, kernel)
        for a, b in zip(got, results(jnp.matmul, x, kernel), strict=True):
            assert a.dtype == np.float64
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_bfloat16_factors_are_those_rounded_by_hand():
    """The same as rounding every factor, gradients included, and multiplying exactly."""
    x, kernel = arrays()

    def rounded(a):
        return np.asarray(jnp.asarray(a).astype(jnp.bfloat16).astype(jnp.float32), np.float64)

    with jax.default_matmul_precision("bfloat16"):
        y, dx, dkernel = jax.jit(lambda x, k: results(products.dense, x, k))(x, kernel)
    assert {a.dtype.name for a in (y, dx, dkernel)} == {"float32"}
    dy = rounded(jnp.cos(y))
    flat = dy.reshape(-1, dy.shape[-1])
    np.testing.assert_allclose(y, rounded(x) @ rounded(kernel), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(dx, dy @ rounded(kernel).T, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(dkernel, rounded(x).reshape(-1, x.shape[-1]).T @ flat, rtol=1e-4, atol=1e-4)
    assert float(np.abs(y - x @ kernel).max()) > 1e-3  # the rounding did happen


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (1, 7, 3), (2, 768, 7), (33, 40, 9), (512, 384, 1536), (4096, 96, 384)], ids=str
)
@pytest.mark.parametrize("turned", [False, True])
def test_every_shape_runs_also_with_its_results_transposed(shape, turned):
    """A transpose after a product becomes a product of transposes, which fails on CPUs with bfloat16 factors."""
    x, kernel = (jnp.asarray(a) for a in arrays(*shape))

    def function(x, kernel):
        found = results(products.dense, x, kernel)
        return [jnp.swapaxes(a, -1, -2) * 2 for a in found] if turned else found

    with jax.default_matmul_precision("bfloat16"):
        found = jax.jit(function)(x, kernel)
    assert all(bool(jnp.isfinite(a).all()) for a in found)


@pytest.mark.parametrize("name", ["convnext_atto", "resnet18", "vit_small_patch16"])
def test_a_network_of_rounded_factors_is_near_the_exact_one(name):
    """And differs, so the knob is read; parameters, logits and gradients stay float32."""
    sizes = {"depths": (2,), "widths": (64,)} if name.startswith("vit") else {"depths": (1, 1), "widths": (64, 128)}
    image = jax.random.normal(jax.random.key(1), (4, 32, 32, 3))
    found = []
    for kind in ("", "bfloat16"):
        model = models.build(ModelConfig(name=name, products=kind, **sizes), 5)
        params, stats = model.init(jax.random.key(0), 32)

        def loss(params, model=model, stats=stats):
            output, _ = model.apply(params, stats, image, train=True, key=jax.random.key(2))
            return (jnp.square(output.logits)).sum(), output.logits

        (_, logits), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
        assert {leaf.dtype.name for leaf in jax.tree.leaves((logits, gradient))} == {"float32"}
        found.append(np.asarray(logits))
    exact, rough = found
    assert 0 < np.abs(exact - rough).max() < 0.1 * (1 + np.abs(exact).max())


@pytest.mark.parametrize("knobs", [{}, {"compute": "bfloat16"}, {"products": "bfloat16"}], ids=str)
@pytest.mark.parametrize("name", ["resnet18", "convnext_atto"])
def test_kernels_rounded_once_give_the_same_logits(name, knobs):
    """To the bit; norms, biases, depthwise kernels and what only float32 products read keep their type."""
    model = models.build(ModelConfig(name=name, **knobs), 7)
    params, state = model.init(jax.random.key(0), 64)
    rounded = model.rounded(params, 64)
    kept, small = (
        {path for path, leaf in paths.flatten(rounded).items() if leaf.dtype == dtype}
        for dtype in (jnp.float32, jnp.bfloat16)
    )
    assert bool(small) == bool(knobs) and all(path.endswith("/kernel") for path in small)
    assert not any("dwconv" in path or "norm" in path for path in small)
    assert ("head/dense/kernel" in small) == ("products" in knobs)
    image = jnp.asarray(np.random.default_rng(0).standard_normal((8, 64, 64, 3)), jnp.float32)
    apply = jax.jit(lambda params, image: model.apply(params, state, image, train=False)[0].logits)
    np.testing.assert_array_equal(apply(params, image), apply(rounded, image))
    assert kept
