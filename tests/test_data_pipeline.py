"""The loader: the same batches for any worker count, start and process count."""

import dataclasses
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from odd_images import encode

from emojax import stages
from emojax.config import AugmentConfig, Config, DataConfig, StageConfig
from emojax.data import open_dataset, pipeline, sampling, timing
from emojax.data.labels import one_hot
from emojax.data.storage import Packed
from emojax.data.transforms import eval_image, train_image
from emojax.errors import ConfigError, DataError
from emojax.types import Dataset, Split

AUGMENT = AugmentConfig(
    crop_area=(0.6, 1.0), flip=0.5, rotate=10.0, brightness=0.2, hue=0.05, perspective=0.2, grayscale=0.1, blur=0.3,
    policy="randaugment", erase=0.3, erase_fill="noise", mixup=0.4, cutmix=1.0,
)  # fmt: skip


CLEAN = {"mixup": 0.0, "cutmix": 0.0}


def make_split(n=37, size=12, damaged=()):
    rng = np.random.default_rng(0)
    data = [encode(rng.integers(0, 256, (size, size + i % 3, 3), dtype=np.uint8), "PNG") for i in range(n)]
    for i in damaged:
        data[i] = data[i][:40]
    return Split(
        name="train",
        images=Packed.of(data),
        label=one_hot(np.arange(n) % 5, 5),
        weight=np.linspace(0.5, 1.5, n, dtype=np.float32),
        id=np.array([f"r{i}" for i in range(n)]),
    )


def train(split, *, start=0, stop=8, workers=0, process=(0, 1), augment=AUGMENT, batch_size=8, seed=5, **options):
    settings = {"size": 10, "strength": 1.0, "mixup": 1.0, "cutmix": 1.0} | options
    with pipeline.train_batches(
        split, augment=augment, batch_size=batch_size, seed=seed, start=start, stop=stop, workers=workers,
        process=process, **settings,
    ) as loader:  # fmt: skip
        return list(loader)


def evaluate(split, *, workers=0, process=(0, 1), batch_size=8):
    with pipeline.eval_batches(
        split, size=10, crop=0.9, batch_size=batch_size, workers=workers, process=process
    ) as loader:
        return list(loader)


def assert_same(ours, theirs):
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        for name in ("image", "label", "weight", "index"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


def test_shapes_types_and_weights():
    split = make_split()
    for batch in train(split, **CLEAN):
        assert batch.image.shape == (8, 10, 10, 3) and batch.image.dtype == np.uint8
        assert batch.label.dtype == batch.weight.dtype == np.float32 and batch.index.dtype == np.int32
        np.testing.assert_array_equal(batch.label, split.label[batch.index])
        np.testing.assert_array_equal(batch.weight, split.weight[batch.index])


@pytest.mark.parametrize("encoded", [True, False])
def test_a_batch_is_what_its_images_are_one_by_one(encoded):
    """Image j of step s stands at position 8 s + j of the stream, and has the random numbers of that position."""
    split = make_split()
    if not encoded:
        split = dataclasses.replace(
            split, images=np.random.default_rng(0).integers(0, 256, (37, 13, 13), dtype=np.uint8)
        )
    for step, batch in enumerate(train(split, stop=4, **CLEAN)):
        for j, record in enumerate(batch.index):
            alone = train_image(
                split.images[record], augment=AUGMENT, size=10, strength=1.0, rng=sampling.generator(5, 8 * step + j)
            )
            np.testing.assert_array_equal(batch.image[j], alone)


def test_every_stage_is_timed():
    split = make_split(damaged=[])
    timed = timing.stages(split, augment=AUGMENT, size=10, batch_size=8)
    for step in range(2):
        seconds, _ = timed(step)
        assert tuple(seconds) == timing.STAGES and all(value > 0 for value in seconds.values())
    without = dataclasses.replace(AUGMENT, order=("crop", "flip", "erase"))
    assert set(timing.stages(split, augment=without, size=10, batch_size=8)(0)[0]) == set(timing.STAGES)


@pytest.mark.parametrize("held", [False, True])
def test_what_is_timed_is_what_training_gets(held):
    split = make_split()
    if held:
        pixels = np.random.default_rng(0).integers(0, 256, (37, 13, 13), dtype=np.uint8)
        split = dataclasses.replace(split, images=pixels)
    late = dataclasses.replace(AUGMENT, order=("crop", "jitter", "policy", "flip", "affine", "erase"))
    for augment in (AUGMENT, dataclasses.replace(AUGMENT, policy="none", crop_area=(1.0, 1.0)), late):
        timed = timing.stages(split, augment=augment, size=10, batch_size=8, seed=5)
        assert_same([timed(step)[1] for step in range(6)], train(split, stop=6, augment=augment))


def test_every_micro_batch_is_mixed_by_itself():
    """As the seeds do, whose loops mix each batch before its gradient is accumulated."""
    split, clean = make_split(), {"mixup": 0.0, "cutmix": 0.0}
    split = dataclasses.replace(split, weight=np.ones(len(split), np.float32))
    options = {
        "batch_size": 16,
        "accumulate": 4,
        "augment": dataclasses.replace(AUGMENT, mixup=1.0, mixup_probability=1.0, cutmix=0.0),
    }
    whole = train(split, **options, **clean)
    found = train(split, **options, mixup=1.0, cutmix=0.0)
    several = 0
    for batch in found:
        factors = []
        for part in np.split(batch.label.max(1), 4):
            blended = np.unique(part[part < 0.999].round(5))
            assert len(blended) <= 1, "a part has one factor"
            factors += blended.tolist()
        several += len(set(factors)) > 1
    assert several > len(found) / 2, "the parts of an update share a factor"
    assert len(whole) == len(found)
    assert_same(train(split, start=3, **options), found[3:])
    for options["accumulate"] in (1, 2):  # the records themselves do not depend on it
        assert_same(train(split, **options, **clean), whole)


def test_every_pass_is_a_new_permutation():
    n = 32
    batches = train(make_split(n), stop=12, augment=AugmentConfig())
    passes = np.concatenate([batch.index for batch in batches]).reshape(3, n)
    for one in passes:
        np.testing.assert_array_equal(np.sort(one), np.arange(n))
    assert (passes[0] != passes[1]).any() and (passes[1] != passes[2]).any()
    other = np.concatenate([batch.index for batch in train(make_split(n), stop=4, seed=6)])
    assert (other != passes[0]).any() and (other != passes[1]).any()


def test_images_differ_from_pass_to_pass():
    split = make_split(8)
    first, second = train(split, stop=2, **CLEAN)
    a, b = (batch.image[np.argsort(batch.index)] for batch in (first, second))
    assert (a != b).any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize("start", [1, 4, 5, 7])
def test_a_run_may_start_anywhere(start):
    assert_same(train(make_split(), start=start), train(make_split())[start:])


@pytest.mark.parametrize("workers", [2])
def test_loader_processes_change_nothing(workers):
    split = make_split(damaged=[3])
    assert_same(train(split, start=3, workers=workers), train(split, start=3))


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "start"), [(1, 0), (2, 5), (3, 5)])
def test_any_number_of_loader_processes_changes_nothing(workers, start):
    split = make_split(damaged=[3])
    assert_same(train(split, start=start, workers=workers), train(split, start=start))
    assert_same(evaluate(split, workers=workers), evaluate(split))


@pytest.mark.parametrize("count", [2, 4])
def test_processes_share_one_global_batch(count):
    split = make_split(damaged=[3])
    whole = train(split, **CLEAN)
    parts = [train(split, **CLEAN, process=(p, count)) for p in range(count)]
    for step, batch in enumerate(whole):
        for p in range(count):
            for name in ("image", "label", "weight", "index"):
                np.testing.assert_array_equal(getattr(parts[p][step], name), np.split(getattr(batch, name), count)[p])
    evaluated = [evaluate(split, process=(p, count)) for p in range(count)]
    for step, batch in enumerate(evaluate(split)):
        for p in range(count):
            np.testing.assert_array_equal(evaluated[p][step].image, np.split(batch.image, count)[p])


def test_evaluation_sees_every_record_once_and_in_order():
    split = make_split()
    batches = evaluate(split)
    assert [len(batch.index) for batch in batches] == [8] * 5
    index = np.concatenate([batch.index for batch in batches])
    np.testing.assert_array_equal(index, [*range(37), -1, -1, -1])
    weight = np.concatenate([batch.weight for batch in batches])
    np.testing.assert_array_equal(weight, [*split.weight, 0, 0, 0])
    assert (batches[-1].image[5:] == 0).all() and np.allclose(batches[-1].label.sum(1), 1)
    assert len(evaluate(make_split(5))) == 1


def test_damaged_images_are_black_without_weight_in_evaluations():
    split = make_split(damaged=[0, 36])
    batches = evaluate(split)
    assert batches[0].weight[0] == 0 and (batches[0].image[0] == 0).all() and batches[0].index[0] == 0
    assert sum((batch.weight > 0).sum() for batch in batches) == 35


def stage_batches(config, split, **options):
    """(stage, batch) over the whole run, loaded as the loop does it: one loader per stage."""
    for stage in stages.plan(config, len(split)):
        for one in train(
            split, start=stage.start, stop=stage.stop, strength=stage.strength, mixup=stage.mixup, cutmix=stage.cutmix,
            size=stage.image_size, augment=config.augment, batch_size=config.batch_size, **options,
        ):  # fmt: skip
            yield stage, one


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_mixing_stops_at_the_configured_epoch(workers):
    """SEED-SYSTEMS 9.7, seed 004: the original's switch never reached its persistent loader processes."""
    config = Config(
        image_size=10, batch_size=8,
        augment=AugmentConfig(mixup=1.0, cutmix=1.0, mix_partner="roll"),
        stages=(StageConfig(epochs=3), StageConfig(epochs=2, mixup=0.0, cutmix=0.0)),
    )  # fmt: skip
    split = make_split(32)  # four batches an epoch
    clean = [(one.label == split.label[one.index]).all() for _, one in stage_batches(config, split, workers=workers)]
    assert clean == [False] * 12 + [True] * 8


def test_phase_factors_switch_at_the_exact_epoch():
    """SEED-SYSTEMS 9.7, seed 000: strength and mixing change with the first batch of an epoch."""
    config = Config(
        image_size=10, batch_size=8,
        augment=AugmentConfig(flip=1.0, mixup=1.0, mixup_probability=0.5),
        stages=tuple(StageConfig(epochs=1, strength=factor, mixup=2 * factor) for factor in (0.0, 1.0, 0.0)),
    )  # fmt: skip
    split = make_split(32)
    mixed, plain = [], []
    for stage, one in stage_batches(config, split):
        mixed.append((stage.number, bool((one.label != split.label[one.index]).any())))
        position = int(np.flatnonzero(one.index >= 0)[0])
        view = eval_image(split.images[int(one.index[position])], size=10, crop=1.0)
        plain.append((one.image[position] == view).all())
    assert mixed == [(0, False)] * 4 + [(1, True)] * 4 + [(2, False)] * 4
    assert plain == [True] * 4 + [False] * 4 + [True] * 4


def unequal(n=40):
    """Classes of 30, 7, 0, 2 and 1 records; the last of the first class has weight 0."""
    split = make_split(n)
    ids = np.repeat([0, 1, 3, 4], [30, 7, 2, 1])
    weight = np.ones(n, np.float32)
    weight[29] = 0
    return dataclasses.replace(split, label=one_hot(ids, 5), weight=weight)


def test_the_balanced_sampler_draws_every_class_equally_and_never_weight_zero():
    split = unequal()
    sampler = sampling.balanced(split, 3)
    drawn = np.array([sampler(position, 0) for position in range(8000)])
    shares = np.bincount(split.label[drawn].argmax(1), minlength=5)
    assert shares[2] == 0
    assert (np.abs(shares[[0, 1, 3, 4]] - 2000) < 3 * (8000 * 0.25 * 0.75) ** 0.5).all()
    counts = np.bincount(drawn, minlength=40)
    assert counts[29] == 0
    within = counts[:29]  # uniform within the class: 28 degrees of freedom
    assert ((within - within.mean()) ** 2 / within.mean()).sum() < 56.9
    assert len(set(drawn[:40])) < 30  # with replacement
    other = [sampling.balanced(split, 4)(position, 0) for position in range(50)]
    assert (other != drawn[:50]).any()


def test_the_balanced_stream_is_a_function_of_seed_and_position():
    split = unequal()
    whole = train(split, sampler="balanced", stop=8)
    sampler = sampling.balanced(split, 5)
    index = np.concatenate([batch.index for batch in whole])
    assert index.tolist() == [sampler(position, 0) for position in range(64)]
    assert_same(train(split, sampler="balanced", start=3, stop=8), whole[3:])
    parts = [train(split, sampler="balanced", process=(p, 2), **CLEAN) for p in range(2)]
    for step, one in enumerate(train(split, sampler="balanced", **CLEAN)):
        for p in range(2):
            np.testing.assert_array_equal(parts[p][step].index, np.split(one.index, 2)[p])
            np.testing.assert_array_equal(parts[p][step].image, np.split(one.image, 2)[p])


@pytest.mark.slow
def test_loader_processes_do_not_change_the_balanced_stream():
    split = unequal()
    assert_same(train(split, sampler="balanced", start=2, workers=2), train(split, sampler="balanced", start=2))


def test_wrong_samplers_are_refused():
    with pytest.raises(ConfigError, match=r"config\.data\.sampler: expected one of shuffle, balanced, found 'random'"):
        train(make_split(), sampler="random")
    with pytest.raises(DataError, match="every record of the training split has weight 0"):
        train(dataclasses.replace(make_split(), weight=np.zeros(37, np.float32)), sampler="balanced")


def test_impossible_batches_are_refused():
    with pytest.raises(DataError, match=r"batch of 64 images is larger than the training split \(37 images\)"):
        train(make_split(), batch_size=64)
    with pytest.raises(DataError, match="cannot be divided among 3 processes"):
        train(make_split(), process=(0, 3))


def test_loader_closes_and_ends():
    loader = pipeline.eval_batches(make_split(), size=10, crop=1.0, batch_size=8)
    assert len(loader) == 5
    next(loader)
    loader.close()
    loader.close()
    assert list(loader) == []


def test_without_shared_memory_threads_take_over(monkeypatch, caplog):
    class Full:
        f_bavail, f_frsize = 1, 4096

    monkeypatch.setattr(pipeline.os, "statvfs", lambda path: Full)
    split = make_split()
    assert_same(train(split, workers=2), train(split))
    assert "2 loader processes need 0 MiB of /dev/shm, 0 MiB are free: loading with threads instead" in caplog.text


def test_fingerprint_sees_what_fixes_the_order():
    def made(digest: str = "d", batch_size: int = 8, seed: int = 0) -> str:
        data = Dataset(name="x", class_names=("a", "b"), splits={}, digest=digest)
        return pipeline.fingerprint(data, batch_size=batch_size, seed=seed)

    assert made() == made() and len(made()) == 64
    assert len({made(), made(batch_size=16), made(seed=1), made(digest="e")}) == 4


def test_the_order_is_that_of_the_first_release():
    """A run that was started with an earlier version must resume with the same records: this may never change."""
    first = train(make_split(), stop=1, **CLEAN, augment=AugmentConfig(), size=12)[0]
    assert first.index.tolist() == [7, 14, 9, 3, 33, 13, 24, 28]


def test_splits_pickle_small_and_fast():
    split = make_split(2000, 4)
    start = time.perf_counter()
    data = pickle.dumps(split.images)
    assert time.perf_counter() - start < 0.05 and len(data) < split.images.buffer.nbytes + 8 * 2001 + 1000


ORPHAN = """
import os, sys, time
from emojax.config import AugmentConfig, DataConfig
from emojax.data import open_dataset, pipeline
if __name__ == "__main__":
    split = open_dataset(DataConfig()).splits["train"]
    loader = pipeline.train_batches(split, augment=AugmentConfig(), size=16, strength=1.0, mixup=1.0, cutmix=1.0,
                                    batch_size=8, seed=0, start=0, stop=1000, workers=1)
    next(loader)
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="counts processes by /proc")
def test_loader_processes_end_with_a_killed_parent(tmp_path):
    (tmp_path / "orphan.py").write_text(ORPHAN)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(tmp_path / "orphan.py")]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert parent.stdout.readline().strip() == "ready"
        threads = Path(f"/proc/{parent.pid}/task").glob("*/children")
        children = [Path("/proc") / child for thread in threads for child in thread.read_text().split()]
        assert children
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and any(child.exists() for child in children):
        time.sleep(0.2)
    # One whose new parent does not collect it stays as a zombie, without memory or files.
    left = [child for child in children if child.exists() and ") Z " not in (child / "stat").read_text()]
    assert not left


@pytest.mark.slow
def test_emoji_through_the_whole_loader_twice():
    split = open_dataset(DataConfig()).splits["train"]
    assert_same(train(split, size=48, batch_size=32, workers=2), train(split, size=48, batch_size=32))
