"""Predictions survive their CSV file, whatever the names; files that are no predictions are named."""

import numpy as np
import pytest

from emojax import predictions_csv
from emojax.errors import DataError
from emojax.types import Predictions


def make(label):
    probs = np.random.default_rng(0).dirichlet(np.ones(3), 4).astype(np.float32)
    return Predictions(
        probs=probs,
        label=np.asarray(label, np.float32),
        weight=np.array([1, 0, 0.25, 1], np.float32),
        id=np.array(['a,"b".png', "line\nbreak", "ü", "d"]),
    )


@pytest.mark.parametrize("soft", [False, True])
def test_round_trip(tmp_path, soft):
    before = make([[0.5, 0.25, 0.25], [0, 1, 0], [0, 0, 1], [1, 0, 0]] if soft else np.eye(3)[[0, 1, 2, 0]])
    predictions_csv.write(tmp_path / "p.csv", before, ("happy", "sad, or not", "p:odd"))
    after, names = predictions_csv.read(tmp_path / "p.csv")
    assert names == ("happy", "sad, or not", "p:odd")
    for field in ("probs", "label", "weight", "id"):
        np.testing.assert_array_equal(getattr(after, field), getattr(before, field))
    assert ("t:happy" in (tmp_path / "p.csv").read_text()) == soft


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a file of predictions"),
        ("id,label\n1,2\n", "is not a file of predictions"),
        (
            "id,weight,true,predicted,p:a,p:b\nx,1,c,a,0.5,0.5\n",
            "p.csv:2: expected 6 cells and a true class among a, b",
        ),
        ("id,weight,true,predicted,p:a,p:b\nx,1,a,a,0.5\n", "p.csv:2: expected 6 cells"),
        ("id,weight,true,predicted,p:a,p:b\nx,1,a,a,0.5,half\n", "is not a number"),
    ],
)
def test_other_files_are_refused(tmp_path, text, message):
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        predictions_csv.read(tmp_path / "p.csv")
    with pytest.raises(DataError, match="there is no such file"):
        predictions_csv.read(tmp_path / "q.csv")
