"""Bad data, before and during training: exact counts, substitutes that are a function of (seed, position), and no
silent change of what a resumed run is trained on."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import bombs
import numpy as np
import pytest
import tiny
from harness import at, finish, same, small, steps
from odd_images import encode, odd_images

from emojax import manifest, train, wiring
from emojax.config import AugmentConfig, DataConfig
from emojax.data import checks, open_dataset, pipeline, sampling
from emojax.data.labels import one_hot
from emojax.data.storage import Packed
from emojax.data.transforms import eval_image, train_image
from emojax.errors import CheckpointError, DataError, InterruptedRunError
from emojax.types import Split

CLASSES = ("a", "b", "c", "d")
DAMAGE = {
    "empty": lambda data: b"",
    "half": lambda data: data[: len(data) // 2],
    "text": lambda data: b"not an image",
    "zeros": lambda data: bytes(len(data)),
    "header": lambda data: b"\x00" + data[1:],
}


def noise(i, size=8):
    return encode(np.random.default_rng(i).integers(0, 256, (size, size, 3), dtype=np.uint8), "PNG")


def folder_of(root: Path, n: int) -> list[Path]:
    """n pictures of four classes, each another one."""
    files = [root / CLASSES[i % 4] / f"{i:05d}.png" for i in range(n)]
    for name in CLASSES:
        (root / name).mkdir(parents=True)
    for i, file in enumerate(files):
        file.write_bytes(noise(i))
    return files


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1])
def test_corrupt_images_are_counted_and_named_exactly(tmp_path, share):
    n = 1000
    files = folder_of(tmp_path / "data", n)
    hit = np.random.default_rng(1).choice(n, round(n * share), replace=False)
    for k, i in enumerate(hit):
        files[i].write_bytes(list(DAMAGE.values())[k % 5](files[i].read_bytes()))
    config = DataConfig(path=str(tmp_path / "data"))
    if share > config.bad_limit:
        with pytest.raises(DataError, match=r"^100 of 1000 images cannot be read \(10\.0%\), more than .* = 0\.05: "):
            open_dataset(config)
        config.bad_limit = share
    found = open_dataset(config)
    names = {f"{files[i].parent.name}/{files[i].name}" for i in hit}
    assert {name for name, _ in found.skipped} == names and len(found.skipped) == round(n * share)
    assert sum(map(len, found.splits.values())) == n - len(hit)
    for i in hit:
        files[i].unlink()
    clean = open_dataset(config)
    assert not clean.skipped and clean.digest == found.digest, "the rest is what it is without those files"


def split_of(n=40, damaged=(), classes=5):
    data = [noise(i, 12) for i in range(n)]
    for i in damaged:
        data[i] = data[i][:40]
    return Split(
        name="train",
        images=Packed.of(data),
        label=one_hot(np.arange(n) % classes, classes),
        weight=np.linspace(0.5, 1.5, n, dtype=np.float32),
        id=np.array([f"r{i}" for i in range(n)]),
    )


AUGMENT = AugmentConfig(crop_area=(0.6, 1.0), flip=0.5, brightness=0.2)


def batches(split, *, start=0, stop=8, workers=0, process=(0, 1), augment=AUGMENT, **factors):
    """[(batch, records that could not be read)]"""
    options = {"size": 10, "strength": 1.0, "mixup": 0.0, "cutmix": 0.0, "batch_size": 8, "seed": 5} | factors
    with pipeline.train_batches(
        split, augment=augment, start=start, stop=stop, workers=workers, process=process, **options
    ) as loader:
        return [(batch, loader.unreadable) for batch in loader]


def assert_same(ours, theirs):
    assert len(ours) == len(theirs)
    for (a, lost), (b, also) in zip(ours, theirs, strict=True):
        for name in ("image", "label", "weight", "index"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
        assert lost == also


def test_a_substitute_is_a_good_record_of_the_class_with_the_random_numbers_of_the_position():
    damaged = [3, 13, 20, 21]
    good, bad = split_of(), split_of(damaged=damaged)
    chosen = []
    for step, ((batch, lost), (clean, nothing)) in enumerate(zip(batches(bad), batches(good), strict=True)):
        hit = np.isin(clean.index, damaged)
        assert not nothing and lost == clean.index[hit].tolist()
        np.testing.assert_array_equal(batch.index[~hit], clean.index[~hit])
        np.testing.assert_array_equal(batch.image[~hit], clean.image[~hit])
        np.testing.assert_array_equal(batch.label, clean.label, err_msg="the mass of the classes stays")
        assert not np.isin(batch.index, damaged).any() and (batch.index >= 0).all() and (batch.weight > 0).all()
        np.testing.assert_array_equal(batch.weight, bad.weight[batch.index])
        for j in np.flatnonzero(hit):
            rng = sampling.generator(5, 8 * step + int(j))
            picture = train_image(bad.images[batch.index[j]], augment=AUGMENT, size=10, strength=1.0, rng=rng)
            np.testing.assert_array_equal(batch.image[j], picture)
            chosen.append(int(batch.index[j]))
    assert len(chosen) >= 4 and len(set(chosen)) > 2, "not always the same one"


def test_substitutes_depend_on_seed_and_position_alone():
    split = split_of(damaged=[3, 13, 20, 21])
    mixed = {"augment": dataclasses.replace(AUGMENT, mixup=0.4, cutmix=1.0), "mixup": 1.0, "cutmix": 1.0}
    whole = batches(split, **mixed)
    assert any(lost for _, lost in whole)
    for start in (1, 5):
        assert_same(batches(split, start=start, **mixed), whole[start:])
    whole = batches(split)
    for p in range(2):
        for (part, _), (batch, _) in zip(batches(split, process=(p, 2)), whole, strict=True):
            np.testing.assert_array_equal(part.image, np.split(batch.image, 2)[p])
            np.testing.assert_array_equal(part.index, np.split(batch.index, 2)[p])
    other = batches(split, seed=6)
    assert any((a.index != b.index).any() for (a, _), (b, _) in zip(other, whole, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_loader_processes_choose_the_same_substitutes(workers):
    split = split_of(damaged=[3, 13, 20, 21])
    assert_same(batches(split, start=2, workers=workers), batches(split, start=2))


def test_every_good_record_of_the_class_is_an_equally_likely_substitute():
    split = split_of(damaged=[0])
    draw = sampling.substitutes(split, 3)
    first = np.array([next(draw(position, 0)) for position in range(7000)])
    counts = np.bincount(first, minlength=40)[5::5]  # the other seven of its class
    assert counts.sum() == 7000 and ((counts - 1000) ** 2 / 1000).sum() < 22.5  # chi-squared, 6 degrees, 0.1 %


def test_a_class_without_a_good_record_gets_others_and_a_lost_disk_black():
    split = split_of(damaged=range(0, 40, 5))
    for batch, lost in batches(split, stop=4):
        assert (batch.weight > 0).all() and (batch.index % 5 != 0).all()
        np.testing.assert_array_equal(batch.label, split.label[batch.index])
        assert all(record % 5 == 0 for record in lost)
    for batch, lost in batches(split_of(damaged=range(40)), stop=2):
        assert (batch.weight == 0).all() and (batch.index == -1).all() and (batch.image == 0).all() and len(lost) == 8


def small_set(root):
    """Too odd to be kept decoded: one picture has another size."""
    source = tiny.make_folder(root)
    (source / "train/red/00.png").write_bytes(noise(1, 30))
    return source


@pytest.mark.slow
def test_images_that_vanish_during_training_are_replaced_the_same_way_everywhere(tmp_path, monkeypatch):
    """Four damaged after the check: without interruption, with two loader processes, and resumed, to the bit."""
    source = small_set(tmp_path / "data")
    victims = [source / f"train/{name}.png" for name in ("red/03", "red/07", "blue/01", "green/09")]
    whole = {file: file.read_bytes() for file in victims}

    def damage():
        victims[0].write_bytes(b"")
        victims[1].write_bytes(whole[victims[1]][:30])
        victims[2].unlink()
        victims[3].write_bytes(b"text")

    def config(**knobs):
        made = small(source)
        made.data = dataclasses.replace(made.data, bad_limit=0.1, **knobs)
        return made

    for name, workers in (("threads", 0), ("processes", 2)):
        for file, data in whole.items():
            file.write_bytes(data)
        with at(monkeypatch, wiring, "build", 1, damage):
            finish(config(workers=workers), tmp_path / name)
    assert same(tmp_path / "processes", tmp_path / "threads") == []
    for name in ("threads", "processes"):
        report = json.loads((tmp_path / name / "report/val.json").read_text())
        late = [one["id"] for one in report["skipped"]]
        assert sorted(late) == ["train/blue/01.png", "train/green/09.png", "train/red/03.png", "train/red/07.png"]
    for file, data in whole.items():
        file.write_bytes(data)

    with (
        at(monkeypatch, wiring, "build", 1, damage),
        at(monkeypatch, train, "_note", 5, lambda: os.kill(os.getpid(), signal.SIGTERM)),
        pytest.raises(InterruptedRunError),
    ):
        finish(config(), tmp_path / "resumed")
    # A file that is still listed keeps its place; one that is not listed any more is a change of the data.
    victims[2].write_bytes(b"")
    assert max(steps(tmp_path / "resumed")) == 5
    finish(config(), tmp_path / "resumed")
    assert same(tmp_path / "resumed", tmp_path / "threads") == []


@pytest.mark.slow
def test_too_many_that_vanish_end_the_run(tmp_path, monkeypatch):
    source = small_set(tmp_path / "data")

    def damage():
        for file in sorted((source / "train/red").iterdir())[:8]:
            file.write_bytes(b"")

    with (
        at(monkeypatch, wiring, "build", 1, damage),
        pytest.raises(DataError, match=r"^4 of 72 images cannot be read \(5\.6%\), more than .*became unreadable"),
    ):
        finish(small(source), tmp_path / "run")


def test_changed_data_are_told_apart(tmp_path):
    source = tiny.make_folder(tmp_path / "data")
    first = open_dataset(DataConfig(path=str(source)))
    manifest.write(tmp_path, "f" * 64, first)
    assert [file.name for file in (tmp_path / "data_records").glob("*")] == ["f" * 16 + ".json"]

    def told(dataset=None):
        return manifest.differences(tmp_path, "f" * 64, dataset or open_dataset(DataConfig(path=str(source))))

    assert told() == "images or labels have changed"  # nothing has: only what else is in a fingerprint is left
    victim = source / "train/red/03.png"
    data = victim.read_bytes()
    victim.write_bytes(b"")
    assert told() == "train: 1 missing or unreadable (train/red/03.png)"
    victim.write_bytes(noise(9, 24))
    assert told() == "train: 1 with other contents (train/red/03.png)"
    victim.rename(source / "val/red/03b.png")
    for i in range(5):
        (source / f"test/blue/new{i}.png").write_bytes(data)
    assert told() == (
        "train: 1 missing or unreadable (train/red/03.png); val: 1 new (val/red/03b.png); "
        "test: 5 new (test/blue/new0.png, test/blue/new1.png, test/blue/new2.png, ...)"
    )
    turned = dataclasses.replace(first.splits["val"], label=np.roll(first.splits["val"].label, 1, axis=1))
    assert told(dataclasses.replace(first, splits={**first.splits, "val": turned})) == (
        "val: 12 with another label (val/blue/00.png, val/blue/01.png, val/blue/02.png, ...)"
    )
    assert manifest.differences(tmp_path, "0" * 64, first) == "images or labels have changed"  # no such file


def test_a_cut_that_moves_is_told(tmp_path):
    """Where val is cut from train, another file may push one over: it was trained on, and would be judged."""
    files = folder_of(tmp_path / "data", 60)
    config = DataConfig(path=str(tmp_path / "data"), test_fraction=0.0)
    first = open_dataset(config)
    manifest.write(tmp_path, "f" * 64, first)
    for file in files[:8]:
        file.unlink()
    now = open_dataset(config)
    moved = set(now.splits["val"].id.tolist()) & set(first.splits["train"].id.tolist())
    told = manifest.differences(tmp_path, "f" * 64, now)
    assert moved and f"{len(moved)} that were in train ({sorted(moved)[0]}" in told


@pytest.mark.slow
def test_a_run_whose_data_changed_is_refused_unless_told(tmp_path, monkeypatch):
    source, run = tiny.make_folder(tmp_path / "data"), tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(train.finish, "write_result", lambda *_: None)
        finish(small(source), run)
    (source / "train/red/05.png").write_bytes(noise(7, 24))
    (source / "train/blue/20.png").write_bytes(noise(8, 24))
    message = (
        r"^the data are not those with which this run was trained: train: 1 new \(train/blue/20\.png\), "
        r"1 with other contents \(train/red/05\.png\)\. Bring those back, .* --config\.data\.allow_change=1"
    )
    for _ in range(2):  # being refused changes nothing
        with pytest.raises(CheckpointError, match=message):
            finish(small(source), run)
    config = small(source)
    config.data.allow_change = 1
    finish(config, run)
    text = "the data became others after update 9: train: 1 new (train/blue/20.png), 1 with other contents"
    assert text in (run / "log.txt").read_text()
    assert any(text in note for note in json.loads((run / "report/val.json").read_text())["notes"])


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="measures memory by /proc")
def test_bombs_are_refused_at_no_cost(tmp_path):
    bad, good = bombs.refused(), bombs.harmless()
    for name, data in bad.items():
        (tmp_path / name).write_bytes(data)
    for name, (data, _) in good.items():
        (tmp_path / name).write_bytes(data)
    here = Path(__file__).resolve()
    path = os.pathsep.join([str(here.parents[1]), *sys.path])
    command = [sys.executable, str(here.parent / "bombs.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": path})
    found = json.loads(done.stdout)
    assert found.keys() == bad.keys() | good.keys()
    for name, (verdict, seconds, megabytes) in found.items():
        assert isinstance(verdict, str) if name in bad else verdict == [*good[name][1], 3], (name, verdict)
        assert seconds < 0.5 and megabytes < 100, (name, seconds, megabytes)


def test_odd_but_valid_images_train_as_they_are_served():
    odd = odd_images()
    split = Split(
        name="train",
        images=Packed.of(data for _, data, _ in odd),
        label=one_hot(np.arange(len(odd)) % 2, 2),
        weight=np.ones(len(odd), np.float32),
        id=np.array([name for name, _, _ in odd]),
    )
    scan = checks.scan(split, cache=checks.Cache(None), progress=lambda done, total: None)
    assert not scan.reason
    with pipeline.eval_batches(split, size=16, crop=1.0, batch_size=len(odd)) as loader:
        served = next(loader)
    trained = next(iter(batches(split, augment=AugmentConfig(), size=16, batch_size=len(odd), stop=1)))[0]
    assert (served.weight == 1).all() and (trained.weight == 1).all()
    for i, (name, _, expected) in enumerate(odd):
        np.testing.assert_array_equal(
            served.image[i], eval_image(expected.astype(np.uint8), size=16, crop=1.0), err_msg=name
        )
    np.testing.assert_array_equal(trained.image, served.image[trained.index])


def test_hostile_paths_in_a_table_are_refused_by_line_or_counted(tmp_path):
    """Those that lead out are refused; those that are merely odd are files that do not exist."""
    root = tmp_path / "d"
    folder_of(root, 40)
    (tmp_path / "secret.png").write_bytes(noise(1))
    (root / "out.png").symlink_to(tmp_path / "secret.png")
    (root / "loop.png").symlink_to(root / "loop.png")
    good = [f"{CLASSES[i % 4]}/{i:05d}.png,{CLASSES[i % 4]}" for i in range(40)]
    table = root / "all.csv"
    for name, reason in (
        ("../secret.png", "contains '..'"),
        ("a/../../secret.png", "contains '..'"),
        (str(tmp_path / "secret.png"), "is absolute"),
        ("a\\..\\..\\secret.png", "contains a backslash"),
        ("out.png", "is a link that leads out of"),
        ("a/\0.png", "NUL"),
        ("", "is empty"),
    ):
        table.write_text("\n".join(["image,label", *good, f'"{name}",a', ""]))
        with pytest.raises(DataError, match=rf"all\.csv:42: .*{reason}|all\.csv.*NUL"):
            open_dataset(DataConfig(path=str(table)))
    table.write_bytes("\n".join(["image,label", *good, ""]).encode() + b"a/\xff.png,a\n")
    with pytest.raises(DataError, match=r"all\.csv: not UTF-8 text after line"):
        open_dataset(DataConfig(path=str(table)))
    odd = ["%2e%2e/secret.png", "x" * 5000 + ".png", "a/" * 2000 + "x.png", "two\nlines.png", "loop.png", "~/x.png"]
    table.write_text("\n".join(["image,label", *good, *(f'"{name}",b' for name in odd), ""]))
    found = open_dataset(DataConfig(path=str(table), bad_limit=0.2))
    assert {name for name, _ in found.skipped} == set(odd)
    assert sum(map(len, found.splits.values())) == 40
