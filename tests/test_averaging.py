"""Averages of weights by hand: EMA, SWA as a plain mean, statistics estimated anew, soups."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emojax import averaging
from emojax.config import AverageConfig
from emojax.models import layers, norms

STATS = {"mean": jnp.array([0.0])}


def tree(*values):
    return {"w": jnp.array(values)}


def run(config, snapshots, swa_steps=(), start=None):
    """The average after the given weights, one update each."""
    start = tree(1.0) if start is None else start
    average = averaging.init(config, start, {"mean": jnp.zeros_like(start["w"])})
    update = jax.jit(averaging.make(config, swa_steps=swa_steps))
    for step, params in enumerate(snapshots, 1):
        average = update(average, params, {"mean": 10 * params["w"]}, jnp.array(step))
    return average


def test_decay_warms_up():
    config = AverageConfig(decay=0.999)
    assert float(averaging.ema_decay(config, jnp.array(0))) == pytest.approx(0.1)
    assert float(averaging.ema_decay(config, jnp.array(90))) == pytest.approx(0.91)
    assert float(averaging.ema_decay(AverageConfig(decay=0.9), jnp.array(10_000))) == pytest.approx(0.9)
    assert float(averaging.ema_decay(AverageConfig(decay=0.999, warmup=0), jnp.array(0))) == pytest.approx(0.999)


def test_ema_by_hand():
    found = run(AverageConfig(name="ema", decay=0.5, warmup=0), [tree(3.0), tree(4.0)])
    np.testing.assert_allclose(found["ema"]["params"]["w"], [3.0])  # 1 -> 2 -> 3
    np.testing.assert_allclose(found["ema"]["model_state"]["mean"], [27.5])  # 0 -> 15 -> 27.5
    warm = run(AverageConfig(name="ema", decay=0.5), [tree(3.0)])
    np.testing.assert_allclose(warm["ema"]["params"]["w"], [1 + 9 / 11 * 2], rtol=1e-6)  # decay 2 / 11


def test_off_keeps_nothing():
    config = AverageConfig()
    average = averaging.init(config, tree(1.0), {})
    assert average == {}
    assert averaging.make(config, swa_steps=())(average, tree(1.0), {}, jnp.array(1)) == {}


def test_regression_03_swa_of_constant_weights_is_those_weights():
    """The original's average kept a share of the weights that it began with."""
    weights = tree(0.1, 1e-8, -3.3333333, 1e8)
    found = run(AverageConfig(name="swa"), [weights] * 9, (2, 4, 6, 8), start=tree(7.0, 7.0, 7.0, 7.0))
    np.testing.assert_array_equal(found["swa"]["params"]["w"], weights["w"])
    np.testing.assert_array_equal(found["swa"]["model_state"]["mean"], 10 * weights["w"])
    assert int(found["swa"]["count"]) == 4


def test_regression_03_swa_of_two_snapshots_is_their_mean():
    values = [tree(float(v)) for v in (5, 6, 10, 100, 20, 1000)]
    found = run(AverageConfig(name="swa"), values, (3, 5), start=tree(-1e6))  # snapshots after updates 3 and 5
    np.testing.assert_allclose(found["swa"]["params"]["w"], [15.0])
    np.testing.assert_allclose(found["swa"]["model_state"]["mean"], [150.0])
    assert int(found["swa"]["count"]) == 2


def test_regression_03_nothing_is_collected_before_the_first_snapshot():
    found = run(AverageConfig(name="swa"), [tree(5.0)] * 2, (3, 4))
    assert int(found["swa"]["count"]) == 0
    np.testing.assert_array_equal(found["swa"]["params"]["w"], [1.0])


def test_swa_is_the_plain_mean_of_many():
    values = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)
    found = run(AverageConfig(name="swa"), [tree(*v) for v in values], tuple(range(1, 100)), start=tree(*values[0]))
    np.testing.assert_allclose(found["swa"]["params"]["w"], values.mean(0), atol=1e-6)


def test_a_snapshot_can_be_taken_by_hand_and_structures_stay():
    config = AverageConfig(name="ema+swa")
    first = averaging.init(config, tree(1.0), STATS)
    taken = jax.jit(averaging.snapshot)(first["swa"], tree(4.0), {"mean": jnp.array([2.0])})
    assert int(taken["count"]) == 1 and float(taken["params"]["w"][0]) == 4.0
    average = {**first, "swa": taken}
    after = averaging.make(config, swa_steps=(3, 6))(average, tree(8.0), STATS, jnp.array(3))
    assert float(after["swa"]["params"]["w"][0]) == 6.0
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(lambda x: (x.shape, x.dtype), first)


def test_averages_own_their_buffers():
    params = tree(1.0)
    average = averaging.init(AverageConfig(name="ema+swa"), params, STATS)
    pointers = {leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves((params, average))}
    assert len(pointers) == len(jax.tree.leaves((params, average)))


def test_refreshed_statistics_are_the_mean_of_the_batches():
    def apply_train(params, state, image):
        return {"mean": params["w"] * image.mean(0)}

    batches = [jnp.array([[1.0], [3.0]]), jnp.array([[5.0], [7.0]]), jnp.array([[0.0], [0.0]])]
    found = averaging.refresh(apply_train, tree(2.0), {"mean": jnp.array([1e6])}, iter(batches))
    np.testing.assert_allclose(found["mean"], [2 * (2 + 6 + 0) / 3], rtol=1e-6)
    assert averaging.refresh(apply_train, tree(2.0), {}, iter(batches)) == {}
    with pytest.raises(ValueError, match="at least one batch"):
        averaging.refresh(apply_train, tree(2.0), {"mean": jnp.array([0.0])}, [])


class Net(nn.Module):
    """Two normalised layers: the second sees what the first makes of a batch. Their statistics move at rates of their
    own, as MobileNetV3's do, and the statistics of an average must not depend on that (they once did)."""

    @nn.compact
    def __call__(self, x, train):
        for i in range(2):
            x = jax.nn.relu(
                norms.BatchNorm(name=f"norm{i}", momentum=(0.1, 0.01)[i])(layers.Dense(5, name=f"dense{i}")(x), train)
            )
        return x


def test_refreshed_network_normalises_as_in_training():
    """With the statistics of one large batch, judging that batch equals training on it, up to the unbiased variance."""
    x = 3 + jax.random.normal(jax.random.key(1), (400, 4))
    variables = Net().init(jax.random.key(0), x, train=True)
    params = jax.tree.map(lambda p: p + jax.random.normal(jax.random.key(2), p.shape), variables["params"])
    wrong = jax.tree.map(lambda s: s + 5.0, variables["batch_stats"])

    def apply_train(params, state, image):
        with norms.own_statistics():
            moved = Net().apply({"params": params, "batch_stats": state}, image, train=True, mutable="batch_stats")[1]
        return moved["batch_stats"]

    trained, _ = Net().apply({"params": params, "batch_stats": wrong}, x, train=True, mutable="batch_stats")
    refreshed = averaging.refresh(apply_train, params, wrong, [x])
    judged = Net().apply({"params": params, "batch_stats": refreshed}, x, train=False)
    np.testing.assert_allclose(judged, trained, rtol=0.01, atol=0.02)
    assert not np.allclose(Net().apply({"params": params, "batch_stats": wrong}, x, train=False), trained, atol=0.5)


def test_soup_is_the_plain_mean():
    members = [{"a": {"w": np.float32([v, 1e8 + v])}, "s": {}} for v in (0.0, 8.0, 16.0)]
    found = averaging.mean(members)
    np.testing.assert_array_equal(found["a"]["w"], np.float32([8.0, 1e8 + 8.0]))
    assert found["a"]["w"].dtype == np.float32 and found["s"] == {}
