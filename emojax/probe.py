"""The last layer of a pretrained network, solved for: as a model of its own (a probe), or where training starts."""

from __future__ import annotations

import dataclasses
import time

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from emojax import averaging, logistic, parallel, wiring
from emojax.config import AverageConfig, Config, DataConfig, DistillConfig, LossConfig, StageConfig
from emojax.data import folds, sources
from emojax.errors import ConfigError, DataError
from emojax.judging import Run
from emojax.types import Dataset, Split, TrainState, Tree

FOLDS = 5


def config_of(config: Config) -> Config:
    """The run that a recipe becomes: no updates, one judgement of the solved layer.

    Raises `ConfigError` for a recipe without weights.
    """
    if not config.model.weights:
        raise ConfigError(
            "config.model.weights: a probe needs pretrained weights, and the recipe names none; give "
            "--config.model.weights=FILE"
        )
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, head_start="solved"),
        stages=(StageConfig(name="probe", epochs=1, train=0),),
        average=AverageConfig(),
        loss=LossConfig(),
        distill=DistillConfig(),
        data=dataclasses.replace(config.data, sampler="shuffle"),
    )


def solved(run: Run, state: TrainState) -> TrainState:
    """The state with the last layer, `head/dense`, as logistic regression on its inputs over the training split.

    The inputs are those of the pictures as evaluation sees them, and of their mirror images where the recipe mirrors
    any. They are brought to mean 0 and deviation 1 for the solver, which the layer then does by itself. The penalty is
    found by cross-validation within train; val and test are not looked at.

    Raises:
      DataError: none of the pictures could be read, or their features are no numbers.
    """
    parts, split, began = run.parts, run.parts.dataset.splits["train"], time.monotonic()
    run.monitor.status("features of the training pictures")
    mirrored = parts.config.augment.flip > 0
    x, weight = _features(run, state, split, mirrored=mirrored)
    if not weight.any():
        raise DataError("none of the training pictures could be read")
    if not np.isfinite(x).all():
        raise DataError("the features of some training pictures are no numbers; are these the weights of this network?")
    views = x.shape[0]
    fold = folds_of(parts.dataset, parts.config.data, seed=parts.config.seed)
    seen = weight > 0
    mean = np.asarray(x[:, seen].mean((0, 1), dtype=np.float64))
    scale = np.asarray(x[:, seen].std((0, 1), dtype=np.float64))
    scale[scale < 1e-8] = 1.0
    x -= mean.astype(np.float32)  # in place: all features of a large data set are gigabytes
    x /= scale.astype(np.float32)
    x = x.reshape(-1, x.shape[2])
    label, weight, fold = np.tile(split.label, (views, 1)), np.tile(weight, views), np.tile(fold, views)
    count = f"{int(seen.sum()):,} pictures" + (" and their mirror images" if mirrored else "")
    run.monitor.say(f"features: {x.shape[1]:,} of {count}, {time.monotonic() - began:.0f} s")
    run.monitor.status("solving for the last layer")
    began = time.monotonic()
    penalty, loss = logistic.best_penalty(x, label, weight, fold, poll=run.stop.poll)
    kernel, bias = logistic.fit(x, label, weight, penalty=penalty, poll=run.stop.poll)
    run.monitor.say(
        f"penalty {penalty:.1e}, by {int(fold.max()) + 1}-fold cross-validation within train (loss {loss:.3f} there), "
        f"{time.monotonic() - began:.0f} s"
    )
    kernel = kernel / scale[:, None]
    dense = {"kernel": kernel.astype(np.float32), "bias": (bias - mean @ kernel).astype(np.float32)}
    params: Tree = {**state.params, "head": {**state.params["head"], "dense": dense}}
    placed = parallel.put(parts.mesh, params, parts.config.parallel)
    rest = {  # whatever keeps a copy of the parameters begins with these: averages, Lookahead's slow weights
        "average": averaging.init(parts.config.average, placed, state.model_state),
        "opt_state": wiring.optimizer(parts, parts.stages[0]).init(jax.tree.map(jnp.copy, placed)),
    }
    return dataclasses.replace(state, params=placed, **parallel.put(parts.mesh, rest, parts.config.parallel))


def folds_of(dataset: Dataset, config: DataConfig, *, seed: int) -> Int[np.ndarray, " N"]:
    """The fold of each training record: five, or as many as there are pictures and groups that may be apart.

    Identical pictures share one, and so do the records of a group, as where data are cut. Raises `DataError`
    where all records belong together.
    """
    split = dataset.splits["train"]
    content = dataset.contents.get("train") or [str(name) for name in split.id]
    _, groups = sources.groups_of(split, dataset, config)
    apart = int(folds.connected(content, groups).max()) + 1
    if apart < 2:
        raise DataError("a probe finds its penalty by cross-validation, and all training records are of one group")
    return folds.folds(split.label, content=content, groups=groups, k=min(FOLDS, apart), seed=seed)


def _features(
    run: Run, state: TrainState, split: Split, *, mirrored: bool
) -> tuple[Float[np.ndarray, "V N D"], Float[np.ndarray, " N"]]:
    """(inputs of the last layer for each view of each picture, weights: 0 where a picture could not be read)."""
    parts, stage = run.parts, run.parts.stages[0]

    def see(params: Tree, model_state: Tree, image: UInt8[Array, "B H W 3"]) -> list[Float[Array, "B D"]]:
        views = (image, image[:, :, ::-1]) if mirrored else (image,)
        return [parts.model.last_inputs(params, model_state, parts.model.normalised(view)) for view in views]

    jitted = jax.jit(see, compiler_options=parallel.compiler_options(parts.mesh))
    found: list[np.ndarray] = []
    weight = np.zeros(len(split), np.float32)
    with wiring.eval_batches(parts, split, image_size=stage.image_size) as batches:
        for host in batches:
            run.stop.poll()
            batch = parallel.shard(parts.mesh, host)
            each = [parallel.to_host(x) for x in jitted(state.params, state.model_state, batch.image)]
            found = found or [np.zeros((len(split), x.shape[1]), np.float32) for x in each]
            real = host.index >= 0
            for all_of, part in zip(found, each, strict=True):
                all_of[host.index[real]] = part[real]
            weight[host.index[real]] = host.weight[real]
            run.monitor.progress(int(host.index.max()) + 1, len(split))
    return np.stack(found), weight
