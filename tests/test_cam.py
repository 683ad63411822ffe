"""Class-activation maps against the definition, and where the evidence is known."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emojax import models, predict
from emojax.config import ModelConfig


def test_is_the_map_times_the_class_s_positive_weights_after_a_mean_and_a_dense_layer():
    """For pooled features the gradient of a logit is the class's column of the kernel over the number of pixels."""
    model = models.build(ModelConfig(name="resnet18", depths=(1, 1), widths=(8, 16)), 3)
    params, state = model.init(jax.random.key(0), 32)
    image = jax.random.normal(jax.random.key(1), (4, 32, 32, 3))
    classes = jnp.array([0, 2, 1, 2])
    found = models.class_activation(model, params, state, image, classes)
    last = model.apply(params, state, image, train=False)[0].aux[-1]
    kernel = jnp.maximum(params["head"]["dense"]["kernel"][:, classes].T, 0)
    expected = np.maximum(np.einsum("byxd,bd->byx", last, kernel), 0)
    expected /= np.maximum(expected.max((1, 2), keepdims=True), 1e-12)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(("size", "cells"), [(128, 4), (96, 6), (64, 4), (32, 4), (16, 4), (8, 2)])
def test_a_map_of_too_few_cells_gives_way_to_one_before(size, cells):
    """Maps of a fourth to a thirty-second of the side; where none has four cells, the largest is taken."""
    model = models.build(ModelConfig(name="resnet18"), 3)
    weights = jax.eval_shape(lambda: model.init(jax.random.key(0), size))
    image, classes = jnp.ones((1, size, size, 3)), jnp.array([0])
    found = jax.eval_shape(lambda p, s: models.class_activation(model, p, s, image, classes), *weights)
    assert found.shape == (1, cells, cells)


def test_mirrored_views_give_mirrored_evidence():
    model = models.build(ModelConfig(name="resnet18", stem="small", depths=(1, 1), widths=(8, 16)), 3)
    params, state = model.init(jax.random.key(0), 16)
    image = jax.random.randint(jax.random.key(1), (2, 16, 16, 3), 0, 256).astype(jnp.uint8)
    explain = predict.explain_function(model, "flip")
    one, other = (explain(params, state, x, jnp.array([0, 1])) for x in (image, image[:, :, ::-1]))
    np.testing.assert_allclose(one, other[:, :, ::-1], atol=1e-5)
    assert not np.allclose(one, predict.explain_function(model, "center")(params, state, image, jnp.array([0, 1])))


@pytest.mark.parametrize("name", ["convnext_atto", "mobilenetv3_small", "squeezenet1_1", "vit_small_patch16"])
def test_every_kind_of_body(name):
    model = models.build(ModelConfig(name=name), 3)
    params, state = model.init(jax.random.key(0), 64)
    image = jax.random.normal(jax.random.key(1), (2, 64, 96, 3))
    jitted = jax.jit(lambda p, s, x, k: models.class_activation(model, p, s, x, k))
    found = np.asarray(jitted(params, state, image, jnp.array([0, 1])))
    assert found.shape[0] == 2 and found.shape[1] < found.shape[2]
    assert np.isfinite(found).all() and found.min() >= 0 and found.max() <= 1
