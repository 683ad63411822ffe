"""Slices by hand and against SciPy's Fisher test; pictures measured; corruptions and flips."""

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy import stats

from emojax import robustness, slices
from emojax.data import corruptions, pictures
from emojax.errors import ConfigError, DataError
from emojax.types import Predictions


def predictions(right, slices=None, label=None):
    right = np.asarray(right, bool)
    n = len(right)
    return Predictions(
        probs=np.where(right[:, None], [[0.8, 0.2]], [[0.2, 0.8]]).astype(np.float32),
        label=np.tile(np.float32([1, 0]), (n, 1)) if label is None else np.asarray(label, np.float32),
        weight=np.ones(n, np.float32),
        id=np.arange(n).astype(str),
        slices=slices or {},
    )


def test_a_bad_group_is_flagged_and_its_p_is_fishers():
    lamp = np.array(["on"] * 40 + ["off"] * 60)
    right = np.r_[np.arange(40) < 20, np.arange(60) < 55]
    on, off = sorted(slices.judge(predictions(right, {"lamp": lamp})), key=lambda g: g.value)[::-1]
    assert (on.n, on.accuracy, on.others, on.worse) == (40, 0.5, pytest.approx(55 / 60), True)
    expected = stats.fisher_exact([[20, 5], [20, 55]], alternative="greater").pvalue
    assert on.p == pytest.approx(2 * expected)  # two groups were tested
    assert off.p == pytest.approx(1) and not off.worse and off.low < 55 / 60 < off.high


def test_holm_by_hand():
    np.testing.assert_allclose(slices.holm([0.01, 0.04, 0.03, np.nan]), [0.03, 0.06, 0.06, np.nan])
    assert slices.holm([]).shape == (0,)


def test_at_most_5_percent_of_even_models_are_accused():
    rng, accused = np.random.default_rng(0), 0
    for _ in range(200):
        columns = {f"c{i}": rng.integers(0, 4, 300).astype(str) for i in range(4)}
        accused += any(group.worse for group in slices.judge(predictions(rng.random(300) < 0.7, columns)))
    assert accused <= 18  # 5 % of 200 and 2.5 standard deviations


def test_small_groups_and_lists_of_names_are_not_tested():
    p = predictions(
        [False] * 5 + [True] * 200, {"a": np.array(["x"] * 5 + ["y"] * 200), "id": np.arange(205).astype(str)}
    )
    x, y = slices.judge(p)
    assert np.isnan(x.p) and not x.worse and x.n == 5 and y.p == pytest.approx(1)
    assert slices.judge(predictions([True, False], {"a": np.array(["x", "x"])})) == (), "one group tells nothing"


def test_quantile_groups():
    found = slices.quantile_groups(np.array([1, 2, 3, 4, 5, 6, 7, 8.0, np.nan]), unit="px")
    assert found.tolist() == [
        *("1: 1 to 2 px",) * 2,
        *("2: 3 to 4 px",) * 2,
        *("3: 5 to 6 px",) * 2,
        *("4: 7 to 8 px",) * 2,
        "?",
    ]
    assert slices.quantile_groups(np.array([48.0] * 5), unit="px").tolist() == ["1: 48 px"] * 5
    assert slices.quantile_groups(np.array([np.nan]), unit="").tolist() == ["?"]
    assert slices.quantile_groups(np.array([505.4, 1283.0]), unit="grey²", count=1)[0] == "1: 505 to 1283 grey²"
    p = slices.with_columns(predictions([True] * 3), {"size": np.array(["a"] * 3), "b": np.array(["x", "y", "x"])})
    assert list(p.slices) == ["b"]  # one value tells nothing
    with pytest.raises(DataError, match="2 values of b for 3 examples"):
        slices.with_columns(predictions([True] * 3), {"b": np.array(["x", "y"])})


def test_vote_entropy():
    assert slices.with_vote_entropy(predictions([True] * 4)).slices == {}
    votes = [[1, 0], [0.9, 0.1], [0.7, 0.3], [0.5, 0.5]]
    column = slices.with_vote_entropy(predictions([True] * 4, label=votes)).slices["vote entropy"]
    assert column.tolist() == ["0: unanimous", "1: 0.325 nats", "2: 0.611 nats", "3: 0.693 nats"]


def test_pictures_are_measured(tmp_path):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (300, 200, 3), dtype=np.uint8)
    path = tmp_path / "x.png"
    Image.fromarray(noise).save(path)
    dark = np.full((40, 60), 20, np.uint8)
    look = pictures.look([path.read_bytes(), cv2.GaussianBlur(noise, (0, 0), 4), dark, b"no picture"])
    assert look.size[:3].tolist() == [200, 200, 40] and np.isnan(look.size[3])
    assert look.brightness[:3] == pytest.approx([127.5, 127.5, 20], abs=1)
    assert look.sharpness[0] > 20 * look.sharpness[1] > look.sharpness[2] == 0


def picture():
    y, x = np.mgrid[:48, :48]
    return np.stack([x * 5, y * 5, 120 + 0 * x], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("name", corruptions.CORRUPTIONS)
def test_corruptions_are_deterministic_and_grow(name):
    bumps = np.random.default_rng(0).normal(0, 400, (48, 48, 1)).astype(np.float32)
    texture = cv2.GaussianBlur(bumps, (0, 0), 2)[..., None]  # of a few pixels, as in pictures
    image = (picture() * 0.5 + 60 + texture).clip(0, 255).astype(np.uint8)
    before = image.copy()
    found = [corruptions.corrupt(image, name, s, position=7) for s in corruptions.SEVERITIES]
    again = [corruptions.corrupt(image, name, s, position=7) for s in corruptions.SEVERITIES]
    assert all(
        (a == b).all() and a.dtype == np.uint8 and a.shape == (48, 48, 3) for a, b in zip(found, again, strict=True)
    )
    assert (image == before).all()
    change = [np.abs(a.astype(float) - image).mean() for a in found]
    assert change == sorted(change) and change[0] > 0.5


def test_ordered_groups_stand_in_their_order_and_others_by_size():
    sizes = {"1: 2 to 5 px": 9, "10: 90 px": 7, "2: 6 px": 8, "?": 30}
    shown = [name for name, _ in slices.in_order(sizes, int, most=9)]
    assert shown == ["1: 2 to 5 px", "2: 6 px", "10: 90 px", "?"]
    assert [name for name, _ in slices.in_order(sizes, int, most=3)] == ["1: 2 to 5 px", "2: 6 px", "?"]
    ages = {"-1": 5, "30-39": 1, "4.5": 2, "4": 3}
    assert [name for name, _ in slices.in_order(ages, int, most=9)] == ["-1", "4", "4.5", "30-39"]
    assert [name for name, _ in slices.in_order({"a": 1, "b": 3, "3": 2}, int, most=9)] == ["b", "3", "a"]


def test_corruptions_by_hand():
    grey = np.full((10, 10, 3), 100, np.uint8)
    assert (corruptions.corrupt(grey, "brightness", 2, position=0) == 151).all()  # 100 + .2 x 255
    assert (corruptions.corrupt(grey, "darkness", 2, position=0) == 50).all()
    half = np.repeat(np.uint8([[[0]], [[200]]]), 10, axis=1).repeat(5, axis=0).repeat(3, axis=2)
    assert set(np.unique(corruptions.corrupt(half, "contrast", 1, position=0))) == {40, 160}  # 100 +- .6 x 100
    hidden = corruptions.corrupt(np.zeros((100, 100, 3), np.uint8), "occlusion", 1, position=3)
    assert (hidden == 128).all(axis=2).sum() == 20**2  # 4 % of the area
    noise = corruptions.corrupt(np.full((200, 200, 3), 128, np.uint8), "noise", 2, position=0)
    assert noise.std() == pytest.approx(0.08 * 255, rel=0.02)
    assert len(np.unique(corruptions.corrupt(picture(), "pixelate", 2, position=0).reshape(-1, 3), axis=0)) <= 24**2
    assert (corruptions.corrupt(grey, "rotation", 5, position=0) == 100).all()
    with pytest.raises(ConfigError, match="found 'fog' at 1"):
        corruptions.corrupt(grey, "fog", 1, position=0)


def test_wrapped_pictures_are_the_models_view():
    images = [picture(), np.zeros((30, 50), np.uint8)]
    whole = {"size": 48, "crop": 1.0, "fit": "crop", "interpolation": ""}
    mirrored = corruptions.Changed(images, corruptions.mirrored, **whole)
    plain = corruptions.Changed(images, corruptions.as_it_is, **whole)
    assert (plain[0] == picture()).all() and (mirrored[0] == picture()[:, ::-1]).all() and plain[1].shape == (48, 48, 3)
    dark = corruptions.Changed(
        images, corruptions.damaged("darkness", 2), size=24, crop=0.5, fit="crop", interpolation=""
    )
    assert len(dark) == 2 and np.abs(dark[0].astype(float) - picture()[12:36, 12:36] / 2).max() <= 1


def test_flip_consistency_by_hand():
    one, two = predictions([True, True, False]), predictions([True, False, False])
    found = robustness.consistency(one, two)
    assert found.equal == pytest.approx(2 / 3) and found.mean_change == pytest.approx(0.6 / 3)
    with pytest.raises(DataError, match="not of the same records"):
        robustness.consistency(one, predictions([True, True]))
