"""`run(config, workdir)`: wires the parts, then the loop. Read `run` and `_train`: that is the whole program."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from clu import parameter_overview
from jax.sharding import Mesh

from emojax import (
    averaging,
    checkpoint,
    config as config_lib,
    data,
    files,
    losses,
    metrics,
    models,
    optim,
    parallel,
    plots,
    predict,
    report,
    stages as stages_lib,
    step as step_lib,
    workdir as workdir_lib,
)
from emojax.config import Config
from emojax.data import pipeline
from emojax.errors import CheckpointError, TrainingError
from emojax.monitor import Monitor
from emojax.preprocess import normalise
from emojax.stages import Stage, due
from emojax.types import Dataset, Predictions, Split, TrainState
from emojax.validate import validate


def run(config: Config, workdir: str | Path) -> None:
    """Trains, evaluates and reports; goes on where an earlier call with the same arguments stopped.

    Args:
      config: the run; checked before anything is read.
      workdir: receives config.json, checkpoints/, metrics.jsonl, tensorboard/, log.txt and report/.

    Raises:
      EmojaxError: a knob, the data, the work directory or a checkpoint is not usable; the message says what to do.
    """
    validate(config)
    folder = Path(workdir)
    with workdir_lib.claim(folder, config), Monitor(folder, config.monitor, active=parallel.is_main()) as monitor:
        if (folder / workdir_lib.FINISHED).exists():
            monitor.say(f"This run is finished; its report is in {folder / 'report'}. To train again, use another --workdir.")
            return
        parallel.use_compile_cache()
        with parallel.mesh() as mesh:
            monitor.say("Reading the data ...")
            dataset = data.open_dataset(config.data, cache=folder / "data_check.json", progress=monitor.progress)
            parts = _build(config, dataset, mesh)
            checkpointer = checkpoint.Checkpointer(folder, config.checkpoint)
            try:
                state, loop = _start(parts, checkpointer, monitor)
                state, loop = _train(parts, state, loop, checkpointer, monitor)
                _finish(parts, state, checkpointer, monitor, folder)
            finally:
                checkpointer.close()


@dataclasses.dataclass(slots=True)
class _Loop:
    """The loop's own variables; saved with every checkpoint."""

    best: float | None = None
    """Best value of `eval.metric` so far."""
    waited: int = 0
    """Evaluations since then."""
    stopped: bool = False
    """Whether early stopping has ended the run."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Parts:
    """What a run consists of, all fixed before the first step."""

    config: Config
    dataset: Dataset
    mesh: Mesh
    model: models.Model
    stages: tuple[Stage, ...]
    per_epoch: float
    rate: Callable[[Any], Any]
    infer: predict.Infer
    fingerprint: str
    key: jax.Array


def _build(config: Config, dataset: Dataset, mesh: Mesh) -> _Parts:
    train = dataset.splits["train"]
    parallel.check_batch(config.batch_size, knob="batch_size")
    pipeline.check_batch_size(train, config.batch_size * config.optim.accumulate)
    stages = stages_lib.plan(config, len(train))
    model = models.build(config.model, len(dataset.class_names))
    metrics.check_number(config.eval.metric)
    params, _ = jax.eval_shape(lambda: model.init(jax.random.key(0), stages[0].image_size))
    rate = optim.learning_rate(config.optim, stages)
    for stage in stages:  # a pattern that matches nothing must fail now, not when its stage begins
        optim.make(config.optim, params, rate=rate, frozen=stage.frozen, depth=model.depth)
    return _Parts(
        config=config,
        dataset=dataset,
        mesh=mesh,
        model=model,
        stages=stages,
        per_epoch=stages_lib.steps_per_epoch(config, len(train)),
        rate=rate,
        infer=jax.jit(predict.inference_function(model, views=config.eval.views)),
        fingerprint=pipeline.fingerprint(train, batch_size=config.batch_size * config.optim.accumulate, seed=config.seed),
        key=jax.random.key(config.seed),
    )


def _start(parts: _Parts, checkpointer: checkpoint.Checkpointer, monitor: Monitor) -> tuple[TrainState, _Loop]:
    """A fresh state, or the latest checkpoint's; tells the monitor what is about to happen."""
    config, stages = parts.config, parts.stages

    def init(key: jax.Array) -> TrainState:
        params, model_state = parts.model.init(key, stages[0].image_size)
        tx = optim.make(config.optim, params, rate=parts.rate, frozen="", depth=parts.model.depth)
        average = averaging.init(config.average, params, model_state)
        return TrainState(jnp.zeros((), jnp.int32), params, model_state, tx.init(params), average)

    state = parallel.replicate(parts.mesh, jax.jit(init)(parts.key))
    loop, latest = _Loop(), checkpointer.latest()
    if latest is not None:
        state, meta = checkpointer.restore(state, latest)
        _check_same_data(meta, parts)
        loop = _Loop(**meta.loop)
    table = parameter_overview.get_parameter_overview(state.params, include_stats=None)
    monitor.begin(
        total_steps=stages[-1].stop,
        steps_per_epoch=parts.per_epoch,
        start_step=int(state.step),
        lines=_summary(parts, state),
        parameters=table if isinstance(table, str) else str(table),
    )
    if not int(state.step):
        monitor.hparams(dict(config_lib.items(config)))
        steps = np.unique(np.linspace(0, stages[-1].stop - 1, 500).astype(int))
        monitor.figure("learning_rate", 0, plots.learning_rate(steps, np.asarray(jax.vmap(parts.rate)(steps))))
    return state, loop


def _check_same_data(meta: checkpoint.Meta, parts: _Parts) -> None:
    if meta.class_names != parts.dataset.class_names:
        raise CheckpointError(f"the checkpoint's classes are {meta.class_names}, the data's are {parts.dataset.class_names}")
    if meta.fingerprint != parts.fingerprint:
        raise CheckpointError("the training images or labels have changed since this run was started, so it cannot be "
                              "resumed exactly; restore them, or start again in another --workdir")


def _train(
    parts: _Parts, state: TrainState, loop: _Loop, checkpointer: checkpoint.Checkpointer, monitor: Monitor
) -> tuple[TrainState, _Loop]:
    """The loop. "Step n" always means "after n updates"."""
    config = parts.config
    evaluate_every = stages_lib.every(config.eval.every_epochs, parts.per_epoch)
    save_every = stages_lib.every(config.checkpoint.every_epochs, parts.per_epoch)
    empty = parallel.replicate(parts.mesh, metrics.TrainMetrics.empty())
    for stage in parts.stages:
        if loop.stopped or int(state.step) >= stage.stop:
            continue
        train_step = _compile(parts, stage)
        totals, images, pending = empty, 0, None
        with _batches(parts, stage, int(state.step)) as batches:
            for step in range(int(state.step) + 1, stage.stop + 1):
                with monitor.waiting_for_data():
                    batch = next(batches)
                if step == stage.start + 1:
                    monitor.images("train_batch", step, batch.image, batch.label, parts.dataset.class_names)
                batch = parallel.shard(parts.mesh, batch, accumulate=config.optim.accumulate)
                state, totals = train_step(state, totals, batch, parts.key)
                images += config.batch_size * config.optim.accumulate
                if pending:  # fetched only now that the next step is on its way: the device does not wait for the log
                    _log(*pending, monitor)
                    pending = None
                monitor.tick(step, wait_for=totals)
                evaluate = due(step, evaluate_every) or step == stage.stop
                save = evaluate or due(step, save_every)
                if save or due(step, config.monitor.log_every):
                    pending, totals, images = (step, totals, images), empty, 0
                if save:
                    _log(*pending, monitor)
                    pending, rank = None, -math.inf
                    if evaluate:
                        rank = _judge(parts, state, loop, stage, monitor)
                    checkpointer.save(state, _meta(parts, stage, loop), rank=rank)
                if loop.stopped:
                    break
    return state, loop


def _compile(parts: _Parts, stage: Stage) -> step_lib.Step:
    config = parts.config
    shapes, _ = jax.eval_shape(lambda: parts.model.init(parts.key, stage.image_size))
    function = step_lib.make(
        apply=parts.model.apply,
        preprocess=normalise,
        loss=losses.make(config.loss),
        tx=optim.make(config.optim, shapes, rate=parts.rate, frozen=stage.frozen, depth=parts.model.depth),
        average=averaging.make(config.average),
        rate=parts.rate,
        metrics=metrics.TrainMetrics,
        frozen=stage.frozen,
        accumulate=config.optim.accumulate,
    )
    return jax.jit(function, donate_argnums=0)


def _batches(parts: _Parts, stage: Stage, start: int) -> pipeline.Loader:
    config = parts.config
    return pipeline.train_batches(
        parts.dataset.splits["train"],
        augment=config.augment,
        crop=config.eval.crop,
        size=stage.image_size,
        strength=stage.strength,
        mixing=stage.mixing,
        batch_size=config.batch_size * config.optim.accumulate,
        seed=config.seed,
        start=start,
        stop=stage.stop,
        workers=config.data.workers,
        process=parallel.process(),
    )


def _log(step: int, totals: Any, images: int, monitor: Monitor) -> None:
    numbers = {name: float(value) for name, value in totals.compute().items()}
    if not math.isfinite(numbers["loss"]):
        raise TrainingError(
            f"the training loss is {numbers['loss']} at step {step}; lower config.optim.learning_rate, lengthen "
            "config.schedule.warmup_epochs or set config.optim.clip_norm. The last checkpoint is from before"
        )
    monitor.train(step, numbers, images=images)


def _weights(state: TrainState) -> tuple[Any, Any]:
    """What is judged: the running average when there is one."""
    if state.average:
        return state.average["params"], state.average["model_state"]
    return state.params, state.model_state


def _predict(parts: _Parts, state: TrainState, split: Split, image_size: int) -> Predictions:
    config = parts.config
    size = config.eval.batch_size or config.batch_size
    parallel.check_batch(size, knob="eval.batch_size")
    params, model_state = _weights(state)
    with pipeline.eval_batches(
        split,
        size=image_size,
        crop=config.eval.crop,
        batch_size=size,
        workers=config.data.workers,
        process=parallel.process(),
    ) as batches:
        return predict.over(parts.infer, params, model_state, batches, split, mesh=parts.mesh)


def _judge(parts: _Parts, state: TrainState, loop: _Loop, stage: Stage, monitor: Monitor) -> float:
    """Evaluates on val, updates the loop's variables, and returns the checkpoint's rank."""
    monitor.status("evaluating")
    predictions = _predict(parts, state, parts.dataset.splits["val"], stage.image_size)
    judged = metrics.evaluate(predictions, parts.dataset.class_names)
    name = parts.config.eval.metric
    rank = -judged.number(name) if name in metrics.LOWER_IS_BETTER else judged.number(name)
    improved = loop.best is None or rank > loop.best
    loop.best, loop.waited = (rank, 0) if improved else (loop.best, loop.waited + 1)
    monitor.evaluated(int(state.step), "val", judged, best=improved)
    patience = parts.config.eval.patience
    if patience and loop.waited >= patience:
        loop.stopped = True
        monitor.say(f"Stopping early: {name} on val has not improved for {patience} evaluations.")
    return rank


def _meta(parts: _Parts, stage: Stage, loop: _Loop) -> checkpoint.Meta:
    return checkpoint.Meta(
        config=parts.config,
        class_names=parts.dataset.class_names,
        image_size=stage.image_size,
        fingerprint=parts.fingerprint,
        loop=dataclasses.asdict(loop),
    )
