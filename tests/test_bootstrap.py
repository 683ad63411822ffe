"""Intervals against the normal approximation, invariants of resampling, and coverage on simulated data."""

import numpy as np
import pytest

from emojax import bootstrap, metrics
from emojax.errors import DataError
from emojax.types import Predictions


def predictions(n=400, k=3, accuracy=0.7, seed=0, weight=None):
    rng = np.random.default_rng(seed)
    true = rng.integers(k, size=n)
    said = np.where(rng.random(n) < accuracy, true, (true + 1) % k)
    return Predictions(
        probs=(0.7 * np.eye(k)[said] + 0.1).astype(np.float32),
        label=np.eye(k, dtype=np.float32)[true],
        weight=np.ones(n, np.float32) if weight is None else np.asarray(weight, np.float32),
        id=np.array([f"{i}" for i in range(n)]),
    )


def hits(p):
    return (p.probs.argmax(axis=1) == p.label.argmax(axis=1)).astype(float)


accuracy = bootstrap.mean(hits)


def test_the_interval_of_a_share_is_that_of_the_normal_approximation():
    found = bootstrap.interval(predictions(2000), accuracy, draws=4000)
    p = hits(predictions(2000)).mean()
    half = 1.959964 * np.sqrt(p * (1 - p) / 2000)
    assert found.value == p
    assert abs(found.low - (p - half)) < 0.1 * half and abs(found.high - (p + half)) < 0.1 * half


def test_a_product_and_a_call_per_resample_agree():
    p = predictions(80)
    slow = bootstrap.each(lambda q: metrics.evaluate(q, ("a", "b", "c")).accuracy)
    one, two = (bootstrap.samples(p, s, draws=50) for s in (accuracy, slow))
    np.testing.assert_allclose(one, two, atol=1e-12)


def test_95_percent_of_the_intervals_hold_the_truth():
    inside = 0
    for seed in range(300):
        found = bootstrap.interval(predictions(300, seed=seed), accuracy, draws=300, seed=seed)
        inside += found.low <= 0.7 <= found.high
    assert 0.91 <= inside / 300 <= 0.98


def test_rows_of_weight_0_change_nothing():
    p = predictions(60)
    more = predictions(60, weight=[1] * 40 + [0] * 20)
    less = Predictions(probs=p.probs[:40], label=p.label[:40], weight=p.weight[:40], id=p.id[:40])
    assert bootstrap.interval(more, accuracy) == bootstrap.interval(less, accuracy)


def test_resamples_are_as_large_as_the_data_and_repeat_with_the_seed(monkeypatch):
    p = predictions(50)
    whole = np.concatenate(list(bootstrap.weights(p, draws=7, seed=3)))
    assert whole.shape == (7, 50) and (whole.sum(axis=1) == 50).all()
    assert (whole != np.concatenate(list(bootstrap.weights(p, draws=7, seed=4)))).any()
    monkeypatch.setattr(bootstrap, "_AT_ONCE", 100)  # two rows at a time
    parts = list(bootstrap.weights(p, draws=7, seed=3))
    assert [len(part) for part in parts] == [2, 2, 2, 1]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_strata_keep_their_sizes():
    p = predictions(90)
    strata = p.label.argmax(axis=1)
    for part in bootstrap.weights(p, draws=20, strata=strata):
        for k in range(3):
            assert (part[:, strata == k].sum(axis=1) == (strata == k).sum()).all()


def test_several_numbers_at_once_and_numbers_that_are_none():
    p = predictions(200)
    found = bootstrap.samples(p, bootstrap.mean(lambda q: q.label), draws=100)
    assert found.shape == (100, 3)
    low, high = bootstrap.percentiles(found)
    assert ((low < 1 / 3 + 0.1) & (high > 1 / 3 - 0.1)).all()
    found[:, 1] = np.nan
    found[::2, 0] = np.nan
    low, high = bootstrap.percentiles(found)
    assert np.isnan([low[1], high[1]]).all() and np.isfinite([low[0], high[0], low[2]]).all()


def test_bad_input_is_told():
    with pytest.raises(DataError, match="no example has a positive weight"):
        bootstrap.interval(predictions(5, weight=[0] * 5), accuracy)
    with pytest.raises(DataError, match="2 strata for 5 examples"):
        bootstrap.interval(predictions(5), accuracy, strata=np.zeros(2))
