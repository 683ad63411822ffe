"""`run(config, workdir)` is the whole program: open, build, start or resume, loop, report."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import time
from pathlib import Path
from typing import Any

import jax

from emojax import (
    checkpoint,
    data,
    finish,
    metrics,
    opening,
    parallel,
    transitions,
    wiring,
    workdir as dirs,
)
from emojax.config import Config
from emojax.errors import TrainingError
from emojax.monitor import Monitor
from emojax.patience import Patience
from emojax.plateau import Plateau
from emojax.stages import Stage, check_length, due
from emojax.types import TrainState
from emojax.validate import validate
from emojax.wiring import Parts


def run(config: Config, workdir: str | Path) -> None:
    """Trains, evaluates and reports; goes on where an earlier call with the same arguments stopped.

    Args:
      config: the run; checked before anything is read.
      workdir: receives config.json, checkpoints/, metrics.jsonl, log.txt, parameters.txt, tensorboard/ and report/.

    Raises:
      EmojaxError: a knob, the data, the work directory or a checkpoint is not usable; the message says what to do.
    """
    validate(config)
    folder = Path(workdir)
    with contextlib.ExitStack() as stack:
        stack.enter_context(dirs.claim(folder, config))
        monitor = stack.enter_context(Monitor(folder, config.monitor, active=parallel.is_main()))
        if dirs.is_finished(folder):
            monitor.say(
                f"This run is finished: see {folder / 'report' / 'summary.md'}. To train again, use another --workdir."
            )
            return
        parallel.prepare()
        mesh = stack.enter_context(parallel.mesh())
        wiring.check(config)
        dataset = data.open_dataset(
            config.data,
            cache=folder / "data_check.json",
            progress=monitor.progress,
            listed=functools.partial(check_length, config),
        )
        parts = wiring.build(config, dataset, mesh)
        checkpointer = stack.enter_context(contextlib.closing(checkpoint.Checkpointer(folder, config.checkpoint)))
        state, loop = _start(parts, checkpointer)
        opening.introduce(parts, state, monitor)
        _train(parts, state, loop, checkpointer, monitor)
        ending = finish.Ending(seconds=loop.seconds, stopped_early=loop.stopped, unreadable=tuple(loop.unreadable))
        finish.write_result(parts, ending, checkpointer, monitor, folder)


@dataclasses.dataclass(slots=True)
class _Loop:
    """The loop's own variables; saved with every checkpoint."""

    best: float | None = None
    """Best rank so far: the value of `eval.metric`, negated where less is better."""
    patience: dict[str, Any] = dataclasses.field(default_factory=lambda: dataclasses.asdict(Patience()))
    """What early stopping of the run waits for."""
    stage_patience: dict[str, Any] = dataclasses.field(default_factory=lambda: dataclasses.asdict(Patience()))
    """What the stage's own waits for."""
    plateau: dict[str, Any] = dataclasses.field(default_factory=lambda: dataclasses.asdict(Plateau()))
    """State of a learning rate that waits for plateaus."""
    stopped: bool = False
    """Whether early stopping has ended the run."""
    seconds: float = 0.0
    """Training time over all resumptions."""
    unreadable: list[str] = dataclasses.field(default_factory=list)
    """Training images that could not be read when their turn came, though they could at the start."""


def _train(
    parts: Parts, state: TrainState, loop: _Loop, checkpointer: checkpoint.Checkpointer, monitor: Monitor
) -> None:
    """Stage after stage. "Step n" always means "after n updates"; what is due is a function of the step."""
    for stage in parts.stages:
        if loop.stopped or int(state.step) >= stage.stop:
            continue
        state = transitions.entered(parts, stage, state, checkpointer)
        state = _with_fresh_waits(parts, state, loop, stage)
        if stage.train and not _is_over(stage, loop):
            state = _train_stage(parts, state, loop, stage, checkpointer, monitor)
        if (
            int(state.step) < stage.stop and not loop.stopped
        ):  # it ended early, now or before a resume, or only evaluates
            state = transitions.ended(parts, stage, state, checkpointer)
            monitor.skip_to(stage.stop)
            if not stage.train:
                state = _judge(parts, state, loop, stage, checkpointer, monitor)


def _train_stage(
    parts: Parts,
    state: TrainState,
    loop: _Loop,
    stage: Stage,
    checkpointer: checkpoint.Checkpointer,
    monitor: Monitor,
) -> TrainState:
    """The updates of one stage, from where the state is to the stage's stop or early end."""
    config = parts.config
    empty = parallel.replicate(parts.mesh, metrics.TrainMetrics.empty())
    clock = time.monotonic() - loop.seconds
    train_step, new = wiring.train_step(parts, stage)
    if new:
        monitor.compiling()
    totals, since, pending = empty, int(state.step), None
    with wiring.train_batches(parts, stage, start=int(state.step)) as batches:
        for step in range(int(state.step) + 1, stage.stop + 1):
            if step - 1 in stage.teach:
                state = transitions.taught(parts, state, checkpointer)
            with monitor.waiting_for_data():
                host = next(batches)
            batch = parallel.shard(parts.mesh, host, accumulate=config.optim.accumulate)
            previous, (state, totals) = totals, train_step(state, totals, batch, parts.key)
            _note(parts, loop, stage, step, host, monitor)
            # One step computes while the host prepares the next: enough to keep the device busy, and honest timing.
            jax.block_until_ready(previous)
            if pending:
                _log(pending, monitor)
                pending = None
            monitor.tick(step, wait_for=totals)
            judge = due(step, config.eval.every_epochs, parts.per_epoch) or step == stage.stop
            save = judge or due(step, config.checkpoint.every_epochs, parts.per_epoch)
            if save or step % config.monitor.log_every == 0:
                pending = (step, totals, (step - since) * parts.update_images)
                totals, since = empty, step
            if save and pending:
                _log(pending, monitor)
                pending, loop.seconds = None, time.monotonic() - clock
            if judge:
                state = _judge(parts, state, loop, stage, checkpointer, monitor)
            elif save:
                checkpointer.save(state, _meta(parts, stage, loop, state), rank=-math.inf)
            if loop.stopped or _is_over(stage, loop):
                break
    return state


def _start(parts: Parts, checkpointer: checkpoint.Checkpointer) -> tuple[TrainState, _Loop]:
    latest = checkpointer.latest()
    if latest is None:
        return wiring.initial_state(parts), _Loop()
    state, meta = wiring.restored(parts, checkpointer, latest)
    return state, _Loop(**meta.loop)


def _note(parts: Parts, loop: _Loop, stage: Stage, step: int, host: Any, monitor: Monitor) -> None:
    """Shows the first batch of a stage; remembers images that have become unreadable."""
    if step == stage.start + 1:
        monitor.images("train_batch", step, host.image, host.label, parts.dataset.class_names)
    for i in host.index[(host.weight == 0) & (host.index >= 0)]:
        record = str(parts.dataset.splits["train"].id[i])
        if record not in loop.unreadable and parts.dataset.splits["train"].weight[i] > 0:
            loop.unreadable.append(record)
            monitor.say(f"warning: {record} can no longer be read and is left out")


def _log(pending: tuple[int, Any, int], monitor: Monitor) -> None:
    step, totals, images = pending
    numbers = {name: float(value) for name, value in totals.compute().items()}
    if not math.isfinite(numbers["loss"] + numbers["grad_norm"]):
        raise TrainingError(
            f"the training loss is {numbers['loss']}, its gradient {numbers['grad_norm']} at update {step}. "
            "Lower config.optim.learning_rate, lengthen "
            "config.schedule.warmup_epochs or set config.optim.clip_norm, and start again in another --workdir"
        )
    monitor.train(step, numbers, images=images)


def _judge(
    parts: Parts,
    state: TrainState,
    loop: _Loop,
    stage: Stage,
    checkpointer: checkpoint.Checkpointer,
    monitor: Monitor,
) -> TrainState:
    """Evaluates on val, updates the loop's variables and saves; returns the state, whose rate may have dropped."""
    config, step = parts.config, int(state.step)
    monitor.status("evaluating")
    weights = transitions.judged_weights(parts, state, stage.judge, image_size=stage.image_size)
    split = parts.dataset.splits["val"]
    found = wiring.predictions(parts, weights, split, image_size=stage.image_size, views=stage.views)
    judged = metrics.evaluate(found, parts.dataset.class_names)
    rank, improved = metrics.rank(judged, config.eval.metric), False
    if stage.train:
        improved = loop.best is None or rank > loop.best
        loop.best = rank if improved else loop.best
        waits = [
            Patience(**w).after(rank, min_delta=config.eval.min_delta) for w in (loop.patience, loop.stage_patience)
        ]
        loop.patience, loop.stage_patience = map(dataclasses.asdict, waits)
    else:  # numbers of other views than those of training do not compete
        rank = -math.inf
    monitor.evaluated(step, "val", judged, best=improved)
    state = transitions.with_judged_statistics(state, stage.judge, weights)
    if stage.spec.name == "plateau":
        state = _after_plateau(parts, state, loop, stage, judged, monitor)
    ending = f"early: {config.eval.metric} on val has not improved for"
    if config.eval.patience and loop.patience["waited"] >= config.eval.patience:
        loop.stopped = True
        monitor.say(f"stopping {ending} {loop.patience['waited']} evaluations")
    elif _is_over(stage, loop) and step < stage.stop:
        monitor.say(f"ending the stage {stage.name!r} {ending} {loop.stage_patience['waited']} evaluations")
    monitor.status("saving")
    checkpointer.save(state, _meta(parts, stage, loop, state), rank=rank)
    return state


def _is_over(stage: Stage, loop: _Loop) -> bool:
    """Whether the stage's own patience has ended."""
    return 0 < stage.patience <= loop.stage_patience["waited"]


def _with_fresh_waits(parts: Parts, state: TrainState, loop: _Loop, stage: Stage) -> TrainState:
    """A stage waits anew for its own patience; one with another schedule than the one before begins at its own peak."""
    if int(state.step) != stage.start or stage.number == 0:
        return state
    loop.stage_patience = dataclasses.asdict(Patience())
    if stage.spec == parts.stages[stage.number - 1].spec:
        return state
    loop.plateau = dataclasses.asdict(Plateau())
    return wiring.rescaled(parts.mesh, state, 1.0)


def _after_plateau(
    parts: Parts, state: TrainState, loop: _Loop, stage: Stage, judged: metrics.Report, monitor: Monitor
) -> TrainState:
    rule = stage.schedule
    before = Plateau(**loop.plateau)
    after = before.after(
        judged.number(rule.metric),
        lower_is_better=rule.metric in metrics.LOWER_IS_BETTER,
        factor=rule.factor,
        patience=rule.patience,
        lowest=rule.final,
    )
    loop.plateau = dataclasses.asdict(after)
    if after.scale == before.scale:
        return state
    monitor.say(f"{rule.metric} on val has not improved: learning rate now {stage.peak * after.scale:.2e}")
    return wiring.rescaled(parts.mesh, state, after.scale)


def _meta(parts: Parts, stage: Stage, loop: _Loop, state: TrainState) -> checkpoint.Meta:
    return checkpoint.Meta(
        config=parts.config,
        class_names=parts.dataset.class_names,
        image_size=stage.image_size,
        fingerprint=parts.fingerprint,
        loop=dataclasses.asdict(loop),
        judged=transitions.judged_name(state, stage.judge),
    )
