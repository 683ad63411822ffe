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


def mixed(before, seed=0, factor=1.0, **augment):
    return mixing.mix(before, augment=AugmentConfig(**augment), factor=factor, rng=np.random.default_rng(seed))


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


def test_cutmix_pastes_a_rectangle_and_counts_its_pixels():
    image = np.zeros((2, 10, 10, 3), np.uint8)
    image[1] = 255
    seen = set()
    for seed in range(50):
        pasted, share = mixing._cutmix(image, np.array([1, 0]), 0.5, np.random.default_rng(seed))
        assert share == pytest.approx((pasted[0, ..., 0] == 0).mean())
        assert share == pytest.approx((pasted[1, ..., 0] == 255).mean())
        rows, columns = (pasted[0, ..., 0] == 255).any(1), (pasted[0, ..., 0] == 255).any(0)
        assert (pasted[0, ..., 0] == 255).sum() == rows.sum() * columns.sum()
        seen.add(round(share, 2))
    assert min(seen) == 0.51 and max(seen) > 0.75  # 7 x 7 pixels at most, less where the border cuts it


@pytest.mark.parametrize("augment", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}])
def test_mass_per_class_and_in_all_is_kept(augment):
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


def test_when_a_batch_is_mixed():
    before = batch()
    assert mixed(before) is before
    assert mixed(before, factor=0.0, mixup=1.0) is before
    count = sum(mixed(before, seed, mixup=1.0, mix_probability=0.5, factor=0.5) is not before for seed in range(200))
    assert 30 <= count <= 70  # 50 expected, standard deviation 6.1
    blends = sum((mixed(before, s, mixup=1.0, cutmix=1.0).image > 0).all() for s in range(5))
    assert 0 <= blends <= 5
