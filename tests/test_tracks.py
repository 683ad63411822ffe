"""Tracks by overlap, and smoothing whose lag is what it says."""

import numpy as np
import pytest

from emojax.errors import ConfigError
from emojax.tracks import Smoother, Smoothing, Tracker, overlap


def test_overlap_by_hand():
    assert overlap((0, 0, 2, 2), (1, 0, 2, 2)) == pytest.approx(2 / 6)
    assert overlap((0, 0, 2, 2), (2, 2, 1, 1)) == 0 and overlap((0, 0, 2, 2), (0, 0, 2, 2)) == 1
    assert overlap((0, 0, 0, 0), (0, 0, 0, 0)) == 0


def test_two_faces_keep_their_numbers_in_any_order():
    tracker = Tracker()
    assert tracker.update([(0, 0, 10, 10), (50, 0, 10, 10)]) == [1, 2]
    assert tracker.update([(52, 0, 10, 10), (2, 0, 10, 10)]) == [2, 1]
    assert tracker.update([(4, 0, 10, 10), (90, 0, 10, 10), (54, 1, 10, 10)]) == [1, 3, 2]


def test_a_face_may_be_missing_for_five_frames_and_no_longer():
    for missing, number in ((5, 1), (6, 2)):
        tracker = Tracker()
        tracker.update([(0, 0, 10, 10)])
        for _ in range(missing):
            assert tracker.update([]) == []
        assert tracker.update([(1, 0, 10, 10)]) == [number]
        assert tracker.living == {number}


@pytest.mark.parametrize(
    "text", ["none", "exponential:1", "exponential:0.6", "exponential:0.5", "exponential:0.4", "exponential:0.05",
             "median:1", "median:3", "median:5", "median:31"],
)  # fmt: skip
def test_the_lag_is_measured_as_it_is_stated(text):
    smoothing = Smoothing.parse(text)
    smoother = Smoother(smoothing)
    for _ in range(200):
        smoother(1, np.array([1.0, 0.0]))
    late = 0
    while smoother(1, np.array([0.0, 1.0]))[1] <= 0.5:
        late += 1
    assert late == smoothing.lag


@pytest.mark.parametrize("text", ["exponential:0.3", "median:5"])
def test_smoothed_probabilities_are_probabilities_and_flicker_less(text):
    rng = np.random.default_rng(0)
    raw = rng.dirichlet([4, 3, 1], 400)
    smoother = Smoother(Smoothing.parse(text))
    found = np.stack([smoother(7, row) for row in raw])
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-9)
    assert found.min() >= 0

    def changes(probs):
        return (np.diff(probs.argmax(1)) != 0).sum()

    assert changes(found) < 0.6 * changes(raw)


def test_tracks_do_not_mix_and_are_forgotten():
    smoother = Smoother(Smoothing.parse("exponential:0.1"))
    smoother(1, np.array([1.0, 0.0]))
    np.testing.assert_array_equal(smoother(2, np.array([0.0, 1.0])), [0, 1])
    np.testing.assert_allclose(smoother(1, np.array([0.0, 1.0])), [0.9, 0.1])
    smoother.keep({2})
    np.testing.assert_array_equal(smoother(1, np.array([0.0, 1.0])), [0, 1])


def test_a_median_of_classes_that_take_turns_falls_back_to_the_mean():
    smoother = Smoother(Smoothing.parse("median:3"))
    for k in range(3):
        found = smoother(1, np.eye(3)[k])
    np.testing.assert_allclose(found, 1 / 3)


@pytest.mark.parametrize(
    "text",
    ["", "mean:3", "median:4", "median:0", "median:303", "exponential:0", "exponential:1.1", "exponential:1.1.1"],
)
def test_bad_smoothing_is_refused(text):
    with pytest.raises(ConfigError, match="expected none, exponential:WEIGHT"):
        Smoothing.parse(text)
