"""What a run consists of: data, stages, model, optimizer and step, all fixed before the first step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from emojax import averaging, checkpoint, losses, metrics, models, optim, parallel, predict, stages as stages_lib, step
from emojax.config import Config
from emojax.data import pipeline
from emojax.errors import CheckpointError
from emojax.preprocess import normalise
from emojax.stages import Stage
from emojax.types import Dataset, Predictions, Split, TrainState, Tree


@dataclasses.dataclass(frozen=True, slots=True)
class Parts:
    """Everything a run needs besides its state.

    Attributes:
      config, dataset, mesh, model: as named.
      stages: the run's stretches, in steps.
      per_epoch: updates in one pass over the training split.
      rate: update → learning rate.
      infer: the jitted inference function.
      fingerprint: of the data order.
      key: base of all randomness on the device; per-step keys are folded from it.
    """

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

    @property
    def update_images(self) -> int:
        """Images per update, over all devices and micro-batches."""
        return self.config.batch_size * self.config.optim.accumulate


def build(config: Config, dataset: Dataset, mesh: Mesh) -> Parts:
    """Builds and cross-checks the parts; everything that can be wrong with a config is found here, before training."""
    train = dataset.splits["train"]
    stages = stages_lib.plan(config, len(train))
    parts = Parts(
        config=config,
        dataset=dataset,
        mesh=mesh,
        model=(model := models.build(config.model, len(dataset.class_names))),
        stages=stages,
        per_epoch=stages_lib.steps_per_epoch(config, len(train)),
        rate=optim.learning_rate(config.optim, stages),
        infer=jax.jit(predict.inference_function(model, views=config.eval.views)),
        fingerprint=pipeline.fingerprint(
            dataset, batch_size=config.batch_size * config.optim.accumulate, seed=config.seed
        ),
        key=jax.random.key(config.seed),
    )
    pipeline.check_batch_size(train, parts.update_images)
    return parts


def check(config: Config) -> None:
    """Finds what is wrong with a config besides the data, before an image is read.

    Raises `ConfigError`: the metric, the model, an image size that is too small for it, a batch that the devices cannot
    share, or a pattern that is broken or matches no parameter.
    """
    metrics.check_number(config.eval.metric)
    parallel.check_batch(config.batch_size, knob="batch_size")
    parallel.check_batch(config.eval.batch_size or config.batch_size, knob="eval.batch_size")
    model = models.build(config.model, 2)  # the number of classes changes no name and no size that matters here
    for stage in config.stages:
        size = stage.image_size or config.image_size
        params, _ = jax.eval_shape(lambda size=size: model.init(jax.random.key(0), size))
        optim.make(config.optim, params, rate=lambda _: jnp.zeros(()), frozen=stage.frozen, depth=model.depth)


def initial_state(parts: Parts) -> TrainState:
    """The state before the first update, on every device."""
    return parallel.replicate(parts.mesh, jax.jit(lambda key: _initial(parts, key))(parts.key))


def _initial(parts: Parts, key: jax.Array) -> TrainState:
    params, model_state = parts.model.init(key, parts.stages[0].image_size)
    average = averaging.init(parts.config.average, params, model_state)
    opt_state = _optimizer(parts, parts.stages[0]).init(params)
    return TrainState(jnp.zeros((), jnp.int32), params, model_state, opt_state, average)


def _shapes(parts: Parts) -> Tree:
    return jax.eval_shape(lambda: parts.model.init(parts.key, parts.stages[0].image_size))[0]


def _optimizer(parts: Parts, stage: Stage) -> Any:
    def rate(count: Any) -> Any:  # the optimizer counts its own updates
        return parts.rate(count + stage.optimizer_start)

    return optim.make(parts.config.optim, _shapes(parts), rate=rate, frozen=stage.frozen, depth=parts.model.depth)


def entered(parts: Parts, stage: Stage, state: TrainState) -> TrainState:
    """The state as `stage` takes it over: with a fresh optimizer state where the stage starts with one."""
    if not 0 < int(state.step) == stage.optimizer_start:
        return state
    fresh = jax.jit(_optimizer(parts, stage).init)(state.params)
    return dataclasses.replace(state, opt_state=parallel.replicate(parts.mesh, fresh))


def train_step(parts: Parts, stage: Stage) -> step.Step:
    """The jitted step of a stage; it takes over the memory of the state it is given."""
    function = step.make(
        apply=parts.model.apply,
        preprocess=normalise,
        loss=losses.make(parts.config.loss),
        tx=_optimizer(parts, stage),
        average=averaging.make(parts.config.average),
        rate=parts.rate,
        metrics=metrics.TrainMetrics,
        frozen=stage.frozen,
        accumulate=parts.config.optim.accumulate,
    )
    return jax.jit(function, donate_argnums=0)


def train_batches(parts: Parts, stage: Stage, *, start: int) -> pipeline.Loader:
    """Host batches of one stage from step `start` on."""
    config = parts.config
    return pipeline.train_batches(
        parts.dataset.splits["train"],
        augment=config.augment,
        size=stage.image_size,
        strength=stage.strength,
        mixing=stage.mixing,
        batch_size=parts.update_images,
        seed=config.seed,
        start=start,
        stop=stage.stop,
        workers=config.data.workers,
        process=parallel.process(),
    )


def judged_weights(state: TrainState) -> tuple[Tree, Tree]:
    """(params, model_state) that are evaluated: the running average when there is one."""
    if state.average:
        return state.average["params"], state.average["model_state"]
    return state.params, state.model_state


def predictions(parts: Parts, state: TrainState, split: Split, *, image_size: int) -> Predictions:
    """Predictions of a state for a split."""
    config = parts.config
    params, model_state = judged_weights(state)
    with pipeline.eval_batches(
        split,
        size=image_size,
        crop=config.eval.crop,
        batch_size=config.eval.batch_size or config.batch_size,
        workers=config.data.workers,
        process=parallel.process(),
    ) as batches:
        return predict.over(parts.infer, params, model_state, batches, split, mesh=parts.mesh)


def restored(parts: Parts, checkpointer: checkpoint.Checkpointer, step: int) -> tuple[TrainState, checkpoint.Meta]:
    """The state and description of a checkpoint; refuses one of other classes or data."""
    like = jax.eval_shape(lambda: _initial(parts, parts.key))
    state, meta = checkpointer.restore(parallel.replicated_shapes(parts.mesh, like), step)
    if meta.class_names != parts.dataset.class_names:
        raise CheckpointError(
            f"the checkpoint's classes are {', '.join(meta.class_names)}; "
            f"the data's are {', '.join(parts.dataset.class_names)}"
        )
    if meta.fingerprint != parts.fingerprint:
        raise CheckpointError(
            "the training images or labels have changed since this run began, so it cannot be resumed exactly; "
            "restore them, or start again in another --workdir"
        )
    return state, meta
