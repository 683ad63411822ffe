"""Epochs become steps in one place; worked out by hand."""

import itertools

import pytest

from emojax.config import AverageConfig, Config, OptimConfig, ScheduleConfig, StageConfig
from emojax.errors import ConfigError
from emojax.stages import due, plan, steps_per_epoch, swa_steps


def test_one_stage():
    config = Config(
        batch_size=32, schedule=ScheduleConfig(warmup_epochs=2, final=0.1), stages=(StageConfig(epochs=10),)
    )
    (stage,) = plan(config, 100)  # 3.125 steps an epoch
    assert (stage.start, stage.stop, stage.spec.start, stage.spec.stop, stage.spec.warmup) == (0, 31, 0, 31, 6)
    assert (stage.image_size, stage.spec.name, stage.spec.final) == (224, "cosine", 0.1)


def test_stages_share_the_runs_schedule_unless_they_have_their_own():
    own = ScheduleConfig(name="constant", warmup_epochs=0.5)
    stages = (StageConfig(epochs=2, image_size=64), StageConfig(epochs=3), StageConfig(epochs=1, schedule=own))
    planned = plan(Config(batch_size=10, stages=stages), 100)
    assert [(s.start, s.stop) for s in planned] == [(0, 20), (20, 50), (50, 60)]
    assert [(s.spec.start, s.spec.stop) for s in planned] == [(0, 50), (0, 50), (50, 60)]
    assert [s.spec.name for s in planned] == ["cosine", "cosine", "constant"]
    assert [s.image_size for s in planned] == [64, 224, 224]
    assert [s.spec.warmup for s in planned] == [0, 0, 5]


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


def test_what_is_due_stays_with_the_epochs():
    assert [step for step in range(10) if due(step, 1, 3.0)] == [3, 6, 9]
    assert [step for step in range(20) if due(step, 2, 3.3)] == [7, 13] and due(660, 2, 3.3)
    assert not due(5, 0, 3.0) and not due(0, 1, 3.0)
    assert all(due(step, 0.01, 10) for step in range(1, 9)), "at most once per update"
    per_epoch = 25_838 / 128  # as many evaluations as epochs, and none beside the ends of stages
    found = [step for step in range(1, round(400 * per_epoch) + 1) if due(step, 1, per_epoch)]
    assert found == [round(epoch * per_epoch) for epoch in range(1, 401)]
    for images, batch, epochs, length in ((770, 24, 3, 30), (1000, 48, 5, 45)):  # ends on half an update
        (stage,) = plan(Config(batch_size=batch, stages=(StageConfig(epochs=length),)), images)
        assert due(stage.stop, epochs, images / batch)
        assert not due(stage.stop - 1, epochs, images / batch) and not due(stage.stop + 1, epochs, images / batch)


def test_a_schedule_may_be_longer_or_shorter_than_its_stage():
    own = ScheduleConfig(name="cosine", epochs=30)
    planned = plan(Config(batch_size=10, stages=(StageConfig(epochs=14, schedule=own), StageConfig(epochs=1))), 100)
    assert (planned[0].spec.start, planned[0].spec.stop, planned[0].stop) == (0, 300, 140)


def test_the_optimizer_starts_afresh_where_asked_and_where_other_parameters_learn():
    stages = (
        StageConfig(epochs=1, frozen="^stem"),
        StageConfig(epochs=1, frozen="^stem"),
        StageConfig(epochs=1),
        StageConfig(epochs=1, fresh=1),
        StageConfig(epochs=1, start_from="best"),
        StageConfig(epochs=1),
    )
    planned = plan(Config(batch_size=10, stages=stages), 100)
    assert [s.fresh for s in planned] == [True, False, True, True, True, False]


def test_a_stage_without_training_has_no_rate_and_is_no_part_of_the_schedule():
    stages = (StageConfig(epochs=2), StageConfig(epochs=3, train=0), StageConfig(epochs=1))
    planned = plan(Config(batch_size=10, stages=stages), 100)
    assert [(s.start, s.stop, s.peak > 0) for s in planned] == [(0, 20, True), (20, 50, False), (50, 60, True)]
    assert (planned[0].spec.start, planned[0].spec.stop) == (0, 60)


def test_teachers_are_copied_where_distillation_starts_and_at_restarts():
    schedule = ScheduleConfig(name="cycles", cycles=3)
    stages = (StageConfig(epochs=2), StageConfig(epochs=3, distill=1), StageConfig(epochs=4, distill=1))
    planned = plan(Config(batch_size=10, schedule=schedule, stages=stages), 100)  # cycles of 30 updates
    assert [s.teach for s in planned] == [(), (20, 30), (60,)]


def test_swa_counts_from_its_start():
    average = AverageConfig(name="swa", swa_start=2, swa_every=0.5)
    config = Config(batch_size=10, average=average, stages=(StageConfig(epochs=3.5), StageConfig(epochs=9, train=0)))
    assert swa_steps(config, 10.0) == (25, 30, 35)
    assert swa_steps(Config(), 10.0) == ()
    five = AverageConfig(name="swa", swa_start=60)  # per_epoch 100.59: a rounded distance of 101 would miss the last
    config = Config(average=five, stages=(StageConfig(epochs=60), StageConfig(epochs=5)))
    assert len(swa_steps(config, 6438 / 64)) == 5 and swa_steps(config, 6438 / 64)[-1] == round(65 * 6438 / 64)
    late = AverageConfig(name="swa", swa_start=30, swa_every=1)
    with pytest.raises(ConfigError, match=r"config.average.swa_start: SWA would never take a snapshot"):
        plan(Config(average=late), 640)
