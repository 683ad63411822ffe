"""Decisions: fitted on val alone, stored with the weights, part of the inference function; the verbs around them."""

import csv
import dataclasses
import json
import shutil

import numpy as np
import pytest
import tiny
from test_calibration import drawn

import emojax
from emojax import (
    checkpoint,
    cli,
    config_json,
    conformal,
    decision,
    decision_plots,
    figures,
    intervals,
    metrics,
    predictions_csv,
    scaling,
    train,
)
from emojax.cli import calibrate
from emojax.config import EvalConfig, StageConfig
from emojax.errors import ConfigError, DataError
from emojax.report import decisions, html
from emojax.types import Predictions

PRIOR = np.full(7, 1 / 7)
NAMES = tuple("abcdefg")


SKEW = np.array([0.55, 0.3, 0.1, 0.05])


def skewed(n, *, seed, prior=SKEW, counted=None):
    """Classes as frequent as `prior` says, which a model takes to be `counted`."""
    rng = np.random.default_rng(seed)
    true = rng.choice(4, n, p=prior)
    logits = 2 * (np.eye(4)[true] * 2 + rng.normal(size=(n, 4))) + np.log(prior if counted is None else counted)
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    label = np.eye(4, dtype=np.float32)[true]
    return Predictions(probs.astype(np.float32), label, np.ones(n, np.float32), np.arange(n).astype(str)), prior


def test_a_decision_does_what_was_wished_on_new_examples():
    found = decision.fit(drawn(4000, sharp=2.0, spread=3, seed=1), decision.Wish(risk=0.2), prior=PRIOR)
    assert found.method == "temperature" and found.scaling.scale[0] == pytest.approx(0.5, rel=0.08)
    judged = decision.outcome(found, drawn(20_000, sharp=2.0, spread=3, seed=2))
    hit = judged.predictions.probs.argmax(axis=1) == judged.predictions.label.argmax(axis=1)
    assert 1 - hit[judged.answered].mean() <= 0.2 and 0.3 < judged.answered.mean() < 1
    assert 0.89 <= conformal.covered(judged.inside, judged.predictions).coverage <= 0.91


@pytest.mark.parametrize(("n", "k"), [(57, 7)])
def test_sets_keep_their_promise_when_many_numbers_are_fitted_on_few_examples(n, k):
    """Vector scaling fits 14 numbers. With scores of the examples that it was fitted on, sets of 90 % covered 86 %."""
    judged = drawn(4000, k=k, sharp=1.8, spread=2.5, seed=1)
    found = []
    for seed in range(25):
        val = drawn(n, k=k, sharp=1.8, spread=2.5, seed=100 + seed)
        made = decision.fit(val, decision.Wish(method="vector"), prior=np.ones(k))
        found.append(conformal.covered(decision.outcome(made, judged).inside, judged).coverage)
    assert np.mean(found) > 0.895 - 2 * np.std(found) / 25**0.5
    low, high = conformal.spread(n, 0.9)
    assert np.mean([low - 0.02 <= value <= high + 0.02 for value in found]) > 0.85


def test_a_target_gains_3_points_of_mean_class_accuracy_on_data_that_chose_nothing():
    (val, prior), (test, _) = skewed(4000, seed=1), skewed(20_000, seed=2)
    found = decision.fit(val, decision.Wish(target="balanced_accuracy"), prior=prior)
    assert found.tau > 0.5
    names = ("a", "b", "c", "d")
    after = metrics.evaluate(decision.outcome(found, test).predictions, names).balanced_accuracy
    assert after - metrics.evaluate(test, names).balanced_accuracy > 0.03
    points = decision.frontier(val, scaling.Scaling.none(4), prior=prior)
    assert points[0].tau == 0 and points[0].accuracy == metrics.evaluate(val, names).accuracy
    assert points[20].balanced_accuracy > points[0].balanced_accuracy and points[20].accuracy < points[0].accuracy


EVEN = np.full(4, 0.25)


@pytest.mark.parametrize("method", ["none", "temperature", "vector"])
@pytest.mark.parametrize(("counted", "of_val"), [(SKEW, EVEN), (EVEN, SKEW)])
def test_the_adjustment_takes_out_the_prior_that_the_probabilities_have(method, counted, of_val):
    """Vector scaling has put val's class shares in the place of training's. To take out training's made a balanced
    model of a plain one by 12 points worse, and left one that training had balanced skewed."""
    val, _ = skewed(4000, seed=1, prior=of_val, counted=counted)
    test, _ = skewed(20_000, seed=2, prior=EVEN, counted=counted)
    best = metrics.evaluate(skewed(20_000, seed=2, prior=EVEN, counted=EVEN)[0], NAMES[:4]).balanced_accuracy
    found = decision.fit(val, decision.Wish(method=method, tau=1.0), prior=counted)
    after = metrics.evaluate(decision.outcome(found, test).predictions, NAMES[:4]).balanced_accuracy
    assert after > best - 0.01
    outcome = decision.cross_fitted(val, decision.Wish(method=method, tau=1.0), prior=counted).predictions
    assert metrics.evaluate(outcome, NAMES[:4]).balanced_accuracy > best - 0.04


def test_the_prior_is_that_of_the_stage_in_which_the_result_was_trained(tmp_path):
    """The best checkpoint of classifier re-training is often one of before the balanced stage."""
    pictures = tiny.make_folder(tmp_path / "data")
    for file in sorted((pictures / "train/red").iterdir())[:8]:
        file.unlink()  # 16, 16, 8: forty, two and a half updates an epoch
    stages = (StageConfig(epochs=2), StageConfig(epochs=2, sampler="balanced"), StageConfig(epochs=2, train=0))
    (tmp_path / "config.json").write_text(config_json.to_json(tiny.config(pictures, stages=stages)))
    for step, expected in ((0, [2, 2, 1]), (1, [2, 2, 1]), (5, [2, 2, 1]), (6, [1, 1, 1]), (15, [1, 1, 1])):
        np.testing.assert_allclose(calibrate._prior(tmp_path, step), np.array(expected) / sum(expected), atol=1e-7)


def test_vector_scaling_that_undoes_the_balance_of_training_says_so():
    val, _ = skewed(3000, seed=1, counted=EVEN)
    chosen = decision.fit(val, decision.Wish(method="vector"), prior=EVEN)
    prior = scaling.prior(val, method="vector", trained=EVEN)
    (line,) = calibrate._choices(val, decision.Wish(method="vector"), chosen, NAMES[:4], prior / prior.sum(), EVEN)
    assert "counted in training as a 25.0%" in line and "--tau=1 makes all count alike" in line
    assert not calibrate._choices(val, decision.Wish(method="vector"), chosen, NAMES[:4], EVEN, EVEN)


def test_cross_fitted_numbers_are_as_on_new_examples():
    p = drawn(3000, sharp=2.0, spread=3, seed=5)
    p = dataclasses.replace(p, weight=np.where(np.arange(3000) < 10, 0, p.weight))
    found = decision.cross_fitted(p, decision.Wish(method="temperature", risk=0.2), prior=PRIOR)
    assert sorted(found.predictions.id) == sorted(p.id[10:]) and found.inside.shape == (2990, 7)
    assert 0.87 <= conformal.covered(found.inside, found.predictions).coverage <= 0.93
    assert found.predictions.id.tolist() == p.id[10:].tolist(), "in the order of the input: draws depend on it"
    same = decision.cross_fitted(p, decision.Wish(method="none"), prior=PRIOR)
    assert intervals.of(same.predictions) == intervals.of(p), "the same numbers have the same intervals"
    np.testing.assert_array_equal(same.predictions.probs, p.probs[10:])
    hopeless = decision.cross_fitted(drawn(60), decision.Wish(method="none", risk=0.01), prior=PRIOR)
    assert not hopeless.answered.any()


def test_what_a_decision_leaves_alone_is_told_once_and_zero_has_no_sign():
    p = drawn(300)
    for method, titles in (("none", 2), ("temperature", 4)):
        wish = decision.Wish(method=method)
        chosen = decision.fit(p, wish, prior=PRIOR)
        row = calibrate._judged(p, decision.cross_fitted(p, wish, prior=PRIOR), chosen, NAMES)
        found = decisions.compared(row)
        assert len(found[0]) == titles and {len(line) for line in found[1]} == {titles}
    text = " ".join(line[3] for line in found[1])
    assert "+" in text and "0.0 [0.0, 0.0]" in text, "a temperature moves no answer"
    for value, shown in ((-0.00001, "0.0000"), (0.0, "0.0000"), (0.01, "+0.0100"), (-0.01, "-0.0100")):
        assert decisions._signed(decisions._digits, value) == shown


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"method": "platt"}, "--scaling=platt"),
        ({"target": "speed"}, "--target=speed"),
        ({"target": "accuracy", "tau": 1.0}, "give one of the two"),
        ({"tau": -1.0}, "--tau=-1"),
        ({"risk": 1.5}, "--risk=1.5"),
        ({"coverage": 0.0}, "--coverage=0"),
        ({"kind": "raps"}, "--sets=raps"),
    ],
)
def test_bad_wishes_are_told(wish, message):
    with pytest.raises(ConfigError, match=message):
        decision.Wish(**wish)


def stored(tmp_path, **changes):
    found = decision.fit(drawn(500), decision.Wish(tau=0.5), prior=np.arange(1, 8) / 28)
    about = {"class_names": NAMES, "weights": "w", "views": "flip", "fitted_on": "val"} | changes
    return found, decision.write(tmp_path, found, **about)


def test_what_is_stored_comes_back_to_the_bit(tmp_path):
    found, _ = stored(tmp_path)
    assert decision.read(tmp_path, class_names=NAMES, weights="w", views="flip") == (found, "")
    few = decision.fit(drawn(5), decision.Wish(method="none"), prior=PRIOR)
    decision.write(tmp_path, few, class_names=NAMES, weights="w", views="flip", fitted_on="val")
    again, _ = decision.read(tmp_path, class_names=NAMES, weights="w", views="flip")
    assert again == few and again.sets.limit == float("inf")
    assert decision.remove(tmp_path) and not decision.remove(tmp_path)
    assert decision.read(tmp_path, class_names=NAMES, weights="w", views="flip") == (None, "")


def test_a_decision_for_other_weights_views_or_classes_is_not_used(tmp_path):
    _, path = stored(tmp_path)
    for other, why in (({"weights": "v"}, "other weights"), ({"views": "center"}, "the views flip")):
        found, note = decision.read(tmp_path, **({"class_names": NAMES, "weights": "w", "views": "flip"} | other))
        assert found is None and why in note
    with pytest.raises(DataError, match="is for the classes a, b"):
        decision.read(tmp_path, class_names=NAMES[::-1], weights="w", views="flip")
    path.write_text(path.read_text().replace('"tau": 0.5', '"tau": 0.6'))
    with pytest.raises(DataError, match="has been changed since it was written"):
        decision.read(tmp_path, class_names=NAMES, weights="w", views="flip")
    for text in ("{", "[]", '{"seal": 1}'):
        path.write_text(text)
        with pytest.raises(DataError, match="emojax calibrate"):
            decision.read(tmp_path, class_names=NAMES, weights="w", views="flip")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("decision")
    data = tiny.make_folder(folder / "data")
    config = tiny.config(data, stages=(StageConfig(epochs=1),), eval=EvalConfig(views="flip"))
    train.run(config, str(folder / "run"))
    return folder / "run"


@pytest.fixture
def run(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "DPI", 40)
    return shutil.copytree(finished, tmp_path / "run")


def store(run, *, sets, threshold=0.0):
    """A decision that scales nothing, stored for the weights of the run."""
    _, meta, _ = checkpoint.load_weights(run, which="best")
    found = decision.fit(predictions_csv.of_run(run, "val")[0], decision.Wish(method="none"), prior=np.ones(3))
    found = dataclasses.replace(found, sets=sets, threshold=threshold)
    digest = decision.weights_digest(meta.digests)
    about = {"class_names": meta.class_names, "weights": digest, "views": "flip", "fitted_on": "val"}
    decision.write(run, found, **about)
    return found


def test_calibrate_stores_and_the_classifier_applies(run, capsys):
    raw = emojax.load(run)
    assert raw.decision is None and raw.note == ""
    options = ["--scaling=vector", "--tau=0.3", "--risk=0.9", "--coverage=0.6", "--sets=aps"]
    log = run / "test_judged.jsonl"
    assert cli.main(["calibrate", f"--workdir={run}", *options]) == 0
    assert "test" not in json.loads((run / "report" / "calibration.json").read_text())["judged"]
    assert len(log.read_text().splitlines()) == 1, "to choose is not to judge on test"
    assert cli.main(["calibrate", f"--workdir={run}", *options, "--test"]) == 0
    shown = capsys.readouterr().out
    assert "val, cross-fitted" in shown and "of new ones in 95 of 100 cases" in shown
    assert "test has been judged 2 times" in shown and "emojax calibrate" in log.read_text().splitlines()[1]
    for name in ("calibration.json", "calibration.md", "calibration-test.png", "calibration-val-risk.png"):
        assert (run / "report" / name).is_file()
    content = json.loads((run / "report" / "calibration.json").read_text())
    assert set(content["judged"]) == {"val", "test"} and len(content["frontier"]) == len(decision.TAUS)

    fitted = emojax.load(run)
    assert fitted.decision is not None and fitted.decision.method == "vector"
    pictures = [np.full((20, 20, 3), v, np.uint8) for v in (9, 99, 199)]
    expected = scaling.apply(fitted.decision.scaling, raw.predict(pictures))
    np.testing.assert_allclose(fitted.predict(pictures).probs, expected.probs, atol=2e-6)
    np.testing.assert_allclose(
        emojax.load(run, decision="none").predict(pictures).probs, raw.predict(pictures).probs, atol=1e-7
    )
    test, _ = predictions_csv.of_run(run, "test")
    after = metrics.evaluate(decision.outcome(fitted.decision, test).predictions, fitted.class_names)
    assert content["judged"]["test"]["after"]["accuracy"] == after.accuracy
    for found in content["judged"].values():
        for key in ("accuracy", "balanced_accuracy", "macro_f1", "loss", "brier", "aurc", "ece_equal_mass"):
            assert found["change"][key]["low"] <= found["change"][key]["value"] <= found["change"][key]["high"]
    page = html.write(run, source=None).read_text()
    assert "After calibration" in page and "Stored with the model" in page and "Mean-class accuracy, %" in page

    other = emojax.load(run, views="center")
    assert other.decision is None and "views flip" in other.note
    with pytest.raises(ConfigError, match="expected stored or none"):
        emojax.load(run, decision="mine")
    assert cli.main(["calibrate", f"--workdir={run}", "--remove"]) == 0
    assert emojax.load(run).decision is None
    assert "After calibration" not in html.write(run, source=None).read_text()


def test_predict_and_evaluate_show_sets_and_abstentions(run, tmp_path, capsys):
    picture = next((run.parent).rglob("report/val-confusion.png"))  # any picture will do
    assert cli.main(["predict", f"--workdir={run}", "--sets", str(picture)]) == 2
    assert "emojax calibrate" in capsys.readouterr().err
    unsure = store(run, sets=conformal.Sets("lac", 0.9, float("inf")), threshold=1.0)
    capsys.readouterr()
    assert cli.main(["predict", f"--workdir={run}", "--sets", "--abstain", str(picture)]) == 0
    row = capsys.readouterr().out.splitlines()[1]
    assert "(unsure)" in row and all(name in row for name in tiny.COLOURS)
    assert cli.main(["predict", f"--workdir={run}", "--json", "--sets", "--abstain", str(picture)]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["class"] is None and sorted(row["set"]) == sorted(tiny.COLOURS)
    assert cli.main(["predict", f"--workdir={run}", "--csv", "--sets", str(picture)]) == 0
    titles, row = csv.reader(capsys.readouterr().out.splitlines())
    assert titles[-1] == "set" and row[1] and sorted(row[-1].split("|")) == sorted(tiny.COLOURS)
    report = tmp_path / "again"
    assert cli.main(["evaluate", f"--workdir={run}", "--split=val", f"--report={report}"]) == 0
    assert "answered 0.0%" in capsys.readouterr().out
    assert json.loads((report / "val.json").read_text())["decision"] == unsure.text()
    cli.main(["evaluate", f"--workdir={run}", "--split=val", "--raw"])
    assert "calibrated" not in capsys.readouterr().out


def test_calibrate_refuses_predictions_that_are_not_the_runs_own(run, capsys):
    path = run / "report" / "val.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"decision": "temperature 2"}))  # by evaluate --report
    assert cli.main(["calibrate", f"--workdir={run}"]) == 2
    assert "is not the report that the run ended with" in capsys.readouterr().err
    (run / "report" / "val-predictions.csv").unlink()
    assert cli.main(["calibrate", f"--workdir={run}"]) == 2
    assert "there are no predictions for val" in capsys.readouterr().err


def test_robustness_verb(run, capsys):
    assert cli.main(["robustness", f"--workdir={run}", "--split=test", "--limit=6"]) == 0
    out = capsys.readouterr().out
    assert "mean corruption accuracy" in out and "sharpness 1:" in out and "judged 2 times" in out
    assert "emojax robustness" in (run / "test_judged.jsonl").read_text().splitlines()[1]
    content = json.loads((run / "report" / "robustness.json").read_text())
    assert content["n"] == 6 and all(len(row) == 5 for row in content["corruptions"].values())
    for name, cells in content["intervals"].items():
        assert all(low <= v <= high for v, (low, high) in zip(content["corruptions"][name], cells, strict=True))
        assert all(low < high for low, high in cells), "six images never make one sure"
    mean = content["means"]["all"]
    assert mean["value"] == pytest.approx(np.mean(list(content["corruptions"].values())))
    assert mean["low"] <= mean["value"] <= mean["high"]
    page = html.write(run, source=None).read_text()
    assert "Accuracy by corruption and severity" in page and "keep their class" in page and "sharpness" in page
    assert (run / "report" / "robustness.png").is_file() and "## Mirrored images" in (
        run / "report" / "robustness.md"
    ).read_text()
    assert cli.main(["robustness", f"--workdir={run}", "--split=dev"]) == 2
    assert "the data have train, val, test" in capsys.readouterr().err


def test_figures_of_one_example_and_of_perfect_answers(monkeypatch):
    from emojax import calibration, selective

    monkeypatch.setattr(figures, "DPI", 40)
    for p in (drawn(30).take(np.arange(1)), dataclasses.replace(drawn(30), probs=drawn(30).label)):
        found = calibration.measure(p, draws=20)
        order = (selective.curve(p), selective.measure(p, draws=20))
        points = decision.frontier(p, scaling.Scaling.none(7), prior=PRIOR)
        for figure in (
            decision_plots.reliability({"as trained": found, "after": found}),
            decision_plots.risk_coverage({"this": order}, threshold=(0.5, 0.1)),
            decision_plots.frontier(points, tau=0.5),
            decision_plots.robustness({"noise": [0.0] * 5}, clean=0.0),
        ):
            assert figures.png(figure).startswith(b"\x89PNG")
