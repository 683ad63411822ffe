"""Losses against numbers worked out by hand and against optax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from emojax import losses
from emojax.config import LossConfig


def test_smoothing_by_hand():
    label = jnp.array([[1.0, 0, 0, 0]])
    np.testing.assert_allclose(losses.smooth(label, 0.1), [[0.925, 0.025, 0.025, 0.025]], rtol=1e-6)


def test_cross_entropy_by_hand():
    logits = jnp.log(jnp.array([[0.5, 0.25, 0.25]]))
    label = jnp.array([[0.5, 0.5, 0.0]])
    assert float(losses.cross_entropy(logits, label)[0]) == pytest.approx(0.5 * np.log(2) + 0.5 * np.log(4))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_equals_optax(smoothing):
    key = jax.random.key(0)
    logits = 5 * jax.random.normal(key, (16, 7))
    label = jax.nn.one_hot(jnp.arange(16) % 7, 7)
    theirs = optax.softmax_cross_entropy(logits, optax.smooth_labels(label, smoothing))
    np.testing.assert_allclose(losses.make(LossConfig(smoothing=smoothing))(logits, label), theirs, rtol=1e-5)
