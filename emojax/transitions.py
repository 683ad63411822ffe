"""How a run's state changes other than by training steps, and the weights that are candidates for its result."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from emojax import averaging, checkpoint, parallel, paths, wiring
from emojax.models import norms
from emojax.stages import Stage
from emojax.types import Batch, TrainState, Tree
from emojax.wiring import Parts


def entered(parts: Parts, stage: Stage, state: TrainState, checkpointer: checkpoint.Checkpointer) -> TrainState:
    """The state as `stage` takes it over: from the best checkpoint, with new values for some parameters, with a fresh
    optimizer state, or as it is."""
    config, step = parts.config, int(state.step)
    if step != stage.start or step == 0:
        return state
    if stage.start_from == "best":
        weights = best_weights(parts, checkpointer)
        kept = dict(state.average)
        if "ema" in kept:
            kept["ema"] = _copied(parts, weights)
        state = dataclasses.replace(state, **weights, average=kept)
    if stage.restart:
        state = _restarted(parts, stage, state)
    if stage.fresh:
        fresh = jax.jit(wiring.optimizer(parts, stage).init)(state.params)
        state = dataclasses.replace(state, opt_state=parallel.put(parts.mesh, fresh, parts.config.parallel))
    average = config.average
    if "swa" in average.name and average.swa_first and step == round(average.swa_start * parts.per_epoch):
        snapshot = jax.jit(averaging.snapshot)(state.average["swa"], state.params, state.model_state)
        state = dataclasses.replace(state, average={**state.average, "swa": snapshot})
    return state


def _restarted(parts: Parts, stage: Stage, state: TrainState) -> TrainState:
    """New random values, a function of seed and stage, for what `restart` names, in the running average too; batch
    statistics at such paths begin anew, and so does the memory of what was predicted."""
    key = jax.random.fold_in(parts.key, stage.start)
    params, model_state = jax.jit(lambda key: parts.model.init(key, stage.image_size))(key)
    new = {"params": params, "model_state": model_state}

    def mixed(old: dict[str, Tree]) -> dict[str, Tree]:
        chosen = {name: paths.mask(new[name], stage.restart, knob="stages.restart") for name in new}
        return {
            name: jax.tree.map(lambda take, a, b: a if take else b, chosen[name], new[name], old[name]) for name in new
        }

    weights = mixed({"params": state.params, "model_state": state.model_state})
    kept = dict(state.average)
    if "ema" in kept:
        kept["ema"] = mixed(kept["ema"])
    # Copies: new values are in both trees, and the step cannot be given one buffer twice.
    weights, kept = _copied(parts, weights), _copied(parts, kept)
    memory = _copied(parts, jax.tree.map(jnp.zeros_like, state.memory))
    return dataclasses.replace(state, **weights, average=kept, memory=memory)


def passed(parts: Parts, stage: Stage, state: TrainState) -> TrainState:
    """The state at the end of a stage, by whatever it was reached: only the step has moved."""
    step = parallel.replicate(parts.mesh, jnp.asarray(stage.stop, jnp.int32))
    return dataclasses.replace(state, step=step)


def ended(parts: Parts, stage: Stage, state: TrainState, checkpointer: checkpoint.Checkpointer) -> TrainState:
    """The state after a stage that ended early: at its stop, with the teacher that was still to come."""
    if any(step >= int(state.step) for step in stage.teach):
        state = taught(parts, state, checkpointer)
    return passed(parts, stage, state)


def taught(parts: Parts, state: TrainState, checkpointer: checkpoint.Checkpointer) -> TrainState:
    """The state with a new teacher: a copy of the running average, or of the best checkpoint so far."""
    if parts.config.distill.teacher == "best":
        return dataclasses.replace(state, teacher=best_weights(parts, checkpointer))
    ema = {name: state.average["ema"][name] for name in ("params", "model_state")}
    return dataclasses.replace(state, teacher=_copied(parts, ema))


def _copied(parts: Parts, tree: Tree) -> Tree:
    """Buffers of its own: the step gives its state's away, and none can be given away twice."""
    return parallel.put(parts.mesh, jax.tree.map(jnp.copy, tree), parts.config.parallel)


def best_weights(parts: Parts, checkpointer: checkpoint.Checkpointer) -> dict[str, Tree]:
    """{"params", "model_state"} that were judged best so far."""
    state, meta = checkpointer.best_of(lambda step: wiring.restored(parts, checkpointer, step))
    return judged_weights(parts, state, meta.judged, image_size=meta.image_size)


def judged_name(state: TrainState, name: str) -> str:
    """`name`, or "weights" while SWA has no snapshot yet."""
    return "weights" if name == "swa" and int(state.average["swa"]["count"]) == 0 else name


def with_judged_statistics(state: TrainState, name: str, weights: dict[str, Tree]) -> TrainState:
    """The state with the batch statistics with which the SWA mean was judged, so that a checkpoint holds them too."""
    if judged_name(state, name) != "swa" or not weights["model_state"]:
        return state
    swa = {**state.average["swa"], "model_state": weights["model_state"]}
    return dataclasses.replace(state, average={**state.average, "swa": swa})


def judged_weights(parts: Parts, state: TrainState, name: str, *, image_size: int) -> dict[str, Tree]:
    """{"params", "model_state"} called weights, ema or swa. Those of SWA get batch statistics of their own, from images
    of `image_size` pixels; while there is no snapshot yet, the weights themselves stand in."""
    name = judged_name(state, name)
    if name == "weights":
        return {"params": state.params, "model_state": state.model_state}
    params, model_state = (state.average[name][key] for key in ("params", "model_state"))
    if name == "swa":
        model_state = refreshed(parts, params, model_state, image_size=image_size)
    return {"params": params, "model_state": model_state}


def refreshed(parts: Parts, params: Tree, model_state: Tree, *, image_size: int) -> Tree:
    """BatchNorm statistics of averaged weights, estimated anew on training batches of images of the size at which the
    weights are judged, as the last stage with that size augments them; {} stays {}."""
    if not jax.tree.leaves(model_state):
        return model_state
    trained = [stage for stage in parts.stages if stage.train]
    stage = max(trained, key=lambda stage: (stage.image_size == image_size, stage.number))
    stage = dataclasses.replace(stage, image_size=image_size, mixup=0.0, cutmix=0.0)
    stop = min(stage.stop, stage.start + parts.config.average.refresh_batches)

    def apply_train(params: Tree, model_state: Tree, image: Any) -> Tree:
        image = parts.model.normalised(image)
        with norms.own_statistics():
            return parts.model.apply(params, model_state, image, train=True, key=parts.key, stored=stage.stored)[1]

    jitted = parts.compiled.setdefault(("refresh", stage.stored), jax.jit(apply_train))
    with wiring.train_batches(parts, dataclasses.replace(stage, stop=stop), start=stage.start) as batches:
        return averaging.refresh(jitted, params, model_state, _images(parts, batches), stored=stage.stored)


def _images(parts: Parts, batches: Iterable[Batch]) -> Iterator[Any]:
    """Images on the devices in batches of the size in which training normalises them."""
    for batch in batches:
        for part in np.split(batch.image, parts.config.optim.accumulate):
            count = len(part)
            rest = Batch(part, batch.label[:count], batch.weight[:count], batch.index[:count])
            yield parallel.shard(parts.mesh, rest).image


@dataclasses.dataclass(frozen=True, slots=True)
class Candidate:
    """Weights that may become the result of the run.

    Attributes:
      name: what the report calls them.
      step: update after which they were taken.
      image_size: side of the images they were trained with last, pixels.
      weights: {"params": ..., "model_state": ...}.
      eligible: whether they may be chosen; others are shown for comparison.
    """

    name: str
    step: int
    image_size: int
    weights: dict[str, Tree]
    eligible: bool = True


def candidates(parts: Parts, checkpointer: checkpoint.Checkpointer) -> Iterator[Candidate]:
    """The best checkpoint, then, where the run kept any: the soup of the best checkpoints, the SWA mean (unless that is
    the best checkpoint), and for comparison the last weights and the last running average. One at a time: each may fill
    the memory."""
    config = parts.config.average
    state, meta = checkpointer.best_of(lambda step: wiring.restored(parts, checkpointer, step))
    ranked, last = checkpointer.ranked(), checkpointer.latest()
    size = meta.image_size
    best_count = int(state.average["swa"]["count"]) if meta.judged == "swa" else 0
    yield Candidate("best checkpoint", ranked[0], size, judged_weights(parts, state, meta.judged, image_size=size))
    if config.soup:
        members = [_member(parts, checkpointer, step) for step in ranked[: config.soup]]
        mean = averaging.mean(members)
        statistics = refreshed(parts, mean["params"], mean["model_state"], image_size=size)
        weights = {"params": mean["params"], "model_state": statistics}
        yield Candidate(f"soup of {len(members)} checkpoints", ranked[0], size, weights)
    if config.name == "none" or last is None:
        return
    state, meta = wiring.restored(parts, checkpointer, last)
    if "swa" in state.average and int(state.average["swa"]["count"]) > best_count:
        name = f"SWA of {int(state.average['swa']['count'])} snapshots"
        yield Candidate(name, last, meta.image_size, judged_weights(parts, state, "swa", image_size=meta.image_size))
    for name, judged in (("last EMA", "ema"), ("last weights", "weights")):
        if judged == "weights" or judged in state.average:
            weights = judged_weights(parts, state, judged, image_size=meta.image_size)
            yield Candidate(name, last, meta.image_size, weights, eligible=False)


def _member(parts: Parts, checkpointer: checkpoint.Checkpointer, step: int) -> dict[str, Tree]:
    state, meta = wiring.restored(parts, checkpointer, step)
    return jax.tree.map(parallel.to_host, judged_weights(parts, state, meta.judged, image_size=meta.image_size))
