"""`run(config, workdir)` is the whole program: open, build, start or resume, loop, report."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from emojax import (
    checkpoint,
    data,
    finish,
    judging,
    manifest,
    opening,
    parallel,
    preemption,
    probe,
    spikes,
    transitions,
    wiring,
    workdir as dirs,
)
from emojax.config import Config
from emojax.data import checks
from emojax.errors import CheckpointError, InterruptedRunError, TrainingError
from emojax.judging import NotFiniteError, Run
from emojax.loop import Loop
from emojax.models import pretrained
from emojax.monitor import Monitor
from emojax.report import html
from emojax.stages import Stage, check_length, due
from emojax.types import TrainState
from emojax.validate import validate
from emojax.visible import one_line

LOWERED = 0.1
"""Factor on the learning rate of a run that goes back to a checkpoint."""


def run(config: Config, workdir: str | Path) -> None:
    """Trains, evaluates and reports; goes on where an earlier call with the same arguments stopped.

    Args:
      config: the run; checked before anything is read.
      workdir: receives config.json, data_records/, checkpoints/, metrics.jsonl, log.txt, parameters.txt, tensorboard/
        and report/.

    Raises:
      InterruptedRunError: SIGTERM or Ctrl-C; what was done is saved.
      EmojaxError: a knob, the data, the work directory or a checkpoint is not usable; the message says what to do.
    """
    folder = Path(workdir)
    config = pretrained.resolved(validate(config), dirs.begun_with(folder))
    warning = parallel.join(config.parallel)
    with contextlib.ExitStack() as stack:
        with parallel.main_first():
            if parallel.is_main():
                stack.enter_context(dirs.claim(folder, config))
        monitor = stack.enter_context(Monitor(folder, config.monitor, active=parallel.is_main()))
        if warning:
            monitor.say(warning)
        if dirs.is_finished(folder):
            monitor.say(
                f"This run is finished: see {folder / 'report' / html.PAGE}. To train again, use another --workdir."
            )
            return
        parallel.prepare()
        mesh = stack.enter_context(parallel.mesh(config.parallel.fsdp))
        stop = stack.enter_context(_stoppable())
        wiring.check(config)
        dataset = data.open_dataset(
            config.data,
            cache=folder / "data_check.json",
            progress=functools.partial(_progress, monitor, stop),
            listed=functools.partial(check_length, config),
        )
        parts = wiring.build(config, dataset, mesh, say=monitor.say)
        checkpointer = stack.enter_context(
            contextlib.closing(checkpoint.Checkpointer(folder, config.checkpoint, say=monitor.say))
        )
        run = Run(parts, checkpointer, monitor, stop, folder)
        state, loop = _start(run)
        new = int(state.step) == 0 and not loop.solved
        opening.introduce(parts, state, monitor, folder, owed=loop.owed or new)
        if new:
            began = time.monotonic()
            state = _begun(run, state, loop)
            loop.seconds = time.monotonic() - began
        loop = _train(run, state, loop)
        ending = finish.Ending(
            seconds=loop.seconds,
            stopped_early=loop.stopped,
            unreadable=tuple(loop.unreadable),
            data_changes=tuple(loop.data_changes),
        )
        finish.write_result(run, ending, folder)


@contextlib.contextmanager
def _stoppable() -> Iterator[preemption.Stop]:
    """Signals are noted from here on, and end the run in words."""
    with preemption.Stop() as stop:
        try:
            yield stop
        except preemption.Requested:
            raise InterruptedRunError(
                f"stopped by {stop.name}; the same command goes on from here", stop.signal
            ) from None


def _progress(monitor: Monitor, stop: preemption.Stop, done: int, total: int) -> None:
    # Processes open the data each at its own pace, and `stop` must be asked as often in all of them.
    if parallel.process()[1] == 1:
        stop.poll()
    monitor.progress(done, total)


def _start(run: Run) -> tuple[TrainState, Loop]:
    """The newest checkpoint that is not damaged, or the beginning."""
    parts = run.parts
    found = run.checkpointer.newest(lambda step: wiring.restored(parts, run.checkpointer, step))
    state, loop = (found[0], Loop(**found[1].loop)) if found else (wiring.initial_state(parts), Loop())
    if found and found[1].fingerprint != parts.fingerprint:
        changed = manifest.differences(run.folder, found[1].fingerprint, parts.dataset)
        if not parts.config.data.allow_change:
            raise CheckpointError(
                f"the data are not those with which this run was trained: {changed}. Bring those back, start again in "
                "another --workdir, or give --config.data.allow_change=1 to go on with these"
            )
        loop.data_changes.append(f"the data became others after update {int(state.step):,}: {changed}")
        run.monitor.say(f"warning: {loop.data_changes[-1]}")
    if parallel.is_main():
        manifest.write(run.folder, parts.fingerprint, parts.dataset)
    return state, loop


def _begun(run: Run, state: TrainState, loop: Loop) -> TrainState:
    """The state before the first update. One whose last layer is solved for is judged too, and may stay the best."""
    if loop.solved or run.parts.config.model.head_start != "solved":
        return state
    state, loop.solved = probe.solved(run, state), True
    loop.owed = run.parts.stages[0].train
    return state


def _train(run: Run, state: TrainState, loop: Loop) -> Loop:
    """All stages. When too many updates in a row are not finite, the run goes back to its newest checkpoint, once, and
    learns more slowly from there."""
    while True:
        try:
            _train_stages(run, state, loop)
            return loop
        except NotFiniteError as error:
            if loop.went_back:
                raise TrainingError(
                    f"{error}, also after the run had gone back to a checkpoint with a lower learning rate. Lower "
                    "config.optim.learning_rate, lengthen config.schedule.warmup_epochs or set "
                    "config.optim.clip_norm, and start again in another --workdir"
                ) from error
            # One whose own last updates were left out has the weights from before them: nothing would be undone.
            run.checkpointer.set_aside_while(lambda meta: meta.loop["skipped"] > 0, name="not-finite")
            state, loop = _start(run)
            state = _begun(run, state, loop)
            loop.went_back, loop.skipped = True, 0
            loop.plateau["scale"] *= LOWERED
            state = wiring.rescaled(run.parts.mesh, state, loop.plateau["scale"])
            run.monitor.rewind(int(state.step))
            run.monitor.say(f"warning: {error}; going back to update {int(state.step):,} with {LOWERED:g} of the rate")


def _train_stages(run: Run, state: TrainState, loop: Loop) -> None:
    """Stage after stage. "Step n" always means "after n updates"; what is due is a function of the step."""
    if loop.owed:
        loop.owed = False
        # With other data the run may have become shorter than it already is.
        stage = next((stage for stage in run.parts.stages if int(state.step) <= stage.stop), run.parts.stages[-1])
        state = judging.judge(run, state, loop, stage)
    for stage in run.parts.stages:
        if loop.stopped or int(state.step) >= stage.stop:
            continue
        state = transitions.entered(run.parts, stage, state, run.checkpointer)
        state = judging.with_fresh_waits(run.parts, state, loop, stage)
        if stage.train and not judging.is_over(stage, loop):
            state = _train_stage(run, state, loop, stage)
        # It ended early, now or before a resume, or only evaluates.
        if int(state.step) < stage.stop and not loop.stopped:
            state = transitions.ended(run.parts, stage, state, run.checkpointer)
            run.monitor.skip_to(stage.stop)
            if not stage.train:
                state = judging.judge(run, state, loop, stage)


def _train_stage(run: Run, state: TrainState, loop: Loop, stage: Stage) -> TrainState:
    """The updates of one stage, from where the state is to the stage's stop or early end."""
    parts, config, monitor = run.parts, run.parts.config, run.monitor
    clock = time.monotonic() - loop.seconds
    train_step, new = wiring.train_step(parts, stage)
    if new:
        monitor.compiling()
    totals, since = loop.kept(int(state.step))
    watch = spikes.Watch(loop.recent, totals, anew=int(state.step) == stage.start)
    totals, pending = parallel.replicate(parts.mesh, totals), None
    with wiring.train_batches(parts, stage, start=int(state.step)) as batches:
        for step in range(int(state.step) + 1, stage.stop + 1):
            if step - 1 in stage.teach:
                state = transitions.taught(parts, state, run.checkpointer)
            with monitor.waiting_for_data():
                host = next(batches)
            batch = parallel.shard(parts.mesh, host, accumulate=config.optim.accumulate)
            previous, (state, totals) = totals, train_step(state, totals, batch, parts.key)
            _note(parts, loop, stage, step, host, monitor)
            _quarantine(parts, loop, batches.unreadable, monitor)
            # One step computes while the host prepares the next: enough to keep the device busy, and honest timing.
            _require_finite(previous, config.optim.skip_limit, step - 1)
            _tell_spikes(parts, watch, monitor)
            _log(pending, monitor)
            pending = None
            monitor.tick(step, wait_for=totals)
            judge = due(step, config.eval.every_epochs, parts.per_epoch) or step == stage.stop
            save = judge or due(step, config.checkpoint.every_epochs, parts.per_epoch)
            stop = run.stop.requested()
            closed = save or step % config.monitor.log_every == 0
            watch.hold(step, totals, closed=closed, index=host.index)
            if closed:
                pending = (step, totals, step - since, parts.update_images, loop.ids)
                totals, since = parallel.replicate(parts.mesh, totals.fresh()), step
            if save or stop:
                _tell_spikes(parts, watch, monitor)
                _log(pending, monitor)
                pending = None
                loop.seconds = time.monotonic() - clock
                loop.keep(totals, since, step)
                _agree(parts, loop, monitor)
            if stop:
                loop.owed = judge
                run.save(state, loop, stage)
                raise preemption.Requested
            if judge:
                state = judging.judge(run, state, loop, stage)
            elif save:
                run.save(state, loop, stage)
            run.checkpointer.confirm()
            if loop.stopped or judging.is_over(stage, loop):
                break
        _require_finite(totals, config.optim.skip_limit, int(state.step))
    return state


def _note(parts: wiring.Parts, loop: Loop, stage: Stage, step: int, host: Any, monitor: Monitor) -> None:
    """Shows the first batch of a stage, and remembers the records of every batch."""
    loop.saw(step, host.index)
    if step == stage.start + 1:
        monitor.images("train_batch", step, host.image, host.label, parts.dataset.class_names)


def _agree(parts: wiring.Parts, loop: Loop, monitor: Monitor) -> None:
    """What every process knows alone becomes known to all, before it is saved."""
    ids = sum(parallel.gathered([loop.ids])) % 2**64
    loop.ids = ids if parallel.is_main() else 0  # every process goes on with its own share of the sum
    _quarantine(parts, loop, parallel.gathered(loop.missing), monitor)
    loop.missing.clear()


def _quarantine(parts: wiring.Parts, loop: Loop, unreadable: list[int], monitor: Monitor) -> None:
    """Remembers training images that could no longer be read; raises `DataError` when they have become too many."""
    dataset = parts.dataset
    loop.missing += unreadable
    for record in dict.fromkeys(str(dataset.splits["train"].id[i]) for i in unreadable):
        if record not in loop.unreadable:
            loop.unreadable.append(record)
            monitor.say(f"warning: {one_line(record)} can no longer be read; pictures of its class take its place")
            gone = [(name, "became unreadable during training") for name in loop.unreadable]
            total = len(dataset.skipped) + sum(map(len, dataset.splits.values()))
            checks.check_bad([*dataset.skipped, *gone], total=total, limit=parts.config.data.bad_limit)


def _require_finite(totals: Any, limit: int, step: int) -> None:
    """Waits for the numbers of an update; raises `NotFiniteError` when it is the last of `limit` that were skipped."""
    row = int(jax.block_until_ready(totals).skipped.row)
    if limit and row >= limit:
        raise NotFiniteError(f"the loss or its gradient was not finite in the {row} updates up to {step:,}")


def _tell_spikes(parts: wiring.Parts, watch: spikes.Watch, monitor: Monitor) -> None:
    """Tells the spikes of the update that `watch` holds, with the records of its batch; waits for it."""
    step, records, found = watch.look()
    for spike in found:
        images = parts.dataset.splits["train"].id[records].tolist()
        monitor.note(step, "spike", spike.row(images), spike.told(step, images))


def _log(pending: tuple[int, Any, int, int, int] | None, monitor: Monitor) -> None:
    """Records (update, numbers of the last updates, how many those are, images of each, `Loop.ids`), if any."""
    if pending is None:
        return
    step, totals, updates, images, ids = pending
    numbers = {name: float(value) for name, value in totals.compute().items()}
    if skipped := int(numbers["skipped"]):
        which = f"update {step:,} was" if updates == 1 else f"{skipped} of the {updates} updates up to {step:,} were"
        monitor.say(f"warning: {which} left out: loss or gradient not finite")
    ids = sum(parallel.gathered([ids])) % 2**64
    monitor.train(step, numbers, images=updates * images, ids=f"{ids:016x}")
