"""Epochs become steps in one place; worked out by hand."""

import itertools

import pytest

from emojax.config import Config, OptimConfig, ScheduleConfig, StageConfig
from emojax.errors import ConfigError
from emojax.stages import due, every, plan, steps_per_epoch


def test_one_stage():
    config = Config(
        batch_size=32, schedule=ScheduleConfig(warmup_epochs=2, final=0.1), stages=(StageConfig(epochs=10),)
    )
    (stage,) = plan(config, 100)  # 3.125 steps an epoch
    assert (stage.start, stage.stop, stage.span, stage.warmup) == (0, 31, (0, 31), 6)
    assert (stage.image_size, stage.schedule, stage.final) == (224, "cosine", 0.1)


def test_stages_share_the_runs_schedule_unless_they_have_their_own():
    own = ScheduleConfig(name="constant", warmup_epochs=0.5)
    stages = (StageConfig(epochs=2, image_size=64), StageConfig(epochs=3), StageConfig(epochs=1, schedule=own))
    planned = plan(Config(batch_size=10, stages=stages), 100)
    assert [(s.start, s.stop) for s in planned] == [(0, 20), (20, 50), (50, 60)]
    assert [s.span for s in planned] == [(0, 50), (0, 50), (50, 60)]
    assert [s.schedule for s in planned] == ["cosine", "cosine", "constant"]
    assert [s.image_size for s in planned] == [64, 224, 224]
    assert [s.warmup for s in planned] == [0, 0, 5]


def test_accumulation_counts_updates():
    assert steps_per_epoch(Config(batch_size=32, optim=OptimConfig(accumulate=4)), 1280) == 10


def test_a_stage_of_no_step_is_an_error():
    with pytest.raises(ConfigError, match=r"stages\[0\].epochs: 0.1 epochs of 100 images are no whole update"):
        plan(Config(stages=(StageConfig(epochs=0.1),)), 100)


def test_rounding_never_loses_steps():
    stages = tuple(StageConfig(epochs=0.7) for _ in range(10))
    planned = plan(Config(batch_size=3, stages=stages), 31)
    assert planned[-1].stop == round(7 * 31 / 3)
    assert all(a.stop == b.start for a, b in itertools.pairwise(planned))


def test_due_and_every():
    assert [step for step in range(10) if due(step, 3)] == [3, 6, 9]
    assert not due(5, 0)
    assert every(0, 10) == 0 and every(0.01, 10) == 1 and every(2, 3.3) == 7
