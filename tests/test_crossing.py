"""Class names across data sets: which are the same, what becomes of the others, and that no order is ever guessed."""

import json
import shutil

import layouts
import numpy as np
import pytest
import tiny
from PIL import Image

import emojax
from emojax import cli, train, workdir as run_folder
from emojax.config import Config, DataConfig, EvalConfig, ModelConfig, MonitorConfig, StageConfig
from emojax.data import crossing, formats, schemas
from emojax.errors import CheckpointError, DataError
from emojax.types import Predictions

NAMES = {name: schema.names for name, schema in schemas.SCHEMAS.items()}


def test_schemas_are_the_published_orders():
    """A few ids of each, as FIELD's sources print them."""
    for name, pairs in {
        "affectnet": {0: "neutral", 1: "happiness", 3: "surprise", 6: "anger", 7: "contempt"},
        "fer2013": {0: "angry", 3: "happy", 6: "neutral"},
        "ferplus": {0: "neutral", 2: "surprise", 7: "contempt"},
        "ckplus": {0: "neutral", 2: "contempt", 7: "surprise"},
        "emoset": {0: "amusement", 3: "excitement", 7: "sadness"},
        "fi": {1: "anger", 2: "awe"},
        "emotiefflib": {1: "contempt", 5: "neutral"},
    }.items():
        assert {i: NAMES[name][i] for i in pairs} == pairs
    assert schemas.SCHEMAS["rafdb"].name_of() == {
        "1": "surprise", "2": "fear", "3": "disgust", "4": "happiness", "5": "sadness", "6": "anger", "7": "neutral"
    }  # fmt: skip
    assert len(schemas.SCHEMAS) >= 9
    assert schemas.identify(("Angry", "disgust", "fear", "happiness", "sadness", "Surprise", "Neutral")) == "FER2013"
    assert schemas.identify(("fear", "angry")) == ""


def test_levels_put_every_class_in_one_place():
    for level in schemas.LEVELS.values():
        assert all(schemas.canonical(name) == name for name in level)
    assert [schemas.at_level(name, "polarity") for name in NAMES["emoset"]] == ["positive"] * 4 + ["negative"] * 4
    assert [schemas.at_level(name, "ekman") for name in ("Joy", "content", "awe", "contempt")] == [
        "happiness", "happiness", None, None
    ]  # fmt: skip
    assert schemas.find("Joy", NAMES["rafdb"]) == "happiness"
    assert schemas.find("joy", ("happy", "happiness")) is None  # two spellings of one class: no guess


def test_same_classes_in_another_order():
    found = crossing.match(NAMES["rafdb"], NAMES["fer2013"])
    assert found.class_names == NAMES["rafdb"]
    for name, model, data in zip(found.class_names, found.model, found.data, strict=True):
        assert [NAMES["rafdb"][i] for i in model] == [name]
        assert [schemas.canonical(NAMES["fer2013"][i]) for i in data] == [name]
    assert "the data (FER2013) → of the model (RAF-DB basic): surprise → surprise" in found.notes[0]
    assert "happy → happiness" in found.notes[0] and len(found.notes) == 1


@pytest.mark.parametrize("absent", ["mask", "keep"])
def test_classes_that_one_side_lacks(absent):
    found = crossing.match(NAMES["affectnet"], NAMES["rafdb"], absent=absent)
    assert len(found.class_names) == (7 if absent == "mask" else 8)
    expected = "kept out of its answers: contempt" if absent == "mask" else "possible answers, always wrong: contempt"
    assert any(expected in note for note in found.notes)
    back = crossing.match(NAMES["rafdb"], NAMES["affectnet"])
    assert any("the model does not know, left out: contempt" in note for note in back.notes)
    probs = np.array([[0.1, 0.2, 0, 0, 0, 0.1, 0.1, 0.5]], np.float32)
    predictions = Predictions(
        probs=probs, label=np.full((1, 8), 1 / 8, np.float32), weight=np.ones(1), id=np.array(["a"])
    )
    label = np.eye(len(found.class_names), dtype=np.float32)[:1]
    judged = found.judge(predictions, label)
    assert judged.probs.sum() == pytest.approx(1)
    assert judged.probs[0, :2] == pytest.approx([0.2, 0.4] if absent == "mask" else [0.1, 0.2])
    nothing = Predictions(probs=np.eye(8, dtype=np.float32)[7:], label=predictions.label, weight=np.ones(1), id=["a"])
    assert np.isfinite(found.judge(nothing, label).probs).all()


def test_coarser_levels_add_up():
    found = crossing.match(NAMES["emoset"], ("negative", "positive"), level="polarity")
    assert found.class_names == ("positive", "negative")
    assert [len(ids) for ids in found.model] == [4, 4] and found.data == ((1,), (0,))
    probs = np.full((1, 8), 1 / 8, np.float32)
    label = np.array([[1, 0]], np.float32)
    judged = found.judge(Predictions(probs=probs, label=probs, weight=np.ones(1), id=np.array(["a"])), label)
    assert judged.probs[0] == pytest.approx([0.5, 0.5])
    ekman = crossing.match(NAMES["fi"], NAMES["rafdb"], level="ekman")
    assert dict(zip(ekman.class_names, map(len, ekman.model), strict=True))["happiness"] == 3
    assert any("without a place at this level, kept out: awe" in note for note in ekman.notes)


def test_numbers_and_strangers_are_refused():
    with pytest.raises(DataError, match=r"the data's classes are bare numbers \(0, 1, 2\), .* by --classes"):
        crossing.match(("angry", "happy", "sad"), ("0", "1", "2"))
    with pytest.raises(DataError, match="the model's classes are bare numbers"):
        crossing.match(("0", "1", "2"), ("angry", "happy", "sad"))
    with pytest.raises(DataError, match="the model's classes are bare numbers"):
        crossing.match(("0", "1", "2"), ("0", "1", "2"))  # the same numbers, of whatever
    with pytest.raises(DataError, match=r"have none in common .* --level=polarity would compare them"):
        crossing.match(NAMES["rafdb"], ("positive", "negative"))
    with pytest.raises(DataError, match="have none in common"):
        crossing.match(("cat", "dog"), NAMES["rafdb"])


def test_records_of_unknown_classes_are_left_out_and_told(tmp_path):
    data = formats.read(DataConfig(path=str(layouts.affectnet_csv(tmp_path))))
    found = crossing.match(NAMES["rafdb"], data.class_names).restrict(data)
    assert found.class_names == NAMES["rafdb"] and len(found.splits["val"]) == 15
    assert any("val: left out 2 contempt" in note for note in found.notes)
    np.testing.assert_array_equal(found.splits["val"].label.sum(1), 1)


# ------------------------------------------------------------------------------------------------ the command


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on three colours whose names are emotions, so that what it should answer is known."""
    root = tmp_path_factory.mktemp("crossing")
    data = tiny.make_folder(root / "data")
    names = {"blue": "sad", "green": "happy", "red": "angry"}
    for split in ("train", "val", "test"):
        for colour, name in names.items():
            (data / split / colour).rename(data / split / name)
    config = Config(
        image_size=16,
        batch_size=8,
        data=DataConfig(path=str(data)),
        model=ModelConfig(name="resnet18", stem="small2", depths=(1, 1), widths=(8, 16)),
        stages=(StageConfig(epochs=6),),
        eval=EvalConfig(every_epochs=3),
        monitor=MonitorConfig(tensorboard=0),
    )
    train.run(config, root / "run")
    return root / "run", data


def evaluate(run, tmp_path, *options):
    out = tmp_path / "report"
    code = cli.main(["evaluate", f"--workdir={run}", f"--report={out}", *options])
    return code, {file.stem: json.loads(file.read_text()) for file in out.glob("*.json")}


def colours(root, names):
    """The run's colours under other names: {name: colour}."""
    for name, colour in names.items():
        (root / "test" / name).mkdir(parents=True)
        (root / "train" / name).mkdir(parents=True)
        for split in ("train", "test"):
            for i in range(4):
                pixels = np.full((20, 20, 3), tiny.COLOURS[colour], np.uint8) + np.uint8(i)
                Image.fromarray(pixels).save(root / split / name / f"{i}.png")
    return root


@pytest.mark.slow
def test_other_names_and_another_order_give_the_same_numbers(run, tmp_path, capsys):
    workdir, data = run
    code, own = evaluate(workdir, tmp_path / "own", f"--data={data}", "--split=test")
    assert code == 0
    # Sorted by name the classes come in another order: Sadness first would be a shifted permutation.
    path = colours(tmp_path / "other", {"anger": "red", "Joy": "green", "sadness": "blue", "contempt": "red"})
    capsys.readouterr()
    code, found = evaluate(workdir, tmp_path, f"--data={path}", "--split=test")
    told = capsys.readouterr().out
    assert code == 0 and "Joy → happy" in told and "left out: contempt" in told and "left out 4 contempt" in told
    assert found["test"]["accuracy"] == 1.0 == own["test"]["accuracy"]
    assert found["test"]["class_names"] == ["angry", "happy", "sad"] and found["test"]["n"] == 12


@pytest.mark.slow
def test_numbers_need_names(run, tmp_path, capsys):
    workdir, _ = run
    path = colours(tmp_path / "other", {"0": "blue", "1": "red", "2": "green"})
    rows = [(f"{s}/{k}/{i}.png", k, s) for s in ("train", "test") for k in range(3) for i in range(4)]
    layouts.table(path / "list.csv", rows, "image,label,split")
    assert evaluate(workdir, tmp_path, f"--data={path / 'list.csv'}", "--split=test")[0] == 2
    assert "bare numbers (0, 1, 2)" in capsys.readouterr().err
    options = (f"--data={path / 'list.csv'}", "--split=test")
    assert evaluate(workdir, tmp_path / "a", *options, "--classes=sadness,anger,joy")[1]["test"]["accuracy"] == 1.0
    assert evaluate(workdir, tmp_path / "b", *options, "--classes=anger,sadness,joy")[1]["test"]["accuracy"] < 0.5


def numbered(root, order):
    """The three colours in folders 0, 1 and 2, train and test: `order` says which colour has which number."""
    for split in ("train", "test"):
        for k, colour in enumerate(order):
            for i in range(8):
                path = root / split / str(k) / f"{split}{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                seed = 1000 * (split == "test") + 10 * k + i
                noise = np.random.default_rng(seed).integers(0, 50, (20, 20, 3), dtype=np.uint8)
                Image.fromarray(np.full((20, 20, 3), tiny.COLOURS[colour], np.uint8) // 2 + noise).save(path)
    return root


@pytest.mark.slow
def test_the_same_numbers_are_not_the_same_classes(tmp_path, capsys):
    """Trained on folders 0 to 2, judged on folders 0 to 2 in another order: refused unless somebody says so."""
    own = numbered(tmp_path / "own", ("red", "green", "blue"))
    other = numbered(tmp_path / "other", ("green", "blue", "red"))
    workdir = tmp_path / "run"
    train.run(tiny.config(own, stages=(StageConfig(epochs=2),), monitor=MonitorConfig(tensorboard=0)), workdir)
    capsys.readouterr()
    assert evaluate(workdir, tmp_path, f"--data={other}")[0] == 2
    assert "the model's classes are bare numbers (0, 1, 2), which differ in every data set" in capsys.readouterr().err
    code, found = evaluate(workdir, tmp_path / "own", f"--data={own}")
    out = capsys.readouterr().out
    assert code == 0 and found["test"]["n"] == 24 and "the classes are bare numbers" in out
    for option in ("--classes=0,1,2", "--format=folder"):
        assert evaluate(workdir, tmp_path / "a", f"--data={other}", option)[0] == 0
    code, found = evaluate(workdir, tmp_path / "b", f"--data={own}", "--split=train")
    assert code == 0 and found["train"]["leak_check"]["leaked"] == 24  # three of them were cut off as val
    shown = capsys.readouterr().out
    assert "21 of 24 train images are also in the run's training data (21 byte for byte), 3 more in its val" in shown
    (own / "test/0/test0.png").unlink()  # no longer the data that it was trained with
    assert evaluate(workdir, tmp_path / "c", f"--data={own}")[0] == 2
    shutil.rmtree(own)
    capsys.readouterr()
    code, found = evaluate(workdir, tmp_path / "d", f"--data={other}", "--format=folder")
    shown = capsys.readouterr()
    assert code == 0 and "not leak-checked, for the run's own data cannot be opened" in shown.err
    assert found["test"]["leak_check"]["text"] == "not leak-checked" and "  not leak-checked" in shown.out


@pytest.mark.slow
def test_judging_the_runs_test_through_data_is_noted(run, tmp_path, capsys):
    """From where it lies, from a copy by another name; not other pictures, and not its val."""
    workdir, own = run
    shutil.copytree(own / "test", tmp_path / "elsewhere")
    before = len(run_folder.tests(workdir))
    capsys.readouterr()
    assert evaluate(workdir, tmp_path / "a", f"--data={own}", "--split=test")[0] == 0
    assert f"test has been judged {before + 1} times with this run's weights" in capsys.readouterr().out
    code, found = evaluate(workdir, tmp_path / "b", f"--data={tmp_path / 'elsewhere'}")
    assert code == 0 and [row["accuracy"] for row in run_folder.tests(workdir)[before + 1 :]] == [
        found["all"]["accuracy"]
    ]
    assert evaluate(workdir, tmp_path / "c", f"--data={own}", "--split=val")[0] == 0
    assert len(run_folder.tests(workdir)) == before + 2


@pytest.mark.slow
def test_polarity(run, tmp_path, capsys):
    workdir, _ = run
    path = colours(tmp_path / "other", {"positive": "green", "negative": "blue"})
    assert evaluate(workdir, tmp_path, f"--data={path}", "--split=test")[0] == 2
    assert "--level=polarity would compare them" in capsys.readouterr().err
    options = ("--split=test", "--level=polarity", "--per-view", "--post-process=fit")
    code, found = evaluate(workdir, tmp_path, f"--data={path}", *options)
    assert code == 0 and found["test"]["class_names"] == ["negative", "positive"] and found["test"]["n"] == 8
    # A short run is unsure, and two weak answers add up; sharpened on val, the colours are told apart.
    assert "after post-processing: accuracy 1.0000" in capsys.readouterr().out
    assert evaluate(workdir, tmp_path, f"--data={path}", "--level=mood")[0] == 2


@pytest.mark.slow
def test_the_runs_own_data_must_keep_their_order(run, tmp_path, capsys):
    workdir, data = run
    unfinished = shutil.copytree(workdir, tmp_path / "run")
    (unfinished / "finished.json").unlink()
    for split in ("train", "val", "test"):
        (data / split / "angry").rename(data / split / "very angry")
    try:
        assert cli.main(["evaluate", f"--workdir={workdir}"]) == 3
        assert (
            "trained on the classes angry, happy, sad; the data have happy, sad, very angry" in capsys.readouterr().err
        )
        with pytest.raises(CheckpointError, match="the checkpoint's classes are angry, happy, sad"):
            train.run(emojax.load(workdir).config, unfinished)
    finally:
        for split in ("train", "val", "test"):
            (data / split / "very angry").rename(data / split / "angry")
