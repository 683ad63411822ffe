"""Votes as labels while training: label drawing, and the loss that takes any class of the label."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from emojax import losses
from emojax.config import AugmentConfig, LossConfig
from emojax.data import batches, sampling, votes

SHARES = np.array([[0.6, 0, 0.4, 0], [0, 0, 0, 1], [0.25, 0.25, 0.25, 0.25]], np.float32)


def test_drawn_labels_have_the_shares_of_the_votes():
    n = 6000
    label = np.repeat(SHARES, n, 0)
    found = sampling.drawn(label, seed=3, positions=range(3 * n))
    assert set(np.unique(found).tolist()) == {0, 1} and (found.sum(1) == 1).all()
    shares = found.reshape(3, n, 4).mean(1)
    np.testing.assert_allclose(shares, SHARES, atol=4 * np.sqrt(0.25 / n))  # four standard errors
    assert (shares[SHARES == 0] == 0).all()
    np.testing.assert_array_equal(found[:100], sampling.drawn(label[:100], seed=3, positions=range(100)))
    assert (found[:100] != sampling.drawn(label[:100], seed=4, positions=range(100))).any()


def test_batches_draw_anew_in_every_pass_and_by_position_alone():
    images = np.zeros((4, 8, 8, 3), np.uint8)
    maker = batches.TrainBatch(
        images=images,
        label=np.tile(SHARES[:1], (4, 1)),
        weight=np.ones(4, np.float32),
        records=np.tile(np.arange(4), 100),
        substitutes=lambda position, record: iter(()),
        share=batches.Share(4, 0, 1),
        augment=AugmentConfig(draw_labels=1),
        size=8,
        mixup=0.0,
        cutmix=0.0,
        seed=0,
        fit="crop",
        accumulate=1,
    )
    passes = np.stack([maker(step)[1] for step in range(40)])
    assert set(np.unique(passes).tolist()) == {0, 1} and 0.4 < passes[:, :, 0].mean() < 0.8
    np.testing.assert_array_equal(maker(7)[1], passes[7])
    whole = np.concatenate([dataclasses.replace(maker, share=batches.Share(4, p, 2))(7)[1] for p in (0, 1)])
    np.testing.assert_array_equal(whole, passes[7])
    as_it_is = dataclasses.replace(maker, augment=AugmentConfig())(0)[1]
    np.testing.assert_array_equal(as_it_is, maker.label)


def test_multi_target_by_hand():
    probs = np.array([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [0.98, 0.01, 0.01]], np.float32)
    label = np.array([[0, 0.6, 0.4], [0.5, 0.5, 0], [0, 0.5, 0.5]], np.float32)
    loss = losses.task(LossConfig(name="multi_target"))
    # -log max(0.001 * 0.5, 0.3, 0.2); -log 0.5; -log max(0.001 * 0.98, 0.01, 0.01)
    found = loss(jnp.log(probs), jnp.asarray(label))
    np.testing.assert_allclose(found, [-np.log(0.3), -np.log(0.5), -np.log(0.01)], rtol=1e-5)
    weighted = losses.task(LossConfig(name="multi_target"), np.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(weighted(jnp.log(probs), jnp.asarray(label))[0], -2 * np.log(0.3), rtol=1e-5)
    wrong = loss(jnp.log(jnp.array([[1.0, 0, 0]]) + 1e-30), jnp.array([[0, 0.5, 0.5]]))
    assert wrong[0] == pytest.approx(-np.log(1e-3), rel=1e-5)  # no more than the 0.001 allows


@pytest.mark.parametrize("rule", votes.NAMES)
def test_rules_keep_rows_in_order_and_mass(rule):
    rng = np.random.default_rng(0)
    counts = rng.multinomial(10, [0.3, 0.3, 0.1, 0.1, 0.1, 0.1], size=500)
    label, kept = votes.apply(counts, 4, rule)
    assert label.shape == (len(kept), 4) and label.dtype == np.float32 and 0 < len(kept) <= 500
    assert (np.diff(kept) > 0).all()
    np.testing.assert_allclose(label.sum(1), 1, rtol=1e-6)
    again, same = votes.apply(counts[kept][::-1], 4, rule)
    np.testing.assert_array_equal(again[::-1], label)
    assert len(same) == len(kept)
