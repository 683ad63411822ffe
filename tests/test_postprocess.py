"""Post-processing: the seed's rule by hand, a planted temperature, and a fit that never makes its own split worse."""

import dataclasses

import numpy as np
import pytest

from emojax import metrics, postprocess
from emojax.errors import DataError
from emojax.postprocess import SEED_000, PostProcess
from emojax.types import Predictions

SEVEN = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")


def make(true, probs, weight=None):
    probs = np.asarray(probs, np.float32)
    return Predictions(
        probs=probs,
        label=np.eye(probs.shape[1], dtype=np.float32)[np.asarray(true)],
        weight=np.ones(len(probs), np.float32) if weight is None else np.asarray(weight, np.float32),
        id=np.array([f"{i}.png" for i in range(len(probs))]),
    )


def report(predictions):
    return metrics.evaluate(predictions, tuple(f"class{i}" for i in range(predictions.probs.shape[1])))


def planted(temperature, *, n=20000, k=5, seed=0):
    """True classes drawn from probabilities p; the model says softmax(temperature log p), so it is off by that."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.standard_normal((n, k))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    true = (rng.random((n, 1)) > p.cumsum(axis=1)).sum(axis=1).clip(0, k - 1)
    said = p**temperature
    return make(true, said / said.sum(axis=1, keepdims=True))


def test_the_seeds_rule_by_hand():
    post = dataclasses.replace(SEED_000.resolve(SEVEN), temperature=1.0)
    rows = {
        "angry .34 < .35 and disgust .16 behind by .18 < .4": [0.34, 0.16, 0.10, 0.10, 0.10, 0.10, 0.10],
        "angry .36 is sure enough": [0.36, 0.14, 0.10, 0.10, 0.10, 0.10, 0.10],
        "sad .39 < .40, neutral behind by .19 < .3": [0.10, 0.08, 0.08, 0.07, 0.20, 0.39, 0.08],
        "happy .24 < .25, but happy and sad are no pair": [0.12, 0.10, 0.10, 0.24, 0.14, 0.20, 0.10],
        "disgust .44 < .45, angry behind by .30 < .4": [0.14, 0.44, 0.10, 0.10, 0.10, 0.06, 0.06],
    }
    before = make([0] * 5, list(rows.values()))
    after = postprocess.apply(post, before)
    assert [SEVEN[i] for i in after.probs.argmax(axis=1)] == ["disgust", "angry", "neutral", "happy", "angry"]
    np.testing.assert_allclose(after.probs[0], [0.16, 0.34, 0.1, 0.1, 0.1, 0.1, 0.1], atol=1e-6)
    np.testing.assert_allclose(after.probs.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(after.probs[[1, 3]], before.probs[[1, 3]], atol=1e-6)


def test_the_margin_bounds_the_gap():
    probs = [[0.5, 0.3, 0.2]]
    for margin, decision in ((0.19, 0), (0.21, 1)):
        post = PostProcess(temperature=1.0, threshold=(1.0, 0.0, 0.0), pairs=((1, 0, margin),))
        assert postprocess.apply(post, make([0], probs)).probs.argmax() == decision


def test_temperature_by_hand():
    """(.8, .2) at temperature 2: odds of 4 become odds of 2."""
    post = PostProcess(temperature=2.0, threshold=(0.0, 0.0))
    np.testing.assert_allclose(postprocess.apply(post, make([0], [[0.8, 0.2]])).probs, [[2 / 3, 1 / 3]], atol=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_fit_recovers_a_planted_temperature(temperature):
    assert postprocess.fit(planted(temperature)).temperature == pytest.approx(temperature, rel=0.05)


def test_fit_temperature_is_the_best_on_a_dense_grid():
    predictions = planted(1.7, n=500, seed=4)
    fitted = postprocess.fit(predictions).temperature

    def loss(t):
        return report(postprocess.apply(PostProcess(t, (0.0,) * 5), predictions)).loss

    best = min(np.geomspace(0.1, 10, 400), key=loss)
    assert fitted == pytest.approx(best, rel=0.02) and loss(fitted) <= loss(best) + 1e-7


def test_temperature_is_bounded_where_every_decision_is_right():
    assert postprocess.fit(make([0, 1], [[0.9, 0.1], [0.2, 0.8]])).temperature == pytest.approx(0.1)
    assert postprocess.fit(make([1, 0], [[0.9, 0.1], [0.2, 0.8]])).temperature == pytest.approx(10)


def biased(n=600, seed=0):
    """Three classes; class 1 loses a quarter of its examples to class 0 by a little, class 2 is always right."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, 3, n)
    probs = np.full((n, 3), 0.1)
    probs[np.arange(n), true] = 0.8
    lost = (true == 1) & (rng.random(n) < 0.25)
    probs[lost] = [0.45, 0.40, 0.15]
    return make(true, probs)


def test_fit_repairs_a_systematic_confusion():
    val, test = biased(seed=0), biased(seed=1)
    post = postprocess.fit(val)
    assert [pair[:2] for pair in post.pairs] == [(0, 1)] and post.pairs[0][2] > 0
    assert post.threshold[1] == post.threshold[2] == 0  # only decisions for class 0 are ever reversed
    for split in (val, test):
        assert report(split).accuracy < 0.95 and report(postprocess.apply(post, split)).accuracy == 1


@pytest.mark.parametrize("seed", range(8))
def test_fit_never_makes_its_own_split_worse(seed):
    rng = np.random.default_rng(seed)
    k = int(rng.integers(2, 9))
    predictions = make(rng.integers(0, k, 80), rng.dirichlet(np.ones(k), 80), rng.random(80).round(2))
    post = postprocess.fit(predictions)
    after = postprocess.apply(post, predictions)
    assert report(after).accuracy >= report(predictions).accuracy - 1e-9
    only = postprocess.apply(dataclasses.replace(post, pairs=()), predictions)
    assert report(only).loss <= report(predictions).loss + 1e-6
    np.testing.assert_allclose(after.probs.sum(axis=1), 1, atol=1e-6)


def test_fit_stays_off_where_nothing_helps():
    rng = np.random.default_rng(0)
    true = rng.integers(0, 4, 200)
    probs = 0.08 + 0.68 * np.eye(4)[true]
    probs[0] = np.roll(probs[0], 1)  # one mistake, far from a swap
    post = postprocess.fit(make(true, probs))
    assert post.threshold == (0,) * 4 and all(margin == 0 for *_, margin in post.pairs)


def test_fit_uses_only_what_it_is_given():
    """Rows of weight 0 do not count; what becomes of a row of the test split depends on no label and no other row."""
    val, other = planted(1.5, n=300), planted(3.0, n=200, seed=1)
    both = Predictions(
        probs=np.concatenate([val.probs, other.probs]),
        label=np.concatenate([val.label, other.label]),
        weight=np.concatenate([val.weight, 0 * other.weight]),
        id=np.concatenate([val.id, other.id]),
    )
    post = postprocess.fit(val)
    assert postprocess.fit(both) == post
    relabelled = dataclasses.replace(other, label=np.roll(other.label, 1, axis=1))
    whole = postprocess.apply(post, other)
    np.testing.assert_array_equal(postprocess.apply(post, relabelled).probs, whole.probs)
    few = Predictions(probs=other.probs[:7], label=other.label[:7], weight=other.weight[:7], id=other.id[:7])
    np.testing.assert_array_equal(postprocess.apply(post, few).probs, whole.probs[:7])
    assert np.array_equal(whole.id, other.id) and whole.label is other.label


def test_given_pairs_are_the_only_ones():
    pairs = [(i, j) for i, j, _ in SEED_000.resolve(SEVEN).pairs]
    post = postprocess.fit(planted(1.0, n=400, k=7), pairs=pairs)
    assert [(i, j) for i, j, _ in post.pairs] == pairs == [(0, 1), (0, 4), (0, 5), (2, 6), (4, 5)]


def test_json_and_class_order():
    post = postprocess.fit(biased())
    names = [f"class {k}" for k in range(len(post.threshold))]
    assert PostProcess.from_json(post.to_json(names), names) == post
    with pytest.raises(DataError, match="is for the classes class 0, class 1"):
        PostProcess.from_json(post.to_json(names), names[::-1])
    turned = SEED_000.resolve(("contempt", *SEVEN[::-1]))
    assert turned.threshold[:2] == (0.0, 0.30) and turned.pairs[0] == (7, 6, 0.4)


def test_errors():
    with pytest.raises(DataError, match="temperature must be above 0, found 0"):
        PostProcess(0.0, (0.0, 0.0))
    with pytest.raises(DataError, match=r"listed once; found \(1, 0\)"):
        PostProcess(1.0, (0.0, 0.0), ((0, 1, 0.1), (1, 0, 0.2)))
    with pytest.raises(DataError, match=r"0 to 2.*found \(0, 3\)"):
        postprocess.fit(biased(), pairs=[(0, 3)])
    with pytest.raises(DataError, match="no example has a positive weight"):
        postprocess.fit(make([0], [[0.5, 0.5]], [0]))
    with pytest.raises(DataError, match="for 2 classes, the predictions have 3"):
        postprocess.apply(PostProcess(1.0, (0.0, 0.0)), biased())
    with pytest.raises(DataError, match="classes angry, happy, but there are joy"):
        dataclasses.replace(SEED_000, threshold={"angry": 0.1, "happy": 0.1}).resolve(("joy",))
    for text in (
        "[]",
        "{",
        '{"class_names": ["a"], "temperature": 1, "threshold": 3, "pairs": []}',
        '{"temperature": 1}',
    ):
        with pytest.raises(DataError, match=r"file\.json: expected class_names, temperature"):
            PostProcess.from_json(text, ["a"], where="file.json")
