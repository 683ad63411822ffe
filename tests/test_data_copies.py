"""Copies: planted ones are found and others are not; leaks, conflicts and clean splits follow from them."""

import csv
import dataclasses
import json
import shutil
import time

import numpy as np
import pictures
import pytest
from PIL import Image

from emojax import cli, data, intervals, metrics, report
from emojax.cli import kfold
from emojax.config import DataConfig
from emojax.data import alignment, audit, copies, near_duplicates, sources, thumbnails
from emojax.types import Dataset, Predictions, Split


def ignore(done, total):
    pass


def thumbs(images):
    return thumbnails.look(images, np.arange(len(images)), progress=ignore).thumbs


def planted(images, each, *, seed=1):
    """(images and their changed copies, {kind: the pairs})."""
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(images))[: each * len(pictures.CHANGES)].reshape(-1, each)
    whole, pairs = list(images), {}
    for (kind, change), row in zip(pictures.CHANGES.items(), chosen.tolist(), strict=True):
        pairs[kind] = {(i, len(whole) + k) for k, i in enumerate(row)}
        whole += [change(images[i], rng) for i in row]
    return whole, pairs


def test_planted_copies_of_drawings_are_found_and_nothing_else():
    whole, pairs = planted(pictures.drawn(1500), 200)
    found = near_duplicates.search(thumbs(whole))
    got = set(map(tuple, found.index.tolist()))
    for kind, expected in pairs.items():
        assert len(expected & got) >= 0.99 * len(expected), kind
    assert not got - set().union(*pairs.values())
    turned = {pair for pair, mirrored in zip(map(tuple, found.index.tolist()), found.mirrored, strict=True) if mirrored}
    assert turned == pairs["mirrored"]


def test_few_images_are_compared_pair_by_pair():
    whole, pairs = planted(pictures.drawn(40), 4)
    found = near_duplicates.search(thumbs(whole))
    assert set(map(tuple, found.index.tolist())) == set().union(*pairs.values())


@pytest.mark.slow
def test_planted_copies_of_faces_are_found():
    images = pictures.faces("val")
    if images is None:
        pytest.skip("the faces of fer2013plus are not beside the checkout")
    before = near_duplicates.search(thumbs(images)).index
    single = [images[i] for i in np.setdiff1d(np.arange(len(images)), before).tolist()]
    whole, pairs = planted(single, 400)
    got = set(map(tuple, near_duplicates.search(thumbs(whole)).index.tolist()))
    for kind, expected in pairs.items():
        assert len(expected & got) >= 0.99 * len(expected), kind
    # What nobody planted are copies that the first search missed; all of them were looked at by eye.
    others = {i for pair in got - set().union(*pairs.values()) for i in pair}
    assert len(others) < 0.005 * len(whole)


@pytest.mark.slow
def test_other_faces_are_no_false_alarms():
    """Real pictures of which no two can be copies: faces, and faces upside down."""
    images = pictures.faces("val")
    if images is None:
        pytest.skip("the faces of fer2013plus are not beside the checkout")
    groups = np.repeat([0, 1], len(images))
    found = near_duplicates.search(thumbs([*images, *(image[::-1] for image in images)]), groups=groups)
    assert len(np.unique(found.index)) < 0.001 * len(groups)


@pytest.mark.slow
def test_marked_duplicates_of_faces_are_found():
    """The mark knows identical pixels only, which are identical bytes here; changed copies are found besides."""
    if pictures.faces("val") is None:
        pytest.skip("the faces of fer2013plus are not beside the checkout")
    path = str(pictures.shared_data() / "fer2013plus")
    dataset, digests = sources.open_with_digests(
        DataConfig(path=path, slice_columns=("dup_of_train",)), cache=None, progress=ignore
    )
    found = copies.find(dataset, digests, across=True, cache=None, progress=ignore)
    val = found.split == 1
    marked = dataset.splits["val"].slices["dup_of_train"] == "True"
    np.testing.assert_array_equal(found.leaked(changed=False)[val], marked)
    assert marked.sum() == 279 and found.leaked()[val].sum() == 892
    assert not len(found.alike.index)  # photographs: what looks the same is the same


def test_groups_restrict_the_search():
    images = pictures.drawn(150)
    rng = np.random.default_rng(0)
    copy = [pictures.encoded(images[0], rng), pictures.encoded(images[0], rng)]
    whole = thumbs([*images, *copy])
    groups = np.array([0] * 150 + [1] * 2)
    assert near_duplicates.search(whole, groups=groups).index.tolist() == [[0, 150], [0, 151]]
    assert near_duplicates.search(whole).index.tolist() == [[0, 150], [0, 151], [150, 151]]


def test_flat_pictures_have_no_copies():
    images = [np.full((40, 40), level, np.uint8) for level in range(0, 250, 2)]
    assert near_duplicates.flat(thumbs(images)).all()
    assert len(near_duplicates.search(thumbs(images)).index) == 0
    assert len(near_duplicates.search(np.zeros((0, 32, 32), np.uint8)).index) == 0


def test_moved_reads_where_it_says():
    ramp = np.tile(np.arange(32, dtype=np.float32), (1, 32, 1))
    found, mask = alignment.moved(ramp, np.array([[0.0, 2 / 32, 0.0, 0.0]], np.float32))
    np.testing.assert_allclose(found[0, 0, :30], np.arange(2, 32), atol=1e-4)
    np.testing.assert_array_equal(mask[0, 0], [1] * 30 + [0] * 2)


def test_the_fit_recovers_a_crop():
    image = thumbs(pictures.drawn(1))
    big = Image.fromarray(image[0]).resize((320, 320), Image.Resampling.BICUBIC)
    part = np.asarray(big.crop((16, 0, 304, 320)).resize((32, 32), Image.Resampling.BOX))[None]
    move, _ = alignment._fit(part.astype(np.float32), image.astype(np.float32), np.zeros((1, 4), np.float32), steps=12)
    np.testing.assert_allclose(move[0], [-0.1, 0, 0, 0], atol=0.01)


# --- what follows from copies -------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """12 drawings a split and class; test/a/0 is a crop of train/a/0, test/b/1 is train/b/1, and train/b/9 is a JPEG
    of train/a/9 under another class."""
    images, rng = pictures.drawn(72), np.random.default_rng(0)
    place = {
        (split, name, i): images[k]
        for k, (split, name, i) in enumerate(
            (s, n, i) for s in ("train", "val", "test") for n in "ab" for i in range(12)
        )
    }
    place["test", "a", 0] = pictures.cropped(place["train", "a", 0], rng)
    place["test", "b", 1] = place["train", "b", 1]
    place["train", "b", 9] = pictures.encoded(place["train", "a", 9], rng)
    for (split, name, i), image in place.items():
        path = tmp_path / "data" / split / name / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return tmp_path / "data"


LEAKED = frozenset({"test/a/00.png", "test/b/01.png"})


def test_leaks_are_found_when_data_are_opened(folder, tmp_path, monkeypatch):
    cache = tmp_path / "run" / "data_check.json"
    dataset = data.open_dataset(DataConfig(path=str(folder)), cache=cache)
    assert dataset.leaked == {"train": frozenset(), "val": frozenset(), "test": LEAKED}
    note = "2 of 24 test images are also in train or val (1 byte for byte, 1 cropped, mirrored or encoded again)"
    assert note in dataset.notes
    monkeypatch.setattr(near_duplicates, "search", None)  # what is known is not looked for again
    again = data.open_dataset(DataConfig(path=str(folder)), cache=cache)
    assert (again.leaked, again.notes) == (dataset.leaked, dataset.notes)
    off = data.open_dataset(DataConfig(path=str(folder), leak_check=0))
    assert off.leaked is None and any("byte for byte" in note for note in off.notes)


def test_copies_are_in_one_fold(folder, tmp_path, monkeypatch):
    """Also changed ones, whatever split they come from; who resumes a fold need not look again."""
    rng = np.random.default_rng(3)
    for i in range(3, 11):
        image = np.asarray(Image.open(folder / f"train/a/{i:02d}.png"))
        Image.fromarray(pictures.cropped(image, rng)).save(folder / f"val/a/{i:02d}-again.png")
    cache = tmp_path / "data_check.json"
    parts = [
        data.open_dataset(DataConfig(path=str(folder), folds=2, fold=fold), cache=cache if fold else None)
        for fold in (0, 1)
    ]
    for part in parts:
        assert part.leaked["val"] == frozenset() and any("copies in one fold" in note for note in part.notes)
        held = set(part.splits["val"].id.tolist())
        assert all((f"train/a/{i:02d}.png" in held) == (f"val/a/{i:02d}-again.png" in held) for i in range(3, 11))
    assert not {*parts[0].splits["val"].id.tolist()} & {*parts[1].splits["val"].id.tolist()}
    monkeypatch.setattr(near_duplicates, "search", None)
    again = data.open_dataset(DataConfig(path=str(folder), folds=2, fold=1), cache=cache)
    assert again.splits["val"].id.tolist() == parts[1].splits["val"].id.tolist()


def test_folds_unite_what_leaked(tmp_path):
    for i, check in enumerate(({"checked": True, "leaked": 0}, {"checked": True, "leaked": 0}, None)):
        path = tmp_path / f"fold{i}/report/val.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"leak_check": check}))
    places = [tmp_path / f"fold{i}" for i in range(3)]
    assert kfold._leaked(places[:2]) == {"all": frozenset()} and kfold._leaked(places) is None


def test_a_damaged_cache_or_other_contents_are_searched_anew(folder, tmp_path):
    cache = tmp_path / "run" / "data_check.json"
    config = DataConfig(path=str(folder))
    data.open_dataset(config, cache=cache)
    (folder / "test/a/00.png").unlink()
    assert data.open_dataset(config, cache=cache).leaked["test"] == {"test/b/01.png"}
    cache.with_name("copies.json").write_text("[1]")
    assert data.open_dataset(config, cache=cache).leaked["test"] == {"test/b/01.png"}


def test_the_check_prints_what_it_found(folder, tmp_path, capsys):
    (folder / "train/a/broken.png").write_bytes(b"no picture")
    Image.fromarray(np.full((300, 20, 3), 250, np.uint8)).save(folder / "val/a/odd<b>.png")
    gallery, clean = tmp_path / "g.html", tmp_path / "clean.csv"
    assert cli.main(["data", "check", f"--data={folder}", f"--gallery={gallery}", f"--write-clean={clean}"]) == 0
    shown = capsys.readouterr().out
    for line in (
        "unreadable images                1",
        "odd sizes                        1",
        "show nothing                     1",
        "copies, same bytes               1",
        "copies, changed                  2",
        "one picture, two classes         1",
        "leaks across splits              2",
        "    test/test/a/00.png = train/train/a/00.png",
        "    train/train/a/09.png (a) = train/train/b/09.png (b)",
        "2 of 24 test images (8.3%) are leaked.",
        f"  --config.data.corrections={clean}",
    ):
        assert line in shown.splitlines(), line
    page = gallery.read_text()
    assert (
        page.count("<section") == 3
        and page.count("data:image/jpeg") == 6
        and "http://" not in page
        and "https://" not in page
    )
    assert page.index("train/b/09.png") < page.index("test/a/00.png")  # conflicts come first
    assert cli.main(["data", "check", str(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["classes"]["a"] == {"train": 12, "val": 13, "test": 12}
    assert {leak["record"]["id"] for leak in found["leaks"]} == LEAKED


def test_clean_splits_are_what_training_reads(folder, tmp_path):
    (folder / "train/a/broken.png").write_bytes(b"no picture")
    clean = tmp_path / "clean.csv"
    assert cli.main(["data", "check", f"--data={folder}", f"--write-clean={clean}"]) == 0
    with clean.open(newline="") as file:
        gone = {row["id"]: row["reason"] for row in csv.DictReader(file) if row["action"] == "drop"}
    assert gone.pop("train/train/a/broken.png").startswith("unreadable: not a JPEG")
    assert gone == {
        "train/train/a/00.png": "copy of test/test/a/00.png",
        "train/train/b/01.png": "copy of test/test/b/01.png",
        "train/train/a/09.png": "other class than its copy train/train/b/09.png, b",
        "train/train/b/09.png": "other class than its copy train/train/a/09.png, a",
    }
    dataset = data.open_dataset(DataConfig(path=str(folder), corrections=str(clean)))
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 20, "val": 24, "test": 24}
    assert not dataset.skipped and dataset.leaked is not None and not any(dataset.leaked.values())
    assert "corrected by clean.csv: 5 dropped, 0 relabelled, 0 moved" in dataset.notes


def test_clean_splits_keep_the_cut(tmp_path):
    """Data without splits: the file holds the cut that was made, whatever the seed says later."""
    for k, image in enumerate(pictures.drawn(60)):
        path = tmp_path / "data" / "ab"[k % 2] / f"{k:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    assert cli.main(["data", "check", f"--data={tmp_path / 'data'}", f"--write-clean={tmp_path / 'c.csv'}"]) == 0
    cut = data.open_dataset(DataConfig(path=str(tmp_path / "data")))
    kept = data.open_dataset(
        DataConfig(path=str(tmp_path / "data"), corrections=str(tmp_path / "c.csv"), split_seed=7, test_fraction=0.3)
    )
    for name in ("train", "val", "test"):
        assert kept.splits[name].id.tolist() == cut.splits[name].id.tolist()


def test_emoji_of_two_classes_are_no_copies():
    """The set that ships: drawings that differ in little but what they express. Only one emoji in two styles, and
    drawings of one class, count as copies; nothing is in conflict, and no correction drops a picture for another
    class."""
    dataset, digests = sources.open_with_digests(DataConfig(), cache=None, progress=ignore)
    found = audit.audit(dataset, digests, progress=ignore)
    assert not found.conflicting.any()
    first = np.unique(found.copies.content, return_index=True)[1]

    def emoji(i):
        return found.records[first[i]].id.rpartition("/")[2]

    def classes(i):
        return found.records[first[i]].label

    pairs = found.copies.pairs.index.tolist()
    other = [pair for pair in pairs if emoji(pair[0]) != emoji(pair[1])]
    assert all(classes(i) == classes(j) for i, j in pairs)
    assert len(pairs) > 60 and len(other) < 0.0002 * 398 * 397 / 2  # of 79,003 pairs; the bar is 0.001
    alike = found.copies.alike.index.tolist()
    assert alike and all(classes(i) != classes(j) for i, j in alike)
    rows = audit.cleaned(dataset, sources.read(DataConfig()), found)
    assert not [row for row in rows if "other class" in row.reason]


def test_a_copy_of_another_class_must_be_certain():
    """One picture under two labels is a conflict when hardly anything differs; a new crop of it only looks the same."""
    images, rng = pictures.drawn(4), np.random.default_rng(0)
    crop = pictures.cropped(images[1], rng)
    blurred = np.asarray(Image.fromarray(crop).resize((20, 20)))
    whole = [*images, pictures.encoded(images[0], rng), blurred]

    def search(labels):
        split = Split(
            name="train", images=whole, label=np.eye(2, dtype=np.float32)[labels], weight=np.ones(6, np.float32),
            id=np.array(list("abcdef")),
        )  # fmt: skip
        data = Dataset("d", ("x", "y"), {"train": split})
        return copies.find(data, {"train": list("abcdef")}, across=False, cache=None, progress=ignore)

    same = search([0] * 6)
    assert same.pairs.index.tolist() == [[0, 4], [1, 5]] and not len(same.alike.index)
    found = search([0, 0, 0, 0, 1, 1])
    assert found.pairs.index.tolist() == [[0, 4]] and found.alike.index.tolist() == [[1, 5]]
    assert found.groups()[0] == found.groups()[4] != found.groups()[5]


def test_photographs_are_copies_whatever_their_classes():
    """Small crops of photographs under another class are leaks and conflicts, where drawings would be doubted."""
    images, rng = list(pictures.photographed(120)), np.random.default_rng(0)
    assert not near_duplicates.drawings(thumbs(images)).any()
    assert near_duplicates.drawings(thumbs(pictures.drawn(200))).mean() > 0.5
    small = [np.asarray(Image.fromarray(pictures.cropped(image, rng)).resize((20, 20))) for image in images[:40]]

    def opened(label):
        parts = (("train", images, np.zeros(120, int)), ("val", small, np.full(40, label)))
        splits = {
            name: Split(
                name=name, images=whole, label=np.eye(2, dtype=np.float32)[labels],
                weight=np.ones(len(whole), np.float32), id=np.array([f"{name}{i}" for i in range(len(whole))]),
            )
            for name, whole, labels in parts
        }  # fmt: skip
        data = Dataset("d", ("x", "y"), splits)
        return audit.audit(data, {name: split.id.tolist() for name, split in splits.items()}, progress=ignore)

    one, two = opened(0), opened(1)
    pairs = two.copies.pairs
    assert not alignment.certain(pairs.detail, pairs.worst).all() and not len(two.copies.alike.index)
    assert pairs.index.tolist() == one.copies.pairs.index.tolist() and len(pairs.index) > 30
    assert two.leaked.sum() == one.leaked.sum() == len(pairs.index)
    assert two.conflicting.sum() == 2 * len(pairs.index) and not one.conflicting.any()


def test_unreadable_images_are_looked_up_in_no_time(folder):
    """2,000 of 20,000 records: with a set per record this took minutes."""
    config = DataConfig(path=str(folder))
    dataset, digests = sources.open_with_digests(config, cache=None, progress=ignore)
    found = audit.audit(dataset, digests, progress=ignore)
    ids = np.array([f"{i}.png" for i in range(20_000)])
    many = Split(
        name="train", images=np.zeros((20_000, 1, 1), np.uint8), label=np.ones((20_000, 2), np.float32) / 2,
        weight=np.ones(20_000, np.float32), id=ids,
    )  # fmt: skip
    original = dataclasses.replace(dataset, splits={"train": many})
    start = time.process_time()
    rows = audit.cleaned(
        dataclasses.replace(dataset, skipped=tuple((name, "x") for name in ids[:2000].tolist())), original, found
    )
    assert time.process_time() - start < 2
    assert sum(row.reason == "unreadable: x" for row in rows) == 2000


def test_leaks_into_other_data(folder):
    """Pictures of a run's training data in somebody's test: by label where the classes are the same ones."""
    trained, other = (
        data.open_dataset(DataConfig(path=str(folder))),
        data.open_for_evaluation(DataConfig(path=str(folder))),
    )
    for labels in (True, False):
        leaked, notes = copies.leaks_into(trained, other, ["val", "test"], labels=labels, cache=None, progress=ignore)
        assert leaked == {"val": frozenset(), "test": LEAKED}
        assert (
            "2 of 24 test images are also in the run's training data (1 byte for byte), none more in its val" in notes
        )
        assert "0 of 24 val images are also in the run's training data" in notes
    whole, _ = copies.leaks_into(trained, other, ["train"], labels=True, cache=None, progress=ignore)
    assert len(whole["train"]) == 24
    assert copies.leaks_into(trained, other, [], labels=True, cache=None, progress=ignore) == ({}, ())


def test_pictures_of_the_val_that_chose_the_weights_are_leaks_into_other_data(folder, tmp_path):
    """Copies of the run's val, whole or in part, by any other name; its own val is judged as it is known to be."""
    trained = data.open_dataset(DataConfig(path=str(folder)))
    shutil.copytree(folder / "val", tmp_path / "part/val")
    shutil.copytree(folder / "val", tmp_path / "part/test")
    (tmp_path / "part/val/a/00.png").unlink()
    crop = pictures.cropped(np.asarray(Image.open(folder / "val/b/00.png")), np.random.default_rng(1))
    Image.fromarray(crop).save(tmp_path / "part/test/b/00.png")
    shutil.copy(folder / "train/a/02.png", tmp_path / "part/test/a/99.png")
    other = data.open_for_evaluation(DataConfig(path=str(tmp_path / "part")))
    leaked, notes = copies.leaks_into(trained, other, ["val", "test"], labels=True, cache=None, progress=ignore)
    assert len(leaked["val"]) == 23 and len(leaked["test"]) == 25
    assert notes == (
        "0 of 23 val images are also in the run's training data, 23 more in its val (23 byte for byte), which chose "
        "the weights",
        "1 of 25 test images are also in the run's training data (1 byte for byte), 24 more in its val (23 byte for "
        "byte), which chose the weights",
    )


def test_conflicts_among_test_images_leave_none(folder):
    """Same picture, two classes, both in test: nobody knows which is right."""
    image = (folder / "test/a/05.png").read_bytes()
    (folder / "test/b/05.png").write_bytes(image)
    (folder / "train/a/05.png").write_bytes(image)
    config = DataConfig(path=str(folder))
    dataset, digests = sources.open_with_digests(config, cache=None, progress=ignore)
    rows = audit.cleaned(dataset, sources.read(config), audit.audit(dataset, digests, progress=ignore))
    gone = {row.id.partition("/")[2] for row in rows if row.action == "drop"}
    assert {"test/a/05.png", "test/b/05.png", "train/a/05.png"} <= gone


# --- the stamp ----------------------------------------------------------------------------------------------------


def predictions():
    """Four of five right; the leaked ones, the first two, are both right."""
    label = np.eye(2, dtype=np.float32)[[0, 1, 0, 1, 0]]
    probs = np.eye(2, dtype=np.float32)[[0, 1, 0, 1, 1]]
    return Predictions(probs, label, np.ones(5, np.float32), np.array(list("vwxyz")))


def stamp(leaked, split="test", found=None):
    return report.stamp(split, found or predictions(), ("a", "b"), leaked=leaked)


def test_stamps():
    assert stamp(None).text == "not leak-checked"
    assert stamp({"test": frozenset()}).text == "leak-checked"
    assert stamp({"test": frozenset("vw")}).text == (
        "2 leaked: accuracy 0.8000 with, 0.6667 (95 %: 0.2077 to 0.9385) without them, 3 left"
    )
    assert stamp({"test": frozenset("vwxyz")}).text == "5 leaked: accuracy 0.8000 with, nothing left without them"
    unread = dataclasses.replace(predictions(), weight=np.array([1, 0, 1, 1, 1], np.float32))
    assert stamp({"test": frozenset("vw")}, found=unread).text == (
        "1 leaked: accuracy 0.7500 with, 0.6667 (95 %: 0.2077 to 0.9385) without them, 3 left"
    )
    # Other data than the run's: one split, "all", or somebody's train.
    assert stamp({"all": frozenset("vw")}, split="all").text.startswith("2 leaked")
    assert stamp({"test": frozenset("v")}, split="all").text == "not leak-checked"
    assert stamp({"train": frozenset("vwxyz")}, split="train").leaked == 5
    assert stamp({"train": frozenset()}, split="train") is None and stamp(None, split="train") is None


def test_the_report_shows_the_stamp(tmp_path):
    run = report.RunInfo(
        dataset="d", step=1, result="r", selected_by="", seed=0, views="none", leaked={"test": frozenset("vw")}
    )
    judged = metrics.evaluate(predictions(), ("a", "b"))
    report.write(
        tmp_path, split="test", report=judged, bounds=intervals.of(predictions()), predictions=predictions(),
        history=[], run=run,
    )  # fmt: skip
    found = json.loads((tmp_path / "test.json").read_text())["leak_check"]
    assert found["checked"] and found["leaked"] == 2 and round(found["numbers_without"]["accuracy"], 4) == 0.6667
    page = (tmp_path / "test.md").read_text()
    assert (
        f"**{found['text']}**" in page and "| Accuracy | 66.7 % | 20.8 to 93.9 % |" in page and "| Images | 3 |" in page
    )
    assert found["text"] in (tmp_path / "summary.md").read_text()


@pytest.mark.slow
def test_a_run_stamps_its_report(folder, tmp_path):
    """Terminal, log, JSON, Markdown and the summary."""
    import tiny

    from emojax import train

    config = tiny.config(folder, stages=(tiny.StageConfig(epochs=1),), monitor=tiny.MonitorConfig(tensorboard=0))
    train.run(config, tmp_path / "run")
    found = json.loads((tmp_path / "run/report/test.json").read_text())["leak_check"]
    assert found["checked"] and found["leaked"] == 2 and found["text"].startswith("2 leaked: accuracy ")
    assert 0 <= found["numbers_without"]["accuracy"] <= 1
    val = json.loads((tmp_path / "run/report/val.json").read_text())["leak_check"]
    assert val["text"] == "leak-checked"
    assert f"**{found['text']}**" in (tmp_path / "run/report/test.md").read_text()
    assert found["text"] in (tmp_path / "run/report/summary.md").read_text()
    assert found["text"] in (tmp_path / "run/log.txt").read_text()
