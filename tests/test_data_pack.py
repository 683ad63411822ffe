"""Packs: the same records, byte for byte, and refusals for damaged ones."""

import json
import shutil
from pathlib import Path

import layouts
import numpy as np
import pytest
import tiny
from odd_images import encode

from emojax import cli
from emojax.config import AugmentConfig, DataConfig
from emojax.data import formats, open_dataset, pack, pipeline, sources
from emojax.errors import DataError

RECIPE = Path(__file__).parents[1] / "configs/emoji.py"

pytestmark = pytest.mark.filterwarnings("ignore:the load_module")  # ml_collections loads a recipe so

AUGMENT = AugmentConfig(crop_area=(0.5, 1.0), flip=0.5, rotate=10.0, policy="randaugment", erase=0.3)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pack")
    data = tiny.make_folder(folder / "data")
    assert cli.main(["data", "pack", f"--data={data}", f"--out={folder / 'packed'}"]) == 0
    return folder


def opened(path, **options):
    return open_dataset(DataConfig(path=str(path), **options))


def test_a_pack_is_recognised_and_holds_the_same_records(place, capsys):
    assert formats.recognise(str(place / "packed")) == "packed"
    for options in ({}, {"format": "packed"}):
        original, packed = opened(place / "data"), opened(place / "packed", **options)
        assert packed.digest == original.digest and packed.class_names == original.class_names
        assert (packed.name, packed.notes) == (original.name, original.notes)
        assert list(packed.splits) == list(original.splits)
        for name, split in original.splits.items():
            found = packed.splits[name]
            np.testing.assert_array_equal(found.id, split.id)
            for field in ("label", "weight"):
                np.testing.assert_array_equal(getattr(found, field), getattr(split, field))
    raw, bytes_ = (
        sources.read(DataConfig(path=str(place / "data"))),
        sources.read(DataConfig(path=str(place / "packed"))),
    )
    for name, split in raw.splits.items():
        assert [bytes_.splits[name].images[i] for i in range(len(split))] == [
            split.images[i] for i in range(len(split))
        ]


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_training_sees_the_same_batches(place, workers, monkeypatch):
    monkeypatch.setattr("emojax.data.checks.HELD_BYTES", 0)  # small pictures would be read once and kept
    batches = []
    for kind in ("data", "packed"):
        split = opened(place / kind).splits["train"]
        assert not isinstance(split.images, np.ndarray)
        with pipeline.train_batches(
            split, augment=AUGMENT, size=16, strength=1.0, mixup=0.0, cutmix=0.0, batch_size=8, seed=1, start=0, stop=3,
            workers=workers,
        ) as loader:  # fmt: skip
            batches.append(list(loader))
    for a, b in zip(*batches, strict=True):
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.index, b.index)


def test_slices_and_votes_of_the_shipped_set_are_kept(tmp_path, capsys):
    assert cli.main(["data", "pack", "--data=emoji", f"--out={tmp_path / 'emoji'}"]) == 0
    shown = capsys.readouterr().out
    assert "train" in shown and f"--config.data.path={tmp_path / 'emoji'}" in shown
    original, packed = open_dataset(DataConfig()), opened(tmp_path / "emoji")
    assert packed.digest == original.digest and packed.notes == original.notes
    assert packed.splits["test"].slices["style"].tolist() == original.splits["test"].slices["style"].tolist()


def test_subjects_stay_whole_in_a_pack_too(tmp_path):
    data = layouts.ckplus(tmp_path / "ck")
    assert cli.main(["data", "pack", str(data), f"--out={tmp_path / 'packed'}"]) == 0
    found = opened(tmp_path / "packed").splits
    people = [set(split.slices["subject"].tolist()) for split in found.values()]
    assert len(people) == 3 and sum(map(len, people)) == len(set.union(*people)) == 4


def test_unreadable_files_stay_unreadable(tmp_path, capsys):
    data = tiny.make_folder(tmp_path / "data")
    images = sorted(data.rglob("*.png"))
    images[3].write_bytes(images[3].read_bytes()[:50])
    images[5].unlink()
    images[5].mkdir()
    assert cli.main(["data", "pack", f"--data={data}", f"--out={tmp_path / 'packed'}"]) == 0
    original = opened(data, bad_limit=0.5)
    packed = opened(tmp_path / "packed", bad_limit=0.5)
    assert packed.digest == original.digest
    assert {name for name, _ in original.skipped} <= {name for name, _ in packed.skipped}


def test_arrays_and_full_folders_are_refused(tmp_path, capsys):
    np.savez(tmp_path / "a.npz", image=np.zeros((4, 8, 8), np.uint8), label=np.array([0, 1, 0, 1]))
    assert cli.main(["data", "pack", f"--data={tmp_path / 'a.npz'}", f"--out={tmp_path / 'x'}"]) == 2
    assert "arrays in one file already" in capsys.readouterr().err
    assert cli.main(["data", "pack", "--data=emoji", f"--out={tmp_path}"]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert cli.main(["data", "pack", "--data=emoji", f"--out={tmp_path / 'y'}", "--config.data.path=x"]) == 2
    assert "--data and config.data.path both say where the data are" in capsys.readouterr().err


def test_a_recipe_names_the_data_too(place, tmp_path, capsys):
    command = ["data", "pack", f"--config={RECIPE}", f"--config.data.path={place / 'data'}", f"--out={tmp_path / 'p'}"]
    assert cli.main(command) == 0
    assert opened(tmp_path / "p").digest == opened(place / "data").digest


def damage(folder, how):
    images, table, header = folder / "train.array_record", folder / "train.table.npz", folder / pack.HEADER
    about = json.loads(header.read_text())
    if how == "cut":
        images.write_bytes(images.read_bytes()[:-100])
    elif how == "other bytes":
        images.write_bytes(bytes(images.stat().st_size))
    elif how == "no images":
        images.unlink()
    elif how == "table":
        data = bytearray(table.read_bytes())
        data[len(data) // 2] ^= 1
        table.write_bytes(bytes(data))
    elif how == "no table":
        table.unlink()
    elif how == "no header":
        header.unlink()
    elif how == "broken header":
        header.write_text("{")
    elif how == "half header":
        header.write_text(json.dumps({"format": about["format"]}))
    elif how == "no count":
        del about["splits"]["train"]["records"]
        header.write_text(json.dumps(about))
    elif how == "wrong count":
        about["splits"]["train"]["records"] += 1
        header.write_text(json.dumps(about))
    elif how == "other version":
        header.write_text(json.dumps(about | {"format": "emojax pack 9"}))


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("cut", "bytes, .* were packed"),
        ("other bytes", "not a readable ArrayRecord file|holds 0 records"),
        ("no images", "the pack is not whole"),
        ("table", "its bytes are not those that were packed"),
        ("no table", "the pack is not whole"),
        ("no header", "not a finished pack"),
        ("broken header", "damaged"),
        ("half header", "damaged"),
        ("no count", "damaged"),
        ("wrong count", "says .* records of train"),
        ("other version", "expected the format 'emojax pack 1', found 'emojax pack 9'"),
    ],
)
def test_damaged_packs_are_refused(place, tmp_path, how, reason):
    folder = tmp_path / "packed"
    shutil.copytree(place / "packed", folder)
    damage(folder, how)
    with pytest.raises(DataError, match=reason):
        opened(folder, format="packed")


def test_damage_inside_a_record_is_found_by_its_checksum(tmp_path):
    """A flipped byte of an image: the check before training leaves that record out and says so."""
    rng, data = np.random.default_rng(0), tmp_path / "data"
    for i in range(40):
        folder = data / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{i}.png").write_bytes(encode(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8), "PNG"))
    pack.write(sources.read(DataConfig(path=str(data))), tmp_path / "packed", progress=lambda done, total: None)
    file = tmp_path / "packed/train.array_record"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 255
    file.write_bytes(bytes(content))
    found = opened(tmp_path / "packed")
    assert len(found.skipped) == 1 and "reading failed" in found.skipped[0][1]


def test_other_classes_are_refused(place):
    with pytest.raises(DataError, match="needs a pack made with them"):
        opened(place / "packed", classes=("x", "y"))


def test_what_is_no_pack(tmp_path, capsys):
    """Inside its own data, of files that are no images, in a place that cannot be made."""
    data = tmp_path / "data"
    for name in ("a", "b"):
        (data / name).mkdir(parents=True)
        for i in range(12):
            (data / name / f"{i}.png").write_bytes(b"no image")
    assert cli.main(["data", "pack", f"--data={data}", f"--out={data / 'packed'}"]) == 2
    assert "inside the data" in capsys.readouterr().err and not (data / "packed").exists()
    assert cli.main(["data", "pack", f"--data={data}", f"--out={tmp_path / 'packed'}"]) == 2
    assert "not one of its 24 files is an image" in capsys.readouterr().err
    assert not (tmp_path / "packed" / pack.HEADER).exists()
    assert cli.main(["data", "pack", f"--data={data}", f"--out={data / 'a/0.png'}/x"]) == 2
    assert cli.main(["data", "pack", f"--data={tmp_path / 'data'}", "--out=/proc/nothing/x"]) == 2
    assert "cannot be made" in capsys.readouterr().err
