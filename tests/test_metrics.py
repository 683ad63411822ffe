"""Metrics by hand, against scikit-learn, and under weights; `TrainMetrics` inside jit."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emojax import metrics
from emojax.errors import ConfigError, DataError
from emojax.types import Predictions

sklearn_metrics = pytest.importorskip("sklearn.metrics")


def make(true, probs, weight=None, slices=None) -> Predictions:
    probs = np.asarray(probs, np.float32)
    n, k = probs.shape
    label = np.asarray(true, np.float32) if np.ndim(true) == 2 else np.eye(k, dtype=np.float32)[np.asarray(true)]
    return Predictions(
        probs=probs,
        label=label,
        weight=np.ones(n, np.float32) if weight is None else np.asarray(weight, np.float32),
        id=np.array([f"image{i}" for i in range(n)]),
        slices=slices or {},
    )


def names(k: int) -> tuple[str, ...]:
    return tuple(f"class{i}" for i in range(k))


def random_predictions(seed: int, *, n: int, k: int, classes: list[int] | None = None, weight=None) -> Predictions:
    rng = np.random.default_rng(seed)
    return make(rng.choice(classes or k, size=n), rng.dirichlet(np.ones(k), size=n), weight)


def test_by_hand() -> None:
    # true 0 0 0 1 1, predicted 0 0 1 1 0: confusion [[2, 1], [1, 1]]
    probs = [[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.3, 0.7], [0.5, 0.5]]
    report = metrics.evaluate(make([0, 0, 0, 1, 1], probs), ("glad", "sad"))
    assert report.confusion == ((2, 1), (1, 1)) and isinstance(report.confusion[0][0], int)
    assert report.n == 5 and report.weight == 5
    assert report.accuracy == pytest.approx(3 / 5)
    assert report.balanced_accuracy == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert report.macro_f1 == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert report.weighted_f1 == pytest.approx((3 * 2 / 3 + 2 * 1 / 2) / 5)
    assert report.top2_accuracy == 1
    assert report.loss == pytest.approx(-np.log([0.9, 0.8, 0.4, 0.7, 0.5]).mean(), abs=1e-7)
    assert report.row_percent[0] == pytest.approx((200 / 3, 100 / 3))
    assert report.weak_classes == ("sad",)
    glad = report.per_class[0]
    assert (glad.name, glad.support) == ("glad", 3)
    assert (glad.precision, glad.recall, glad.f1) == pytest.approx((2 / 3, 2 / 3, 2 / 3))


CASES = {
    "random": random_predictions(0, n=500, k=7),
    "many classes": random_predictions(1, n=300, k=21),
    "absent classes": random_predictions(2, n=40, k=8, classes=[1, 5]),
    "single example": random_predictions(3, n=1, k=4),
    "one class predicted": make([0, 1, 2, 1], [[0.9, 0.05, 0.05]] * 4),
    "nothing right": make([1, 1, 1], [[0.9, 0.05, 0.05]] * 3),
    "two classes": random_predictions(4, n=30, k=2),
    "weights": random_predictions(5, n=200, k=5, weight=np.random.default_rng(9).uniform(0.1, 3, 200)),
}


@pytest.mark.parametrize("case", CASES)
def test_equals_scikit_learn(case: str) -> None:
    p = CASES[case]
    k = p.probs.shape[1]
    report = metrics.evaluate(p, names(k))
    true, predicted, w = p.label.argmax(1), p.probs.argmax(1), p.weight.astype(np.float64)
    near = {"rel": 0, "abs": 1e-9}
    sk = sklearn_metrics
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about classes only predicted, and float32 rows that sum to 1 + 1e-7
        assert report.balanced_accuracy == pytest.approx(
            sk.balanced_accuracy_score(true, predicted, sample_weight=w), **near
        )
        loss = sk.log_loss(true, p.probs.astype(np.float64), labels=range(k), sample_weight=w)
        assert report.loss == pytest.approx(loss, **near)
    f1 = {"sample_weight": w, "zero_division": 0}
    assert report.accuracy == pytest.approx(sk.accuracy_score(true, predicted, sample_weight=w), **near)
    assert report.macro_f1 == pytest.approx(sk.f1_score(true, predicted, average="macro", **f1), **near)
    assert report.weighted_f1 == pytest.approx(sk.f1_score(true, predicted, average="weighted", **f1), **near)
    if k > 2:
        top2 = sk.top_k_accuracy_score(true, p.probs, k=2, labels=range(k), sample_weight=w)
        if not case.startswith(("one class", "nothing")):  # ties: scikit-learn prefers the last class
            assert report.top2_accuracy == pytest.approx(top2, **near)
    table = sk.precision_recall_fscore_support(true, predicted, labels=range(k), **f1)
    ours = [[row.precision, row.recall, row.f1, row.support] for row in report.per_class]
    np.testing.assert_allclose(np.array(ours).T, np.array(table), rtol=0, atol=1e-9)
    confusion = sk.confusion_matrix(true, predicted, labels=range(k), sample_weight=w)
    np.testing.assert_allclose(report.confusion, confusion, rtol=0, atol=1e-9)


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """torch, in float64 throughout: torchmetrics divides counts in float32, which would agree to 1e-7 only."""
    torch = pytest.importorskip("torch", reason="needs torchmetrics")
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield torch
    torch.set_default_dtype(before)


@pytest.mark.peers
@pytest.mark.parametrize("case", [case for case in CASES if case != "weights"])  # torchmetrics knows no weights
def test_equals_torchmetrics(case: str, double: Any) -> None:
    functional = pytest.importorskip("torchmetrics.functional", reason="needs torchmetrics")
    p = CASES[case]
    k = p.probs.shape[1]
    probs = p.probs.astype(np.float64)
    report = metrics.evaluate(p, names(k))
    given, true = double.tensor(probs), double.tensor(p.label.argmax(1))
    near, one = {"rel": 0, "abs": 1e-9}, functional.classification

    def of(name: str, **options: Any) -> Any:
        found = getattr(one, f"multiclass_{name}")(given, true, num_classes=k, **options)
        assert not found.is_floating_point() or found.dtype == double.float64
        return found.numpy()

    assert report.accuracy == pytest.approx(float(of("accuracy", average="micro")), **near)
    support = of("stat_scores", average=None)[:, 4]
    recall = of("recall", average=None)
    assert report.balanced_accuracy == pytest.approx(float(recall[support > 0].mean()), **near)
    assert report.macro_f1 == pytest.approx(float(of("f1_score", average="macro")), **near)
    assert report.weighted_f1 == pytest.approx(float(of("f1_score", average="weighted")), **near)
    if not case.startswith(("one class", "nothing")):  # ties: torch promises no order
        assert report.top2_accuracy == pytest.approx(float(of("accuracy", average="micro", top_k=2)), **near)
    perplexity = functional.text.perplexity(given.log()[None], true[None])
    rounding = np.log(probs.sum(1)).mean()  # perplexity divides each row by its sum; float32 rows sum to 1 + 1e-7
    assert report.loss == pytest.approx(float(perplexity.log()) - rounding, **near)
    table = [of("precision", average=None), recall, of("f1_score", average=None), support]
    ours = [[row.precision, row.recall, row.f1, row.support] for row in report.per_class]
    np.testing.assert_allclose(np.array(ours).T, np.array(table), rtol=0, atol=1e-9)
    np.testing.assert_array_equal(np.array(report.confusion), of("confusion_matrix"))


def test_weight_zero_changes_nothing() -> None:
    p = random_predictions(6, n=50, k=4)
    rng = np.random.default_rng(7)
    junk = rng.dirichlet(np.ones(4), size=20).astype(np.float32)
    junk[3] = np.nan
    padded = Predictions(
        probs=np.concatenate([p.probs, junk]),
        label=np.concatenate([p.label, junk]),
        weight=np.concatenate([p.weight, np.zeros(20, np.float32)]),
        id=np.array([str(i) for i in range(70)]),
        slices={"lamp": np.array(["on", "off"] * 25 + ["gone"] * 20)},
    )
    plain = Predictions(p.probs, p.label, p.weight, p.id, {"lamp": np.array(["on", "off"] * 25)})
    assert metrics.evaluate(padded, names(4)) == metrics.evaluate(plain, names(4))


def test_weight_two_counts_twice() -> None:
    p = random_predictions(8, n=20, k=3)
    twice = metrics.evaluate(make(p.label, p.probs, weight=[2] * 10 + [1] * 10), names(3))
    repeated = np.concatenate([np.arange(20), np.arange(10)])
    doubled = metrics.evaluate(make(p.label[repeated], p.probs[repeated]), names(3))
    assert twice.numbers() == pytest.approx(doubled.numbers(), abs=1e-12)
    assert twice.confusion == doubled.confusion and twice.n == 20 and twice.weight == doubled.weight == 30


def test_distributions_as_labels() -> None:
    report = metrics.evaluate(make([[0.5, 0.5, 0.0], [0.1, 0.2, 0.7]], [[0.6, 0.3, 0.1], [0.2, 0.2, 0.6]]), names(3))
    assert report.accuracy == 1  # the tie 0.5 / 0.5 goes to the first class
    by_hand = -(0.5 * np.log(0.6) + 0.5 * np.log(0.3)), -(0.3 * np.log(0.2) + 0.7 * np.log(0.6))
    assert report.loss == pytest.approx(np.mean(by_hand), abs=1e-6)


def test_certain_and_wrong_has_a_finite_loss() -> None:
    report = metrics.evaluate(make([0], [[0.0, 1.0]]), names(2))
    assert report.loss == pytest.approx(87.34, abs=0.01)


def test_slices() -> None:
    probs = [[0.9, 0.1], [0.1, 0.9], [0.9, 0.1], [0.9, 0.1]]
    report = metrics.evaluate(make([0, 1, 0, 1], probs, slices={"lamp": np.array(["b", "b", "a", "a"])}), names(2))
    assert list(report.slices["lamp"]) == ["a", "b"]
    assert report.slices["lamp"]["b"] == metrics.SliceNumbers(n=2, accuracy=1.0, balanced_accuracy=1.0, macro_f1=1.0)
    assert report.slices["lamp"]["a"].accuracy == 0.5
    assert report.slices["lamp"]["a"].macro_f1 == pytest.approx((2 / 3 + 0) / 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"probs": np.array([[np.nan, 1], [0.5, 0.5]], np.float32)}, r"probabilities of 1 of 2 .*first: image0"),
        ({"label": np.array([[1, 0], [np.inf, 0]], np.float32)}, r"labels of 1 of 2 .*first: image1"),
        ({"weight": np.zeros(2, np.float32)}, "none of the 2 examples has a positive weight"),
        ({"weight": np.array([1, -1], np.float32)}, "at least 0"),
    ],
)
def test_bad_predictions(change: dict[str, np.ndarray], message: str) -> None:
    p = make([0, 1], [[0.5, 0.5], [0.5, 0.5]])
    parts: dict[str, Any] = {"probs": p.probs, "label": p.label, "weight": p.weight, "id": p.id} | change
    with pytest.raises(DataError, match=message):
        metrics.evaluate(Predictions(**parts), names(2))


def test_class_names_must_fit() -> None:
    with pytest.raises(DataError, match="2 classes, but there are 3"):
        metrics.evaluate(make([0], [[0.5, 0.5]]), names(3))


def test_number_by_name() -> None:
    report = metrics.evaluate(random_predictions(0, n=20, k=3), names(3))
    assert [report.number(name) for name in metrics.NUMBERS] == list(report.numbers().values())
    with pytest.raises(ConfigError, match=r"eval.metric: expected one of accuracy, .*loss, found 'acuracy'"):
        report.number("acuracy")


def test_json_is_plain() -> None:
    p = random_predictions(0, n=20, k=3)
    p = Predictions(p.probs, p.label, p.weight, p.id, {"lamp": np.array(["on", "off"] * 10)})
    value = metrics.evaluate(p, names(3)).to_json()
    assert json.loads(json.dumps(value)) == value
    assert isinstance(value["per_class"][0]["support"], int) and set(metrics.NUMBERS) <= set(value)


@jax.jit
def one_step(loss, logits, label, weight):
    return metrics.TrainMetrics.single_from_model_output(
        loss=loss,
        logits=logits,
        label=label,
        weight=weight,
        grad_norm=loss[0] * 2,
        learning_rate=loss[0] / 10,
    )


def test_train_metrics_in_jit() -> None:
    eye = jnp.eye(3)
    a = one_step(jnp.array([1.0, 2.0, jnp.nan]), eye, eye, jnp.array([1.0, 3.0, 0.0]))
    b = one_step(jnp.array([3.0, 1.0, 1.0]), eye, eye[::-1], jnp.array([1.0, 1.0, 2.0]))
    both = jax.jit(lambda x, y: x.merge(y))(a, b).compute()
    assert all(type(value) is float for value in both.values())
    assert a.compute()["loss"] == pytest.approx((1 + 6) / 4) and a.compute()["accuracy"] == 1
    assert both["loss"] == pytest.approx((1 + 6 + 3 + 1 + 2) / 8)
    assert both["accuracy"] == pytest.approx((4 + 1) / 8)  # of b only the middle example is right
    assert both["grad_norm"] == 6 and both["learning_rate"] == pytest.approx(0.3)


def test_train_metrics_without_any_weight() -> None:
    eye = jnp.eye(3)
    nothing = one_step(jnp.ones(3), eye, eye, jnp.zeros(3))
    something = one_step(jnp.ones(3), eye, eye, jnp.ones(3))
    assert np.isnan(nothing.compute()["loss"])
    assert nothing.merge(something).compute() == something.compute()
    assert metrics.TrainMetrics.empty().merge(something).compute() == something.compute()


def test_merging_does_not_compile_twice() -> None:
    """The carried metrics keep their types: a weakly typed learning rate would compile the step a second time."""
    compiled = 0

    @jax.jit
    def step(totals, i):
        nonlocal compiled
        compiled += 1
        weak = jnp.where(i > 2, 0.1, 0.2)
        assert weak.weak_type
        eye = jnp.eye(3)
        new = metrics.TrainMetrics.single_from_model_output(
            loss=jnp.ones(3), logits=eye, label=eye, weight=jnp.ones(3), grad_norm=weak, learning_rate=weak
        )
        return totals.merge(new)

    totals = metrics.TrainMetrics.empty()
    for i in range(4):
        totals = step(totals, jnp.int32(i))
    assert compiled == 1
    assert totals.compute()["learning_rate"] == pytest.approx(0.1)


def test_imports_stay_light() -> None:
    code = (
        "import sys, emojax.metrics, emojax.plots, emojax.report, emojax.monitor, emojax.events;"
        "print([m for m in ('tensorflow', 'torch', 'matplotlib', 'tensorboardX', 'PIL') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "[]"
