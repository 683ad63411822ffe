"""RandAugment, AutoAugment and TrivialAugment: operations by hand, and how often and how strongly each one comes."""

import numpy as np
import pytest

from emojax.config import AugmentConfig
from emojax.data import policies

NAMES = ("randaugment", "autoaugment", "trivialaugment")


def noise(shape=(16, 16, 3), seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def run(name, pixels, magnitude):
    return policies.OPS[name](np.asarray(pixels, np.uint8), magnitude)


@pytest.fixture
def recorded(monkeypatch):
    """Replaces every operation by one that notes (name, magnitude)."""
    calls = []

    def recorder(name):
        return lambda image, magnitude: calls.append((name, magnitude)) or image

    monkeypatch.setattr(policies, "OPS", {name: recorder(name) for name in policies.OPS})
    return calls


def chi_square(counts, expected):
    counts, expected = np.asarray(counts, float), np.asarray(expected, float)
    return ((counts - expected) ** 2 / expected).sum()


def test_operations_by_hand():
    row = np.tile(np.array([10, 100, 127, 128, 200, 255], np.uint8), (6, 1))
    np.testing.assert_array_equal(run("identity", row, 0.0), row)
    np.testing.assert_array_equal(run("invert", row, 0.0)[0], [245, 155, 128, 127, 55, 0])
    np.testing.assert_array_equal(run("solarize", row, 128.0)[0], [10, 100, 127, 127, 55, 0])
    np.testing.assert_array_equal(run("posterize", row, 4)[0], [0, 96, 112, 128, 192, 240])
    np.testing.assert_array_equal(run("translate_x", row, 2.9)[0], [0, 0, 10, 100, 127, 128])
    np.testing.assert_array_equal(run("translate_x", row, -2.9)[0], [127, 128, 200, 255, 0, 0])
    np.testing.assert_array_equal(run("translate_y", row.T, 1.0)[:, 0], [0, 10, 100, 127, 128, 200])
    np.testing.assert_array_equal(run("brightness", row, -0.5)[0], [5, 50, 63, 64, 100, 127])
    np.testing.assert_array_equal(run("autocontrast", [[50, 100, 150]], 0.0), [[0, 127, 255]])
    four = np.repeat([[7, 50, 60, 70]], 256, 0)  # equally many of each: spread evenly
    np.testing.assert_array_equal(run("equalize", four, 0.0)[0], [0, 85, 171, 255])
    # row y moves left by y + 1/2 pixels at shear 1, read at the nearest: rows 0, 1, 2 start 1, 2, 3 pixels further
    np.testing.assert_array_equal(run("shear_x", row, 0.99)[:3, :3], [[10, 100, 127], [100, 127, 128], [127, 128, 200]])
    np.testing.assert_array_equal(run("rotate", row[:, :6], 90.0)[0], [255] * 6)  # counter-clockwise
    red = np.tile(np.array([255, 0, 0], np.uint8), (4, 4, 1))
    np.testing.assert_array_equal(run("colour", red, -0.99)[0, 0], [77, 75, 75])  # 76 + 0.01 * 179, 76 - 0.01 * 76
    sharper = run("sharpness", np.pad(np.full((2, 6), 100), ((2, 2), (0, 0))), 0.9)
    assert sharper[2, 2] > 100 and sharper[0, 0] == 0


@pytest.mark.parametrize("name", policies.OPS)
def test_grey_images_stay_grey_and_get_what_colour_images_get(name):
    grey = noise((40, 40)) // 2 + 20
    magnitude = policies.magnitude(name, 0.7, ranges=policies.standard_ranges(16, 16), sign=0.9)
    one = policies.OPS[name](grey, magnitude)
    assert one.shape == grey.shape
    three = run(name, np.repeat(grey[..., None], 3, 2), magnitude)
    np.testing.assert_array_equal(np.repeat(np.asarray(one)[..., None], 3, 2), three)
    assert name in ("identity", "colour") or (np.asarray(one) != grey).any()


def test_magnitudes_of_randaugment_at_seven_of_thirty():
    ranges = policies.standard_ranges(200, 100)
    found = {name: policies.magnitude(name, 7 / 30, ranges=ranges, sign=0.9) for name in policies.OPS}
    assert found == pytest.approx(
        {
            "identity": 0, "shear_x": 0.07, "shear_y": 0.07, "translate_x": 21.148, "translate_y": 10.574, "rotate": 7,
            "brightness": 0.21, "colour": 0.21, "contrast": 0.21, "sharpness": 0.21, "posterize": 7, "solarize": 195.5,
            "autocontrast": 0, "equalize": 0, "invert": 0,
        },
        abs=1e-3,
    )  # fmt: skip
    negative = {name: policies.magnitude(name, 7 / 30, ranges=ranges, sign=0.1) for name in policies.OPS}
    signed = {name for name in found if negative[name] == -found[name] != 0}
    assert signed == {"shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness", "colour", "contrast",
                      "sharpness"}  # fmt: skip
    assert all(negative[name] == found[name] for name in found if name not in signed)


def test_randaugment_draws_all_operations_and_signs_equally(recorded):
    augment, rng = AugmentConfig(policy="randaugment", policy_ops=3, policy_magnitude=4.5), np.random.default_rng(0)
    image = noise()
    for _ in range(2000):
        policies.apply(image, augment, rng)
    names = [name for name, _ in recorded]
    assert len(names) == 6000 and len(policies.RANDOM_OPS) == 14
    counts = [names.count(name) for name in policies.RANDOM_OPS]
    assert chi_square(counts, [6000 / 14] * 14) < 34.5  # 13 degrees of freedom: once in a thousand seeds
    turns = [m for name, m in recorded if name == "rotate"]
    assert set(np.round(turns, 9)) == {-4.5, 4.5} and abs(np.sign(turns).sum()) < 3.3 * len(turns) ** 0.5


def test_autoaugment_draws_pairs_equally_and_runs_each_part_with_its_probability(recorded):
    augment, rng, rounds = AugmentConfig(policy="autoaugment"), np.random.default_rng(0), 5000
    image = noise()
    for _ in range(rounds):
        policies.apply(image, augment, rng)
    assert len(policies.IMAGENET_PAIRS) == 25
    expected = dict.fromkeys(policies.OPS, 0.0)
    for name, probability, _ in (part for pair in policies.IMAGENET_PAIRS for part in pair):
        expected[name] += rounds / 25 * probability
    found = {name: sum(name == n for n, _ in recorded) for name in expected}
    used = [name for name in expected if expected[name]]
    assert set(used) == {"posterize", "rotate", "solarize", "autocontrast", "equalize", "colour", "contrast", "invert",
                         "sharpness", "shear_x"}  # fmt: skip
    assert chi_square([found[n] for n in used], [expected[n] for n in used]) < 29.6  # 10 degrees of freedom
    assert sum(found.values()) == sum(found[n] for n in used)
    assert {round(m, 6) for n, m in recorded if n == "sharpness"} == {-0.7, 0.7}  # 0.9 * 7 / 9
    assert {m for n, m in recorded if n == "posterize"} == {4, 5, 6}  # 8 - round(4 m / 9) for m = 8, 7, 6, 5


def test_trivialaugment_draws_one_operation_at_any_of_31_strengths(recorded):
    augment, rng = AugmentConfig(policy="trivialaugment"), np.random.default_rng(0)
    image = noise()
    for _ in range(6000):
        policies.apply(image, augment, rng)
    names = [name for name, _ in recorded]
    assert len(names) == 6000
    assert chi_square([names.count(name) for name in policies.RANDOM_OPS], [6000 / 14] * 14) < 34.5
    solarize = np.array([m for name, m in recorded if name == "solarize"])
    assert set(np.round(solarize / 8.5, 6)) == set(range(31))
    counts = np.bincount(np.round(solarize / 8.5).astype(int), minlength=31)
    assert chi_square(counts, [len(solarize) / 31] * 31) < 59.7  # 30 degrees of freedom
    shears = [m for name, m in recorded if name.startswith("shear")]
    assert max(shears) == -min(shears) == pytest.approx(0.99)
    assert {m for name, m in recorded if name == "posterize"} == set(range(2, 9))


@pytest.mark.parametrize(
    ("name", "count"), [("none", 0), ("randaugment", 4), ("autoaugment", 5), ("trivialaugment", 3)]
)
def test_a_policy_takes_the_same_count_of_random_numbers_whatever_it_chooses(name, count):
    for seed in range(30):
        rng, other = np.random.default_rng(seed), np.random.default_rng(seed)
        policies.apply(noise(), AugmentConfig(policy=name), rng)
        assert rng.random() == other.random(count + 1)[-1]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(16, 16, 3), (16, 16), (9, 31, 3), (1, 1)])
def test_size_and_mode_stay(name, shape):
    image = noise(shape)
    changed = 0
    for seed in range(60):
        out = policies.apply(image, AugmentConfig(policy=name, policy_magnitude=30.0), np.random.default_rng(seed))
        assert (out.shape, out.dtype) == (image.shape, image.dtype)
        changed += (np.asarray(out) != np.asarray(image)).any()
    assert changed > 10
