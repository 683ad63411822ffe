"""Class-activation maps against the definition, and where the evidence is known."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emojax import models
from emojax.config import ModelConfig


def test_is_the_weighted_map_of_a_mean_and_a_dense_layer():
    """For pooled features the gradient of a logit is the class's column of the kernel over the number of pixels."""
    model = models.build(ModelConfig(name="resnet18", depths=(1, 1), widths=(8, 16)), 3)
    params, state = model.init(jax.random.key(0), 32)
    image = jax.random.normal(jax.random.key(1), (4, 32, 32, 3))
    classes = jnp.array([0, 2, 1, 2])
    found = models.class_activation(model, params, state, image, classes)
    last = model.apply(params, state, image, train=False)[0].aux[-1]
    kernel = params["head"]["dense"]["kernel"][:, classes].T
    expected = np.maximum(np.einsum("byxd,bd->byx", last, kernel), 0)
    expected /= np.maximum(expected.max((1, 2), keepdims=True), 1e-12)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("name", ["convnext_atto", "mobilenetv3_small", "squeezenet1_1", "vit_small_patch16"])
def test_every_kind_of_body(name):
    model = models.build(ModelConfig(name=name), 3)
    params, state = model.init(jax.random.key(0), 64)
    image = jax.random.normal(jax.random.key(1), (2, 64, 96, 3))
    jitted = jax.jit(lambda p, s, x, k: models.class_activation(model, p, s, x, k))
    found = np.asarray(jitted(params, state, image, jnp.array([0, 1])))
    assert found.shape[0] == 2 and found.shape[1] < found.shape[2]
    assert np.isfinite(found).all() and found.min() >= 0 and found.max() <= 1
