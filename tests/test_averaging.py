"""EMA by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from emojax import averaging
from emojax.config import AverageConfig


def test_decay_warms_up():
    assert float(averaging.ema_decay(0.999, jnp.array(0))) == pytest.approx(0.1)
    assert float(averaging.ema_decay(0.999, jnp.array(90))) == pytest.approx(0.91)
    assert float(averaging.ema_decay(0.9, jnp.array(10_000))) == pytest.approx(0.9)


def test_ema_by_hand():
    config = AverageConfig(name="ema", decay=0.5)
    average = averaging.init(config, {"w": jnp.array([1.0])}, {"mean": jnp.array([0.0])})
    update = averaging.make(config)
    average = update(average, {"w": jnp.array([3.0])}, {"mean": jnp.array([2.0])}, jnp.array(100))
    np.testing.assert_allclose(average["params"]["w"], [2.0])
    np.testing.assert_allclose(average["model_state"]["mean"], [1.0])


def test_off_keeps_nothing():
    config = AverageConfig()
    average = averaging.init(config, {"w": jnp.ones(2)}, {})
    assert average == {} and averaging.make(config)(average, {"w": jnp.ones(2)}, {}, jnp.array(1)) == {}
