"""MixUp and CutMix: numbers by hand, and what must hold for any batch."""

import numpy as np
import pytest

from emojax.config import AugmentConfig
from emojax.data import mixing
from emojax.types import Batch


def batch(b=16, k=4, size=8, seed=0, weight=None):
    rng = np.random.default_rng(seed)
    label = rng.random((b, k)).astype(np.float32)
    return Batch(
        image=rng.integers(0, 256, (b, size, size, 3), dtype=np.uint8),
        label=label / label.sum(1, keepdims=True),
        weight=np.ones(b, np.float32) if weight is None else np.asarray(weight, np.float32),
        index=np.arange(b, dtype=np.int32),
    )


ALPHAS = {"mixup": 8.0, "cutmix": 8.0}  # shares near 1/2, which tell MixUp from CutMix


def mixed(before, seed=0, factors=(1.0, 1.0), **augment):
    config = AugmentConfig(**{"mixup_probability": 1.0, "cutmix_probability": 1.0} | augment)
    return mixing.mix(before, augment=config, mixup=factors[0], cutmix=factors[1], rng=np.random.default_rng(seed))


def kind(before, after):
    """What was done to a batch: none, cutmix (every pixel is someone's) or mixup."""
    if after is before:
        return "none"
    someones = (after.image[:, None] == before.image[None]).all(-1).any(1)
    return "cutmix" if someones.all() else "mixup"


def test_mixup_by_hand():
    image = np.array([0, 200], np.uint8).reshape(2, 1, 1, 1).repeat(3, 3)
    blended, share = mixing._mixup(image, np.array([1, 0]), 0.75)
    assert share == 0.75
    np.testing.assert_array_equal(blended[:, 0, 0, 0], [50, 150])
    two = Batch(image, np.eye(2, dtype=np.float32), np.ones(2, np.float32), np.arange(2, dtype=np.int32))
    label, weight = mixing._labels(two, np.array([1, 0]), 0.75)
    np.testing.assert_array_equal(label, [[0.75, 0.25], [0.25, 0.75]])
    np.testing.assert_array_equal(weight, [1, 1])


def test_label_mixing_with_unequal_weights_by_hand():
    two = Batch(None, np.eye(2, dtype=np.float32), np.array([1, 3], np.float32), None)
    label, weight = mixing._labels(two, np.array([1, 0]), 0.5)
    np.testing.assert_array_equal(weight, [2, 2])  # 0.5 * 1 + 0.5 * 3
    np.testing.assert_array_equal(label, [[0.25, 0.75], [0.25, 0.75]])


def test_regression_05_cutmix_counts_the_pixels_that_it_pasted():
    """SEED-SYSTEMS 9.5: a rectangle that the border cuts is smaller than drawn, and the share of the label with it."""
    image = np.zeros((2, 10, 10, 3), np.uint8)
    image[1] = 255
    seen = {}
    for y in range(10):
        for x in range(10):
            pasted, share = mixing._cutmix(image, np.array([1, 0]), 0.5, (y, x))
            assert share == pytest.approx((pasted[0, ..., 0] == 0).mean())
            assert share == pytest.approx((pasted[1, ..., 0] == 255).mean())
            rows, columns = (pasted[0, ..., 0] == 255).any(1), (pasted[0, ..., 0] == 255).any(0)
            assert (pasted[0, ..., 0] == 255).sum() == rows.sum() * columns.sum()
            seen[y, x] = share
    assert seen[5, 5] == 0.51  # 7 x 7 pixels, since 10 * sqrt(1/2) = 7.07
    assert seen[0, 0] == 0.84 and seen[9, 9] == 0.84  # 4 x 4 of them inside
    assert seen[0, 5] == 0.72


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_regression_05_labels_are_shared_as_the_pixels_are(alpha):
    """Through `mix`: whatever was drawn, a picture's share of the label is that of its pixels."""
    cut = set()
    for seed in range(60):
        before = batch(b=2, seed=seed)
        before.image[0], before.image[1] = 0, 255
        before.label[:] = np.eye(4, dtype=np.float32)[:2]
        after = mixed(before, seed, cutmix=alpha)
        dark = (after.image[..., 0] == 0).mean(axis=(1, 2))
        if kind(before, after) != "none" and not np.array_equal(after.image, before.image):
            np.testing.assert_allclose(after.label[:, 0], dark, atol=1e-6)
            np.testing.assert_allclose(after.label[:, 1], 1 - dark, atol=1e-6)
            cut.add(round(float(dark[0]), 3))
    assert len(cut) > 8, "few different rectangles were seen"


@pytest.mark.parametrize("augment", [{"mixup": 0.6}, {"cutmix": 0.5}, {"mixup": 0.2, "cutmix": 0.2}])
@pytest.mark.parametrize("partner", ["permutation", "roll"])
def test_mixed_labels_sum_to_one(augment, partner):
    """SEED-SYSTEMS 9.5."""
    for seed in range(30):
        after = mixed(batch(seed=seed), seed, mix_partner=partner, mixup_probability=0.5, **augment)
        np.testing.assert_allclose(after.label.sum(1), 1, rtol=1e-6)
        assert (after.label >= 0).all()


def test_partners():
    weight = np.array([1, 0, 2, 1, 0, 3], np.float32)
    rolled = mixing._partners(weight, "roll", np.random.default_rng(0))
    np.testing.assert_array_equal(rolled, [5, 1, 0, 2, 4, 3])  # the one before, among 0, 2, 3, 5
    draws = np.array([mixing._partners(weight, "permutation", np.random.default_rng(i)) for i in range(400)])
    np.testing.assert_array_equal(draws[:, [1, 4]], [[1, 4]] * 400)
    np.testing.assert_array_equal(np.sort(draws, 1), [np.arange(6)] * 400)
    counts = np.unique(draws[:, 0], return_counts=True)[1]
    assert len(counts) == 4 and counts.min() > 70  # 100 each expected, standard deviation 8.7


@pytest.mark.parametrize("augment", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}])
def test_regression_05_mass_per_class_and_in_all_is_kept(augment):
    weight = np.random.default_rng(1).random(16) * (np.arange(16) % 3 > 0)
    for seed in range(20):
        before = batch(seed=seed, weight=weight)
        after = mixed(before, seed, **augment)
        mass = (before.weight[:, None] * before.label).sum(0), (after.weight[:, None] * after.label).sum(0)
        np.testing.assert_allclose(*mass, rtol=1e-5)
        np.testing.assert_allclose(after.label.sum(1), 1, rtol=1e-5)
        assert after.image.dtype == np.uint8 and after.label.dtype == after.weight.dtype == np.float32
        np.testing.assert_array_equal(after.index, before.index)


@pytest.mark.parametrize("augment", [{"mixup": 1.0}, {"cutmix": 1.0}])
def test_unreadable_images_neither_give_nor_take(augment):
    before = batch(weight=[1, 0] * 8)
    after = mixed(before, **augment)
    np.testing.assert_array_equal(after.image[1::2], before.image[1::2])
    np.testing.assert_array_equal(after.weight, before.weight)
    loud = batch(weight=[1, 0] * 8)
    loud.image[1::2] = 255 - loud.image[1::2]
    loud.label[1::2] = loud.label[1::2][:, ::-1]
    other = mixed(loud, **augment)
    np.testing.assert_array_equal(after.image[::2], other.image[::2])
    np.testing.assert_array_equal(after.label[::2], other.label[::2])
    nothing = batch(weight=np.zeros(16))
    np.testing.assert_array_equal(mixed(nothing, **augment).label, nothing.label)


def test_a_method_is_off_without_alpha_or_factor():
    before = batch()
    assert mixed(before) is before
    assert mixed(before, factors=(0.0, 0.0), **ALPHAS) is before
    alphas = AugmentConfig(mixup=0.4, cutmix=1.0, mixup_probability=0.6, cutmix_probability=0.5)
    assert mixing.probabilities(AugmentConfig(), mixup=1.0, cutmix=1.0) == (0, 0)
    assert mixing.probabilities(alphas, mixup=0.0, cutmix=1.0) == (0, 0.5)
    assert mixing.probabilities(alphas, mixup=1.0, cutmix=0.0) == (0.6, 0)


def test_phase_factors_scale_both_probabilities():
    """Seed 000: .6 and .5 in five phases; from the third on no clean batch remains, and MixUp comes first."""
    augment = AugmentConfig(mixup=1.0, cutmix=1.2, mixup_probability=0.6, cutmix_probability=0.5)
    found = [mixing.probabilities(augment, mixup=factor, cutmix=factor) for factor in (0.3, 0.6, 0.8, 1.0, 1.1)]
    np.testing.assert_allclose(found, [(0.18, 0.15), (0.36, 0.3), (0.48, 0.4), (0.6, 0.4), (0.66, 0.34)])
    assert mixing.probabilities(augment, mixup=3.0, cutmix=3.0) == (1, 0)


@pytest.mark.parametrize(
    ("probabilities", "expected"),
    [((0.5, 0.25), (200, 100, 100)), ((0.5, 0.5), (200, 200, 0)), ((0.0, 0.25), (0, 100, 300))],
)
def test_one_draw_chooses_mixup_cutmix_or_neither(probabilities, expected):
    before = batch(b=6)
    settings = dict(zip(("mixup_probability", "cutmix_probability"), probabilities, strict=True))
    kinds = [kind(before, mixed(before, seed, **ALPHAS, **settings)) for seed in range(400)]
    for name, count in zip(("mixup", "cutmix", "none"), expected, strict=True):
        assert abs(kinds.count(name) - count) <= 3.3 * (count * (1 - count / 400)) ** 0.5, name
