"""Intervals of a report and comparisons of two models, against sklearn, by hand, and by their coverage."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from emojax import cli, comparison, intervals, metrics, predictions_csv
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


def test_over_seeds_rarely_calls_chance_a_difference():
    """Recipes that differ in nothing but the luck of three seeds; skill and examples vary."""
    clear = 0
    for trial in range(40):
        rng = np.random.default_rng(trial)
        runs = [predictions(100, seed=trial, skill=1.5 + rng.normal(0, 0.5), noise=7 * trial + i) for i in range(6)]
        clear += comparison.over_seeds(runs[:3], runs[3:], draws=200)[0].clear
    assert clear <= 5, stats.binom.sf(5, 40, 0.05)


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
    found = json.loads(out.read_text())
    assert found["p"] < 1e-6 and found["numbers"][0]["name"] == "accuracy"
    assert cli.main(["compare", str(tmp_path / "one"), str(tmp_path / "two"), "--split=val"]) == 2
    assert "there are no predictions for val" in capsys.readouterr().err
