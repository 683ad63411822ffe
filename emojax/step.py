"""The maths of one training step. Pure: the model, loss, optimizer and average come in as functions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from emojax import paths
from emojax.types import Batch, ModelOutput, TrainState, Tree

Apply = Callable[..., tuple[ModelOutput, Tree]]
"""(params, model_state, image, *, train, key) → (output, new model_state)."""
Step = Callable[[TrainState, Any, Batch, Array], tuple[TrainState, Any]]
"""(state, metrics so far, batch, run key) → (state after one update, metrics with this batch merged in)."""


class Seen(NamedTuple):
    """What the objective looks at.

    `output` is of the network that learns, `mirrored` the same of the mirrored images, `taught` of the teacher, or
    None. `label` [B, K] and `weight` [B] as in `Batch`; `target` [B, K] are the rows of `TrainState.memory`, or None;
    `step` counts updates done.
    """

    output: ModelOutput
    mirrored: Any
    taught: Any
    label: Array
    weight: Array
    target: Any
    step: Array


class Judged(NamedTuple):
    """What the objective finds: (loss [B], weight [B]) of every network, whose weighted means are summed, and the new
    rows of the memory, or None."""

    terms: tuple[tuple[Array, Array], ...]
    target: Any = None


Objective = Callable[[Seen], Judged]


def weighted_mean(value: Float[Array, " B"], weight: Float[Array, " B"]) -> Float[Array, ""]:
    """sum(weight value) / sum(weight); 0 when all weights are 0. The one place where examples are averaged."""
    return jnp.sum(weight * value) / jnp.maximum(jnp.sum(weight), 1e-9)


def make(
    *,
    apply: Apply,
    preprocess: Callable[[Array], Array],
    objective: Objective,
    teach: bool,
    mirror: bool,
    perturb: Callable[[Tree, Tree], Tree] | None,
    tx: optax.GradientTransformationExtraArgs,
    average: Callable[[Tree, Tree, Tree, Array], Tree],
    rate: Callable[[Array], Array],
    metrics: Any,
    frozen: str,
    accumulate: int,
) -> Step:
    """Builds the training step of one stage; the caller jits it.

    Args:
      apply: the model; in training it leaves statistics that are frozen as they are.
      preprocess: uint8 images → model input.
      objective: what is minimised.
      teach: whether the teacher of the state is asked.
      mirror: whether the mirrored images go through the network too; with BatchNorm, as one batch of both.
      perturb: (params, gradient) → the point whose gradient is used instead (sharpness-aware minimisation), or None.
      tx: the optax chain; with accumulate > 1, a `MultiSteps` that emits on the last micro-batch.
      average: how `TrainState.average` follows the weights.
      rate: updates done → learning rate of the next one; handed to `tx` with the state's factor on it.
      metrics: `train_metrics.TrainMetrics`.
      frozen: regex over paths of parameters without gradient (the chain keeps them as they are).
      accumulate: micro-batches per step; > 1 expects batch arrays [A, B / A, ...].
    """

    def micro_step(state: TrainState, batch: Batch, key: Array, good: Array) -> tuple[TrainState, Any, Array]:
        image = preprocess(batch.image)
        taught, memory = None, state.memory.get("target")
        # Padding has no record: beyond the end nothing is read and nothing is written.
        rows = None if memory is None else jnp.where((batch.weight > 0) & (batch.index >= 0), batch.index, len(memory))
        target = None if memory is None else memory.at[rows].get(mode="fill", fill_value=0)
        if teach:
            taught, _ = apply(state.teacher["params"], state.teacher["model_state"], image, train=False, key=None)

        def cost(params: Tree) -> tuple[Array, Any]:
            output, mirrored, model_state = _forward(apply, params, state.model_state, image, key, mirror=mirror)
            seen = Seen(output, mirrored, taught, batch.label, batch.weight, target, state.step)
            judged = objective(seen)
            value = sum((weighted_mean(*term) for term in judged.terms), start=jnp.zeros(()))
            each = sum((term[0] for term in judged.terms), start=jnp.zeros(())) / len(judged.terms)
            return value, (each, output.logits, model_state, judged.target)

        def gradient(params: Tree) -> tuple[Tree, Any]:
            grads, aux = jax.grad(cost, has_aux=True)(params)
            # Gradients nobody uses are zeroed here too, so that they are not computed and not in the logged norm.
            return (_without(grads, frozen) if frozen else grads), aux

        grads, (each, logits, model_state, found) = gradient(state.params)
        if perturb is not None:  # statistics and the logged loss stay those of the weights themselves
            grads, _ = gradient(perturb(state.params, grads))
        now = rate(state.step) * state.scale
        measured = metrics.single_from_model_output(
            loss=each,
            logits=logits,
            label=batch.label,
            weight=batch.weight,
            grad_norm=optax.tree.norm(grads),
            learning_rate=now,
        )
        # One number that is not finite would spoil weights, moments and statistics for good: such an update is left
        # out, and counted. The branch costs nothing; a `where` on every array costs a sixth of a step.
        good = good & jnp.isfinite(measured.loss.total) & jnp.isfinite(measured.grad_norm.value)

        def updated() -> tuple[Tree, Tree]:
            updates, opt_state = tx.update(grads, state.opt_state, state.params, rate=now)
            return optax.apply_updates(state.params, updates), opt_state

        params, opt_state = jax.lax.cond(good, updated, lambda: (state.params, state.opt_state))
        model_state = _where(good, model_state, state.model_state)
        state = dataclasses.replace(state, params=params, model_state=model_state, opt_state=opt_state)
        if memory is not None and found is not None:  # added, not set: a record may be twice in a batch
            moved = memory.at[rows].add(jnp.where(good, found - target, 0), mode="drop")
            state = dataclasses.replace(state, memory={"target": moved})
        return state, measured, good

    def train_step(state: TrainState, totals: Any, batch: Batch, key: Array) -> tuple[TrainState, Any]:
        key = jax.random.fold_in(key, state.step)  # randomness is a function of the step: nothing to save
        fine = jnp.ones((), bool)
        if accumulate == 1:
            new, measured, good = micro_step(state, batch, key, fine)
        else:

            def body(carry: Any, xs: Any) -> tuple[Any, None]:
                (state, measured, good), (micro, i) = carry, xs
                state, more, good = micro_step(state, micro, jax.random.fold_in(key, i), good)
                return (state, measured.merge(more), good), None

            start = (state, metrics.empty(), fine)
            (new, measured, good), _ = jax.lax.scan(body, start, (batch, jnp.arange(accumulate)))
            # After a bad micro-batch none is taken, and so not the last, which alone moves weights and moments: no copy
            # of the state before is needed to leave out the update as a whole.
            new = dataclasses.replace(
                new,
                opt_state=_none_accumulated(new.opt_state),
                model_state=_where(good, new.model_state, state.model_state),
                memory=_where(good, new.memory, state.memory),
            )
        measured = _where(good, measured, metrics.skip())
        step = state.step + 1
        following = average(state.average, new.params, new.model_state, step)
        return dataclasses.replace(new, step=step, average=following), totals.merge(measured)

    return train_step


def _forward(
    apply: Apply, params: Tree, model_state: Tree, image: Array, key: Array, *, mirror: bool
) -> tuple[ModelOutput, Any, Tree]:
    """(output, that of the mirrored images or None, new model state)."""
    if not mirror:
        output, model_state = apply(params, model_state, image, train=True, key=key)
        return output, None, model_state
    # Each image beside its mirror image, so that both are on the device where the image is.
    pairs = jnp.stack([image, image[:, :, ::-1]], axis=1).reshape(-1, *image.shape[1:])
    both, model_state = apply(params, model_state, pairs, train=True, key=key)
    return jax.tree.map(lambda x: x[0::2], both), jax.tree.map(lambda x: x[1::2], both), model_state


def _none_accumulated(opt_state: Any) -> Any:
    """The state of `optax.MultiSteps` between two updates."""
    return opt_state._replace(
        mini_step=jnp.zeros_like(opt_state.mini_step),
        acc_grads=jax.tree.map(jnp.zeros_like, opt_state.acc_grads),
    )


def _where(good: Array, new: Tree, old: Tree) -> Tree:
    return jax.tree.map(lambda a, b: jnp.where(good, a, b), new, old)


def _without(grads: Tree, frozen: str) -> Tree:
    """Zeros where the path matches `frozen`."""
    held = paths.mask(grads, frozen, knob="stages.frozen")
    return jax.tree.map(lambda hold, x: jnp.zeros_like(x) if hold else x, held, grads)
