"""Every input format end to end on generated sets, and every bad input with its message."""

import csv
import io
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import shared_data
from odd_images import encode
from PIL import Image

from emojax.config import DataConfig
from emojax.data import open_dataset, sources
from emojax.data.decode import decode
from emojax.errors import DataError

CLASSES = ("angry", "happy", "sad")


def picture(seed: int, size: int = 12) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def make_folder(root: Path, per_class: int = 10, classes=CLASSES, seed: int = 0) -> Path:
    for k, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(per_class):
            (root / name / f"{i:02d}.png").write_bytes(encode(picture(seed + 1000 * k + i), "PNG"))
    return root


def make_splits(root: Path) -> Path:
    for i, split in enumerate(("train", "val", "test")):
        make_folder(root / split, 4, seed=100_000 * i)
    return root


def write_csv(path: Path, header, rows) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def opened(path, **options):
    return open_dataset(DataConfig(path=str(path), **options))


def sizes(dataset) -> dict[str, int]:
    return {name: len(split) for name, split in dataset.splits.items()}


# ------------------------------------------------------------------------------------------------ formats


def test_folder_of_classes_is_cut(tmp_path):
    data = opened(make_folder(tmp_path / "faces"))
    assert data.name == "faces" and data.class_names == CLASSES
    assert sizes(data) == {"train": 24, "val": 3, "test": 3}
    everything = sorted(name for split in data.splits.values() for name in split.id)
    assert everything[0] == "angry/00.png" and len(set(everything)) == 30
    for split in data.splits.values():
        assert split.label.dtype == split.weight.dtype == np.float32
        for i in range(len(split)):
            pixels = decode((tmp_path / "faces" / str(split.id[i])).read_bytes())
            np.testing.assert_array_equal(decode(split.images[i]), pixels)
            assert CLASSES[split.label[i].argmax()] == str(split.id[i]).split("/")[0]
    assert "split_seed 0" in " ".join(data.notes)


def test_without_test_fraction_only_val_is_cut(tmp_path):
    assert sizes(opened(make_folder(tmp_path / "d"), test_fraction=0.0)) == {"train": 27, "val": 3}


@pytest.mark.parametrize(
    "names", [("train", "val", "test"), ("Training", "VALID", "testing"), ("TRAIN", "dev", "Test")]
)
def test_folder_of_splits(tmp_path, names):
    make_splits(tmp_path)
    for old, new in zip(("train", "val", "test"), names, strict=True):
        (tmp_path / old).rename(tmp_path / new)
    data = opened(tmp_path)
    assert sizes(data) == {"train": 12, "val": 12, "test": 12}
    assert data.splits["val"].id[0] == f"{names[1]}/angry/00.png"


def test_val_is_cut_from_train_where_only_test_exists(tmp_path):
    make_folder(tmp_path / "train", 10)
    make_folder(tmp_path / "test", 2, seed=50)
    assert sizes(opened(tmp_path)) == {"train": 27, "val": 3, "test": 6}


def test_folder_takes_nested_and_upper_case_files_and_leaves_the_rest(tmp_path):
    make_folder(tmp_path)
    data = encode(picture(9), "PNG")
    (tmp_path / "sad" / "deep" / "er").mkdir(parents=True)
    (tmp_path / "sad" / "deep" / "er" / "X.PNG").write_bytes(data)
    (tmp_path / "sad" / ".hidden.png").write_bytes(data)
    (tmp_path / "sad" / "notes.txt").write_text("hello")
    (tmp_path / ".cache").mkdir()
    found = opened(tmp_path)
    assert sum(sizes(found).values()) == 31
    assert any("1 files are not images" in note for note in found.notes)


@pytest.mark.skipif(os.name != "posix", reason="file names are bytes on POSIX only")
def test_odd_file_names(tmp_path):
    make_folder(tmp_path)
    plain = [
        "a b",
        "tab\t",
        "line\nbreak",
        'quote"',
        "gr\u00fc\u00dfe \U0001f600",
        "e\u0301",
        "\u00e9",
        "-x",
        "y" * 251,
    ]
    for i, name in enumerate([*plain, os.fsdecode(b"\xff\xfe")]):
        (tmp_path / "sad" / f"{name}.png").write_bytes(encode(picture(100 + i), "PNG"))
    data = opened(tmp_path)
    assert sum(sizes(data).values()) == 40 and not data.skipped
    ids = [str(name) for split in data.splits.values() for name in split.id]
    json.dumps(ids).encode("utf-8")
    "".join(ids).encode("utf-8")
    assert "sad/\\xff\\xfe.png" in ids


def test_csv_with_fractions_slices_and_names_or_ids(tmp_path):
    make_folder(tmp_path / "images")
    files = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.png"))
    rows = [
        (f, Path(f).parent.name if i % 2 else CLASSES.index(Path(f).parent.name), i % 3) for i, f in enumerate(files)
    ]
    table = write_csv(tmp_path / "faces.csv", ("image", "label", "age"), rows)
    data = opened(table, classes=CLASSES, slice_columns=("age",))
    assert sizes(data) == {"train": 24, "val": 3, "test": 3}
    assert set(data.splits["train"].slices["age"]) == {"0", "1", "2"}
    for split in data.splits.values():
        assert [CLASSES[k] for k in split.label.argmax(1)] == [str(name).split("/")[1] for name in split.id]


def test_csv_with_split_column_and_votes(tmp_path):
    make_folder(tmp_path / "images", 2)
    files = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.png"))
    rows = [(f, ("train", "Validation")[i % 2], 3, 1 + i % 2, 1) for i, f in enumerate(files)]
    table = write_csv(tmp_path / "a.csv", ("image", "split", *CLASSES), rows)
    data = opened(table, vote_columns=CLASSES)
    assert sizes(data) == {"train": 3, "val": 3} and data.class_names == CLASSES
    np.testing.assert_allclose(data.splits["val"].label[0], (1 / 2, 1 / 3, 1 / 6), rtol=1e-6)
    one = write_csv(tmp_path / "b.csv", ("image", "votes"), [(f, "[1, 2, 1]") for f in files])
    np.testing.assert_allclose(opened(one, vote_columns=("votes",), classes=CLASSES).splits["train"].label[0, 1], 0.5)


def test_folder_of_csv_files(tmp_path):
    make_folder(tmp_path / "images", 3)
    files = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.png"))
    for split, i in (("train", 0), ("validation", 1)):
        write_csv(tmp_path / f"{split}.csv", ("image", "label"), [(f, Path(f).parent.name) for f in files[i::3]])
    assert sizes(opened(tmp_path)) == {"train": 3, "val": 3}


def parquet_columns(n: int = 30):
    data = [encode(picture(i), "PNG") for i in range(n)]
    return data, [i % 3 for i in range(n)]


@pytest.mark.parametrize("kind", ["hugging face", "binary", "large", "sliced"])
def test_parquet_with_bytes(tmp_path, kind):
    data, label = parquet_columns()
    column = pa.array(data, pa.large_binary() if kind == "large" else pa.binary())
    if kind == "hugging face":
        column = pa.array([{"bytes": d, "path": None} for d in data])
    table = pa.table({"image": column, "label": label, "male": [bool(i % 2) for i in range(30)]})
    table = table.replace_schema_metadata({"label_names": "angry, happy,sad"})
    pq.write_table(table, tmp_path / "faces.parquet", row_group_size=7 if kind == "sliced" else 1000)
    found = opened(tmp_path / "faces.parquet", slice_columns=("male",))
    assert found.class_names == CLASSES and sizes(found) == {"train": 24, "val": 3, "test": 3}
    for split in found.splits.values():
        for i, name in enumerate(split.id):
            row = int(name.removeprefix("faces.parquet:"))
            np.testing.assert_array_equal(decode(split.images[i]), decode(data[row]))
            assert split.label[i].argmax() == row % 3 and split.slices["male"][i] == str(bool(row % 2))


def test_parquet_shards_paths_and_hugging_face_names(tmp_path):
    make_folder(tmp_path / "images")
    files = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.png"))
    features = {"info": {"features": {"label": {"names": list(CLASSES), "_type": "ClassLabel"}}}}
    for name, part in (
        ("train-00000-of-00002", files[0::3]),
        ("train-00001-of-00002", files[1::3]),
        ("test", files[2::3]),
    ):
        table = pa.table({"image": part, "label": [CLASSES.index(Path(f).parent.name) for f in part]})
        pq.write_table(
            table.replace_schema_metadata({"huggingface": json.dumps(features)}), tmp_path / f"{name}.parquet"
        )
    data = opened(tmp_path)
    assert data.class_names == CLASSES and sizes(data) == {"train": 17, "val": 3, "test": 10}
    assert str(data.splits["test"].id[0]).startswith("images/angry/")


def test_parquet_string_labels_and_votes(tmp_path):
    data, label = parquet_columns()
    table = pa.table({"image": data, "label": [CLASSES[k] for k in label], "votes": [[1, 4, 3]] * 30})
    pq.write_table(table.replace_schema_metadata({"vote_names": "x,y,z"}), tmp_path / "a.parquet")
    assert opened(tmp_path / "a.parquet").class_names == CLASSES
    votes = opened(tmp_path / "a.parquet", vote_columns=("votes",), classes=("z", "y", "x"))
    np.testing.assert_allclose(votes.splits["train"].label[0], (0.125, 0.5, 0.375))


def test_npz_whole_split_and_grey(tmp_path):
    grey = np.stack([picture(i)[..., 0] for i in range(30)])
    label = np.arange(30) % 3
    np.savez(tmp_path / "a.npz", image=grey, label=label, class_names=np.array(CLASSES))
    data = opened(tmp_path / "a.npz")
    assert data.class_names == CLASSES and sizes(data) == {"train": 24, "val": 3, "test": 3}
    row = int(str(data.splits["val"].id[0]).removeprefix("a.npz:"))
    np.testing.assert_array_equal(decode(data.splits["val"].images[0])[..., 1], grey[row])
    np.savez(tmp_path / "b.npz", train_image=grey[..., None], train_label=label, valid_image=grey, valid_label=label)
    both = opened(tmp_path / "b.npz")
    assert sizes(both) == {"train": 30, "val": 30} and both.class_names == ("0", "1", "2")
    assert any("30 of 30 val images are also in train (30 byte for byte" in note for note in both.notes)


def test_emoji_ships_with_the_package():
    data = opened("emoji")
    assert data.class_names == ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
    assert sizes(data) == {"train": 270, "val": 57, "test": 71} and not data.skipped
    assert set(data.splits["test"].slices["style"]) == {"twemoji"}
    assert set(data.splits["train"].slices["style"]) == {"noto", "noto-v1", "fluent-emoji", "fluent-emoji-flat"}
    assert decode(data.splits["train"].images[0]).shape == (64, 64, 3)
    assert any("Apache-2.0" in note and "CC-BY-4.0" in note for note in data.notes)


def test_tfds_without_tensorflow(tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets")

    class Faces(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            image = tfds.features.Image(shape=(None, None, 3), encoding_format="png")
            features = tfds.features.FeaturesDict({"image": image, "label": tfds.features.ClassLabel(names=CLASSES)})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, manager):
            del manager
            return {"train": self._generate_examples(0, 12), "validation": self._generate_examples(12, 18)}

        def _generate_examples(self, start, stop):
            for i in range(start, stop):
                yield i, {"image": io.BytesIO(encode(picture(i), "PNG")), "label": i % 3}

    builder = Faces(data_dir=str(tmp_path), file_format="array_record")
    builder.download_and_prepare()
    data = opened(f"tfds:{builder.data_dir}")
    assert data.class_names == CLASSES and sizes(data) == {"train": 12, "val": 6}
    originals = {picture(i).tobytes() for i in range(12)}
    assert {decode(data.splits["train"].images[i]).tobytes() for i in range(12)} == originals
    with pytest.raises(DataError, match="cannot be opened without TensorFlow"):
        opened("tfds:/nowhere/at/all")


def test_real_faces_open_by_themselves():
    folder = shared_data()
    if folder is None or not (folder / "fer2013plus").is_dir():
        pytest.skip("no real pictures beside this checkout")
    data = sources.read(DataConfig(path=str(folder / "fer2013plus"), slice_columns=("dup_of_train",)))
    assert sizes(data) == {"train": 28558, "val": 3579} and data.class_names[3] == "happy"
    assert (data.splits["val"].slices["dup_of_train"] == "True").sum() == 279
    assert decode(data.splits["val"].images[0]).shape == (48, 48, 3)


# ------------------------------------------------------------------------------------------------ bad input


def refused(path, match, **options):
    with pytest.raises(DataError, match=match):
        opened(path, **options)


def test_places_that_are_no_data_sets(tmp_path):
    refused(tmp_path / "nothing", "no such file or folder")
    refused(tmp_path, "found nothing; expected emoji")
    (tmp_path / "a.txt").write_text("x")
    refused(tmp_path / "a.txt", r"a file of type \.txt; expected")
    (tmp_path / "b.png").write_bytes(encode(picture(0), "PNG"))
    refused(tmp_path, r"found a\.txt, b\.png; expected")
    (tmp_path / "angry").mkdir()
    refused(tmp_path, "no images found")
    (tmp_path / "train.csv").write_text("")
    (tmp_path / "train.npz").write_text("")
    refused(tmp_path, "types csv, npz; choose by config.data.format")
    refused(tmp_path / "a.txt", "expects a folder", format="folder")


def test_folders_with_wrong_classes(tmp_path):
    refused(make_folder(tmp_path / "one", classes=("happy",)), "found only the class happy")
    (make_folder(tmp_path / "empty") / "zest").mkdir()
    refused(tmp_path / "empty", "no training images for zest")
    make_splits(tmp_path / "new")
    make_folder(tmp_path / "new" / "val", 1, classes=("fear",))
    refused(tmp_path / "new", r"val/fear: this class folder is not in the training split \(angry, happy, sad\)")
    refused(
        make_folder(tmp_path / "named"), "sad: this class folder is not in config.data.classes", classes=CLASSES[:2]
    )
    refused(tmp_path / "named", "no training images for fear", classes=(*CLASSES, "fear"))
    make_folder(tmp_path / "lost" / "val", 1)
    refused(tmp_path / "lost", "found the splits val but no training records")
    make_folder(tmp_path / "twice" / "train", 1)
    make_folder(tmp_path / "twice" / "Training", 1)
    refused(tmp_path / "twice", "two folders for the split train: Training and train")
    make_splits(tmp_path / "hollow")
    for file in (tmp_path / "hollow" / "val").rglob("*.png"):
        file.unlink()
    refused(tmp_path / "hollow", "no images found for val")


def test_links_out_of_a_folder(tmp_path):
    make_folder(tmp_path / "d")
    (tmp_path / "secret.png").write_bytes(encode(picture(0), "PNG"))
    (tmp_path / "d" / "sad" / "link.png").symlink_to(tmp_path / "secret.png")
    refused(tmp_path / "d", "link.png' is a link that leads out of")
    (tmp_path / "d" / "sad" / "link.png").unlink()
    (tmp_path / "d" / "sad" / "link.png").symlink_to(tmp_path / "d" / "sad" / "00.png")
    assert sum(sizes(opened(tmp_path / "d")).values()) == 31
    make_folder(tmp_path / "elsewhere", classes=("fear",))
    (tmp_path / "d" / "fear").symlink_to(tmp_path / "elsewhere" / "fear")
    refused(tmp_path / "d", "'fear' is a link that leads out of")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("images/angry/00.png", "joy"), r"bad\.csv:2: label 'joy' is not a class; expected one of angry, happy, sad"),
        (("images/angry/00.png", "3"), r"bad\.csv:2: label 3 is out of range; .* or an id 0 to 2"),
        (("images/angry/00.png", "-1"), r"bad\.csv:2: label -1 is out of range"),
        (("images/angry/00.png", "1.5"), r"bad\.csv:2: label '1.5' is not a class"),
        (("images/angry/00.png", ""), r"bad\.csv:2: the label is empty"),
        (("images/angry/00.png", "nan"), r"bad\.csv:2: the label is nan"),
        (("images/angry/00.png",), r"bad\.csv:2: 1 cells, but the header has 2"),
        (("../secret.png", "sad"), r"bad\.csv:2: image path '\.\./secret\.png' contains '\.\.'"),
        (("images/../../secret.png", "sad"), r"bad\.csv:2: .* contains '\.\.'"),
        (("/etc/passwd", "sad"), r"bad\.csv:2: image path '/etc/passwd' is absolute"),
        (("images\\angry\\00.png", "sad"), r"bad\.csv:2: .* contains a backslash"),
        (("images/link.png", "sad"), r"bad\.csv:2: 'images/link\.png' is a link that leads out of"),
        (("outside/secret.png", "sad"), r"bad\.csv:2: 'outside/secret\.png' is a link that leads out of"),
        (("", "sad"), r"bad\.csv:2: the image path is empty"),
        (("images/\0.png", "sad"), r"NUL"),
        (("images/happy/00.png", "sad"), r"bad\.csv:3: image 'images/happy/00\.png' is already listed in .*bad\.csv:2"),
    ],
)
def test_bad_csv_rows(tmp_path, row, message):
    root = tmp_path / "d"
    make_folder(root / "images", 1)
    (tmp_path / "secret.png").write_bytes(encode(picture(0), "PNG"))
    (root / "images" / "link.png").symlink_to(tmp_path / "secret.png")
    (root / "outside").symlink_to(tmp_path)
    table = write_csv(root / "bad.csv", ("image", "label"), [row, ("images/happy/00.png", "happy")])
    refused(table, message, classes=CLASSES)


@pytest.mark.parametrize(
    ("votes", "message"),
    [
        (("1", "-1", "1"), "row.csv:2: the votes .* contain a negative number"),
        (("0", "0", "0"), "row.csv:2: the votes .* are all zero"),
        (("nan", "1", "0"), "row.csv:2: the votes .* not all finite"),
        (("inf", "1", "0"), "row.csv:2: the votes .* not all finite"),
        (("many", "1", "0"), "row.csv:2: votes must be numbers"),
        (("", "1", "0"), "row.csv:2: votes must be numbers"),
    ],
)
def test_bad_votes(tmp_path, votes, message):
    make_folder(tmp_path / "images", 1)
    table = write_csv(tmp_path / "row.csv", ("image", *CLASSES), [("images/sad/00.png", *votes)])
    refused(table, message, vote_columns=CLASSES)


def test_bad_csv_files(tmp_path):
    (tmp_path / "a.csv").write_text("file,label\n")
    refused(tmp_path / "a.csv", r"a\.csv:1: no column 'image'; the columns are file, label")
    (tmp_path / "a.csv").write_text("")
    refused(tmp_path / "a.csv", r"a\.csv:1: no column 'image'; the columns are \(none\)")
    (tmp_path / "a.csv").write_text("image,label,label\n")
    refused(tmp_path / "a.csv", "two columns have the same name")
    (tmp_path / "a.csv").write_text("image,label\n")
    refused(tmp_path / "a.csv", "no images found")
    (tmp_path / "a.csv").write_bytes(b"image,label\nx\xff.png,1\n")
    refused(tmp_path / "a.csv", "not UTF-8 text after line 1")
    (tmp_path / "a.csv").write_text('image,label\n"x.png,1\n')
    refused(tmp_path / "a.csv", "not valid CSV")
    (tmp_path / "a.csv").write_text("image,label,split\nx.png,1,weekend\n")
    refused(tmp_path / "a.csv", r"a\.csv:2: split 'weekend' is not one of train, val, test")
    (tmp_path / "a.csv").write_text("image,label,split\nx.png,1,val\n")
    refused(tmp_path / "a.csv", "no training records")


def test_bad_parquet_files(tmp_path):
    file = tmp_path / "a.parquet"
    file.write_bytes(b"PAR1 no")
    refused(file, "not a readable Parquet file")
    data, label = parquet_columns(6)
    pq.write_table(pa.table({"picture": data, "label": label}), file)
    refused(file, "no column 'image'; the columns are picture, label")
    pq.write_table(pa.table({"image": data, "label": [0.5] * 6}), file)
    refused(file, "column 'label' is double; expected integers or strings")
    pq.write_table(pa.table({"image": label, "label": label}), file)
    refused(file, r"column 'image' is int64; expected binary")
    pq.write_table(pa.table({"image": data, "label": [0, 1, 2, None, 0, 1]}), file)
    refused(file, r"a\.parquet: row 3: the label is empty")
    pq.write_table(pa.table({"image": data, "label": [0, 1, 2, 7, 0, 1]}), file)
    refused(file, r"a\.parquet: row 3: label 7 is out of range", classes=CLASSES)
    pq.write_table(pa.table({"image": ["../x.png"] * 6, "label": label}), file)
    refused(file, r"a\.parquet:0: image path .* contains '\.\.'")
    pq.write_table(pa.table({"image": data, "label": label, "v": [[1, 2]] * 6}), file)
    refused(file, r"row 0: 2 votes, but there are 3 classes", vote_columns=("v",), classes=CLASSES)
    refused(file, "2 vote classes have no names", vote_columns=("v",))


def test_bad_npz_files(tmp_path):
    class Canary:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "canary",))

    file = tmp_path / "a.npz"
    image = np.zeros((4, 8, 8, 3), np.uint8)
    np.savez(file, image=image, label=np.array([Canary()] * 4, object))
    refused(file, "not a readable .npz file of plain arrays")
    assert not (tmp_path / "canary").exists()
    file.write_bytes(b"PK no zip")
    refused(file, "not a readable .npz")
    np.savez(file, image=image.astype(np.float32), label=np.zeros(4, int))
    refused(file, r"array 'image' is float32 \[4, 8, 8, 3\]; expected uint8")
    np.savez(file, image=image, label=np.zeros(3, int))
    refused(file, r"array 'label' is int64 \[3\]; expected integers or names \[4\]")
    np.savez(file, pictures=image)
    refused(file, "expected an array 'image' or 'train_image'; the arrays are pictures")
    np.savez(file, image=image)
    refused(file, "no array 'label'")


def test_tfds_needs_its_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tensorflow_datasets", None)
    refused("tfds:mnist", r"pip install 'emojax\[tfds\]'")


def test_a_fold_is_cut_from_train_and_val_together(tmp_path):
    rows = ["image,label,person"]
    for split in ("train", "val", "test"):
        (tmp_path / split).mkdir()
    for i in range(36):
        name = f"{'train' if i < 24 else 'val'}/{i}.png"
        Image.fromarray(np.full((8, 8, 3), i, np.uint8)).save(tmp_path / name)
        rows.append(f"{name},{('a', 'b', 'c')[i % 3]},p{i // 6}")
    for i in range(3):
        Image.fromarray(np.full((8, 8, 3), 200 + i, np.uint8)).save(tmp_path / f"test/{i}.png")
    for split in ("train", "val"):
        kept = [row for row in rows[1:] if row.startswith(split)]
        (tmp_path / f"{split}.csv").write_text("\n".join([rows[0], *kept]) + "\n")
    (tmp_path / "test.csv").write_text(
        "image,label,person\n" + "".join(f"test/{i}.png,{c},q\n" for i, c in enumerate("abc"))
    )
    found = [
        sources.open_dataset(DataConfig(path=str(tmp_path), folds=3, fold=i, group_column="person")) for i in range(3)
    ]
    vals = [set(data.splits["val"].id.tolist()) for data in found]
    assert len(set.union(*vals)) == 36 == sum(map(len, vals))
    for data, val in zip(found, vals, strict=True):
        assert set(data.splits["train"].id.tolist()) | val == set.union(*vals) and len(data.splits["test"]) == 3
        people = [set(data.splits[name].slices["person"].tolist()) for name in ("train", "val")]
        assert not people[0] & people[1]
        for name, split in data.splits.items():
            for i, record in enumerate(split.id.tolist()):
                pixel = int(np.asarray(split.images[i]).reshape(-1)[0])
                assert pixel == int(record.split("/")[1].split(".")[0]) + (200 if name == "test" else 0)
    with pytest.raises(DataError, match="no column 'family'"):
        sources.open_dataset(DataConfig(path=str(tmp_path), folds=3, group_column="family"))
