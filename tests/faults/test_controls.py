"""Negative controls: with one part left out of what a resumed run gets back, the oracle must fail."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from harness import CrashError, at, crash, finish, same, small

from emojax import paths, train, wiring
from emojax.data import pipeline

pytestmark = pytest.mark.slow


def without(part):
    """`wiring.restored` that forgets a part of the state."""
    original = wiring.restored

    def restored(parts, checkpointer, step):
        state, meta = original(parts, checkpointer, step)
        if part == "ids":
            return state, dataclasses.replace(meta, loop={**meta.loop, "ids": 0})
        field, pattern = part

        def forget(path, leaf):
            return jnp.zeros_like(leaf) if pattern in path else leaf

        return dataclasses.replace(state, **{field: paths.map_with_path(forget, getattr(state, field))}), meta

    return restored


@pytest.mark.parametrize(
    "part",
    [
        ("average", "ema/params/head/dense/kernel"),
        ("opt_state", "mu/stage1/block1/conv1/conv/kernel"),
        ("opt_state", "nu/head/dense/bias"),
        ("model_state", "stage1/block1/conv1/norm/mean"),
        ("params", "head/dense/bias"),
        "ids",
    ],
    ids=str,
)
def test_forgetting_a_part_is_noticed(tmp_path, pictures, alone, monkeypatch, part):
    run, config = tmp_path / "run", small(pictures)
    with at(monkeypatch, train, "_note", 8, crash), pytest.raises(CrashError):
        finish(config, run)
    monkeypatch.setattr(wiring, "restored", without(part))
    finish(config, run)
    assert same(run, alone) != []


@pytest.mark.parametrize("what", ["position", "randomness"])
def test_forgetting_where_the_data_were_is_noticed(tmp_path, pictures, alone, monkeypatch, what):
    run, config = tmp_path / "run", small(pictures)
    with at(monkeypatch, train, "_note", 8, crash), pytest.raises(CrashError):
        finish(config, run)
    if what == "position":
        original = pipeline.train_batches
        monkeypatch.setattr(
            pipeline, "train_batches", lambda *a, start, stop, **k: original(*a, start=0, stop=stop, **k)
        )
    else:
        build = wiring.build
        monkeypatch.setattr(wiring, "build", lambda *a, **k: dataclasses.replace(build(*a, **k), key=jax.random.key(1)))
    finish(config, run)
    assert same(run, alone) != []
