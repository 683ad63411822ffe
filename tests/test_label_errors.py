"""Label errors: confident learning by hand, precision on planted noise, and corrections that training accepts."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
import tiny
from sklearn import datasets, linear_model, model_selection

from emojax import cli, label_errors, predictions_csv
from emojax.config import DataConfig
from emojax.data import corrections, open_dataset, sources, splits
from emojax.errors import DataError
from emojax.types import Predictions


def predictions(probs, given, weight=None) -> Predictions:
    probs = np.asarray(probs, np.float32)
    n, k = probs.shape
    weight = np.ones(n) if weight is None else np.asarray(weight)
    label = np.eye(k, dtype=np.float32)[np.asarray(given)]
    return Predictions(probs, label, weight.astype(np.float32), np.array([f"{i}" for i in range(n)]))


def test_confident_joint_by_hand():
    """Thresholds: class 0 (0.9 + 0.8 + 0.1) / 3 = 0.6; class 1 (0.9 + 0.4) / 2 = 0.65. Example 2 is labelled 0 and
    confidently 1; example 4 reaches neither threshold; example 5 has no weight."""
    probs = [[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.1, 0.9], [0.6 - 0.01, 0.4 + 0.01], [0.0, 1.0]]
    found = label_errors.find(predictions(probs, [0, 0, 0, 1, 1, 0], [1, 1, 1, 1, 1, 0]))
    assert found.joint.tolist() == [[2, 1], [0, 1]]
    assert found.position.tolist() == [2, 4, 1, 0, 3] and found.likely.tolist() == [True, False, False, False, False]
    assert found.margin[0] == pytest.approx(0.8) and found.suggested.tolist() == [1, 0, 1, 1, 0]


def test_agrees_with_cleanlabs_definition_on_random_predictions():
    """The count matrix, written out example by example as in the paper's equation 1."""
    rng = np.random.default_rng(0)
    probs, given = rng.dirichlet(np.ones(4) * 0.5, 400), rng.integers(0, 3, 400)  # class 3 has no example
    found = label_errors.find(predictions(probs, given))
    probs = probs.astype(np.float32).astype(np.float64)
    threshold = [probs[given == j, j].mean() if (given == j).any() else np.inf for j in range(4)]
    joint = np.zeros((4, 4), int)
    for p, i in zip(probs, given, strict=True):
        reached = [j for j in range(4) if p[j] >= threshold[j]]
        if reached:
            joint[i, max(reached, key=lambda j: p[j])] += 1
    assert (found.joint == joint).all()
    assert found.likely.sum() == joint.sum() - np.trace(joint)


def test_precision_on_planted_noise():
    """Digits, 10 % of the labels moved to another class, out-of-fold logistic regression: of the top 1 % at least 80 %
    are planted, and the likely ones hold three of five."""
    x, y = datasets.load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    planted = rng.choice(len(y), len(y) // 10, replace=False)
    given = y.copy()
    given[planted] = (y[planted] + rng.integers(1, 10, len(planted))) % 10
    model = linear_model.LogisticRegression(max_iter=60, C=0.01)
    probs = model_selection.cross_val_predict(model, x / 16, given, cv=3, method="predict_proba")
    found = label_errors.find(predictions(probs, given))
    wrong = np.isin(found.position, planted)
    top = max(1, len(y) // 100)
    assert wrong[:top].mean() >= 0.8
    assert wrong[found.likely].mean() >= 0.6 and wrong[found.likely].sum() >= 0.6 * len(planted)
    assert (found.suggested[found.likely & wrong] == y[found.position[found.likely & wrong]]).mean() > 0.9


@pytest.fixture
def folder(tmp_path):
    return tiny.make_folder(tmp_path / "data")


def read(folder, rows, tmp_path):
    file = tmp_path / "corrections.csv"
    corrections.write(file, [corrections.Row(*row) for row in rows])
    return open_dataset(DataConfig(path=str(folder), corrections=str(file)))


def test_corrections_change_what_training_sees(folder, tmp_path):
    before = open_dataset(DataConfig(path=str(folder)))
    train, test = before.splits["train"].id.tolist(), before.splits["test"].id.tolist()
    rows = [
        (f"train/{train[0]}", "drop", ""),
        (f"train/{train[1]}", "label", "red"),
        (f"test/{test[3]}", "split", "train"),
    ]
    after = read(folder, rows, tmp_path)
    sizes = {name: len(split) for name, split in before.splits.items()}
    assert {name: len(split) for name, split in after.splits.items()} == {**sizes, "test": sizes["test"] - 1}
    found = after.splits["train"]
    assert after.class_names[found.label[found.id.tolist().index(train[1])].argmax()] == "red"
    assert train[0] not in found.id.tolist()
    moved = found.label[-1], np.asarray(found.images[len(found) - 1])
    assert (moved[0] == before.splits["test"].label[3]).all()
    assert (moved[1] == np.asarray(before.splits["test"].images[3])).all()
    assert after.digest != before.digest and "1 dropped, 1 relabelled, 1 moved" in after.notes[-1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,action\n", "expected the columns id, action, value, reason"),
        ("id,action,value\nx,eat,\n", r":2: expected an id, one of drop, label, split"),
        ("id,action,value\nNAME,drop,\nNAME,drop,\n", ":3: a second drop"),
        ("id,action,value\nnot/there.png,drop,\n", ":2: there is no record 'not/there.png' in data"),
        ("id,action,value\nNAME,label,pink\n", ":2: there is no class 'pink'; there are blue, green, red"),
        ("id,action,value\nNAME,split,dev\n", ":2: there is no split 'dev'"),
    ],
)
def test_files_that_are_no_corrections(folder, tmp_path, text, message):
    name = "train/" + open_dataset(DataConfig(path=str(folder))).splits["train"].id[0]
    (tmp_path / "c.csv").write_text(text.replace("NAME", name))
    with pytest.raises(DataError, match=message):
        sources.read(DataConfig(path=str(folder), corrections=str(tmp_path / "c.csv")))


def test_corrections_from_a_spreadsheet(folder, tmp_path):
    """A byte order mark, empty rows and cells, and another spelling of a class."""
    train = open_dataset(DataConfig(path=str(folder))).splits["train"].id.tolist()
    text = f"\ufeffid,action,value,reason\r\n{train[0]},drop,,\r\n,,,\r\ntrain/{train[1]}, label,Red ,x\r\n\r\n"
    (tmp_path / "c.csv").write_text(text, encoding="utf-8", newline="")
    found = sources.read(DataConfig(path=str(folder), classes=(), corrections=str(tmp_path / "c.csv")))
    assert "1 dropped, 1 relabelled" in found.notes[-1]
    assert corrections.read(tmp_path / "c.csv")[1].line == 4


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("NAME,label,red\ntrain/NAME,label,blue\n", ":3: a second label for train/.*; line 2 has label"),
        ("train/NAME,drop,\nNAME,drop,\n", ":3: a second drop"),
        ("NAME,drop,\ntrain/NAME,label,blue\n", ":3: label for train/.*; line 2 has drop"),
        ("NAME,label,blue\ntrain/NAME,drop,\n", ":3: drop for train/.*; line 2 has label"),
    ],
)
def test_corrections_that_contradict(folder, tmp_path, rows, message):
    name = open_dataset(DataConfig(path=str(folder))).splits["train"].id[0]
    (tmp_path / "c.csv").write_text(f"id,action,value\n{rows.replace('NAME', name)}")
    with pytest.raises(DataError, match=message):
        sources.read(DataConfig(path=str(folder), corrections=str(tmp_path / "c.csv")))
    (tmp_path / "c.csv").write_text(f"id,action,value\n{name},label,red\ntrain/{name},split,val\n")
    moved = sources.read(DataConfig(path=str(folder), corrections=str(tmp_path / "c.csv")))
    assert "1 relabelled, 1 moved" in moved.notes[-1]


def test_the_verb_writes_a_table_a_page_and_corrections(folder, tmp_path, capsys):
    """Out-of-fold predictions as a finished `emojax kfold` leaves them, with one label of red that is plainly blue."""
    dataset = open_dataset(DataConfig(path=str(folder)))
    split = dataset.splits["train"]
    probs = 0.8 * split.label + 0.2 / 3
    red = int(np.flatnonzero(split.label[:, 2])[0])
    probs[red] = [0.95, 0.03, 0.02]
    place = tmp_path / "folds"
    (place / "fold1").mkdir(parents=True)
    found = Predictions(probs.astype(np.float32), split.label, split.weight, split.id)
    predictions_csv.write(place / "out-of-fold.csv", found, dataset.class_names)
    from emojax import config_json

    (place / "fold1/config.json").write_text(config_json.to_json(tiny.config(folder)))
    out = tmp_path / "out"
    assert cli.main(["data", "labels", f"--folds={place}", f"--out={out}", "--action=label"]) == 0
    shown = capsys.readouterr().out
    assert f"{len(split)} images, of which 1 " in shown and "red, rather blue" in shown
    rows = list(csv.DictReader((out / "labels.csv").open()))
    assert len(rows) == len(split) and rows[0]["id"] == split.id[red] and rows[0]["likely"] == "1"
    assert corrections.read(out / "corrections.csv") == [
        (f"train/{split.id[red]}", "label", "blue", "likely label error", 2)
    ]
    page = (out / "labels.html").read_text()
    assert page.count("data:image/jpeg") == len(split) and "blue (95%)" in page
    fixed = open_dataset(DataConfig(path=str(folder), corrections=str(out / "corrections.csv")))
    where = fixed.splits["train"].id.tolist().index(split.id[red])
    assert fixed.splits["train"].label[where].tolist() == [1, 0, 0]
    shutil.rmtree(place)
    assert cli.main(["data", "labels", f"--folds={place}", f"--out={out}"]) == 2
    assert json.dumps(str(place))[1:-1] in capsys.readouterr().err


def test_many_likely_errors_are_a_warning_and_val_is_left_as_it_is(folder, tmp_path, capsys):
    """A model that is right on few: what it calls wrong labels are its own mistakes. Val judges, so it stays."""
    from emojax import config_json

    dataset = open_dataset(DataConfig(path=str(folder)))
    split = splits.joined(dataset.splits["train"], dataset.splits["val"])
    label = np.roll(split.label, 1, axis=1)
    label[::3] = split.label[::3]
    place = tmp_path / "folds"
    (place / "fold1").mkdir(parents=True)
    (place / "fold1/config.json").write_text(config_json.to_json(tiny.config(folder)))
    found = Predictions((0.8 * label + 0.2 / 3).astype(np.float32), split.label, split.weight, split.id)
    predictions_csv.write(place / "out-of-fold.csv", found, dataset.class_names)
    out = tmp_path / "out"
    command = ["data", "labels", f"--folds={place}", f"--out={out}"]
    assert cli.main(command) == 0
    shown = capsys.readouterr()
    assert "so many wrong labels are unusual: the models are right on 33%" in shown.err
    rows = corrections.read(out / "corrections.csv")
    val = len(dataset.splits["val"]) * 2 // 3
    assert rows and all(row.id.startswith("train/") for row in rows)
    assert f"val: {val} of {len(dataset.splits['val'])}, 0 to drop without --val" in shown.out
    assert cli.main([*command, "--val"]) == 0
    whole = corrections.read(out / "corrections.csv")
    assert len(whole) == len(rows) + val and sum(row.id.startswith("val/") for row in whole) == val
    again = open_dataset(DataConfig(path=str(folder), corrections=str(out / "corrections.csv")))
    assert f"{len(whole)} dropped" in again.notes[0]
