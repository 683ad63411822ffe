"""Losses and gradients that are no numbers: left out, counted, and never in weights, moments or averages."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness import Changed, finish, small

from emojax import data, jsonl, metrics, parallel, paths, train, wiring
from emojax.errors import TrainingError
from emojax.train_metrics import TrainMetrics
from emojax.types import Batch


@pytest.fixture
def parts(pictures, mesh):
    config = small(pictures)
    return wiring.build(config, data.open_dataset(config.data), mesh)


def batch(parts, **changes):
    with wiring.train_batches(parts, parts.stages[0], start=0) as batches:
        found = next(batches)
    return dataclasses.replace(found, **{name: change(getattr(found, name)) for name, change in changes.items()})


def stepped(parts, host: Batch, state=None):
    state = state or wiring.initial_state(parts)
    totals = parallel.replicate(parts.mesh, TrainMetrics.empty())
    placed = parallel.shard(parts.mesh, host, accumulate=parts.config.optim.accumulate)
    return wiring.train_step(parts, parts.stages[0])[0](state, totals, placed, parts.key)


def put(value, at):
    def change(x):
        x = x.copy()
        x[at] = value
        return x

    return change


@pytest.mark.parametrize(
    "changes",
    [
        {"label": put(np.nan, (0, 0))},
        {"label": put(np.inf, (15, 1))},  # in the second of two micro-batches
        {"weight": put(np.inf, 3)},
        {"weight": put(np.nan, 9)},
        {"label": lambda x: x * np.float32(3e38)},  # a gradient that overflows
    ],
    ids=["NaN label", "Inf label, second part", "Inf weight", "NaN weight", "overflow"],
)
def test_such_an_update_is_left_out_as_a_whole(parts, changes):
    before = jax.device_get(wiring.initial_state(parts))
    after, totals = stepped(parts, batch(parts, **changes))
    assert int(after.step) == 1
    for field in ("params", "model_state", "opt_state"):
        for path, leaf in paths.flatten(getattr(after, field)).items():
            np.testing.assert_array_equal(leaf, paths.flatten(getattr(before, field))[path], err_msg=path)
    for leaf in jax.tree.leaves(after.average):
        assert np.isfinite(leaf).all()
    numbers = totals.compute()
    assert numbers["skipped"] == 1 and np.isnan(numbers["loss"])


def test_all_weights_zero_is_no_fault(parts):
    after, totals = stepped(parts, batch(parts, weight=np.zeros_like))
    assert totals.compute()["skipped"] == 0
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(after))


def test_skipped_updates_are_counted_in_a_row():
    def one(skipped):
        return (
            TrainMetrics.skip()
            if skipped
            else dataclasses.replace(TrainMetrics.empty(), grad_norm=metrics.TrainMetrics.empty().grad_norm)
        )

    totals = TrainMetrics.empty()
    rows = []
    for skipped in (1, 0, 1, 1, 0, 1):
        totals = totals.merge(one(skipped))
        rows.append(int(totals.skipped.row))
    assert rows == [1, 0, 1, 2, 0, 1] and int(totals.skipped.count) == 4
    fresh = totals.fresh()
    assert int(fresh.skipped.row) == 1 and int(fresh.skipped.count) == 0
    assert int(fresh.merge(one(1)).skipped.row) == 2


def test_numbers_survive_a_checkpoint_to_the_bit():
    totals = dataclasses.replace(
        TrainMetrics.empty(), loss=type(TrainMetrics.empty().loss)(jnp.float32(0.1), jnp.float32(3))
    )
    back = TrainMetrics.from_json(json.loads(json.dumps(totals.to_json())))
    for a, b in zip(jax.tree.leaves(totals), jax.tree.leaves(back), strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.asarray(a).dtype == b.dtype


class Poison:
    """Batches whose labels are NaN at some steps, at their first passes through them."""

    def __init__(self, monkeypatch, steps, passes):
        original, self.left = wiring.train_batches, dict.fromkeys(steps, passes)

        def train_batches(parts, stage, *, start):
            return Changed(original(parts, stage, start=start), start, self.spoil)

        monkeypatch.setattr(wiring, "train_batches", train_batches)

    def spoil(self, step, batch):
        if not self.left.get(step, 0):
            return batch
        self.left[step] -= 1
        return dataclasses.replace(batch, label=batch.label * np.float32("nan"))


def test_one_bad_update_is_told_and_the_run_goes_on(tmp_path, pictures, monkeypatch, capsys):
    Poison(monkeypatch, [4], passes=1)
    finish(small(pictures), tmp_path / "run")
    assert "warning: update 4 was left out: loss or gradient not finite" in capsys.readouterr().err
    rows = [row for row in jsonl.read(tmp_path / "run/metrics.jsonl") if row["kind"] == "train"]
    assert [row["skipped"] for row in rows] == [0, 0, 0, 1, 0, 0, 0, 0, 0] and rows[3]["loss"] is None
    assert json.loads((tmp_path / "run/report/val.json").read_text())["accuracy"] >= 0.3


def test_the_run_goes_back_once_and_learns_more_slowly(tmp_path, pictures, monkeypatch, capsys):
    config = small(pictures)
    config.optim.skip_limit = 2
    Poison(monkeypatch, [7, 8], passes=1)
    finish(config, tmp_path / "run")
    assert "going back to update 6 with 0.1 of the rate" in capsys.readouterr().err
    rows = [row for row in jsonl.read(tmp_path / "run/metrics.jsonl") if row["kind"] == "train"]
    assert [row["step"] for row in rows] == list(range(1, 10))
    assert rows[8]["learning_rate"] < 0.2 * rows[5]["learning_rate"]


def test_the_second_time_the_run_ends(tmp_path, pictures, monkeypatch):
    config = small(pictures)
    config.optim.skip_limit = 2
    Poison(monkeypatch, [3, 4, 7, 8], passes=1)
    with pytest.raises(TrainingError, match=r"not finite in the 2 updates up to 8, also after the run had gone back"):
        finish(config, tmp_path / "run")
    assert train.LOWERED == 0.1


def test_the_very_last_updates_count_too(tmp_path, pictures, monkeypatch, capsys):
    """The checkpoints of 8 and 9, the two latest, have the weights of 7; the best one, of 4, is what is left."""
    config = small(pictures)
    config.optim.skip_limit = 2
    Poison(monkeypatch, [8, 9], passes=1)
    finish(config, tmp_path / "run")
    assert "going back to update 4 with 0.1 of the rate" in capsys.readouterr().err
    aside = sorted(path.name for path in (tmp_path / "run/checkpoints").glob("not-finite-*"))
    assert aside == ["not-finite-8", "not-finite-9"]
    rows = [row for row in jsonl.read(tmp_path / "run/metrics.jsonl") if row["kind"] == "train"]
    assert [row["skipped"] for row in rows] == [0] * 9
