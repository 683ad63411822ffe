"""Config + size of the training split → concrete stages in steps. The only place where epochs become steps."""

from __future__ import annotations

import dataclasses
import math

from emojax.config import Config, LossConfig, ScheduleConfig, StageConfig
from emojax.errors import ConfigError
from emojax.schedules import ScheduleSpec, restart_steps


@dataclasses.dataclass(frozen=True, slots=True)
class Stage:
    """One stretch of a run, in optimizer updates.

    Attributes:
      number: position in the run, from 0.
      name: what the table of stages calls it.
      start, stop: first update of the stage, and the first one after it.
      image_size: side of the images, pixels.
      strength, mixup, cutmix, frozen, distill, start_from, sampler, restart, judge, views, patience: as in
        `StageConfig`, defaults filled in.
      stored: regexes over the BatchNorm statistics that stay, `frozen` and `frozen_statistics`.
      train: whether the weights are updated; otherwise the steps pass and one evaluation stands at their end.
      spec, schedule: the learning-rate schedule in steps, and as configured; stages that share the run's schedule have
        one span together.
      peak: peak learning rate; 0 without training.
      loss: the loss of this stage.
      teach: steps (updates done) at which the teacher is copied.
      fresh: whether the stage starts with a fresh optimizer state: where it asks for that, starts from other or new
        weights, or trains other parameters than the stage before. Adam's moments of frozen parameters have decayed to 0
        while its count, which all share, has grown: without bias correction their first steps would be up to 6.5 times
        too long.
      anew: first update of the last stage so far that started something anew, `StageConfig.restart`; 0 = none did.
    """

    number: int
    name: str
    start: int
    stop: int
    image_size: int
    strength: float
    mixup: float
    cutmix: float
    frozen: str
    stored: tuple[str, ...]
    distill: bool
    start_from: str
    sampler: str
    restart: str
    judge: str
    views: str
    patience: int
    train: bool
    spec: ScheduleSpec
    schedule: ScheduleConfig
    peak: float
    loss: LossConfig
    teach: tuple[int, ...]
    fresh: bool
    anew: int


def steps_per_epoch(config: Config, train_size: int) -> float:
    """Updates in one pass over `train_size` records; not rounded, since batches run across the ends of epochs."""
    return train_size / (config.batch_size * config.optim.accumulate)


def plan(config: Config, train_size: int) -> tuple[Stage, ...]:
    """The stages of a run.

    Stages without a schedule of their own share one: its span is the stretch of all such stages, from the first to the
    last of them. Raises `ConfigError` for a stage or warm-up that comes out wrong in steps, and for SWA that would
    never take a snapshot.
    """
    per_epoch = steps_per_epoch(config, train_size)
    bounds = _bounds(config, train_size, per_epoch)
    shared = [b for stage, b in zip(config.stages, bounds, strict=True) if stage.train and not stage.schedule.name]
    shared_span = (shared[0][0], shared[-1][1]) if shared else (0, 0)
    planned: list[Stage] = []
    for i, (stage, (start, stop)) in enumerate(zip(config.stages, bounds, strict=True)):
        own = bool(stage.schedule.name)
        knob = f"stages[{i}].schedule" if own else "schedule"
        if stage.train:
            spec = _spec(stage.schedule if own else config.schedule, (start, stop) if own else shared_span, per_epoch)
        else:
            spec = ScheduleSpec(name="constant", start=start, stop=stop)
        if stage.train and spec.warmup >= spec.stop - spec.start:
            raise ConfigError(
                f"config.{knob}.warmup_epochs: {spec.warmup} updates of warm-up in a span of {spec.stop - spec.start}"
            )
        planned.append(
            Stage(
                number=i,
                name=stage.name or f"stage {i + 1}",
                start=start,
                stop=stop,
                image_size=stage.image_size or config.image_size,
                strength=float(stage.strength),
                mixup=float(stage.mixup),
                cutmix=float(stage.cutmix),
                frozen=stage.frozen,
                stored=(stage.frozen, stage.frozen_statistics),
                distill=bool(stage.distill),
                start_from=stage.start_from,
                sampler=stage.sampler or config.data.sampler,
                restart=stage.restart,
                judge=stage.judge or ("ema" if "ema" in config.average.name else "weights"),
                views=stage.views or config.eval.views,
                patience=stage.patience,
                train=bool(stage.train),
                spec=spec,
                schedule=dataclasses.replace(stage.schedule if own else config.schedule),
                peak=float(stage.learning_rate or config.optim.learning_rate) if stage.train else 0.0,
                loss=dataclasses.replace(stage.loss if stage.loss.name else config.loss),
                teach=_teach(stage, spec, (start, stop), first=not (planned and planned[-1].distill)),
                fresh=not _goes_on(config, i),
                anew=start if stage.restart else planned[-1].anew if planned else 0,
            )
        )
    _check_swa(config, per_epoch)
    return tuple(planned)


def check_length(config: Config, most: int) -> None:
    """Raises `ConfigError` for a stage without an update, and for SWA without a snapshot, where already the largest
    possible size of the training split, `most`, makes them certain."""
    per_epoch = steps_per_epoch(config, most)
    _bounds(config, most, per_epoch)
    _check_swa(config, per_epoch)


def _check_swa(config: Config, per_epoch: float) -> None:
    if "swa" in config.average.name and not swa_steps(config, per_epoch):
        raise ConfigError(
            "config.average.swa_start: SWA would never take a snapshot: the first one is due "
            f"{config.average.swa_every:g} epochs after epoch {config.average.swa_start:g}, when training is over; "
            "start earlier, or lower config.average.swa_every"
        )


def _bounds(config: Config, train_size: int, per_epoch: float) -> list[tuple[int, int]]:
    bounds, total = [], 0.0
    for i, stage in enumerate(config.stages):
        start = bounds[-1][1] if bounds else 0
        total += stage.epochs
        stop = round(total * per_epoch)
        if stop <= start:
            raise ConfigError(
                f"config.stages[{i}].epochs: {stage.epochs:g} epochs of {train_size} images are no whole "
                f"update of {config.batch_size * config.optim.accumulate} images; make it longer or lower the batch"
            )
        bounds.append((start, stop))
    return bounds


def _goes_on(config: Config, i: int) -> bool:
    """Whether stage i takes over the optimizer state of the stage before."""
    stage = config.stages[i]
    new = stage.fresh or stage.start_from or stage.restart
    return i > 0 and not new and stage.frozen == config.stages[i - 1].frozen


def _spec(schedule: ScheduleConfig, span: tuple[int, int], per_epoch: float) -> ScheduleSpec:
    return ScheduleSpec(
        name=schedule.name,
        start=span[0],
        stop=span[0] + round(schedule.epochs * per_epoch) if schedule.epochs else span[1],
        warmup=round(schedule.warmup_epochs * per_epoch),
        warmup_start=schedule.warmup_start,
        final=schedule.final,
        cycles=schedule.cycles,
        first=schedule.first_epochs * per_epoch,
        multiply=schedule.multiply,
        rise=schedule.rise,
        div=schedule.div,
        final_div=schedule.final_div,
        every=schedule.every_epochs * per_epoch,
        factor=schedule.factor,
    )


def _teach(stage: StageConfig, spec: ScheduleSpec, bounds: tuple[int, int], *, first: bool) -> tuple[int, ...]:
    """Where the teacher is copied: at the first of several stages that distil, and at every restart of the rate."""
    if not stage.distill:
        return ()
    restarts = {step for step in restart_steps(spec) if bounds[0] <= step < bounds[1]}
    return tuple(sorted(restarts | ({bounds[0]} if first else set())))


def swa_steps(config: Config, per_epoch: float) -> tuple[int, ...]:
    """Updates after which SWA takes a snapshot, up to the end of the last stage that trains; () without SWA.

    Each is rounded from its own epoch, as the ends of stages are: counting on from a rounded distance would drift away
    from them. With `swa_first` there is one more snapshot, on entering the stage that begins at `swa_start`.
    """
    average, ends = config.average, 0.0
    if "swa" not in average.name:
        return ()
    for i, stage in enumerate(config.stages):
        if stage.train:
            ends = sum(earlier.epochs for earlier in config.stages[: i + 1])
    count = math.floor((ends - average.swa_start) / average.swa_every + 1e-6)
    steps = {round((average.swa_start + k * average.swa_every) * per_epoch) for k in range(1, count + 1)}
    return tuple(sorted(steps - {0}))


def due(step: int, every_epochs: float, per_epoch: float) -> bool:
    """Whether something that happens every so many epochs is due after update number `step`; never for 0.

    It is due at the updates nearest to the multiples of the interval: an interval that was rounded once would drift
    away from the epochs, and from the ends of stages.
    """
    if every_epochs <= 0 or step <= 0:
        return False
    if every_epochs * per_epoch <= 1:
        return True
    # In the order in which stages' ends are computed, so that a tie is rounded to the same side.
    return step == round(round(step / (every_epochs * per_epoch)) * every_epochs * per_epoch)
