"""Config + size of the training split → concrete stages in steps. The only place where epochs become steps."""

from __future__ import annotations

import dataclasses

from emojax.config import Config
from emojax.errors import ConfigError


@dataclasses.dataclass(frozen=True, slots=True)
class Stage:
    """One stretch of a run, in optimizer updates; static and hashable.

    Attributes:
      number: position in the run, from 0.
      start, stop: first update of the stage, and the first one after it.
      image_size: side of the images, pixels.
      strength, mixing, frozen: as in `StageConfig`.
      schedule: name of the learning-rate schedule.
      span: (start, stop) of the schedule; covers several stages when they share the run's schedule.
      warmup: updates of linear warm-up at the start of the span.
      final: last learning rate of the span as a share of the peak.
      optimizer_start: update at which the optimizer state was last made afresh: at the start of the run, and of every
        stage that trains other parameters than the one before. Adam's moments of frozen parameters have decayed to 0
        while its step count, which all share, has grown: without bias correction their first steps would be up to
        6.5 times too long.
    """

    number: int
    start: int
    stop: int
    image_size: int
    strength: float
    mixing: float
    frozen: str
    schedule: str
    span: tuple[int, int]
    warmup: int
    final: float
    optimizer_start: int


def steps_per_epoch(config: Config, train_size: int) -> float:
    """Updates in one pass over `train_size` records; not rounded, since batches run across the ends of epochs."""
    return train_size / (config.batch_size * config.optim.accumulate)


def plan(config: Config, train_size: int) -> tuple[Stage, ...]:
    """The stages of a run.

    Stages without a schedule of their own share one: its span is the stretch of all such stages, from the first to the
    last of them. Raises `ConfigError` for a stage or warm-up that comes out wrong in steps.
    """
    per_epoch = steps_per_epoch(config, train_size)
    ends, total = [], 0.0
    for stage in config.stages:
        total += stage.epochs
        ends.append(max(round(total * per_epoch), 0))
    starts = [0, *ends[:-1]]
    for i, (start, stop) in enumerate(zip(starts, ends, strict=True)):
        if stop <= start:
            raise ConfigError(
                f"config.stages[{i}].epochs: {config.stages[i].epochs:g} epochs of {train_size} images are no whole "
                f"update of {config.batch_size * config.optim.accumulate} images; make it longer or lower the batch"
            )
    shared = [i for i, stage in enumerate(config.stages) if not stage.schedule.name]
    shared_span = (starts[shared[0]], ends[shared[-1]]) if shared else (0, 0)
    planned: list[Stage] = []
    for i, stage in enumerate(config.stages):
        own = bool(stage.schedule.name)
        schedule = stage.schedule if own else config.schedule
        span = (starts[i], ends[i]) if own else shared_span
        warmup = round(schedule.warmup_epochs * per_epoch)
        if warmup >= span[1] - span[0]:
            knob = f"stages[{i}].schedule" if own else "schedule"
            raise ConfigError(
                f"config.{knob}.warmup_epochs: {warmup} updates of warm-up in a span of {span[1] - span[0]}"
            )
        same = i > 0 and stage.frozen == config.stages[i - 1].frozen
        planned.append(
            Stage(
                number=i,
                start=starts[i],
                stop=ends[i],
                image_size=stage.image_size or config.image_size,
                strength=float(stage.strength),
                mixing=float(stage.mixing),
                frozen=stage.frozen,
                schedule=schedule.name,
                span=span,
                warmup=warmup,
                final=float(schedule.final),
                optimizer_start=planned[-1].optimizer_start if same else starts[i],
            )
        )
    return tuple(planned)


def every(epochs: float, per_epoch: float) -> int:
    """An interval in epochs as updates, at least one; 0 stays 0 (never)."""
    return max(1, round(epochs * per_epoch)) if epochs > 0 else 0


def due(step: int, interval: int) -> bool:
    """Whether something that happens every `interval` updates is due after update number `step`."""
    return interval > 0 and step > 0 and step % interval == 0
