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


def test_meaning_by_hand():
    """Two labels, two other choices: (1 + 1, 9 + 1) votes beside label 0, (6 + 1, 2 + 1) beside 1."""
    counts = np.array([[1.0, 4.0], [0.0, 5.0], [6.0, 2.0], [0.0, 0.0]])
    label = np.eye(2)[[0, 0, 1, 0]]
    odds = [
        np.log(3) + s * (counts @ np.log([(2 / 12) / (7 / 10), (10 / 12) / (3 / 10)])) for s in np.arange(1, 21) / 20
    ]
    first = [1 / (1 + np.exp(-x)) for x in odds]
    right = [np.log(p[0] * p[1] * (1 - p[2]) * p[3]) for p in first]
    best = first[int(np.argmax(right))]
    np.testing.assert_allclose(votes.meaning(counts, label), np.stack([best, 1 - best], 1), atol=1e-6)
    assert votes.meaning(counts, label)[3, 0] == 0.75  # no votes: the share of the label


def test_meaning_trusts_votes_as_far_as_they_have_been_right():
    rng = np.random.default_rng(0)
    label = np.eye(3, dtype=np.float32)[rng.integers(0, 3, 3000)]
    about = label.argmax(1)
    good = rng.multinomial(10, [0.8, 0.1, 0.1], 3000)
    good = np.stack([np.roll(row, k) for row, k in zip(good, about, strict=True)])
    noise = rng.multinomial(10, [1 / 3] * 3, 3000)
    sure, unsure = (votes.meaning(x.astype(float), label) for x in (good, noise))
    np.testing.assert_allclose(sure.sum(1), 1, atol=1e-5)
    assert sure.max(1).mean() > 0.98 and unsure.max(1).mean() < 0.40
    # What it says is calibrated: of the images it gives p, a share p has the label.
    one_voter = rng.random(3000) < 0.7
    lone = np.eye(3)[np.where(one_voter, about, (about + 1) % 3)]
    told = votes.meaning(lone, label)[np.arange(3000), lone.argmax(1)]
    np.testing.assert_allclose(told, 0.7, atol=0.03)
