"""Ensembles by hand, what they refuse, out-of-fold predictions and means over runs."""

import dataclasses

import numpy as np
import pytest

from emojax import cli, metrics, predictions_csv, workdir
from emojax.combine import combine, out_of_fold
from emojax.errors import ConfigError, DataError
from emojax.types import Predictions

NAMES = ("glad", "sad")


def make(probs, true=(0, 1, 1), weight=(1, 1, 1), ids=("a", "b", "c"), slices=None):
    return Predictions(
        probs=np.array(probs, np.float32),
        label=np.eye(len(probs[0]), dtype=np.float32)[list(true)],
        weight=np.array(weight, np.float32),
        id=np.array(ids, object),
        slices=slices or {},
    )


ONE = make([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8]])
TWO = make([[0.5, 0.5], [0.1, 0.9], [0.6, 0.4]], weight=(1, 0, 0.5))


def both(how="probs", one=ONE, two=TWO, class_names=(NAMES, NAMES), names=()):
    return combine([one, two], how=how, class_names=class_names, names=names)


def test_mean_of_probabilities_by_hand():
    found = both()
    np.testing.assert_allclose(found.probs, [[0.7, 0.3], [0.3, 0.7], [0.4, 0.6]], atol=1e-7)
    assert found.weight.tolist() == [1, 0, 0.5] and found.id.tolist() == ["a", "b", "c"]
    assert found.probs.dtype == found.weight.dtype == np.float32


def test_mean_of_logits_by_hand():
    """Odds are averaged geometrically: 9 and 1 give 3; 1 and 1/9 give 1/3; 1/4 and 3/2 give sqrt(3/8)."""
    odds = np.array([3, 1 / 3, np.sqrt(3 / 8)])
    np.testing.assert_allclose(both("logits").probs[:, 0], odds / (1 + odds), atol=1e-6)


def test_mean_of_logits_is_that_of_the_models_own_logits():
    rng = np.random.default_rng(0)
    logits = 5 * rng.standard_normal((4, 50, 6))

    def softmax(z):
        return np.exp(z) / np.exp(z).sum(axis=-1, keepdims=True)

    members = [make(softmax(z), true=[0] * 50, weight=[1] * 50, ids=range(50)) for z in logits]
    found = combine(members, how="logits", class_names=[tuple("abcdef")] * 4)
    np.testing.assert_allclose(found.probs, softmax(logits.mean(axis=0)), atol=1e-5)


@pytest.mark.parametrize("how", ["probs", "logits"])
def test_one_model_and_copies_of_it_are_themselves(how):
    for count in (1, 3):
        found = combine([ONE] * count, how=how, class_names=[NAMES] * count)
        np.testing.assert_allclose(found.probs, ONE.probs, atol=1e-6)


def test_a_zero_is_no_veto_by_nan():
    certain = make([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    for how in ("probs", "logits"):
        found = both(how, one=certain, two=make([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]]))
        assert np.isfinite(found.probs).all()
        np.testing.assert_allclose(found.probs.sum(axis=1), 1, atol=1e-6)
        np.testing.assert_allclose(found.probs[0], [0.5, 0.5], atol=1e-6)


def test_what_an_ensemble_refuses():
    with pytest.raises(DataError, match=r"classes differ: run/x has glad, sad, run/y has sad, glad"):
        both(class_names=[NAMES, NAMES[::-1]], names=["run/x", "run/y"])
    with pytest.raises(DataError, match="model 1 has b, model 2 has not"):
        both(two=make(TWO.probs, ids=("a", "d", "c")))
    with pytest.raises(DataError, match="model 2 has c, model 1 has not"):
        short = Predictions(probs=ONE.probs[:2], label=ONE.label[:2], weight=ONE.weight[:2], id=ONE.id[:2])
        both(one=short)
    with pytest.raises(DataError, match="another order: at position 1, model 1 has b, model 2 has c"):
        both(two=make(TWO.probs, ids=("a", "c", "b")))
    with pytest.raises(DataError, match="labels of c differ"):
        both(two=make(TWO.probs, true=(0, 1, 0)))
    with pytest.raises(ConfigError, match="expected one of probs, logits, found 'votes'"):
        both("votes")
    with pytest.raises(DataError, match="no predictions"):
        combine([], how="probs", class_names=[])


def test_an_ensemble_notes_each_runs_own_accuracy_on_test(tmp_path, capsys):
    places = [tmp_path / name for name in ("x", "y")]
    for place, found in zip(places, (ONE, make(TWO.probs)), strict=True):
        predictions_csv.write(place / "report/test-predictions.csv", found, NAMES)
        workdir.note_test(place, "train", 0.5)
    assert cli.main(["ensemble", *map(str, places), "--split=test"]) == 0
    assert [[row["accuracy"] for row in workdir.tests(place)] for place in places] == [
        [0.5, metrics.evaluate(found, NAMES).accuracy] for found in (ONE, make(TWO.probs))
    ]
    assert f"{places[0]}: test has been judged 2 times" in capsys.readouterr().out


def test_out_of_fold_is_every_record_once():
    person = {"person": np.array(["p", "q", "q"]), "extra": np.array(["", "", ""])}
    one = dataclasses.replace(ONE, slices=person)
    two = make(
        [[0.5, 0.5], [0.3, 0.7]], true=(1, 0), weight=(0, 1), ids=("d", "e"), slices={"person": np.array(["r"] * 2)}
    )
    found = out_of_fold([one, two])
    assert found.id.tolist() == ["a", "b", "c", "d", "e"] and found.weight.tolist() == [1, 1, 1, 0, 1]
    assert found.label.argmax(axis=1).tolist() == [0, 1, 1, 1, 0]
    assert {name: column.tolist() for name, column in found.slices.items()} == {"person": ["p", "q", "q", "r", "r"]}
    np.testing.assert_array_equal(found.probs[3:], two.probs)
    assert metrics.evaluate(found, NAMES).n == 4


def test_folds_must_be_disjoint():
    with pytest.raises(DataError, match=r"overlap: 1 records come twice \(first: c\)"):
        out_of_fold([ONE, make(TWO.probs, ids=("d", "c", "e"))])
    with pytest.raises(DataError, match="number of classes: 2, 3"):
        out_of_fold([ONE, make([[0.2, 0.3, 0.5]], true=[0], weight=[1], ids=["d"])])
    with pytest.raises(DataError, match="no folds"):
        out_of_fold([])
