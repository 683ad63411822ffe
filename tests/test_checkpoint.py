"""Checkpoints: exact round trips, retention that keeps the true best, and damage that is noticed."""

import dataclasses
import math
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from emojax import checkpoint, checkpoint_meta, checkpoint_store, paths
from emojax.checkpoint import Checkpointer, Meta
from emojax.config import CheckpointConfig, Config
from emojax.errors import CheckpointError, DamagedError
from emojax.types import TrainState

META = Meta(config=Config(), class_names=("a", "b|ü"), image_size=64, fingerprint="f", loop={"best": 0.5, "waited": 1})


def make_state(step=3, width=4, average=True, model_state=True, teacher=False):
    params = {"stem": {"kernel": jax.random.normal(jax.random.key(step), (3, width))}, "head": {"bias": jnp.ones(2)}}
    statistics = {"stem": {"mean": jnp.full(width, float(step))}} if model_state else {}
    tx = optax.MultiSteps(optax.adamw(1e-3), 2).gradient_transformation()
    ema = {"params": jax.tree.map(lambda x: x + 1, params), "model_state": statistics}
    swa = {
        "params": jax.tree.map(lambda x: x + 2, params),
        "model_state": statistics,
        "count": jnp.asarray(2, jnp.int32),
    }
    kept = {"ema": ema, "swa": swa} if average else {}
    taught = {"params": jax.tree.map(lambda x: x + 3, params), "model_state": statistics} if teacher else {}
    return TrainState(jnp.asarray(step, jnp.int32), params, statistics, tx.init(params), kept, taught, jnp.ones(()))


def same(a, b):
    left, right = paths.flatten(a), paths.flatten(b)
    return left.keys() == right.keys() and all(
        np.asarray(left[k]).tobytes() == np.asarray(right[k]).tobytes() and left[k].dtype == right[k].dtype
        for k in left
    )


@pytest.fixture
def keeper(tmp_path):
    made = Checkpointer(tmp_path, CheckpointConfig(keep_last=1))
    yield made
    made.close()


@pytest.mark.parametrize("average", [True, False])
@pytest.mark.parametrize("model_state", [True, False])
@pytest.mark.parametrize("teacher", [True, False])
def test_round_trip_is_exact(tmp_path, average, model_state, teacher):
    parts = {"average": average, "model_state": model_state, "teacher": teacher}
    state = make_state(**parts)
    keeper = Checkpointer(tmp_path, CheckpointConfig())
    keeper.save(state, META, rank=0.5)
    keeper.close()
    keeper = Checkpointer(tmp_path, CheckpointConfig())
    assert keeper.latest() == 3
    restored, meta = keeper.restore(make_state(step=9, **parts), 3)
    assert keeper.teacher_at(3) == teacher
    keeper.close()
    assert same(dataclasses.asdict(restored), dataclasses.asdict(state))
    assert (meta.class_names, meta.loop, meta.config) == (META.class_names, META.loop, META.config)


def kept_after(keeper, ranks):
    for step, rank in enumerate(ranks, start=1):
        keeper.save(make_state(step), META, rank=rank)
    keeper._manager.wait_until_finished()
    return sorted(keeper._manager.all_steps())


@pytest.mark.parametrize(
    ("ranks", "kept", "best"),
    [
        ([5.0, 4.0, 3.0, 2.0], [1, 4], 1),
        ([1.0, 2.0, 3.0], [3], 3),
        ([1.0, 3.0, 3.0, 2.0], [2, 4], 2),  # equals: the earlier one
        ([1.0, math.nan, 0.5], [1, 3], 1),  # a NaN is never the best
        ([1.0, -math.inf, 2.0, -math.inf], [3, 4], 3),  # saved between evaluations
        ([-math.inf, -math.inf], [2], 2),  # nothing ranked: the newest
    ],
)
def test_latest_and_true_best_are_kept(keeper, ranks, kept, best):
    assert kept_after(keeper, ranks) == kept
    assert keeper.best() == best


@pytest.mark.parametrize("judged", ["weights", "ema", "swa"])
@pytest.mark.parametrize("model_state", [True, False])
def test_weights_only_are_those_that_were_judged(tmp_path, judged, model_state):
    keeper = Checkpointer(tmp_path, CheckpointConfig())
    state = make_state(model_state=model_state)
    keeper.save(state, dataclasses.replace(META, judged=judged), rank=1.0)
    keeper.close()
    step, meta, read = checkpoint.load_weights(tmp_path, which="best")
    like = jax.eval_shape(lambda: {"params": state.params, "model_state": state.model_state})
    assert step == 3 and meta.class_names == META.class_names
    whole = {**state.average, "weights": {"params": state.params, "model_state": state.model_state}}
    assert same(read(like), {key: whole[judged][key] for key in like})


def test_the_result_of_a_finished_run_comes_before_its_checkpoints(tmp_path):
    keeper = Checkpointer(tmp_path, CheckpointConfig())
    state = make_state()
    keeper.save(state, META, rank=1.0)
    keeper.close()
    like = jax.eval_shape(lambda: {"params": state.params, "model_state": state.model_state})
    for shift in (5, 6):  # a report that is made again replaces its result
        params = jax.tree.map(lambda x, shift=shift: x + shift, state.params)
        checkpoint.save_result(tmp_path, 3, {"params": params, "model_state": state.model_state}, META)
        assert same(checkpoint.load_weights(tmp_path, which="best")[2](like)["params"], params)
    assert same(checkpoint.load_weights(tmp_path, which="last")[2](like)["params"], state.params)


def test_several_of_the_best_are_kept(tmp_path):
    keeper = Checkpointer(tmp_path, CheckpointConfig(keep_last=1, keep_best=2))
    assert kept_after(keeper, [1.0, 5.0, 4.0, 3.0, 2.0]) == [2, 3, 5]
    assert keeper.ranked() == [2, 3, 5]
    keeper.close()


def test_no_checkpoint_is_said_plainly(tmp_path):
    with pytest.raises(CheckpointError, match="holds no checkpoints; is it the --workdir"):
        checkpoint.load_weights(tmp_path, which="best")
    Checkpointer(tmp_path, CheckpointConfig()).close()
    with pytest.raises(CheckpointError, match="holds no complete checkpoint"):
        checkpoint.load_weights(tmp_path, which="best")


def test_another_model_is_named(keeper):
    keeper.save(make_state(), META, rank=1.0)
    with pytest.raises(
        CheckpointError, match=r"another model: params/stem/kernel has shape \(3, 4\) there, \(3, 5\) here"
    ):
        keeper.restore(make_state(width=5), 3)
    with pytest.raises(CheckpointError, match="only in the checkpoint: average/"):
        keeper.restore(dataclasses.replace(make_state(), average={"params": {}, "x": jnp.ones(1)}), 3)


def test_saving_a_step_twice_replaces_it(keeper, tmp_path):
    """As when an evaluation was owed: the rank comes later."""
    keeper.save(make_state(), META, rank=-math.inf)
    keeper.save(make_state(), META, rank=1.0)
    keeper._manager.wait_until_finished()
    assert keeper.meta(3).rank == 1.0 and keeper.ranked() == [3]
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["3"]


def test_a_full_disk_is_told_before_anything_is_written(keeper, monkeypatch, tmp_path):
    keeper.save(make_state(step=1), META, rank=1.0)
    keeper._manager.wait_until_finished()
    monkeypatch.setattr(checkpoint_store.shutil, "disk_usage", lambda path: SimpleNamespace(free=17 << 20))
    keeper.save(make_state(step=2), META, rank=2.0)
    monkeypatch.setattr(checkpoint_store.shutil, "disk_usage", lambda path: SimpleNamespace(free=1 << 20))
    with pytest.raises(CheckpointError, match="1 MiB are free, and a checkpoint needs 16"):
        keeper.save(make_state(step=3), META, rank=3.0)
    assert keeper.latest() == 2


def test_every_flipped_bit_in_the_arrays_is_noticed(tmp_path):
    keeper = Checkpointer(tmp_path, CheckpointConfig())
    state = make_state()
    keeper.save(state, META, rank=1.0)
    keeper.close()
    rng = np.random.default_rng(0)
    files = [p for p in (tmp_path / "checkpoints/3").rglob("*") if p.is_file() and "/d/" in str(p)]
    assert files
    silent = 0
    for _ in range(20):
        path = files[rng.integers(len(files))]
        good = path.read_bytes()
        bad = bytearray(good)
        bad[rng.integers(len(bad))] ^= 1 << int(rng.integers(8))
        path.write_bytes(bad)
        reader = Checkpointer(tmp_path, CheckpointConfig())
        try:
            restored, _ = reader.restore(make_state(step=9), 3)
            silent += not same(dataclasses.asdict(restored), dataclasses.asdict(state))
        except CheckpointError:
            pass
        finally:
            reader.close()
            path.write_bytes(good)
    assert silent == 0


def test_a_folder_without_commit_marker_is_no_checkpoint(tmp_path):
    for name in ("99", "8.orbax-checkpoint-tmp", "damaged-7", "mine"):
        (tmp_path / "checkpoints" / name / "params").mkdir(parents=True)
    (tmp_path / "checkpoints/5").write_text("a file")
    keeper = Checkpointer(tmp_path, CheckpointConfig())
    assert keeper.latest() is None
    left = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert left == {"damaged-7", "mine", "5"}, "only what is half written goes"
    keeper.save(make_state(), META, rank=1.0)
    assert keeper.latest() == 3
    keeper.close()


def test_the_description_of_another_version_is_not_called_damaged():
    values = META.to_json()
    del values["seal"]
    values["config"] = values["config"].replace('"image_size"', '"picture_size"')
    with pytest.raises(CheckpointError, match=r"unknown keys .'picture_size'.; it was written by another") as found:
        Meta.from_json(values | {"seal": checkpoint_meta.seal(values)}, "x")
    assert not isinstance(found.value, DamagedError)
