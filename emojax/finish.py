"""The end of a run: choose its result on val, judge that once on test, write the model and the report."""

from __future__ import annotations

import dataclasses
import functools
import math
import shlex
import sys
from pathlib import Path
from typing import Any

from emojax import (
    checkpoint,
    config_json,
    files,
    intervals,
    metrics,
    parallel,
    predict,
    report,
    slices,
    transitions,
    wiring,
    workdir,
)
from emojax.config import Config
from emojax.errors import TrainingError
from emojax.judging import Run
from emojax.report import html
from emojax.report.pictures import Source
from emojax.types import Predictions


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How the loop ended: training time in seconds, whether early, training images that became unreadable, and how the
    data became others."""

    seconds: float
    stopped_early: bool
    unreadable: tuple[str, ...]
    data_changes: tuple[str, ...]


def write_result(run: Run, ending: Ending, folder: Path) -> None:
    """Chooses the result on val, judges it on val and, for the only time, on test; writes the report, then the finished
    mark."""
    parts, checkpointer, monitor = run.parts, run.checkpointer, run.monitor
    config, dataset = parts.config, parts.dataset
    chosen, compared, on_val = _choose(run)
    meta = dataclasses.replace(checkpointer.meta(chosen.step), image_size=chosen.image_size, judged="weights")
    checkpoint.save_result(folder, chosen.step, chosen.weights, meta)  # by all processes together
    history = monitor.history()
    gone = tuple((name, "became unreadable during training") for name in ending.unreadable)
    # The steps of a stage that only evaluates pass without an update.
    updated = any(stage.train and stage.start < chosen.step for stage in parts.stages)
    about = report.RunInfo(
        dataset=dataset.name,
        step=chosen.step,
        result=chosen.name,
        when="" if updated else "without an update",
        selected_by=config.eval.metric,
        seed=config.seed,
        views=config.eval.views,
        seconds=ending.seconds,
        notes=(*dataset.notes, *ending.data_changes),
        skipped=dataset.skipped + gone,
        leaked=dataset.leaked,
        command=shlex.join(sys.argv),
        config_differences=tuple(config_json.differences(Config(), config)),
        candidates=compared,
        stages=report.stage_rows(parts.stages, parts.per_epoch, history),
    )
    epoch = about.step / parts.per_epoch
    monitor.say(f"{chosen.name}: {about.when or f'after update {about.step:,} (epoch {epoch:.3g})'}")
    for line in report.stage_lines(about.stages):
        monitor.say(line)
    shown: dict[str, Any] = {}
    for name in ("val", "test"):
        if name not in dataset.splits:
            monitor.say(f"there is no {name} split")
            continue
        if name == "test" and not config.eval.test:
            monitor.say("test is left alone (config.eval.test=0)")
            continue
        monitor.status(f"judging on {name}")
        found = slices.with_vote_entropy(on_val if name == "val" else _predictions(run, chosen, name))
        if parallel.is_main():  # who writes the report
            found = slices.with_looks(found, dataset.splits[name].images)
        judged = metrics.evaluate(found, dataset.class_names)
        monitor.result(about.step, name, judged)
        if name == "test" and parallel.is_main():
            workdir.note_test(folder, shlex.join(sys.argv), judged.accuracy)
        bounds = intervals.of(found)
        for line in report.number_lines(name, judged, bounds):
            monitor.say(line)
        if stamp := report.stamp(name, found, dataset.class_names, leaked=dataset.leaked):
            monitor.say(f"  {stamp.text}")
        if parallel.is_main():
            drawn = report.write(
                folder / "report", split=name, report=judged, bounds=bounds, predictions=found, history=history,
                run=about,
            )  # fmt: skip
            shown |= {"history" if key == "history" else f"{name}/{key}": figure for key, figure in drawn.items()}
    if parallel.is_main():
        for key, figure in shown.items():
            monitor.figure(f"report/{key}", about.step, lambda figure=figure: figure)
        monitor.status("writing the report")
        report.write_data(folder / "report", dataset)
        html.write(folder, source=_pictures(run, chosen), previous=html.previous_run(folder))
        files.write_json(
            folder / workdir.FINISHED,
            {"step": about.step, "seconds": ending.seconds, "stopped_early": ending.stopped_early},
        )
        monitor.finished(folder / "report")
    monitor.say(f"report: {folder / 'report' / html.PAGE}")


def _pictures(run: Run, chosen: transitions.Candidate) -> Source | None:
    """Where the page's pictures come from; weights that lie on several machines cannot explain them on one."""
    parts, config = run.parts, run.parts.config
    if not config.monitor.pictures or parallel.process()[1] > 1:
        return None
    weights = chosen.weights
    explain = functools.partial(
        predict.explain_function(parts.model, config.eval.views), weights["params"], weights["model_state"]
    )
    return Source(
        splits=parts.dataset.splits,
        image_size=chosen.image_size,
        crop=config.eval.crop,
        fit=config.fit,
        interpolation=config.eval.interpolation,
        explain=lambda images, classes: parallel.to_host(explain(images, classes)),
    )


def _choose(run: Run) -> tuple[transitions.Candidate, tuple[report.Compared, ...], Predictions]:
    """The eligible candidate that is best on val (the first of equals), all of them side by side, and what the chosen
    one predicts on val."""
    parts, config, rows = run.parts, run.parts.config, []
    chosen, best, on_val = None, -math.inf, None
    for candidate in transitions.candidates(parts, run.checkpointer):
        run.monitor.status(f"judging {candidate.name} on val")
        found = _predictions(run, candidate, "val")
        judged = metrics.evaluate(found, parts.dataset.class_names)
        rows.append((candidate, judged))
        if candidate.eligible and (chosen is None or metrics.rank(judged, config.eval.metric) > best):
            chosen, best, on_val = candidate, metrics.rank(judged, config.eval.metric), found
    if chosen is None or on_val is None:
        raise TrainingError("the run ended without a checkpoint")  # unreachable: the best checkpoint is always eligible
    compared = tuple(
        report.Compared(
            name=c.name if c.eligible else f"{c.name} (to compare)",
            step=c.step,
            numbers=judged.numbers(),
            chosen=c is chosen,
        )
        for c, judged in rows
    )
    if len(compared) > 1:
        for line in report.compared_lines(compared, metric=config.eval.metric):
            run.monitor.say(line)
    return chosen, compared, on_val


def _predictions(run: Run, candidate: transitions.Candidate, split: str) -> Predictions:
    parts, size = run.parts, candidate.image_size
    return wiring.predictions(
        parts,
        candidate.weights,
        parts.dataset.splits[split],
        image_size=size,
        views=parts.config.eval.views,
        poll=run.stop.poll,
    )
