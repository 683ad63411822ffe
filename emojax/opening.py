"""The beginning of a run: what is about to happen, told before the first update."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
from clu import parameter_overview

from emojax import class_weights, config as config_lib, environment, parallel, plots
from emojax.config import ModelConfig
from emojax.monitor import Monitor
from emojax.types import TrainState
from emojax.visible import one_line
from emojax.wiring import Parts


def introduce(parts: Parts, state: TrainState, monitor: Monitor, folder: Path, *, owed: bool) -> None:
    """Tells what is about to happen; TensorBoard and trackers get the knobs and the learning-rate curve, `folder` the
    environment.

    `owed`: the evaluation of the step where the run goes on is still to come.
    """
    config, dataset, step = parts.config, parts.dataset, int(state.step)
    sizes = ", ".join(f"{name} {len(split):,}" for name, split in dataset.splits.items())
    names = ", ".join(map(one_line, dataset.class_names))
    facts = {
        "data": f"{one_line(dataset.name)}: {len(dataset.class_names)} classes ({names})",
        "images": f"{sizes}; {len(dataset.skipped)} unreadable ones left out" if dataset.skipped else sizes,
        "model": f"{config.model.name}, {parts.stages[0].image_size} px, {config.model.compute}",
        **_weights(config.model),
        "devices": parallel.describe(),
        "run": f"{parts.stages[-1].stop:,} updates of {parts.update_images} images, {parts.per_epoch:.4g} an epoch"
        if any(stage.train for stage in parts.stages)
        else "no updates; the weights are judged",
    }
    facts |= _class_mass(parts)
    facts |= {f"note {i}" if len(dataset.notes) > 1 else "note": text for i, text in enumerate(dataset.notes, 1)}
    indent = max(map(len, facts)) + 2
    monitor.begin(
        total_steps=parts.stages[-1].stop,
        steps_per_epoch=parts.per_epoch,
        start_step=step,
        owed=owed,
        lines=[f"{name:<{indent}}{value}" for name, value in facts.items()],
        parameters=parameter_overview.get_parameter_overview(state.params, include_stats=False),
    )
    if parallel.is_main():
        environment.record(folder, step)
    monitor.hparams(dict(config_lib.items(config)))
    if step == 0:
        steps = np.unique(np.linspace(0, parts.stages[-1].stop - 1, 500).astype(int))
        monitor.figure("learning_rate", 0, lambda: plots.learning_rate(steps, np.asarray(jax.vmap(parts.rate)(steps))))


def _weights(model: ModelConfig) -> dict[str, str]:
    """Where the parameters come from that do not start anew."""
    if not model.weights:
        return {}
    anew = f"; anew: {model.reinit}" if model.reinit else ""
    anew += "; last layer solved for" if model.head_start == "solved" else ""
    return {"weights": f"{one_line(model.weights)}, SHA-256 {model.weights_sha256[:12]}...{one_line(anew)}"}


def _class_mass(parts: Parts) -> dict[str, str]:
    """How much each class weighs in the expected loss, where sampler, class weights or logit adjustment change that."""
    facts = {}
    for stage in parts.stages:
        kind, adjust = stage.loss.class_weights, stage.loss.logit_adjust
        if stage.train and (kind != "none" or stage.sampler != "shuffle" or adjust):
            weight = class_weights.weights(kind, parts.class_mass, beta=stage.loss.effective_beta)
            mass = class_weights.effective_mass(parts.class_mass, sampler=stage.sampler, weight=weight, adjust=adjust)
            shares = ", ".join(f"{one_line(n)} {m:.1%}" for n, m in zip(parts.dataset.class_names, mass, strict=True))
            how = f"weights {kind}" + (f", logit adjustment {adjust:g}" if adjust else "")
            facts[f"class mass, sampler {stage.sampler}, {how}"] = shares
    return facts
