"""What a run consists of: data, stages, model, optimizer and step, all fixed before the first step."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from emojax import (
    averaging,
    checkpoint,
    class_weights,
    metrics,
    models,
    objective,
    optim,
    parallel,
    paths,
    predict,
    stages as stages_lib,
    step,
)
from emojax.config import Config
from emojax.data import mixing, pipeline
from emojax.data.workers import Watch
from emojax.errors import CheckpointError, ConfigError
from emojax.models import pretrained
from emojax.stages import Stage
from emojax.types import Batch, Dataset, Predictions, Split, TrainState, Tree
from emojax.views import VIEWS

HEAD = "^head/"
"""Parameters with a learning rate of their own, `optim.head_multiplier`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Parts:
    """Everything a run needs besides its state.

    Attributes:
      config, dataset, mesh, model: as named.
      stages: the run's stretches, in steps.
      per_epoch: updates in one pass over the training split.
      rate: update → learning rate.
      infer: name of test-time views → jitted inference function.
      class_mass: [K] sum of the weights of each class in the training split.
      fingerprint: of the data order.
      key: base of all randomness on the device; per-step keys are folded from it.
      say: is told when loader processes have to be replaced.
    """

    config: Config
    dataset: Dataset
    mesh: Mesh
    model: models.Model
    stages: tuple[Stage, ...]
    per_epoch: float
    rate: Callable[[Any], Any]
    infer: Callable[[str], predict.Infer]
    class_mass: np.ndarray
    fingerprint: str
    key: jax.Array
    say: Callable[[str], None]
    compiled: dict[Any, Any] = dataclasses.field(default_factory=dict)

    @property
    def update_images(self) -> int:
        """Images per update, over all devices and micro-batches."""
        return self.config.batch_size * self.config.optim.accumulate


def build(config: Config, dataset: Dataset, mesh: Mesh, *, say: Callable[[str], None] = pipeline.warn) -> Parts:
    """Builds and cross-checks the parts; everything that can be wrong with a config is found here, before training."""
    train = dataset.splits["train"]
    model = models.build(config.model, len(dataset.class_names))
    average = config.eval.view_average
    stages = stages_lib.plan(config, len(train))
    parts = Parts(
        config=config,
        dataset=dataset,
        mesh=mesh,
        model=model,
        stages=stages,
        per_epoch=stages_lib.steps_per_epoch(config, len(train)),
        rate=optim.learning_rate(stages),
        infer=functools.cache(
            lambda views: predict.compiled(predict.inference_function(model, views=VIEWS[views], average=average))
        ),
        class_mass=(train.label * train.weight[:, None]).sum(0, dtype=np.float64),
        fingerprint=pipeline.fingerprint(
            dataset, batch_size=config.batch_size * config.optim.accumulate, seed=config.seed
        ),
        key=jax.random.key(config.seed),
        say=say,
    )
    pipeline.check_batch_size(train, parts.update_images)
    return parts


def check(config: Config) -> None:
    """Finds what is wrong with a config besides the data, before an image is read.

    Raises `ConfigError` for what `check_model` finds, and for a batch that the devices cannot share, or that leaves a
    process single images to mix.
    """
    check_model(config)
    parallel.check_batch(config.batch_size, knob="batch_size")
    parallel.check_batch(config.eval.batch_size or config.batch_size, knob="eval.batch_size")
    if config.batch_size // parallel.process()[1] < 2 and any(map(sum, _mixing(config))):
        raise ConfigError(
            f"config.batch_size: {config.batch_size} leaves a process single images, and nothing to mix them with; "
            "raise it, or set augment.mixup and augment.cutmix to 0"
        )


def _mixing(config: Config) -> list[tuple[float, float]]:
    return [mixing.probabilities(config.augment, mixup=s.mixup, cutmix=s.cutmix) for s in config.stages if s.train]


def check_model(config: Config) -> None:
    """The part of `check` that needs no device: a process that only starts others must not take one.

    Raises `ConfigError`: the metric, the model, an image size that is too small for it, or a pattern that is broken,
    matches no parameter or leaves none to learn.
    """
    metrics.check_number(config.eval.metric)
    model = models.build(config.model, 2)  # the number of classes changes no name and no size that matters here
    if config.model.head_start == "solved":
        image = jax.ShapeDtypeStruct((1, config.image_size, config.image_size, 3), np.float32)
        jax.eval_shape(lambda x: model.last_inputs(*model.init(jax.random.key(0), config.image_size), x), image)
    for i, stage in enumerate(config.stages):
        size = stage.image_size or config.image_size
        params, statistics = jax.eval_shape(lambda size=size: model.init(jax.random.key(0), size))
        paths.require_match(params, stage.frozen, knob=f"stages[{i}].frozen", every=False)
        paths.require_match(params, stage.restart, knob=f"stages[{i}].restart")
        paths.require_apart(params, stage.restart, stage.frozen, knob=f"stages[{i}].restart")
        means = {path: leaf for path, leaf in paths.flatten(statistics).items() if path.endswith("/mean")}
        paths.require_match(means, stage.frozen_statistics, knob=f"stages[{i}].frozen_statistics", what="statistic")
        optim.make(config.optim, params, frozen=stage.frozen, depth=model.depth, head=HEAD)


def initial_state(parts: Parts) -> TrainState:
    """The state before the first update, on every device. Raises as `pretrained.load` does."""
    config, taken = parts.config, {}
    if config.model.weights:
        like = jax.eval_shape(lambda: parts.model.init(parts.key, parts.stages[0].image_size))
        taken = pretrained.load(parts.model, config.model, like)
    state = jax.jit(lambda key, taken: _initial(parts, key, taken))(parts.key, taken)
    return parallel.put(parts.mesh, state, config.parallel)


def _initial(parts: Parts, key: jax.Array, taken: dict[str, Any]) -> TrainState:
    params, model_state = parts.model.init(key, parts.stages[0].image_size)
    params, model_state = pretrained.merged(params, model_state, taken)
    average = averaging.init(parts.config.average, params, model_state)
    opt_state = optimizer(parts, parts.stages[0]).init(params)
    step, scale = jnp.zeros((), jnp.int32), jnp.ones((), jnp.float32)
    shape = (len(parts.dataset.splits["train"]), len(parts.dataset.class_names))
    memory = {"target": jnp.zeros(shape, jnp.float32)} if any(stage.loss.elr for stage in parts.stages) else {}
    return TrainState(step, params, model_state, opt_state, average, {}, scale, memory)


def state_shapes(parts: Parts, *, teacher: bool) -> TrainState:
    """The shapes of a state and where its arrays lie; `teacher`: of one that distils."""
    like = jax.eval_shape(lambda: _initial(parts, parts.key, {}))
    if teacher:
        like = dataclasses.replace(like, teacher={"params": like.params, "model_state": like.model_state})
    return parallel.shapes(parts.mesh, like, parts.config.parallel)


def step_shapes(parts: Parts, stage: Stage) -> tuple[TrainState, metrics.TrainMetrics, Batch, Any]:
    """What the step of a stage takes, as shapes with their places: enough to compile it, on any mesh."""
    count, classes = parts.update_images, len(parts.dataset.class_names)
    batch = Batch(
        image=jax.ShapeDtypeStruct((count, stage.image_size, stage.image_size, 3), np.uint8),
        label=jax.ShapeDtypeStruct((count, classes), np.float32),
        weight=jax.ShapeDtypeStruct((count,), np.float32),
        index=jax.ShapeDtypeStruct((count,), np.int32),
    )
    whole = jax.eval_shape(lambda: (metrics.TrainMetrics.empty(), parts.key))
    totals, key = parallel.shapes(parts.mesh, whole, parts.config.parallel)
    batch = parallel.batch_shapes(parts.mesh, batch, accumulate=parts.config.optim.accumulate)
    return state_shapes(parts, teacher=stage.distill), totals, batch, key


def _shapes(parts: Parts) -> Tree:
    return jax.eval_shape(lambda: parts.model.init(parts.key, parts.stages[0].image_size))[0]


def optimizer(parts: Parts, stage: Stage) -> Any:
    """The optax chain of a stage."""
    return optim.make(parts.config.optim, _shapes(parts), frozen=stage.frozen, depth=parts.model.depth, head=HEAD)


def train_step(parts: Parts, stage: Stage) -> tuple[step.Step, bool]:
    """(the jitted step of a stage, whether it must be compiled); it takes over the memory of the state it is given.

    Stages that differ in nothing but their data share one.
    """
    key = (stage.frozen, stage.stored, stage.distill, str(stage.loss), stage.loss.forget and stage.anew)
    new = (*key, stage.image_size) not in parts.compiled
    if key not in parts.compiled:
        parts.compiled[key] = _compile(parts, stage)
    parts.compiled[(*key, stage.image_size)] = parts.compiled[key]
    return parts.compiled[key], new


def _compile(parts: Parts, stage: Stage) -> step.Step:
    config = parts.config
    weight = class_weights.weights(stage.loss.class_weights, parts.class_mass, beta=stage.loss.effective_beta)
    function = step.make(
        apply=functools.partial(parts.model.apply, stored=stage.stored),
        preprocess=parts.model.normalised,
        objective=objective.make(
            stage.loss,
            class_weight=weight,
            mass=parts.class_mass,
            teaching=config.distill if stage.distill else None,
            per_epoch=parts.per_epoch,
            start=stage.anew,
        ),
        teach=stage.distill,
        mirror=stage.loss.flip_consistency > 0,
        perturb=functools.partial(optim.perturbed, rho=config.optim.sam) if config.optim.sam else None,
        tx=optimizer(parts, stage),
        average=averaging.make(config.average, swa_steps=stages_lib.swa_steps(config, parts.per_epoch)),
        rate=parts.rate,
        metrics=metrics.TrainMetrics,
        frozen=stage.frozen,
        accumulate=config.optim.accumulate,
    )
    placed = _placed(function, parts) if parts.mesh.shape["fsdp"] > 1 else function
    return jax.jit(placed, donate_argnums=0, compiler_options=parallel.compiler_options(parts.mesh))


def _placed(function: step.Step, parts: Parts) -> step.Step:
    """The step with its new state where the old one lies: left alone, XLA may choose otherwise."""

    def train_step(state: TrainState, totals: Any, batch: Batch, key: jax.Array) -> tuple[TrainState, Any]:
        state, totals = function(state, totals, batch, key)
        return parallel.constrain(parts.mesh, state, parts.config.parallel), totals

    return train_step


def train_batches(parts: Parts, stage: Stage, *, start: int) -> pipeline.Loader:
    """Host batches of one stage from step `start` on."""
    config = parts.config
    return pipeline.train_batches(
        parts.dataset.splits["train"],
        augment=config.augment,
        size=stage.image_size,
        strength=stage.strength,
        mixup=stage.mixup,
        cutmix=stage.cutmix,
        sampler=stage.sampler,
        accumulate=config.optim.accumulate,
        fit=config.fit,
        batch_size=parts.update_images,
        seed=config.seed,
        start=start,
        stop=stage.stop,
        workers=config.data.workers,
        watch=Watch.of(config.data, parts.say),
        process=parallel.process(),
    )


def eval_batches(parts: Parts, split: Split, *, image_size: int) -> pipeline.Loader:
    """Host batches of every record of `split` once, as evaluation sees them."""
    config = parts.config
    return pipeline.eval_batches(
        split,
        size=image_size,
        crop=config.eval.crop,
        fit=config.fit,
        interpolation=config.eval.interpolation,
        batch_size=config.eval.batch_size or config.batch_size,
        workers=config.data.workers,
        watch=Watch.of(config.data, parts.say),
        process=parallel.process(),
    )


def predictions(
    parts: Parts,
    weights: dict[str, Tree],
    split: Split,
    *,
    image_size: int,
    views: str,
    poll: Callable[[], None] = lambda: None,
) -> Predictions:
    """Predictions of {"params", "model_state"} for a split; `poll` as in `predict.over`."""
    with eval_batches(parts, split, image_size=image_size) as batches:
        return predict.over(
            parts.infer(views), weights["params"], weights["model_state"], batches, split, mesh=parts.mesh, poll=poll
        )


def rescaled(mesh: Mesh, state: TrainState, scale: float) -> TrainState:
    """The state with another factor on the learning rate."""
    return dataclasses.replace(state, scale=parallel.replicate(mesh, jnp.asarray(scale, jnp.float32)))


def restored(parts: Parts, checkpointer: checkpoint.Checkpointer, step: int) -> tuple[TrainState, checkpoint.Meta]:
    """The state and description of a checkpoint; refuses one of other classes."""
    state, meta = checkpointer.restore(state_shapes(parts, teacher=checkpointer.teacher_at(step)), step)
    if meta.class_names != parts.dataset.class_names:
        raise CheckpointError(
            f"the checkpoint's classes are {', '.join(meta.class_names)}; "
            f"the data's are {', '.join(parts.dataset.class_names)}"
        )
    return rescaled(parts.mesh, state, meta.loop["plateau"]["scale"]), meta
