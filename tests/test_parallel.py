"""One run on meshes of several shapes: the same curve, and less memory for parameters where they are cut."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest
import tiny
from harness import small

from emojax import data, jsonl, parallel, resume, train, wiring
from emojax.config import OptimConfig, ParallelConfig
from emojax.errors import ConfigError


def losses(run):
    return {row["step"]: row["loss"] for row in jsonl.read(run / "metrics.jsonl") if row["kind"] == "train"}


def test_cut_parameters_give_the_same_curve(tmp_path, pictures, alone):
    """Two devices, parameters of 256 numbers or more in halves; then the run goes on with whole ones."""
    config = small(pictures)
    config.parallel = ParallelConfig(fsdp=2, fsdp_min=256)
    train.run(config, tmp_path / "run")
    found, whole = losses(tmp_path / "run"), losses(alone)
    assert found.keys() == whole.keys()
    np.testing.assert_allclose(list(found.values()), list(whole.values()), rtol=1e-5, atol=1e-5)
    # Its checkpoints are whole for a process with fewer devices, too.
    command = [sys.executable, "-m", "emojax.cli", "checkpoints", "verify", f"--workdir={tmp_path / 'run'}"]
    env = {name: value for name, value in os.environ.items() if name != "JAX_NUM_CPU_DEVICES"}
    shown = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert shown.returncode == 0 and "whole: " in shown.stdout, shown.stdout + shown.stderr


def test_large_parameters_moments_and_averages_are_cut_and_small_ones_are_not(pictures):
    config = small(pictures)
    config.parallel = ParallelConfig(fsdp=2, fsdp_min=256, fsdp_whole="^params/head|/head/")
    with parallel.mesh(2) as mesh:
        parts = wiring.build(config, data.open_dataset(config.data), mesh)
        state = wiring.initial_state(parts)
        kernel = state.params["stage2"]["block1"]["conv2"]["conv"]["kernel"]
        assert kernel.addressable_shards[0].data.size == kernel.size // 2
        assert state.average["ema"]["params"]["stage2"]["block1"]["conv2"]["conv"]["kernel"].sharding == kernel.sharding
        for small_one in (state.params["head"]["dense"]["kernel"], state.params["stem"]["norm"]["scale"]):
            assert small_one.sharding.is_fully_replicated
        bytes_held = sum(x.addressable_shards[0].data.nbytes for x in (kernel, state.params["head"]["dense"]["bias"]))
        assert bytes_held < kernel.nbytes


def test_a_step_leaves_the_state_where_it_was(pictures):
    """Left alone, XLA cuts small parameters and copies large moments as it likes."""
    config = small(pictures)
    config.parallel = ParallelConfig(fsdp=2, fsdp_min=256)
    with parallel.mesh(2) as mesh:
        parts = wiring.build(config, data.open_dataset(config.data), mesh)
        shapes = wiring.step_shapes(parts, parts.stages[0])
        step = wiring.train_step(parts, parts.stages[0])[0].lower(*shapes).compile()
        after = jax.tree.leaves(step.output_shardings[0])
        for x, place in zip(jax.tree.leaves(shapes[0]), after, strict=True):
            assert place.is_equivalent_to(x.sharding, x.ndim)
        assert any(not place.is_fully_replicated for place in after)


def test_devices_that_cannot_be_divided_are_refused():
    with pytest.raises(ConfigError, match=r"config.parallel.fsdp: 2 devices cannot be divided into groups of 3"):
        parallel.mesh(3).__enter__()


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path):
    """Started by `emojax launch`: the same records in the same rows. Two processes mix within their own part of a
    batch, so without mixing."""
    config = small(tiny.make_folder(tmp_path / "data"), optim=OptimConfig(learning_rate=1e-3))
    config.augment.mixup = 0.0
    config.parallel.distributed = 1
    recipe = resume.write_recipe(config, tmp_path)
    command = [sys.executable, "-m", "emojax.cli", "launch", "--processes=2", "--restarts=0", "--", "train"]
    subprocess.run([*command, f"--config={recipe}", f"--workdir={tmp_path / 'two'}"], check=True, timeout=300)
    config.parallel.distributed = 0
    train.run(config, tmp_path / "one")
    np.testing.assert_allclose(
        list(losses(tmp_path / "two").values()), list(losses(tmp_path / "one").values()), rtol=1e-5, atol=1e-5
    )
    seen = [
        [row["ids"] for row in jsonl.read(tmp_path / run / "metrics.jsonl") if row["kind"] == "train"]
        for run in ("two", "one")
    ]
    assert seen[0] == seen[1] and len(set(seen[0])) == len(seen[0])
