"""The optax chain: each link by hand, freezing that really freezes, accumulation that counts updates."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from emojax import optim
from emojax.config import Config, OptimConfig, ScheduleConfig, StageConfig
from emojax.errors import ConfigError
from emojax.stages import plan

PARAMS = {"stem": {"kernel": jnp.ones((2, 2))}, "head": {"kernel": jnp.full((2,), 2.0), "bias": jnp.ones(2)}}
GRADS = jax.tree.map(lambda x: 0.5 * jnp.ones_like(x), PARAMS)


def depth(path):
    return {"head": 0, "stem": 2}[path.split("/")[0]]


def chain(config, frozen="", rate=0.1):
    return optim.make(config, PARAMS, rate=lambda _: jnp.asarray(rate), frozen=frozen, depth=depth)


def one_update(tx, grads=GRADS, params=PARAMS):
    updates, _ = tx.update(grads, tx.init(params), params)
    return updates


def test_sgd_by_hand():
    updates = one_update(chain(OptimConfig(name="sgd", momentum=0.9, weight_decay=0.1, no_decay="bias$")))
    # Nesterov: g + 0.9 (0.9 * 0 + g) = 1.9 g with g = gradient + decay * weight.
    np.testing.assert_allclose(updates["stem"]["kernel"], -0.1 * 1.9 * 0.6 * np.ones((2, 2)), rtol=1e-6)
    np.testing.assert_allclose(updates["head"]["kernel"], -0.1 * 1.9 * 0.7 * np.ones(2), rtol=1e-6)
    np.testing.assert_allclose(updates["head"]["bias"], -0.1 * 1.9 * 0.5 * np.ones(2), rtol=1e-6)


def test_adamw_equals_optax():
    config = OptimConfig(weight_decay=0.05, no_decay="bias$")
    mask = {"stem": {"kernel": True}, "head": {"kernel": True, "bias": False}}
    theirs = optax.adamw(0.1, b1=0.9, b2=0.999, weight_decay=0.05, mask=mask)
    for ours, reference in zip(*(jax.tree.leaves(one_update(tx)) for tx in (chain(config), theirs)), strict=True):
        np.testing.assert_allclose(ours, reference, rtol=1e-6)


def test_clipping_by_hand():
    config = OptimConfig(name="sgd", momentum=0.0, weight_decay=0.0, clip_norm=1.0)
    updates = one_update(chain(config, rate=1.0), jax.tree.map(lambda g: 4 * g, GRADS))
    assert float(optax.tree.norm(updates)) == pytest.approx(1.0, rel=1e-5)


def test_clipping_does_not_see_frozen_parameters():
    config = OptimConfig(name="sgd", momentum=0.0, weight_decay=0.0, clip_norm=1.0)
    grads = {"stem": {"kernel": jnp.full((2, 2), 1e6)}, "head": {"kernel": jnp.array([0.3, 0.0]), "bias": jnp.zeros(2)}}
    updates = one_update(chain(config, frozen="^stem", rate=1.0), grads)
    np.testing.assert_allclose(updates["head"]["kernel"], [-0.3, 0.0], rtol=1e-6)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_frozen_parameters_do_not_move(name):
    config = OptimConfig(name=name, weight_decay=0.5)
    free, held = chain(config), chain(config, frozen="^stem")
    updates, state = free.update(GRADS, free.init(PARAMS), PARAMS)  # builds up momentum first
    updates, _ = held.update(GRADS, state, PARAMS)
    assert not np.any(updates["stem"]["kernel"])
    assert np.all(updates["head"]["kernel"] != 0)


def test_layer_rates_by_hand():
    config = OptimConfig(name="sgd", momentum=0.0, weight_decay=0.0, layer_decay=0.5)
    updates = one_update(chain(config, rate=1.0))
    np.testing.assert_allclose(updates["stem"]["kernel"], -0.25 * 0.5 * np.ones((2, 2)))
    np.testing.assert_allclose(updates["head"]["kernel"], -0.5 * np.ones(2))


def test_accumulation_averages_and_the_schedule_counts_updates():
    seen = OptimConfig(name="sgd", momentum=0.0, weight_decay=0.0, accumulate=2)
    tx = optim.make(seen, PARAMS, rate=lambda step: 1.0 + step, frozen="", depth=depth)
    state, outcomes = tx.init(PARAMS), []
    for scale in (1.0, 3.0, 1.0, 3.0):
        updates, state = tx.update(jax.tree.map(lambda g, s=scale: s * g, GRADS), state, PARAMS)
        outcomes.append(float(updates["head"]["bias"][0]))
    assert outcomes == pytest.approx([0.0, -1.0 * 1.0, 0.0, -2.0 * 1.0])


def test_a_pattern_that_matches_nothing_is_an_error():
    with pytest.raises(
        ConfigError, match="'^backbone' matches no parameter; top-level names are head, stem".replace("^", r"\^")
    ):
        chain(OptimConfig(), frozen="^backbone")
    with pytest.raises(ConfigError, match="not a regular expression"):
        chain(OptimConfig(no_decay="("))


def test_learning_rate_of_a_run_with_stages():
    stages = plan(
        Config(
            batch_size=10,
            stages=(StageConfig(epochs=1), StageConfig(epochs=1, schedule=ScheduleConfig(name="constant"))),
        ),
        100,
    )
    rate = optim.learning_rate(OptimConfig(learning_rate=2.0), stages)
    assert float(rate(0)) == 2.0 and float(rate(5)) == pytest.approx(1.0) and float(rate(10)) == 2.0 == float(rate(19))
