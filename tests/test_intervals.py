"""Intervals of a report and comparisons of two models, against sklearn, by hand, and by their coverage."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from emojax import bootstrap, calibration, cli, comparison, intervals, metrics, predictions_csv
from emojax.cli import evaluate
from emojax.errors import DataError
from emojax.types import Predictions

NAMES = ("a", "b", "c", "d")


def predictions(n=300, *, skill=1.5, seed=0, noise=0) -> Predictions:
    """The same labels for the same n; `noise` draws other mistakes."""
    rng = np.random.default_rng(seed)
    label = np.eye(4, dtype=np.float32)[rng.choice(4, n, p=[0.5, 0.3, 0.15, 0.05])]
    logits = skill * label + np.random.default_rng(100 + noise).normal(size=(n, 4))
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return Predictions(
        probs.astype(np.float32), label, np.ones(n, np.float32), np.array([f"{i}.png" for i in range(n)])
    )


def test_a_resample_has_the_numbers_of_sklearn():
    p = predictions()
    rng = np.random.default_rng(1)
    for _ in range(5):
        counts = rng.multinomial(len(p.id), np.ones(len(p.id)) / len(p.id)).astype(np.float64)
        drawn = np.repeat(np.arange(len(p.id)), counts.astype(int))
        true, said = p.label[drawn].argmax(1), p.probs[drawn].argmax(1)
        found = dict(zip(metrics.NUMBERS, intervals.statistic(p)(p, counts[None])[0], strict=False))
        assert found["accuracy"] == pytest.approx(sk.accuracy_score(true, said), abs=1e-9)
        assert found["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(true, said), abs=1e-9)
        assert found["macro_f1"] == pytest.approx(sk.f1_score(true, said, average="macro"), abs=1e-9)
        assert found["weighted_f1"] == pytest.approx(sk.f1_score(true, said, average="weighted"), abs=1e-9)
        top2 = sk.top_k_accuracy_score(true, p.probs[drawn], k=2, labels=range(4))
        assert found["top2_accuracy"] == pytest.approx(top2, abs=1e-9)
        assert found["loss"] == pytest.approx(sk.log_loss(true, p.probs[drawn], labels=range(4)), abs=1e-5)


def test_the_table_of_classes_has_intervals_in_the_terminal():
    p = predictions()
    found, report = intervals.of(p), metrics.evaluate(p, NAMES)
    titles, *rows = evaluate._text("val", report, found).splitlines()[-5:]
    assert titles.split() == ["class", "precision", "95", "%", "recall", "95", "%", "F1", "95", "%", "support"]
    for line, row, bounds in zip(rows, report.per_class, found.per_class, strict=True):
        for key in ("precision", "recall", "f1"):
            assert f"{getattr(row, key):.3f}  {bounds[key][0]:.3f} to {bounds[key][1]:.3f}" in line
        assert len(line) == len(titles) and line.endswith(f" {row.support:g}"), "aligned"


def test_every_number_lies_in_its_interval():
    p = predictions()
    found, report = intervals.of(p), metrics.evaluate(p, NAMES)
    for name, (low, high) in found.numbers.items():
        assert low < report.number(name) < high
    low, high = found.numbers["accuracy"]
    error = (report.accuracy * (1 - report.accuracy) / 300) ** 0.5
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.1)
    assert found == intervals.of(p), "the same seed gives the same intervals"
    for row, bounds in zip(report.per_class, found.per_class, strict=True):
        assert bounds["f1"][0] <= row.f1 <= bounds["f1"][1]
    rare, common = found.per_class[3]["recall"], found.per_class[0]["recall"]
    assert rare[1] - rare[0] > 2 * (common[1] - common[0])


PRIOR = (0.43, 0.22, 0.1, 0.09, 0.09, 0.05, 0.02)


def few(n, *, sharp, seed) -> Predictions:
    """A skewed split of seven classes, told by Bayes' rule."""
    rng = np.random.default_rng(seed)
    true = rng.choice(7, n, p=PRIOR)
    logits = sharp * (rng.normal(size=(n, 7)) + sharp * np.eye(7)[true]) + np.log(PRIOR)
    probs = np.exp(logits - logits.max(1, keepdims=True))
    probs /= probs.sum(1, keepdims=True)
    one_hot = np.eye(7, dtype=np.float32)[true]
    return Predictions(probs.astype(np.float32), one_hot, np.ones(n, np.float32), np.arange(n).astype(str))


@pytest.mark.parametrize(("n", "sharp"), [(57, 3.5), (71, 2.0)])
def test_coverage_on_few_images_and_few_mistakes(n, sharp):
    """Percentiles of resamples held the truth in 53 to 91 %, and had no width for half of the classes at n = 57."""
    names = tuple("abcdefg")
    truth, runs = metrics.evaluate(few(200_000, sharp=sharp, seed=0), names), 150
    held, classes = dict.fromkeys(metrics.NUMBERS, 0), []
    for seed in range(1, runs + 1):
        found = intervals.of(few(n, sharp=sharp, seed=seed), draws=300)
        for name, (low, high) in found.numbers.items():
            assert low < high
            held[name] += low <= truth.number(name) <= high
        for row, bounds in zip(truth.per_class, found.per_class, strict=True):
            low, high = bounds["f1"]
            assert low != high
            classes += [low <= row.f1 <= high] if np.isfinite(low) else []
    assert np.mean(classes) > 0.92
    least = {"accuracy": 0.91, "top2_accuracy": 0.91, "weighted_f1": 0.9}  # 2.5 standard deviations of 150 trials
    assert all(count / runs > least.get(name, 0.83) for name, count in held.items()), held


def test_the_interval_of_macro_f1_does_not_begin_at_the_number_itself():
    """Two images a class of 21, of which a quarter is right: the bias on few images is as large as the interval."""
    rng, names = np.random.default_rng(0), tuple(map(str, range(21)))
    for _ in range(20):
        true = rng.integers(0, 21, 49)
        said = np.where(rng.random(49) < 0.25, true, rng.integers(0, 21, 49))
        low, _ = intervals.of_confusion(*intervals.confusions(true, said, np.ones(49), k=21)).numbers["macro_f1"]
        one_hot = np.eye(21, dtype=np.float32)
        p = Predictions(one_hot[said], one_hot[true], np.ones(49, np.float32), np.arange(49).astype(str))
        assert low < metrics.evaluate(p, names).macro_f1 - 0.02


def test_intervals_by_hand():
    """Two classes, ten images each; 10 and 8 right. J of the first is 10 / 12, of the second 8 / 10."""
    found = intervals.of_confusion(*[np.array([[10.0, 0.0], [2.0, 8.0]])] * 2)
    wilson = calibration.wilson
    first, second = found.per_class
    assert found.numbers["accuracy"] == pytest.approx(wilson(0.9, 20))
    assert first["recall"] == pytest.approx(wilson(1.0, 10)) and second["precision"] == pytest.approx(wilson(1.0, 8))
    assert first["f1"] == pytest.approx(tuple(2 * j / (1 + j) for j in wilson(10 / 12, 12)))
    (low, one), (down, up) = wilson(1.0, 10), wilson(0.8, 10)
    least = 0.5 * 1.96 * (0.8 * 0.2 / 9) ** 0.5  # of the mean of 1.0, which varies not at all, and 0.8
    balanced = (
        0.9 - max(least, 0.5 * ((1 - low) ** 2 + (0.8 - down) ** 2) ** 0.5),
        min(1.0, 0.9 + max(least, 0.5 * ((one - 1) ** 2 + (up - 0.8) ** 2) ** 0.5)),
    )
    assert found.numbers["balanced_accuracy"] == pytest.approx(balanced)
    never = intervals.of_confusion(*[np.array([[10.0, 0.0, 0.0], [2.0, 8.0, 0.0], [0.0, 0.0, 0.0]])] * 2)
    assert all(np.isnan(bounds).all() for bounds in never.per_class[2].values())
    assert never.numbers["macro_f1"] == pytest.approx(found.numbers["macro_f1"])


def test_correlations_of_f1_are_those_of_the_bootstrap():
    p = few(3000, sharp=1.2, seed=3)
    drawn = np.concatenate([intervals.statistic(p)(p, part) for part in bootstrap.weights(p, draws=3000)])[:, -7:]
    report = metrics.evaluate(p, tuple("abcdefg"))
    confusion = np.array(report.confusion, np.float64)
    f1 = np.array([row.f1 for row in report.per_class])
    found = intervals._correlations(confusion, f1, confusion.sum(0) + confusion.sum(1))
    np.testing.assert_allclose(found, np.corrcoef(drawn.T), atol=0.07)
    for name, column in (("macro_f1", 2), ("weighted_f1", 3)):
        whole = np.concatenate([intervals.statistic(p)(p, part) for part in bootstrap.weights(p, draws=1000)])
        low, high = intervals.of(p).numbers[name]
        assert high - low == pytest.approx(2 * 1.96 * whole[:, column].std(), rel=0.12)


def test_weights_count_by_their_effective_number():
    p = few(400, sharp=1.5, seed=1)
    double = dataclasses.replace(p, weight=np.full(400, 2, np.float32))
    once, twice = (np.array(list(intervals.of(q).numbers.values())) for q in (p, double))
    np.testing.assert_allclose(twice, once, atol=1e-9)
    uneven = dataclasses.replace(p, weight=np.where(np.arange(400) < 200, 1, 0.01).astype(np.float32))
    low, high = intervals.of(uneven).numbers["accuracy"]
    half, other = intervals.of(p.take(np.arange(200))).numbers["accuracy"]
    assert high - low == pytest.approx(other - half, rel=0.1)


def test_the_mean_of_skewed_values():
    """A hundred values, two of them large: percentiles end too early; and equal values need no interval."""
    values = np.r_[np.zeros(98), 5.0, 8.0]
    p = few(100, sharp=1.0, seed=0)
    plain, found = bootstrap.interval(p, bootstrap.mean(lambda _: values)), bootstrap.mean_interval(p, values)
    assert found.value == plain.value == pytest.approx(0.13) and found.low >= 0
    assert found.high > plain.high + 0.1
    assert bootstrap.mean_interval(p, np.ones(100)) == (1, 1, 1)
    weight = np.r_[np.zeros(50), np.ones(50)].astype(np.float32)
    half = dataclasses.replace(p, weight=weight)
    rest = bootstrap.mean_interval(p.take(np.arange(50, 100)), values[50:])
    assert bootstrap.mean_interval(half, values) == pytest.approx(rest)


def test_coverage():
    """Of 95 % intervals of the accuracy, about 95 % hold the truth: 200 draws, binomial bounds at 3 sigma."""
    truth = metrics.evaluate(predictions(200_000, seed=5, noise=9), NAMES).accuracy
    hits = 0
    for seed in range(200):
        low, high = intervals.of(predictions(200, seed=seed + 10, noise=seed), draws=300).numbers["accuracy"]
        hits += low <= truth <= high
    assert 0.90 <= hits / 200 <= 0.985


def test_comparison_by_hand():
    """Ten examples; a alone is right on two, b alone on five: p = 2 P(X <= 2) for seven fair coins."""
    label = np.eye(2, dtype=np.float32)[np.zeros(10, int)]

    def of(right: str) -> Predictions:
        probs = np.array([[0.9, 0.1] if x == "1" else [0.1, 0.9] for x in right], np.float32)
        return Predictions(probs, label, np.ones(10, np.float32), np.array(list("abcdefghij")))

    found = comparison.compare(of("1111000000"), of("0011111110"), ("x", "y"))
    assert (found.only_a, found.only_b, found.n) == (2, 5, 10)
    assert found.p == pytest.approx(2 * (1 + 7 + 21) / 2**7)
    accuracy = found.numbers[0]
    assert (accuracy.name, accuracy.a, accuracy.b) == ("accuracy", pytest.approx(0.4), pytest.approx(0.7))
    assert accuracy.low < 0.3 < accuracy.high and not accuracy.clear
    assert [row.name for row in found.f1] == ["x", "y"]


def test_pairing_is_sharper_than_two_intervals_and_the_order_does_not_matter():
    a = predictions(2000)
    better = a.probs.copy()
    wrong = np.flatnonzero(a.probs.argmax(1) != a.label.argmax(1))[:60]
    better[wrong] = 0.97 * a.label[wrong] + 0.01
    order = np.random.default_rng(0).permutation(2000)
    b = Predictions(better[order], a.label[order], a.weight, a.id[order])
    found = comparison.compare(a, b, NAMES)
    row = found.numbers[0]
    assert row.clear and row.b - row.a == pytest.approx(0.03)
    low, high = intervals.of(a).numbers["accuracy"]
    assert row.high - row.low < 0.5 * (high - low)
    assert found.only_a == 0 and found.only_b == 60 and found.p < 1e-6
    same = comparison.compare(a, a, NAMES)
    assert same.p == 1 and all(row.low == row.high == 0 for row in same.numbers)


def test_no_difference_is_rarely_clear():
    """Two equally good models: the interval of the difference leaves out 0 in about 5 % of the cases."""
    clear = p = 0
    for seed in range(100):
        a, b = predictions(300, seed=seed, noise=2 * seed), predictions(300, seed=seed, noise=2 * seed + 1)
        found = comparison.compare(a, b, NAMES, draws=300)
        clear += found.numbers[0].clear
        p += found.p < 0.05
    assert clear <= 13 and p <= 11, stats.binom.sf([13, 11], 100, 0.05)


def test_over_seeds_by_hand():
    """Ten examples, two seeds each: means over seeds, and an interval that grows with what lies between the seeds."""
    label = np.eye(2, dtype=np.float32)[np.zeros(10, int)]

    def of(right: int) -> Predictions:
        probs = np.array([[0.9, 0.1] if i < right else [0.1, 0.9] for i in range(10)], np.float32)
        return Predictions(probs, label, np.ones(10, np.float32), np.arange(10).astype(str))

    steady = comparison.over_seeds([of(4), of(4), of(4)], [of(7), of(7), of(7)])[0]
    assert (steady.name, steady.a, steady.b) == ("accuracy", pytest.approx(0.4), pytest.approx(0.7))
    alone = comparison.compare(of(4), of(7), ("x", "y")).numbers[0]
    assert (steady.low, steady.high) == pytest.approx((alone.low, alone.high)), "seeds that agree add nothing"
    uneven = comparison.over_seeds([of(4), of(4), of(4)], [of(4), of(7), of(10)])[0]
    assert uneven.b == pytest.approx(0.7) and uneven.high - uneven.low > 1.5 * (steady.high - steady.low)
    # The same seeds go up and down together: their differences agree, and only those count.
    paired = comparison.over_seeds([of(1), of(3), of(5)], [of(4), of(6), of(8)])[0]
    assert paired.b - paired.a == pytest.approx(0.3)
    assert paired.high - paired.low < 0.8 * (uneven.high - uneven.low)
    with pytest.raises(DataError, match="found 1 and 2"):
        comparison.over_seeds([of(1)], [of(1), of(2)])


def test_shares_never_differ_by_more_than_they_can():
    """Two seeds are stretched by 9: "-5.2 | -176.9 to +144.5 points" was printed."""
    pair = [predictions(60, skill=skill, noise=i) for i, skill in enumerate((0.1, 6.0, 5.0, 0.2))]
    found = comparison.over_seeds(pair[:2], pair[2:])
    assert all(-1 <= row.low < row.high <= 1 for row in found if row.name != "loss") and found[0].low == -1
    loss = next(row for row in found if row.name == "loss")
    assert loss.low < -1 or loss.high > 1, "nats have no such bound"


def test_p_values_are_never_shown_as_nothing():
    assert [comparison.shown(p) for p in (0.0, 0.00049, 0.001, 0.05, 1.0)] == (
        ["<0.001", "<0.001", "0.001", "0.050", "1.000"]
    )


def test_over_seeds_rarely_calls_chance_a_difference():
    """Recipes that differ in nothing but the luck of three seeds; skill and examples vary."""
    clear = 0
    for trial in range(40):
        rng = np.random.default_rng(trial)
        runs = [predictions(100, seed=trial, skill=1.5 + rng.normal(0, 0.5), noise=7 * trial + i) for i in range(6)]
        clear += comparison.over_seeds(runs[:3], runs[3:], draws=200)[0].clear
    assert clear <= 5, stats.binom.sf(5, 40, 0.05)


@pytest.mark.parametrize(("n", "k"), [(71, 7), (500, 21)])
def test_equal_models_rarely_have_any_clear_row(n, k):
    """Row by row, 43 % (n = 71, K = 7) and 72 % (500, 21) of comparisons of equal models had a "clear" difference."""
    rng, names, clear, runs = np.random.default_rng(0), tuple(map(str, range(k))), 0, 60
    for _ in range(runs):
        label = np.eye(k, dtype=np.float32)[rng.integers(0, k, n)]
        pair = []
        for _ in range(2):
            logits = 2 * (rng.normal(size=(n, k)) + 2 * label)
            probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
            pair.append(Predictions(probs.astype(np.float32), label, np.ones(n, np.float32), np.arange(n).astype(str)))
        found = comparison.compare(*pair, names, draws=200)
        clear += any(row.clear for row in (*found.numbers, *found.f1))
    assert clear <= 9, "5 % of 60 and 3.5 standard deviations"


def test_what_cannot_be_compared():
    a = predictions()
    other = dataclasses.replace(a, id=np.array([f"x{i}" for i in range(300)]))
    with pytest.raises(DataError, match=r"different examples: 300 and 300, of which 300 .* such as 0\.png"):
        comparison.compare(a, other, NAMES)
    with pytest.raises(DataError, match="different labels"):
        comparison.compare(a, dataclasses.replace(a, label=np.roll(a.label, 1, axis=1)), NAMES)


def test_the_verb(tmp_path, capsys):
    for name, p in (("one", predictions(skill=1.0, noise=1)), ("two", predictions(skill=3.0))):
        (tmp_path / name / "report").mkdir(parents=True)
        predictions_csv.write(tmp_path / name / "report" / "test-predictions.csv", p, NAMES)
    out = tmp_path / "found.json"
    assert cli.main(["compare", str(tmp_path / "one"), str(tmp_path / "two"), f"--json={out}"]) == 0
    text = capsys.readouterr().out
    assert "two is right more often" in text and "clear" in text and "macro-F1" in text
    assert "with all 10 rows taken together" in text
    found = json.loads(out.read_text())
    assert found["p"] < 1e-6 and found["numbers"][0]["name"] == "accuracy"
    assert cli.main(["compare", str(tmp_path / "one"), str(tmp_path / "two"), "--split=val"]) == 2
    assert "there are no predictions for val" in capsys.readouterr().err
