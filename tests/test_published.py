"""Published layouts: recognised, read with their traps, counted against protocols; and refused where they are wrong."""

import json
import os
import shutil

import layouts
import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import shared_data
from PIL import Image

from emojax.config import AugmentConfig, Config, DataConfig, LossConfig
from emojax.data import formats, open_dataset, protocols, votes
from emojax.data.decode import decode
from emojax.data.published import LAYOUTS, faces
from emojax.data.schemas import SCHEMAS
from emojax.data.storage import Files
from emojax.errors import ConfigError, DataError
from emojax.validate import validate


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


def read(path, **options):
    return formats.read(DataConfig(path=str(path), **options))


def sizes(dataset):
    return {name: len(split) for name, split in dataset.splits.items()}


def counts(split, names):
    return dict(zip(names, np.bincount(split.label.argmax(1), minlength=len(names)).tolist(), strict=True))


def refused(path, match, error=DataError, **options):
    with pytest.raises(error, match=match):
        read(path, **options)


TREES = {
    "affectnet csv": ("affectnet", layouts.affectnet_csv, {"train": 17, "val": 17}),
    "affectnet lists apart": (
        "affectnet",
        lambda root: layouts.affectnet_csv(root, header=False, lists="Manually_Annotated_file_lists"),
        {"train": 17, "val": 17},
    ),
    "affectnet npy": ("affectnet", layouts.affectnet_npy, {"train": 16, "val": 16}),
    "affectnet folders": (
        "affectnet",
        lambda root: layouts.numbered(root / "AffectNet", ("train", "val"), range(8)),
        {"train": 16, "val": 16},
    ),
    "affectnet labels.csv": ("affectnet", layouts.affectnet_listed, {"train": 12}),
    "rafdb": ("rafdb", layouts.rafdb, {"train": 21, "test": 14}),
    "rafdb below basic": (
        "rafdb",
        lambda root: layouts.rafdb(root / "basic", aligned=False).parent,
        {"train": 21, "test": 14},
    ),
    "rafdb Kaggle": ("rafdb", layouts.rafdb_kaggle, {"train": 14, "test": 14}),
    "rafdb compound": ("rafdb_compound", lambda root: layouts.rafdb(root, classes=11), {"train": 33, "test": 22}),
    "fer2013": ("fer2013", layouts.fer2013_csv, {"train": 14, "val": 14, "test": 14}),
    "fer2013 file": (
        "fer2013",
        lambda root: layouts.fer2013_csv(root) / "fer2013.csv",
        {"train": 14, "val": 14, "test": 14},
    ),
    "fer2013 icml": ("fer2013", layouts.fer2013_icml, {"train": 14, "val": 14, "test": 14}),
    "fer2013 train.csv": ("fer2013", layouts.fer2013_train, {"train": 14}),
    "fer2013 folders": ("fer2013", layouts.fer2013_folders, {"train": 14, "val": 14, "test": 14}),
    "ferplus": ("ferplus", layouts.ferplus_table, {"train": 8, "val": 8, "test": 8}),
    "ferplus icml": (
        "ferplus",
        lambda root: layouts.ferplus_table(root, icml=True),
        {"train": 8, "val": 8, "test": 8},
    ),
    "ferplus pictures": ("ferplus", layouts.ferplus_folders, {"train": 8, "val": 8, "test": 8}),
    "ckplus": ("ckplus", layouts.ckplus, {"train": 4 * 7 * 4}),
    "fi": ("fi", layouts.fi, {"train": 80}),
    "fi below": ("fi", lambda root: layouts.fi(root / "emotion_dataset").parent, {"train": 80}),
    "fi table": ("fi", layouts.fi_table, {"train": 80}),
    "fi table without header": ("fi", lambda root: layouts.fi_table(root, header=False), {"train": 80}),
    "emotionroi": ("emotionroi", layouts.emotionroi, {"train": 24, "test": 6}),
    "emotion6": ("emotion6", layouts.emotion6, {"train": 60}),
    "emoset": ("emoset", layouts.emoset, {"train": 16, "val": 16, "test": 16}),
    "emoset three items": (
        "emoset",
        lambda root: layouts.emoset(root, items=3),
        {"train": 16, "val": 16, "test": 16},
    ),
}


@pytest.mark.parametrize("case", TREES)
def test_recognised_read_and_opened(case, tmp_path):
    kind, make, expected = TREES[case]
    path = make(tmp_path)
    assert formats.recognise(str(path)) == kind
    data = read(path)
    assert sizes(data) == expected and data.class_names == SCHEMAS[kind].names
    assert kind in ("ferplus", "emotion6") or all((split.label.max(1) == 1).all() for split in data.splits.values())
    classes = ("sadness", "anger") if kind != "rafdb_compound" else ()
    opened = open_dataset(DataConfig(path=str(path), classes=classes, val_fraction=0.4, test_fraction=0))
    assert not opened.skipped and sum(sizes(opened).values()) > 0
    for split in opened.splits.values():
        assert decode(split.images[0]).ndim == 3 and len(set(split.id.tolist())) == len(split)
    for other in set(LAYOUTS) - {kind}:  # FER+'s table lies beside FER2013's
        if (kind, other) != ("ferplus", "fer2013"):
            refused(path, f"config.data.format = {other} expects .*; found ", format=other)


# ------------------------------------------------------------------------------------------------ traps, set by set


@pytest.mark.parametrize("header", [True, False])
def test_affectnet_tables(tmp_path, header):
    data = read(layouts.affectnet_csv(tmp_path, header=header), slice_columns=("valence",))
    train = data.splits["train"]
    assert counts(train, data.class_names) == {**dict.fromkeys(data.class_names, 2), "happiness": 3}
    assert {"100/train0.JPG", "101/train0.JPG"} < set(train.id.tolist())
    assert "100/train0.JPG#2" in train.id  # the second face in the same picture
    assert sorted(set(train.slices["valence"])) == ["", "0", "0.5"]  # -2 means not given
    assert any("train: 8 records without an expression" in note for note in data.notes)
    i = train.id.tolist().index("100/train1.png")
    image = layouts.pixels(1)
    np.testing.assert_array_equal(train.images[i], image[2:8, 4:12])
    whole = read(tmp_path, face="whole").splits["train"]
    np.testing.assert_array_equal(decode(whole.images[i]), image)


def test_affectnet_eyes_are_levelled(tmp_path):
    marks = [(50, 50)] * 68
    marks[36:42], marks[42:48] = [(30, 40)] * 6, [(70, 60)] * 6
    row = {
        "face_x": "10", "face_y": "10", "face_width": "80", "face_height": "80",
        "facial_landmarks": ";".join(f"{x};{y}" for x, y in marks),
    }  # fmt: skip
    face = faces.Face.parse(row, "here")
    assert face.angle == pytest.approx(np.degrees(np.arctan2(20, 40)))
    image = np.zeros((100, 100), np.uint8)
    image[38:43, 28:33] = image[58:63, 68:73] = 255
    Image.fromarray(image).save(tmp_path / "a.png")
    found = faces.Faces.of(Files.of(tmp_path, ["a.png"]), [face], level=True)[0]
    rows, columns = np.nonzero(found > 200)
    left, right = columns < 40, columns >= 40
    assert abs(rows[left].mean() - rows[right].mean()) < 1  # level, and as far apart as before
    assert columns[right].mean() - columns[left].mean() == pytest.approx(np.hypot(40, 20), abs=1)


def test_affectnet_tables_refused(tmp_path):
    layouts.affectnet_csv(tmp_path)
    good = (tmp_path / "training.csv").read_text()
    for old, new, match in (
        (",0,0.5,0.1", ",11,0.5,0.1", r"training.csv:2: label '11'; AffectNet has 0 neutral"),
        ("train0.JPG,4,2", "train0.JPG,x,2", r"training.csv:2: face box and landmarks must be numbers"),
        (";8;5,0,", ",0,", r"training.csv:2: 134 numbers in facial_landmarks; expected 68 pairs"),
        ("100/train0", "../train0", r"training.csv:2: image path .* contains '\.\.'"),
    ):
        (tmp_path / "training.csv").write_text(good.replace(old, new, 1))
        refused(tmp_path, match)
    (tmp_path / "training.csv").write_text(good.replace(",4,2,8,6,", ",99,99,8,6,", 1))
    opened = open_dataset(DataConfig(path=str(tmp_path), bad_limit=0.2))
    assert opened.skipped == (("100/train0.JPG", "the face box 99,99,8,6 lies outside of the picture"),)


def test_affectnet_npy_files_are_read_once(tmp_path, cache, monkeypatch):
    layouts.affectnet_npy(tmp_path)
    first = read(tmp_path)
    assert len(list((cache / "emojax").iterdir())) == 2
    np.testing.assert_array_equal(read(tmp_path).splits["train"].label, first.splits["train"].label)
    file = tmp_path / "train_set/annotations/0_exp.npy"
    np.save(file, np.array("7"))  # the same size: only the time of change tells
    os.utime(file, ns=(1, 1))
    changed = read(tmp_path).splits["train"]
    assert changed.label[changed.id.tolist().index("train_set/images/0.jpg")].argmax() == 7
    np.save(file, np.array("9"))
    assert len(read(tmp_path).splits["train"]) == 15  # uncertain
    np.save(file, np.array(["x"]))
    refused(tmp_path, r"0_exp\.npy: expected one whole number")
    file.unlink()
    refused(tmp_path, r"0_exp\.npy: there is no such file for images/0\.jpg")


def test_numbers_are_not_taken_for_a_data_set(tmp_path):
    path = layouts.numbered(tmp_path / "faces", ("train", "val"), range(8))
    data = read(path)
    assert data.class_names == tuple("01234567")
    assert any("bare numbers" in note and "affectnet" in note for note in data.notes)
    assert read(path, format="affectnet").class_names == SCHEMAS["affectnet"].names
    seven = layouts.numbered(tmp_path / "raf", ("train", "test"), range(1, 8))
    assert formats.recognise(str(seven)) == "folder"
    assert read(seven, format="rafdb").class_names[0] == "surprise"


def test_affectnet_labels_csv_counts_not_the_folder(tmp_path):
    data = read(layouts.affectnet_listed(tmp_path))
    assert counts(data.splits["train"], data.class_names)["surprise"] == 4
    assert any("4 of 12 images lie in the folder of another class" in note for note in data.notes)


def test_rafdb_starts_at_one(tmp_path):
    data = read(layouts.rafdb(tmp_path))
    first = data.splits["train"].id.tolist().index("Image/aligned/train_00100_aligned.jpg")
    assert data.class_names[data.splits["train"].label[first].argmax()] == "surprise"
    file = tmp_path / "EmoLabel/list_patition_label.txt"
    good = file.read_text()
    for new, match in (
        ("train_00100.jpg 0", r"list_patition_label\.txt:1: label '0'; RAF-DB basic has 1 surprise"),
        ("train_00100.jpg", "expected an image and a label"),
        ("dev_00100.jpg 1", "expected a name that begins with train_ or test_"),
    ):
        file.write_text(good.replace("train_00100.jpg 1", new, 1))
        refused(tmp_path, match, format="rafdb")
    file.write_text(good + good.splitlines()[0] + "\n")
    refused(tmp_path, "is already listed in")


def test_rafdb_kaggle_folder_and_list_disagree(tmp_path):
    layouts.rafdb_kaggle(tmp_path)
    file = tmp_path / "test_labels.csv"
    file.write_text(file.read_text().replace("test_3_1.png,3", "test_3_1.png,4"))
    refused(tmp_path, r"test_labels\.csv:7: test_3_1\.png has the label 4, but lies in test/3")


@pytest.mark.parametrize("make", [layouts.fer2013_csv, layouts.fer2013_icml])
def test_fer2013_pixels(tmp_path, make):
    data = read(make(tmp_path))
    for u, split in enumerate(("train", "val", "test")):
        assert data.splits[split].label.argmax(1).tolist() == [i % 7 for i in range(14)]
        np.testing.assert_array_equal(data.splits[split].images[3], layouts.pixels(1000 * u + 3, 48, 1))
    opened = open_dataset(DataConfig(path=str(tmp_path)))
    assert decode(opened.splits["test"].images[0]).shape == (48, 48, 3)


def test_fer2013_refused(tmp_path):
    layouts.fer2013_csv(tmp_path)
    file = tmp_path / "fer2013.csv"
    lines = file.read_text().splitlines()
    emotion, points, usage = lines[1].split(",")
    for row, match in (
        (f"7,{points},{usage}", r"fer2013\.csv:2: label '7'; FER2013 has 0 angry"),
        (f"0,{points} 1,{usage}", r"fer2013\.csv:2: expected 2304 pixels from 0 to 255, found 2305"),
        (f"0,999{points[points.index(' ') :]},{usage}", "found 2304 numbers up to 999"),
        (f"0,a{points},{usage}", "pixels must be numbers"),
        (f"0,,{usage}", "found 0 numbers"),
        (f"0,{points},Testing", r"Usage 'Testing'; expected one of Training, PublicTest, PrivateTest"),
    ):
        file.write_text("\n".join([lines[0], row, *lines[2:]]) + "\n")
        refused(tmp_path, match)
    del emotion


def test_fer2013_test_without_labels_is_told(tmp_path):
    assert any(
        "test.csv was left out: Kaggle's 28 test images" in n for n in read(layouts.fer2013_train(tmp_path)).notes
    )


def test_fer2013_folders_without_kaggles_names(tmp_path):
    layouts.fer2013_folders(tmp_path, named=False)
    assert formats.recognise(str(tmp_path)) == "folder"
    data = read(tmp_path, format="fer2013")
    assert sizes(data) == {"train": 14, "test": 28} and data.class_names[0] == "angry"
    assert any("PublicTest and PrivateTest together" in note for note in data.notes)


RULES = {
    # worked out by hand from layouts.VOTES: name -> {class: share}
    "majority": {
        "clear": {"neutral": 1}, "two": {"happiness": 1}, "outlier": {"sadness": 1}, "doubt": {"fear": 1},
    },
    "cross_entropy": {
        "clear": {"neutral": 1}, "two": {"happiness": 0.6, "surprise": 0.4},
        "outlier": {"sadness": 0.625, "anger": 0.375}, "half": {"anger": 0.5, "disgust": 0.5}, "doubt": {"fear": 1},
    },
    "multi_target": {
        "clear": {"neutral": 1}, "two": {"happiness": 0.6, "surprise": 0.4},
        "outlier": {"sadness": 0.625, "anger": 0.375}, "half": {"anger": 0.5, "disgust": 0.5}, "doubt": {"fear": 1},
    },
    "share": {
        "clear": {"neutral": 1}, "two": {"happiness": 0.6, "surprise": 0.4},
        "outlier": {"sadness": 0.5, "anger": 0.3, "disgust": 0.1, "fear": 0.1}, "half": {"anger": 0.5, "disgust": 0.5},
        "four": dict.fromkeys(("neutral", "happiness", "surprise", "sadness"), 0.25), "unknown": {"happiness": 1},
        "singles": dict.fromkeys(SCHEMAS["ferplus"].names, 0.125), "doubt": {"fear": 1},
    },
}  # fmt: skip


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("make", [layouts.ferplus_table, layouts.ferplus_folders])
def test_ferplus_rules(tmp_path, rule, make):
    data = read(make(tmp_path), vote_rule=rule)
    names = list(layouts.VOTES)
    for split in data.splits.values():
        found = [names[int(record.rpartition("fer")[2][1:7])] for record in split.id.tolist()]
        assert found == list(RULES[rule])
        for name, label in zip(found, split.label, strict=True):
            expected = [RULES[rule][name].get(c, 0) for c in data.class_names]
            np.testing.assert_allclose(label, expected, atol=1e-7)
    assert sizes(read(tmp_path, vote_rule=rule, vote_rule_eval="majority")) == {
        "train": len(RULES[rule]), "val": 4, "test": 4
    }  # fmt: skip


def test_ferplus_counts_of_the_real_votes():
    """The counts of the published file by the official rule; this copy lacks three training pictures."""
    folder = shared_data()
    if folder is None or not (folder / "fer2013plus").is_dir():
        pytest.skip("no real pictures beside this checkout")
    path = folder / "fer2013plus"
    columns = {
        split: np.array(pq.read_table(path / f"{split}.parquet", columns=["votes"])["votes"].to_pylist())
        for split in ("train", "val")
    }
    for rule, train, val in (("majority", 25060, 3199), ("cross_entropy", 27956, 3505), ("share", 28559, 3579)):
        found = {split: len(votes.apply(column, 8, rule)[1]) for split, column in columns.items()}
        assert found == {"train": train - 3, "val": val}
    data = read(path / "val.parquet", vote_columns=("votes",), vote_rule="majority")
    assert data.class_names == SCHEMAS["ferplus"].names and sizes(data) == {"train": 3199}


def test_ferplus_rows_must_be_aligned(tmp_path):
    layouts.ferplus_table(tmp_path)
    pixels, own = tmp_path / "fer2013.csv", tmp_path / "fer2013new.csv"
    good = pixels.read_text().splitlines()
    pixels.write_text("\n".join([*good[:1], *good[2:]]) + "\n")
    refused(tmp_path, r"fer2013new\.csv:10: Usage is Training, and PublicTest in .*fer2013\.csv:10: the rows are not")
    pixels.write_text("\n".join([*good, good[-1]]) + "\n")
    refused(tmp_path, "ends before this row")
    pixels.write_text("\n".join(good[:-1]) + "\n")
    refused(tmp_path, "has fewer rows")
    pixels.write_text("\n".join(good) + "\n")
    own.write_text(own.read_text().replace("0,6,4", "0,-6,4", 1))
    refused(tmp_path, r"fer2013new\.csv:3: votes 0, -6, 4, .*; expected whole numbers from 0 to 10")
    refused(layouts.fi(tmp_path / "fi"), "vote_rule = majority: FI has no votes", vote_rule="majority")


def test_ckplus_peaks_neutral_and_folds_by_subject(tmp_path):
    layouts.ckplus(tmp_path)
    train = read(tmp_path).splits["train"]
    by_class = counts(train, SCHEMAS["ckplus"].names)
    assert by_class == {"neutral": 28, **dict.fromkeys(SCHEMAS["ckplus"].names[1:], 12)}
    happy = [name for name, label in zip(train.id.tolist(), train.label, strict=True) if label[5] == 1]
    assert happy[:3] == [f"cohn-kanade-images/S005/005/S005_005_0000000{frame}.png" for frame in (4, 5, 6)]
    for fold in range(2):
        data = open_dataset(DataConfig(path=str(tmp_path), folds=2, fold=fold, group_column="subject"))
        people = [set(data.splits[name].slices["subject"].tolist()) for name in ("train", "val")]
        assert all(people) and not people[0] & people[1]
    file = next((tmp_path / "Emotion").rglob("*.txt"))
    file.write_text("happy")
    refused(tmp_path, r"expected a number such as 3\.0000000e\+00")
    file.write_text("9.0")
    refused(tmp_path, r"label '9'; CK\+ has 0 neutral")


def test_ckplus_contradictions_and_missing_frames(tmp_path):
    layouts.ckplus(tmp_path)
    images, labels = (tmp_path / name / "S005/005" for name in ("cohn-kanade-images", "Emotion"))
    label = next(labels.iterdir())
    (labels / f"._{label.name}").write_bytes(b"what a Mac leaves beside a file")
    assert len(read(tmp_path).splits["train"]) == 112
    second = label.with_name("S005_005_00000004_emotion.txt")
    second.write_text("3.0")
    refused(tmp_path, rf"Emotion/S005/005: one label expected, found {second.name}, {label.name}")
    second.unlink()
    frames = sorted(images.glob("*.png"))
    frames[-1].unlink()
    refused(tmp_path, r"S005/005: .* labels frame 00000006, but the last one is S005_005_00000005\.png")
    for frame in frames[1:-1]:
        frame.unlink()
    refused(tmp_path, r"S005/005: .*_emotion\.txt labels this sequence, but it has 1 frames")
    shutil.rmtree(images)
    refused(tmp_path, r"images/S005/005: .*_emotion\.txt labels this sequence, but it has 0 frames")
    shutil.rmtree(images.parent)
    refused(tmp_path, r"images/S005/001: .* but it has 0 frames")


def test_affectnet_numbered_folder_of_no_class(tmp_path):
    path = layouts.numbered(tmp_path / "affectnet", ("train", "val"), range(8))
    layouts.numbered(path, ("test",), (0, 9))
    data = read(path)
    assert sizes(data)["test"] == 2
    assert "test/9: 2 images without an expression of the list were left out" in data.notes
    layouts.numbered(path, ("test",), (12,))
    refused(path, r"test/12: label '12'; AffectNet has 0 neutral")


def test_classes_that_differ_in_case_only_are_refused(tmp_path):
    path = layouts.numbered(tmp_path / "faces", ("train",), ("Happy", "happy", "sad"))
    refused(path, "the classes 'Happy' and 'happy' differ in upper and lower case only")
    both = ("Happy", "happy", "sad")
    assert read(path, classes=both).class_names == both  # who says so means it


def test_fi_copies_are_told_apart(tmp_path):
    path = layouts.fi(tmp_path / "a")
    before = read(path).notes
    (path / "awe/awe_3.jpg").unlink()
    assert any("79 of the 23,308 published images" in note for note in read(path).notes) and read(path).notes != before
    table = layouts.fi_table(tmp_path / "b") / "fi.csv"
    table.write_text(table.read_text().replace("Awe,positive", "Awe,negative", 1))
    refused(tmp_path / "b", r"fi\.csv:22: Awe is called negative, but it is positive")
    table.write_text(table.read_text().replace("Awe,negative", "Joy,positive", 1))
    refused(tmp_path / "b", r"fi\.csv:22: emotion 'Joy'; expected one of amusement")


def test_a_generic_table_is_not_fi(tmp_path):
    layouts.draw(tmp_path / "a.png", 0)
    layouts.draw(tmp_path / "b.png", 1)
    rows = [("a.png", "anger", "train"), ("b.png", "fear", "train")]
    layouts.table(tmp_path / "train.csv", rows, "image,label,split")
    assert formats.recognise(str(tmp_path)) == "csv"


def test_emotion6_columns_count_as_their_header_says(tmp_path):
    plain, swapped = layouts.emotion6(tmp_path / "a"), layouts.emotion6(tmp_path / "b", swapped=True)
    first = read(plain, slice_columns=("valence",)).splits["train"]
    np.testing.assert_allclose(first.label[0], (0.7, 0.2, 0, 0, 0, 0, 0.1), atol=1e-7)
    np.testing.assert_array_equal(read(swapped).splits["train"].label, first.label)
    assert set(first.slices["valence"]) == {"2.5"}
    file = plain / "ground_truth.txt"
    file.write_text(file.read_text().replace("[prob. joy]", "[prob. boredom]"))
    refused(plain, "ground_truth.txt:1: the columns are")
    file.write_text(file.read_text().replace("[prob. boredom]", "[prob. joy]").replace("0.7", "x", 1))
    refused(plain, r"ground_truth\.txt:2: the share of anger is 'x'; expected a number from 0")


def test_emoset_attributes_and_order(tmp_path):
    data = read(layouts.emoset(tmp_path / "a"), slice_columns=("brightness",))
    assert data.class_names[:2] == ("amusement", "awe") and set(data.splits["val"].slices["brightness"]) == {"", "0.5"}
    refused(layouts.emoset(tmp_path / "b", shift=1), r"info\.json: amusement has the number 1; EmoSet's order is")
    file = tmp_path / "a/val.json"
    file.write_text(json.dumps([["amusement", "image/x.jpg"]]))
    refused(tmp_path / "a", r"val\.json: entry 0: expected \[emotion, image, annotation\]")
    file.write_text("[")
    refused(tmp_path / "a", r"val\.json: not readable JSON")


# ------------------------------------------------------------------------------------------------ contradictions


def _replaced(path, old, new):
    """`path` with the first `old` as `new`."""
    text = path.read_text()
    assert old in text, old
    path.write_text(text.replace(old, new, 1))


def _twice(path, line):
    """Line `line` of `path`, counted from 0, once more at the end."""
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[line]]) + "\n")


def _swapped(path, first, second):
    lines = path.read_text().splitlines()
    lines[first], lines[second] = lines[second], lines[first]
    path.write_text("\n".join(lines) + "\n")


def test_a_mistyped_label_does_not_make_raf_basic_the_compound_set(tmp_path):
    path = layouts.rafdb(tmp_path)
    _replaced(tmp_path / "EmoLabel/list_patition_label.txt", "train_00201.jpg 2", "train_00201.jpg 8")
    for form in ("auto", "rafdb"):
        refused(path, r"list_patition_label\.txt:5: label '8'; RAF-DB basic has 1 surprise", format=form)
    compound = layouts.rafdb(tmp_path / "c", classes=11)
    file = compound / "EmoLabel/list_patition_label.txt"
    file.write_text("".join(f"{line} \n" for line in file.read_text().splitlines()))  # blanks at the end
    assert formats.recognise(str(compound)) == "rafdb_compound"


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        (",4,2,8,6,", ",4,2,inf,6,", "face box and landmarks must be numbers"),
        (",4,2,8,6,", ",4,2,99999999999,6,", "face box 4, 2, 99999999999, 6 lies outside"),
        ("8;5;8;5", "8;inf;8;5", "a landmark lies outside"),
        (",0,0.5,0.1", ",0,n/a,0.1", "valence 'n/a'; expected a number from -1 to 1, or -2"),
        (",0,0.5,0.1", ",0,,0.1", "valence ''; expected a number"),
        (",0,0.5,0.1", ",0,7.5,0.1", "valence '7.5'; expected a number"),
    ],
)
def test_affectnet_numbers_are_numbers(tmp_path, old, new, match):
    path = layouts.affectnet_csv(tmp_path)
    _replaced(path / "training.csv", old, new)
    refused(path, rf"training\.csv:2: .*{match}", slice_columns=("valence",))


def test_affectnet_faces_are_listed_once(tmp_path):
    path = layouts.affectnet_csv(tmp_path)
    _twice(path / "training.csv", 1)
    refused(path, r"training\.csv:27: the face \(4, 2, 8, 6\) of '100/train0.JPG' is already listed in .*csv:2")


@pytest.mark.parametrize("value", [np.array(3.9), np.array([1, 2, 3]), np.array(np.inf), np.array(np.nan)])
def test_affectnet_npy_files_hold_one_whole_number(tmp_path, value):
    path = layouts.affectnet_npy(tmp_path)
    np.save(path / "train_set/annotations/0_exp.npy", value)
    refused(path, r"0_exp\.npy: expected one whole number: found")


def test_affectnet_with_one_list_only(tmp_path):
    path = layouts.affectnet_csv(tmp_path)
    (path / "training.csv").unlink()
    assert formats.recognise(str(path)) == "affectnet" and sizes(read(path)) == {"val": 17}


def test_raf_kaggle_image_in_two_folders(tmp_path):
    layouts.rafdb_kaggle(tmp_path)
    for code in "12":
        layouts.draw(tmp_path / "DATASET/train" / code / "dup.jpg", int(code))
    refused(tmp_path, r"train/2/dup\.jpg: lies in train/1 too")


def test_fi_headers_are_known_words(tmp_path):
    table = layouts.fi_table(tmp_path, header=False) / "fi.csv"
    _replaced(table, "Amusement", "Amusment")
    refused(tmp_path, r"fi\.csv:1: emotion 'Amusment'; expected one of")


def test_fi_folders_in_any_case(tmp_path):
    path = layouts.fi(tmp_path / "a")
    for name in layouts.MIKELS:
        (path / name).rename(path / name.capitalize())
    assert formats.recognise(str(path)) == "fi"
    data = read(path)
    assert data.class_names == SCHEMAS["fi"].names and counts(data.splits["train"], data.class_names)["awe"] == 10


def test_emoset_contradictions(tmp_path):
    path = layouts.emoset(tmp_path)
    good = json.loads((path / "val.json").read_text())
    for entry, match in (
        (["awe", *good[0][1:]], r"val\.json: entry 0: awe, but the image is image/amusement/"),
        ([*good[0][:2], 5, good[0][3]], "entry 0: image and annotation must be paths; found 5"),
        ([*good[0][:3], None], "entry 0: image and annotation must be paths"),
        (json.loads((path / "train.json").read_text())[0], r"val.json: entry 0: image .* is already listed in .*train"),
    ):
        (path / "val.json").write_text(json.dumps([entry, *good[1:]]))
        refused(path, match)
    (path / "val.json").write_text(json.dumps([[*good[0][:3], "../../secret.json"], *good[1:]]))
    refused(path, r"val\.json: entry 0: image path .* contains '\.\.'", slice_columns=("brightness",))
    (path / "val.json").write_text(json.dumps(good))
    assert sizes(read(path))["val"] == 16
    other = {str(i): name for i, name in enumerate(sorted(SCHEMAS["emoset"].names))}
    for names in (other, list(other.values())):
        (path / "info.json").write_text(json.dumps({"idx2label": names}))
        refused(path, r"info\.json: anger has the number 1; EmoSet's order is")
    for value in ([], {"label2idx": [1]}, {"label2idx": {"amusement": 0}}):
        (path / "info.json").write_text(json.dumps(value))
        refused(path, r"info\.json: expected label2idx or idx2label with all emotions; without .*awe")
    (path / "info.json").unlink()
    assert formats.recognise(str(path)) == "emoset" and any("no info.json" in note for note in read(path).notes)
    (path / good[0][3]).write_text('{"emotion": "anger"}')
    assert sizes(read(path))["val"] == 16  # annotations are read for slices only
    refused(path, "entry 0: amusement, but .* has the emotion 'anger'", slice_columns=("brightness",))


def test_ferplus_contradictions(tmp_path):
    path = layouts.ferplus_table(tmp_path)
    file = path / "fer2013new.csv"
    good = file.read_text()
    _swapped(file, 1, 2)
    refused(path, r"fer2013new\.csv:3: image 'fer0000000\.png' after number 1; .* not in the published order")
    file.write_text(good)
    _replaced(file, "fer0000001.png", "fer0000000.png")
    refused(path, r"fer2013new\.csv:3: image 'fer0000000\.png' after number 0")
    for vote in ("11", "1.5", "x", ""):
        file.write_text(good)
        _replaced(file, "fer0000000.png,10", f"fer0000000.png,{vote}")
        refused(path, rf"fer2013new\.csv:2: votes {vote}, 0, .*; expected whole numbers from 0 to 10")
    pictures = layouts.ferplus_folders(tmp_path / "b")
    _twice(pictures / "data/FER2013Valid/label.csv", 0)
    refused(pictures, r"FER2013Valid/label\.csv:9: image .* is already listed in .*label\.csv:1")


def test_emotion6_contradictions(tmp_path):
    path = layouts.emotion6(tmp_path)
    file = path / "ground_truth.txt"
    good = file.read_text()
    _twice(file, 1)
    refused(path, r"ground_truth\.txt:62: image 'images/anger/0\.jpg' is already listed in .*:2")
    for old, new, match in (
        ("0.7", "6.0", "the seven shares sum to 6.3; expected 1"),
        ("0.7", "-0.7", "the share of anger is '-0.7'"),
        ("2.5", "x", "valence is 'x'"),
    ):
        file.write_text(good)
        _replaced(file, old, new)
        refused(path, rf"ground_truth\.txt:2: {match}")


def test_emotionroi_image_in_both_lists(tmp_path):
    path = layouts.emotionroi(tmp_path)
    lists = path / "training_testing_split"
    with (lists / "testing.txt").open("a") as file:
        file.write("anger/0.jpg\n")
    refused(path, r"testing\.txt:7: image 'images/anger/0\.jpg' is already listed in .*training\.txt:1")


@pytest.mark.parametrize("folds", [0, 2])
@pytest.mark.parametrize("protocol", ["", "ckplus7", "ckplus8"])
def test_ckplus_never_divides_a_subject(tmp_path, folds, protocol):
    path = layouts.ckplus(tmp_path)
    data = open_dataset(DataConfig(path=str(path), folds=folds, protocol=protocol, subset=int(bool(protocol))))
    people = [set(split.slices["subject"].tolist()) for split in data.splits.values()]
    assert len(people) == (2 if folds else 3) and all(people) and sum(map(len, people)) == len(set.union(*people)) == 4
    if protocol:
        other = {"protocol": protocol, "subset": 1, "group_column": "sequence"}
        refused(path, "keeps each subject in one part, found 'sequence'", ConfigError, **other)


def test_tables_without_a_header_are_named_shortly(tmp_path):
    layouts.draw(tmp_path / "a.png", 0)
    layouts.table(tmp_path / "train.csv", [("a.png", "1;2;3;4;5;6;7;8" * 80, "angry")])
    with pytest.raises(DataError, match=r"no column .image.; the columns are a\.png, 1;2.*…, angry") as error:
        read(tmp_path)
    assert len(str(error.value)) < 200 + len(str(tmp_path))


# ------------------------------------------------------------------------------------------------ classes, protocols


def test_classes_are_chosen_by_any_spelling_and_told(tmp_path):
    data = read(layouts.rafdb(tmp_path), classes=("Happy", "sad"))
    assert data.class_names == ("Happy", "sad") and sizes(data) == {"train": 6, "test": 4}
    label = data.splits["train"].label
    raw = read(tmp_path).splits["train"]
    happy = [name for name, row in zip(raw.id.tolist(), raw.label, strict=True) if row[3] == 1]
    assert data.splits["train"].id[label[:, 0] == 1].tolist() == happy
    assert any("train: left out 3 surprise, 3 fear" in note for note in data.notes)
    refused(tmp_path, "'boredom' is none of its classes; RAF-DB basic has surprise", classes=("boredom", "sad"))
    refused(tmp_path, "two of them are one class", classes=("sad", "sadness"))


def test_protocols_refuse_other_counts(tmp_path, monkeypatch):
    path = layouts.rafdb(tmp_path)
    refused(
        path,
        r"the protocol RAF-DB basic, official split \(official\) does not fit: train: 12,271 records published, "
        r"found 21 \(surprise 1,290 but 3, .*set config\.data\.subset=1",
        protocol="rafdb",
    )
    notes = read(path, protocol="rafdb", subset=1).notes
    assert any(note.startswith("NOT COMPARABLE with published numbers") for note in notes)
    mini = {"official": {"train": (3,) * 7, "test": (2,) * 7}}
    monkeypatch.setitem(protocols.PROTOCOLS, "rafdb", protocols._own("rafdb", "RAF-DB", mini))
    data = read(path, protocol="rafdb", classes=("neutral", "anger", "sad", "happy", "disgust", "fear", "surprise"))
    assert any("the numbers of records are as published" in note for note in data.notes)
    refused(path, "has surprise, fear", ConfigError, protocol="rafdb", classes=("happy", "sad"))
    refused(path, "is for the format ferplus", ConfigError, protocol="ferplus_majority")
    # One class more and another less: the total is right, the protocol still notices.
    file = tmp_path / "EmoLabel/list_patition_label.txt"
    file.write_text(file.read_text().replace("train_00100.jpg 1", "train_00100.jpg 2"))
    refused(path, "surprise 3 but 2, fear 3 but 4", protocol="rafdb")


def test_protocol_sets_votes_and_classes(tmp_path):
    data = read(layouts.ferplus_table(tmp_path), protocol="ferplus_cross_entropy", subset=1)
    assert sizes(data) == {"train": 5, "val": 4, "test": 4}
    refused(tmp_path, "has 'majority', found 'share'", ConfigError, protocol="ferplus_majority", vote_rule="share")
    seven = read(layouts.affectnet_csv(tmp_path / "a"), protocol="affectnet7", subset=1)
    assert seven.class_names == SCHEMAS["affectnet"].names[:7] and sizes(seven) == {"train": 15, "val": 15}


def test_totals_are_those_published():
    """Sums that the papers state, against the table's counts by class."""
    totals = {
        "affectnet8": {"train": 287651, "val": 4000}, "affectnet7": {"train": 283901, "val": 3500},
        "rafdb": {"train": 12271, "test": 3068}, "fi": {"all": 23308},
        "ckplus7": {"all": 981}, "ckplus8": {"all": 1308},
    }  # fmt: skip
    for name, due in totals.items():
        release = next(iter(protocols.PROTOCOLS[name].releases.values()))
        assert {key: sum(value) for key, value in release.items()} == due
    assert sum(protocols.PROTOCOLS["affectnet8"].releases["2021"]["val"]) == 3999
    for protocol in protocols.PROTOCOLS.values():
        for release in protocol.releases.values():
            assert all(isinstance(n, int) or len(n) == len(protocol.classes) for n in release.values())


def test_knobs_of_protocols():
    for bad, match in (
        (DataConfig(subset=1), "data.subset: expected 0"),
        (DataConfig(vote_rule_eval="majority"), "data.vote_rule_eval: expected ''"),
        (DataConfig(protocol="ferplus_drawing"), "augment.draw_labels: expected 1"),
        (DataConfig(protocol="ferplus_multi_target"), "loss.name: expected 'multi_target'"),
        (DataConfig(protocol="nonsense"), "data.protocol: expected one of"),
    ):
        with pytest.raises(ConfigError, match=match):
            validate(Config(data=bad))
    validate(Config(data=DataConfig(protocol="ferplus_drawing"), augment=AugmentConfig(draw_labels=1)))
    with pytest.raises(ConfigError, match=r"loss\.smoothing: expected 0 with multi_target"):
        validate(Config(loss=LossConfig(name="multi_target", smoothing=0.1)))


def test_votes_of_one_person_are_no_label():
    label, kept = votes.apply(np.array([[1, 0, 0], [0, 0, 0], [0, 3, 2]]), 2, "majority")
    assert kept.tolist() == [2] and label.tolist() == [[0, 1]]


# ------------------------------------------------------------------------------------------------ Hugging Face on disk


def test_saved_to_disk(tmp_path):
    data = read(layouts.saved_to_disk(tmp_path / "set"))
    assert data.class_names == ("angry", "happy", "sad") and sizes(data) == {"train": 24, "test": 24}
    np.testing.assert_array_equal(decode(data.splits["test"].images[13]), layouts.pixels(1101))
    assert data.splits["test"].label[13].argmax() == 1
    alone = read(tmp_path / "set/train")
    assert sizes(alone) == {"train": 24} and alone.class_names == data.class_names
    refused(tmp_path / "set", "no column 'emotion'; the columns are image, label", label_column="emotion")
    state = tmp_path / "set/train/state.json"
    state.write_text(json.dumps(json.loads(state.read_text()) | {"_indices_data_files": [{"filename": "x"}]}))
    refused(tmp_path / "set", "the rows are chosen by an index file")
    state.write_text("{}")
    refused(tmp_path / "set", r"state\.json: lists no data files")
    (tmp_path / "set/test/data-00000-of-00002.arrow").write_bytes(b"no")
    state.unlink()
    refused(tmp_path / "set", r"state\.json: not readable JSON")


def test_saved_to_disk_by_the_library_itself(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=["angry", "happy", "sad"]))
    rows = {"image": [Image.fromarray(layouts.pixels(i)) for i in range(30)], "label": [i % 3 for i in range(30)]}
    whole = datasets.Dataset.from_dict(rows, features=features)
    part = whole.shuffle(seed=0).select(range(20))
    datasets.DatasetDict(train=part, validation=whole.select(range(20, 30))).save_to_disk(str(tmp_path / "set"))
    data = read(tmp_path / "set")
    assert sizes(data) == {"train": 20, "val": 10} and data.class_names == ("angry", "happy", "sad")
    assert data.splits["train"].label.argmax(1).tolist() == part["label"][:]
    np.testing.assert_array_equal(decode(data.splits["val"].images[3]), layouts.pixels(23))
