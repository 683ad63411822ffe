"""A run in progress, and its evaluations along the way: numbers, patience, plateau, checkpoint."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np

from emojax import checkpoint, metrics, preemption, transitions, wiring
from emojax.loop import Loop
from emojax.monitor import Monitor
from emojax.patience import Patience
from emojax.plateau import Plateau
from emojax.stages import Stage
from emojax.types import TrainState
from emojax.wiring import Parts


class NotFiniteError(Exception):
    """Too many updates in a row had a loss or gradient that is no number, or what the model predicts is none."""


@dataclasses.dataclass(frozen=True, slots=True)
class Run:
    """What every part of a run in progress needs."""

    parts: Parts
    checkpointer: checkpoint.Checkpointer
    monitor: Monitor
    stop: preemption.Stop
    folder: Path

    def save(self, state: TrainState, loop: Loop, stage: Stage, *, rank: float = -math.inf) -> None:
        """Writes a checkpoint; see `Checkpointer.save`."""
        meta = checkpoint.Meta(
            config=self.parts.config,
            class_names=self.parts.dataset.class_names,
            image_size=stage.image_size,
            fingerprint=self.parts.fingerprint,
            loop=dataclasses.asdict(loop),
            judged=transitions.judged_name(state, stage.judge),
        )
        self.checkpointer.save(state, meta, rank=rank)


def judge(run: Run, state: TrainState, loop: Loop, stage: Stage) -> TrainState:
    """Evaluates on val, updates the loop's variables and saves; returns the state, whose rate may have dropped.

    Raises `preemption.Requested` when a signal comes in: the state is then saved, and owes this evaluation; and
    `NotFiniteError`.
    """
    parts, monitor, step = run.parts, run.monitor, int(state.step)
    config, split = parts.config, parts.dataset.splits["val"]
    monitor.status("evaluating")
    try:
        weights = transitions.judged_weights(parts, state, stage.judge, image_size=stage.image_size)
        found = wiring.predictions(
            parts, weights, split, image_size=stage.image_size, views=stage.views, poll=run.stop.poll
        )
    except preemption.Requested:
        loop.owed = True
        run.save(state, loop, stage)
        raise
    if not np.isfinite(found.probs).all():
        raise NotFiniteError(f"the evaluation after update {step:,} gave probabilities that are no numbers")
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
        state = _after_plateau(run, state, loop, stage, judged)
    ending = f"early: {config.eval.metric} on val has not improved for"
    if config.eval.patience and loop.patience["waited"] >= config.eval.patience:
        loop.stopped = True
        monitor.say(f"stopping {ending} {loop.patience['waited']} evaluations")
    elif is_over(stage, loop) and step < stage.stop:
        monitor.say(f"ending the stage {stage.name!r} {ending} {loop.stage_patience['waited']} evaluations")
    monitor.status("saving")
    run.save(state, loop, stage, rank=rank)
    return state


def is_over(stage: Stage, loop: Loop) -> bool:
    """Whether the stage's own patience has ended."""
    return 0 < stage.patience <= loop.stage_patience["waited"]


def with_fresh_waits(parts: Parts, state: TrainState, loop: Loop, stage: Stage) -> TrainState:
    """A stage waits anew for its own patience; one with another schedule than the one before begins at its own peak."""
    if int(state.step) != stage.start or stage.number == 0:
        return state
    loop.stage_patience = dataclasses.asdict(Patience())
    if stage.spec == parts.stages[stage.number - 1].spec:
        return state
    loop.plateau = dataclasses.asdict(Plateau())
    return wiring.rescaled(parts.mesh, state, 1.0)


def _after_plateau(run: Run, state: TrainState, loop: Loop, stage: Stage, judged: metrics.Report) -> TrainState:
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
    run.monitor.say(f"{rule.metric} on val has not improved: learning rate now {stage.peak * after.scale:.2e}")
    return wiring.rescaled(run.parts.mesh, state, after.scale)
