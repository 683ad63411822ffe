"""The check before training: what is skipped, what is refused, and what a second run need not do again."""

import dataclasses
import json
import os

import numpy as np
import pytest
from odd_images import bad_images, encode
from test_data_sources import make_folder, picture

from emojax.config import DataConfig
from emojax.data import checks, open_dataset
from emojax.data.storage import Files
from emojax.errors import DataError
from emojax.types import Dataset, Split


def test_bad_images_are_left_out_and_named(tmp_path):
    make_folder(tmp_path, 50)
    for name, data, _ in bad_images():
        (tmp_path / "sad" / name).write_bytes(data)
    (tmp_path / "sad" / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "sad" / "fifo.jpg")
    seen = []
    data = open_dataset(DataConfig(path=str(tmp_path), bad_limit=0.1), progress=lambda *now: seen.append(now))
    assert sum(len(split) for split in data.splits.values()) == 150
    reasons = dict(data.skipped)
    assert len(reasons) == len(bad_images()) + 2
    assert reasons["sad/empty.jpg"] == "empty file (0 bytes)" and "directory" in reasons["sad/folder.jpg"]
    assert "not a regular file" in reasons["sad/fifo.jpg"] and "truncated" in reasons["sad/truncated.jpg"]
    check = [now for now in seen if now[1] == 164]
    assert check[-1] == (164, 164) and check == sorted(check) and seen[-1] == (150, 150)  # then copies are looked for


def test_too_many_bad_images_are_refused(tmp_path):
    make_folder(tmp_path, 20)
    for i in range(12):
        (tmp_path / "sad" / f"bad{i:02d}.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"12 of 72 images cannot be read \(16\.7%\).*bad00\.png: empty.*; and 2 more"):
        open_dataset(DataConfig(path=str(tmp_path)))


def test_a_class_that_loses_its_last_image_is_refused(tmp_path):
    make_folder(tmp_path, 30)
    (tmp_path / "zest").mkdir()
    (tmp_path / "zest" / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match="no training images for zest"):
        open_dataset(DataConfig(path=str(tmp_path)))


def test_the_cut_ignores_unreadable_images(tmp_path):
    make_folder(tmp_path / "a", 20)
    before = open_dataset(DataConfig(path=str(tmp_path / "a")))
    (tmp_path / "a" / "sad" / "00a.png").write_bytes(b"")
    after = open_dataset(DataConfig(path=str(tmp_path / "a")))
    for name, split in before.splits.items():
        np.testing.assert_array_equal(split.id, after.splits[name].id)


def test_small_images_of_one_size_are_kept_decoded_and_others_are_not(tmp_path):
    make_folder(tmp_path)
    kept = open_dataset(DataConfig(path=str(tmp_path)))
    assert kept.splits["train"].images.shape == (24, 12, 12, 3)
    for file in tmp_path.rglob("*.png"):
        file.write_bytes(encode(np.repeat(picture(len(file.name) + int(file.stem))[..., :1], 3, 2), "PNG"))
    assert open_dataset(DataConfig(path=str(tmp_path))).splits["train"].images.shape == (24, 12, 12)
    (tmp_path / "sad" / "03.png").write_bytes(encode(picture(3, 13), "PNG"))
    assert isinstance(open_dataset(DataConfig(path=str(tmp_path))).splits["train"].images.images, Files)


@pytest.fixture
def cached(tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "HELD_BYTES", 0)  # larger pictures than a test wants to make
    make_folder(tmp_path / "d", 30)
    (tmp_path / "d" / "sad" / "bad.png").write_bytes(b"no image")
    looked = []
    verify = checks.verify
    monkeypatch.setattr(checks, "verify", lambda data: (looked.append(data), verify(data)))

    def again():
        looked.clear()
        data = open_dataset(DataConfig(path=str(tmp_path / "d")), cache=tmp_path / "cache" / "scan.json")
        return data, len(looked)

    return tmp_path, again


def test_a_second_check_reads_the_cache(cached):
    folder, again = cached
    first, looked = again()
    assert looked == 91
    second, looked = again()
    assert looked == 0 and second.skipped == first.skipped == (("sad/bad.png", first.skipped[0][1]),)
    for name, split in first.splits.items():
        np.testing.assert_array_equal(split.id, second.splits[name].id)
    os.utime(folder / "d" / "sad" / "00.png", ns=(1, 1))
    (folder / "d" / "sad" / "01.png").write_bytes(b"")
    third, looked = again()
    assert looked == 2 and third.skipped == first.skipped, "what could be read before keeps its place"
    assert "sad/01.png could be read before and no longer can: empty file (0 bytes)" in third.notes
    assert third.digest == first.digest
    assert {p.name for p in (folder / "cache").iterdir()} == {"scan.json", "copies.json"}


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "null", '{"key": 1}', "\xff", '{"key": "other", "records": {"a": [1]}}']
)
def test_a_foreign_cache_is_ignored(cached, text):
    folder, again = cached
    (folder / "cache").mkdir()
    (folder / "cache" / "scan.json").write_text(text, encoding="latin-1")
    assert again()[1] == 91
    assert json.loads((folder / "cache" / "scan.json").read_text())["records"]


def test_a_cache_that_cannot_be_written_is_no_error(cached):
    folder, again = cached
    (folder / "cache").write_text("a file where the folder should be")
    assert again()[1] == 91


def test_labels_as_a_whole():
    def data(label, ids=("a", "b", "c"), val=None):
        def split(name, rows, names):
            rows = np.array(rows, np.float32)
            return Split(name=name, images=None, label=rows, weight=np.ones(len(rows), np.float32), id=np.array(names))

        splits = {"train": split("train", label, ids)}
        if val is not None:
            splits["val"] = split("val", val, ids[: len(val)])
        return Dataset(name="set", class_names=("x", "y"), splits=splits)

    good = [[1, 0], [0, 1], [1, 0]]
    checks.check_labels(data(good, val=good))
    for wrong, message in (
        (data(good, ("a", "b", "a")), "two records of train are called 'a'"),
        (data([[1, 0]] * 3), "no training images for y"),
        (data(good, val=np.zeros((0, 2))), "the split val is empty"),
        (dataclasses.replace(data(good), class_names=("x",)), "found only the class x"),
        (dataclasses.replace(data(good), splits={}), "no training records"),
    ):
        with pytest.raises(DataError, match=message):
            checks.check_labels(wrong)
