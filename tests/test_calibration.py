"""Calibration errors, scalings, selective answers, conformal sets: by hand, against other formulas, by simulation."""

import json
import math

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from emojax import calibration, conformal, scaling, selective
from emojax.combine import log_probs, softmax
from emojax.errors import DataError
from emojax.types import Predictions


def of(probs, true, weight=None):
    probs = np.asarray(probs, np.float32)
    n, k = probs.shape
    return Predictions(
        probs=probs,
        label=np.eye(k, dtype=np.float32)[np.asarray(true)],
        weight=np.ones(n, np.float32) if weight is None else np.asarray(weight, np.float32),
        id=np.array([f"{i}" for i in range(n)]),
    )


def drawn(n, *, k=7, sharp=1.0, seed=0, spread=1.5):
    """Classes drawn from known probabilities, told with logits times `sharp`: 1 is a perfectly calibrated model."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, k)) * spread
    true = (softmax(logits).cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return of(softmax(logits * sharp), true)


# Six pictures of two classes; confidences .55 .55 .7 .75 .9 .9, right: yes no yes no yes yes.
HAND = of(
    [[0.55, 0.45], [0.55, 0.45], [0.3, 0.7], [0.25, 0.75], [0.9, 0.1], [0.1, 0.9]],
    [0, 1, 1, 0, 0, 1],
)


def test_ece_by_hand():
    # Equal width, 5 bins: (.4, .6] holds .55 .55, (.6, .8] .7 .75, (.8, 1] .9 .9.
    expected = 2 / 6 * abs(0.5 - 0.55) + 2 / 6 * abs(0.5 - 0.725) + 2 / 6 * abs(1 - 0.9)
    assert calibration.ece(HAND, binning="equal_width", bins=5) == pytest.approx(expected, abs=1e-7)
    # Equal mass, 3 bins: the same pairs. Two bins: .55 .55 .7 and .75 .9 .9.
    assert calibration.ece(HAND, binning="equal_mass", bins=3) == pytest.approx(expected, abs=1e-7)
    expected = 0.5 * abs(2 / 3 - 1.8 / 3) + 0.5 * abs(2 / 3 - 2.55 / 3)
    assert calibration.ece(HAND, binning="equal_mass", bins=2) == pytest.approx(expected, abs=1e-7)


def test_brier_and_loss_by_hand():
    both = [2 * x**2 for x in (0.45, 0.55, 0.3, 0.75, 0.1, 0.1)]  # two classes: each misses by as much
    np.testing.assert_allclose(calibration.brier_scores(HAND), both, atol=1e-6)
    np.testing.assert_allclose(calibration.log_losses(HAND), -np.log([0.55, 0.45, 0.7, 0.25, 0.9, 0.9]), atol=1e-6)


def test_scores_against_scikit_learn():
    p = drawn(500, k=2, sharp=1.7)
    true, second = p.label.argmax(axis=1), p.probs[:, 1].astype(np.float64)
    assert calibration.brier_scores(p).mean() == pytest.approx(2 * brier_score_loss(true, second), abs=1e-6)
    assert calibration.log_losses(p).mean() == pytest.approx(log_loss(true, second), abs=1e-6)


@pytest.mark.parametrize("binning", ["equal_width", "equal_mass"])
def test_reliability_against_scikit_learn(binning):
    p = drawn(3000, sharp=1.6)
    sure, hit = calibration.confidence(p), calibration.hits(p)
    strategy = {"equal_width": "uniform", "equal_mass": "quantile"}[binning]
    share, mean = calibration_curve(hit, sure, n_bins=10, strategy=strategy)
    bins = calibration.reliability(p, binning=binning, bins=10)
    np.testing.assert_allclose([b.accuracy for b in bins], share, atol=0.005)  # edges are cut between other neighbours
    np.testing.assert_allclose([b.confidence for b in bins], mean, atol=0.005)
    gaps = sum(b.n / 3000 * abs(b.accuracy - b.confidence) for b in bins)
    assert calibration.ece(p, binning=binning, bins=10) == pytest.approx(gaps, abs=1e-12)
    assert all(b.low <= b.accuracy <= b.high for b in bins) and sum(b.n for b in bins) == 3000


def test_weights_count_as_copies_and_0_as_absence():
    weight = np.array([1, 2, 0, 3, 1, 1])
    copies = HAND.take(np.repeat(np.arange(6), weight))
    weighted = of(HAND.probs, HAND.label.argmax(axis=1), weight)
    for measure in (
        lambda p: calibration.ece(p, binning="equal_width"),
        lambda p: calibration.ece(p, binning="equal_mass", bins=3),
        selective.aurc,
        lambda p: scaling.fit(p, method="temperature").scale[0],
        lambda p: selective.answered(p, calibration.confidence(p) >= 0.72).risk,
    ):
        assert measure(weighted) == pytest.approx(measure(copies), abs=1e-9)


def test_chance_is_what_a_perfect_model_shows_and_the_interval_reaches_0():
    found = calibration.measure(drawn(1500), draws=300)
    for error in found.ece.values():
        assert error.chance * 0.5 < error.interval.value < error.chance_95 * 1.2
    assert found.ece["equal_mass"].interval.low == 0
    blunt = calibration.measure(drawn(1500, sharp=2.0), draws=300)
    assert blunt.ece["equal_mass"].interval.low > 3 * blunt.ece["equal_mass"].chance_95
    assert blunt.confidence > blunt.accuracy and blunt.nll.low < blunt.nll.value < blunt.nll.high
    assert json.loads(json.dumps(blunt.to_json()))["n"] == 1500


@pytest.mark.slow
@pytest.mark.parametrize("sharp", [1.0, 1.1, 1.3, 2.0])
@pytest.mark.parametrize("n", [500, 3000])
def test_9_of_10_ece_intervals_hold_the_truth(sharp, n):
    truth = calibration.ece(drawn(1_000_000, sharp=sharp, seed=99))
    held = 0
    for seed in range(100):
        interval = calibration.measure(drawn(n, sharp=sharp, seed=seed), draws=200).ece["equal_mass"].interval
        held += interval.low <= truth <= interval.high
    assert held >= 86  # 90 % less 1.3 standard deviations of 100 trials


def test_wilson_by_hand():
    low, high = calibration.wilson(0.8, 10)  # the example of Newcombe 1998: 0.490 to 0.943
    assert (low, high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))
    assert calibration.wilson(0.0, 5)[0] == 0 and calibration.wilson(1.0, 5)[1] == pytest.approx(1)


def test_what_cannot_be_measured_is_told():
    with pytest.raises(DataError, match="no example has a positive weight"):
        calibration.measure(of([[0.5, 0.5]], [0], [0]))
    with pytest.raises(DataError, match="NaN"):
        calibration.ece(of([[np.nan, 0.5]], [0]))


# --- scaling ---


@pytest.mark.parametrize("sharp", [0.5, 2.0])
def test_temperature_and_vector_scaling_recover_what_was_planted(sharp):
    p = drawn(20_000, sharp=sharp)
    assert scaling.fit(p, method="temperature").scale[0] == pytest.approx(1 / sharp, rel=0.03)
    bent = Predictions(
        probs=softmax(log_probs(p.probs) * 1.5 + np.linspace(-1, 1, 7)).astype(np.float32),
        label=p.label,
        weight=p.weight,
        id=p.id,
    )
    found = scaling.apply(scaling.fit(bent, method="vector"), bent)
    straight = scaling.apply(scaling.fit(p, method="temperature"), p)
    assert calibration.log_losses(found).mean() == pytest.approx(calibration.log_losses(straight).mean(), abs=1e-3)
    assert calibration.ece(found) < 0.015 < calibration.ece(bent)  # chance alone: 0.009


def test_vector_scaling_is_at_the_minimum():
    p = drawn(400, k=3, sharp=1.4)
    best = scaling.fit(p, method="vector")
    loss = calibration.log_losses(scaling.apply(best, p)).mean()
    rng = np.random.default_rng(0)
    for _ in range(50):
        other = scaling.Scaling(
            tuple(np.array(best.scale) * np.exp(rng.normal(0, 0.05, 3))), tuple(best.bias + rng.normal(0, 0.05, 3))
        )
        assert calibration.log_losses(scaling.apply(other, p)).mean() > loss - 1e-7


def test_ece_falls_below_2_percent_after_scaling():
    fitted, judged = drawn(5000, sharp=2.5, seed=1), drawn(20_000, sharp=2.5, seed=2)
    assert calibration.ece(judged) > 0.15
    for method in ("temperature", "vector"):
        assert calibration.ece(scaling.apply(scaling.fit(fitted, method=method), judged)) < 0.02


def test_the_simplest_method_wins_where_nothing_is_to_be_gained():
    # 14 numbers from a few pictures do not pay, one does where it is needed.
    assert [scaling.choose(drawn(n, sharp=2.0))[0] for n in (100, 300, 1000)] == ["temperature"] * 3
    method, losses = scaling.choose(drawn(4000))
    assert method == "none" and losses["none"] <= min(losses.values()) + 5e-4


def test_logit_adjustment_by_hand():
    prior = [0.8, 0.2]
    found = scaling.apply(scaling.Scaling.none(2).adjusted(prior, 1.0), of([[0.6, 0.4]], [0]))
    # .6 / .8 against .4 / .2
    np.testing.assert_allclose(found.probs, [[0.75 / 2.75, 2 / 2.75]], rtol=1e-6)
    half = scaling.Scaling.none(2).adjusted(prior, 0.5)
    assert half.bias[1] - half.bias[0] == pytest.approx(0.5 * math.log(4))
    never = scaling.Scaling.none(3).adjusted([0.5, 0.5, 0], 1.0)
    assert never.bias == pytest.approx((0, 0, 0))


def test_adjustment_gains_3_points_of_mean_class_accuracy_on_skewed_data():
    rng = np.random.default_rng(0)
    prior = np.array([0.55, 0.3, 0.1, 0.05])
    true = rng.choice(4, 20_000, p=prior)
    centre = np.eye(4)[true] * 2 + rng.normal(size=(20_000, 4))
    p = of(softmax(2 * centre + np.log(prior)), true)  # Bayes' rule for Gaussians at distance 2
    recall = [
        [calibration.hits(q)[true == k].mean() for k in range(4)]
        for q in (p, scaling.apply(scaling.Scaling.none(4).adjusted(prior, 1.0), p))
    ]
    assert np.mean(recall[1]) - np.mean(recall[0]) > 0.03


def test_cross_fitting_never_sees_what_it_predicts():
    p = drawn(53)
    seen = []

    def function(fitted, held):
        assert not set(fitted.id) & set(held.id)
        seen.extend(held.id)
        return held

    found = scaling.cross_fitted(p, function, folds=5, seed=0)
    assert sorted(seen) == sorted(p.id) and len(found.weight) == 53


@pytest.mark.parametrize(("scale", "bias"), [((1.0, 0.0), (0.0, 0.0)), ((1.0,), (0.0, 0.0)), ((1.0,), (math.inf,))])
def test_broken_scalings_are_refused(scale, bias):
    with pytest.raises(DataError, match="one scale above 0"):
        scaling.Scaling(scale, bias)


# --- selective answers ---


def test_risk_coverage_by_hand():
    found = selective.curve(HAND)  # by confidence: .9 .9 right, .75 wrong, .7 right, .55 one of two
    np.testing.assert_allclose(found.coverage, [2 / 6, 3 / 6, 4 / 6, 1])
    np.testing.assert_allclose(found.risk, [0, 1 / 3, 1 / 4, 2 / 6])
    np.testing.assert_allclose(found.threshold, [0.9, 0.75, 0.7, 0.55], atol=1e-6)
    assert selective.aurc(HAND) == pytest.approx((0 + 0 + 1 / 3 + 1 / 4 + 1 / 3 + 1 / 3) / 6)
    # The best order: four right answers first, then risks 1/5 and 2/6.
    assert selective.measure(HAND, draws=10).best_aurc == pytest.approx((1 / 5 + 2 / 6) / 6)
    found = selective.answered(HAND, calibration.confidence(HAND) >= 0.72)
    assert (found.coverage, found.risk) == (0.5, pytest.approx(1 / 3)) and found.low < 1 / 3 < found.high
    nothing = selective.answered(HAND, np.zeros(6, bool))
    assert (nothing.coverage, nothing.risk, nothing.low, nothing.high) == (0, 0, 0, 1)


def test_aurc_against_a_loop():
    p = drawn(300)
    order = np.argsort(-calibration.confidence(p))
    wrong = 1 - calibration.hits(p)[order]
    assert selective.aurc(p) == pytest.approx(np.mean([wrong[: i + 1].mean() for i in range(300)]), abs=1e-12)


def test_a_threshold_keeps_its_promise():
    judged = drawn(100_000, seed=1000, spread=3)
    kept = []
    for seed in range(60):
        found = selective.threshold(drawn(600, seed=seed, spread=3), risk=0.25)
        kept.append(selective.answered(judged, calibration.confidence(judged) >= found))
    assert sum(a.risk <= 0.25 for a in kept) >= 57  # promised for 95 %
    assert np.mean([a.coverage for a in kept]) > 0.2


def test_thresholds_that_need_nothing_or_cannot_be():
    assert selective.threshold(drawn(2000, spread=8), risk=0.5) == 0
    with pytest.raises(DataError, match="the least that can be promised is 0"):
        selective.threshold(drawn(100), risk=0.01)
    with pytest.raises(DataError, match="between 0 and 1"):
        selective.threshold(drawn(10), risk=1.0)


# --- conformal sets ---


def test_lac_and_aps_by_hand():
    p = of([[0.5, 0.3, 0.2], [0.1, 0.7, 0.2], [0.3, 0.3, 0.4], [0.6, 0.3, 0.1]], [0, 1, 0, 1])
    # lac: true scores .5 .3 .7 .7; coverage .5 of 4: the ceil(5 x .5) = 3rd smallest, .7
    sets = conformal.fit(p, kind="lac", coverage=0.5)
    assert sets.limit == pytest.approx(0.7)
    assert conformal.members(sets, p).tolist() == [[1, 1, 0], [0, 1, 0], [1, 1, 1], [1, 1, 0]]
    # aps: mass above the true class 0, 0, .4, .6; the 3rd smallest is .4
    sets = conformal.fit(p, kind="aps", coverage=0.5)
    assert sets.limit == pytest.approx(0.4)
    assert conformal.members(sets, p).tolist() == [[1, 0, 0], [0, 1, 0], [1, 0, 1], [1, 0, 0]]
    found = conformal.judge(sets, p)
    assert (found.coverage, found.size, found.single, found.empty) == (0.75, 1.25, 0.75, 0.0)
    assert found.per_class == {0: 1.0, 1: 0.5}


@pytest.mark.parametrize("kind", ["lac", "aps"])
@pytest.mark.parametrize("sharp", [1.0, 2.5])
def test_90_percent_sets_cover_90_percent(kind, sharp):
    sets = conformal.fit(drawn(20_000, sharp=sharp, seed=1), kind=kind, coverage=0.9)
    found = conformal.judge(sets, drawn(50_000, sharp=sharp, seed=2))
    assert 0.89 <= found.coverage <= 0.91
    assert found.low <= found.coverage <= found.high and 1 < found.size < 7


def test_coverage_is_exact_on_average_over_small_calibration_sets():
    p = drawn(300 * 30 + 20_000)
    judged = p.take(np.arange(300 * 30, 300 * 30 + 20_000))
    coverages = [
        conformal.judge(conformal.fit(p.take(np.arange(i * 30, (i + 1) * 30)), kind="lac", coverage=0.8), judged)
        for i in range(300)
    ]
    # 31 x .8 rounds up to the 25th of 30: the mean coverage is 25 / 31 whatever the model
    assert np.mean([c.coverage for c in coverages]) == pytest.approx(25 / 31, abs=0.013)


def test_the_spread_of_coverage_by_hand_and_by_simulation():
    assert conformal.spread(8, 0.9) == (1.0, 1.0)  # nine examples are the least
    low, high = conformal.spread(9, 0.9)  # the limit is the largest of nine: Beta(9, 1), whose distribution is x^9
    assert (low, high) == (pytest.approx(0.025 ** (1 / 9)), pytest.approx(0.975 ** (1 / 9)))
    low, high = conformal.spread(1000, 0.9)
    largest = np.sort(np.random.default_rng(0).random((4000, 1000)), axis=1)[:, 900]  # the 901st of 1000
    assert ((largest >= low) & (largest <= high)).mean() == pytest.approx(0.95, abs=0.012)


def test_the_ece_and_the_diagram_have_the_same_bins():
    for n in (30, 71, 299, 300, 4000):
        p = drawn(n, sharp=1.6)
        found = calibration.measure(p, draws=20)
        gaps = sum(b.n / n * abs(b.accuracy - b.confidence) for b in found.bins)
        assert found.ece["equal_mass"].interval.value == pytest.approx(gaps, abs=1e-9)
        assert len(found.bins) == calibration.bin_count(n, binning="equal_mass") == max(2, min(15, n // 20))
    assert calibration.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_too_few_examples_leave_every_class_in():
    sets = conformal.fit(drawn(8), kind="lac", coverage=0.9)
    assert sets.limit == math.inf and conformal.members(sets, drawn(5)).all()
    with pytest.raises(DataError, match="expected one of lac, aps"):
        conformal.fit(drawn(8), kind="raps", coverage=0.9)
    with pytest.raises(DataError, match="between 0 and 1"):
        conformal.fit(drawn(8), kind="aps", coverage=1.0)


def test_aps_sets_are_never_empty():
    sure = drawn(2000, spread=6)
    assert conformal.judge(conformal.fit(sure, kind="aps", coverage=0.6), sure).empty == 0
    assert conformal.judge(conformal.fit(sure, kind="lac", coverage=0.6), sure).empty > 0
