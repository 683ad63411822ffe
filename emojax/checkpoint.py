"""Checkpoints: save, restore, best and last, weights only. The only module that knows Orbax.

A checkpoint is a folder `WORKDIR/checkpoints/<step>`, the result of a run `WORKDIR/model/<step>`, with one item per
part of the `TrainState` and one JSON item `meta`: config, class names, data fingerprint, loop state, version, and a
digest of every array. Orbax commits it with a marker file as its last act, so a folder without the marker is never
taken for a checkpoint; the digests are there because Orbax restores a flipped bit of an array file without noticing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from emojax import paths
from emojax.checkpoint_meta import Meta, digest
from emojax.config import CheckpointConfig
from emojax.errors import CheckpointError
from emojax.types import TrainState, Tree

FOLDER = "checkpoints"
RESULT = "model"
_ITEMS = ("params", "model_state", "opt_state", "average", "teacher")

logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax logs every save; the monitor says what matters


class Checkpointer:
    """Writes and reads the checkpoints of one run."""

    def __init__(self, workdir: Path, config: CheckpointConfig) -> None:
        self._manager = _manager(workdir, keep_last=config.keep_last, keep_best=config.keep_best)
        self._folder = workdir / FOLDER

    def latest(self) -> int | None:
        """Step of the newest complete checkpoint."""
        return self._manager.latest_step()

    def best(self) -> int:
        """Step of the best checkpoint; the newest when none was ranked."""
        return self.ranked()[0]

    def ranked(self) -> list[int]:
        """Steps of all checkpoints that were ranked, best first; the newest one when none was."""
        self._manager.wait_until_finished()
        return _ranked(self._manager)

    def teacher_at(self, step: int) -> bool:
        """Whether checkpoint `step` holds a teacher."""
        return any(path.startswith("teacher/") for path in self.meta(step).digests)

    def meta(self, step: int) -> Meta:
        """What checkpoint `step` says about itself."""
        return read_meta(self._manager, step, self._folder)

    def save(self, state: TrainState, meta: Meta, *, rank: float) -> None:
        """Writes a checkpoint of `state` in the background.

        Args:
          state: the arrays are copied before this returns, so that the next step may reuse their memory.
          meta: what it says about itself; digests and shapes are filled in here.
          rank: what makes a checkpoint the best one: the largest finite rank, the earliest of equals; -inf = no claim.

        Raises:
          CheckpointError: the checkpoint was not written.
        """
        items = {name: getattr(state, name) for name in _ITEMS}
        _save(self._manager, int(state.step), items, meta, rank=rank, folder=self._folder)

    def restore(self, state: TrainState, step: int) -> tuple[TrainState, Meta]:
        """Reads checkpoint `step` into arrays placed like those of `state`; verifies every digest."""
        meta = read_meta(self._manager, step, self._folder)
        target = {name: getattr(state, name) for name in _ITEMS if jax.tree.leaves(getattr(state, name))}
        items = _restore(self._manager, step, target, meta, self._folder)
        # As an update of the given step: keeps its type and place on the mesh.
        count = jax.device_put(np.asarray(step, state.step.dtype), state.step.sharding)
        return dataclasses.replace(state, step=count, **items), meta

    def close(self) -> None:
        """Waits for writes under way."""
        try:
            self._manager.wait_until_finished()
        finally:
            self._manager.close()


def save_result(workdir: Path, step: int, weights: dict[str, Tree], meta: Meta) -> None:
    """Writes the weights that a run ends with, {"params": ..., "model_state": ...}, to WORKDIR/model, in place of
    earlier ones; returns when they are on disk. Raises `CheckpointError` when that fails."""
    with contextlib.closing(_manager(workdir, folder=RESULT)) as manager:
        for old in manager.all_steps():
            manager.delete(old)
        _save(manager, step, weights, meta, rank=0.0, folder=workdir / RESULT)
        try:
            manager.wait_until_finished()
        except Exception as error:
            raise CheckpointError(f"{workdir / RESULT}: the result could not be written: {error}") from error


def _save(
    manager: ocp.CheckpointManager, step: int, items: dict[str, Tree], meta: Meta, *, rank: float, folder: Path
) -> None:
    items = {name: tree for name, tree in items.items() if jax.tree.leaves(tree)}
    leaves = paths.flatten(items)
    meta = dataclasses.replace(
        meta,
        digests={path: digest(x) for path, x in leaves.items()},
        shapes={path: list(x.shape) for path, x in leaves.items()},
    )
    args = ocp.args.Composite(
        meta=ocp.args.JsonSave(meta.to_json()),
        **{name: ocp.args.StandardSave(tree) for name, tree in items.items()},
    )
    metrics = {"rank": rank if math.isfinite(rank) else -1e300}
    try:
        saved = manager.save(step, args=args, metrics=metrics | {"step": step})
    except Exception as error:
        raise CheckpointError(f"{folder}: checkpoint {step} could not be written: {error}") from error
    if not saved:  # Orbax says no silently, for example when the step exists
        raise CheckpointError(f"{folder}: checkpoint {step} was refused; is there a newer one already?")


def kept_steps(workdir: Path) -> list[int]:
    """Steps of the checkpoints that a run keeps because they were judged well, best first. Raises `CheckpointError`
    where there is none."""
    folder = workdir / FOLDER
    if not folder.is_dir():
        raise CheckpointError(f"{workdir} holds no checkpoints; is it the --workdir of a training run?")
    with contextlib.closing(_manager(workdir, read_only=True)) as manager:
        if not (steps := _ranked(manager)):
            raise CheckpointError(f"{folder} holds no complete checkpoint; the run was stopped before its first one")
        return steps


def load_weights(workdir: Path, *, which: str) -> tuple[int, Meta, Any]:
    """Opens a run's checkpoint for prediction.

    Args:
      workdir: of a training run.
      which: "best" (the result of a finished run, else the best checkpoint so far), "last", or a step.

    Returns:
      (step, meta, read) where `read(like)` takes {"params": ..., "model_state": ...} of shapes and returns such a tree
      of arrays: those that were judged, the running average for example.

    Raises:
      CheckpointError: there is none, or it is damaged.
    """
    folder, manager = workdir / FOLDER, None
    if not folder.is_dir() and not (workdir / RESULT).is_dir():
        raise CheckpointError(f"{workdir} holds no checkpoints; is it the --workdir of a training run?")
    folders = [RESULT, FOLDER] if which == "best" else [FOLDER]
    steps: list[int] = []
    for name in folders:  # a result that was being written when the run was killed has no complete step
        if not steps and (workdir / name).is_dir():
            folder, manager = workdir / name, _manager(workdir, folder=name, read_only=True)
            steps = list(manager.all_steps())
    if manager is None or not steps:
        raise CheckpointError(f"{folder} holds no complete checkpoint; the run was stopped before its first one")
    if which == "best":
        step = _ranked(manager)[0]
    elif which == "last":
        step = max(steps)
    elif which.isdecimal():
        step = int(which)
    else:
        raise CheckpointError(f"expected the checkpoint best, last or a step, found {which!r}")
    if step not in steps:
        raise CheckpointError(f"{folder} has no checkpoint {step}; there are {', '.join(map(str, sorted(steps)))}")
    meta = read_meta(manager, step, folder)

    def read(like: dict[str, Tree]) -> dict[str, Tree]:
        judged, target = meta.judged, {name: tree for name, tree in like.items() if jax.tree.leaves(tree)}
        if judged == "weights":
            found = _restore(manager, step, target, meta, folder)
        else:  # the averages are one item, which Orbax restores as a whole
            whole = {path: shape for path, shape in meta.shapes.items() if path.startswith("average/")}
            found = _restore(manager, step, {"average": _averages(whole, like)}, meta, folder)["average"][judged]
        return {name: found.get(name, {}) for name in like}

    return step, meta, read


def _averages(shapes: dict[str, list[int]], like: dict[str, Tree]) -> Tree:
    """Shapes of the item `average` as it was saved: every average has the shape of the weights."""
    names = {path.split("/")[1] for path in shapes}
    tree: dict[str, Any] = {name: dict(like) for name in names}
    for name in names:
        if f"average/{name}/count" in shapes:
            tree[name]["count"] = jax.ShapeDtypeStruct((), np.int32)
    return tree


def _ranked(manager: ocp.CheckpointManager) -> list[int]:
    """Steps of the ranked checkpoints that are kept, best first; the newest one when none was ever ranked."""
    steps = sorted(manager.all_steps(), key=lambda step: _rank(manager.metrics(step)), reverse=True)
    found = [step for step in steps if _rank(manager.metrics(step))[0] > -1e300]
    return found or steps[:1]


def _rank(metrics: Any) -> Any:
    """Sort key of a checkpoint, (rank, tie-break): the metric, and the earlier of equals."""
    if not metrics:
        return (-math.inf, 0)
    rank = float(metrics["rank"])
    # Unranked checkpoints among themselves: the newest.
    return (rank, int(metrics["step"]) if rank == -1e300 else -int(metrics["step"]))


def _manager(
    workdir: Path, *, folder: str = FOLDER, keep_last: int = 1, keep_best: int = 1, read_only: bool = False
) -> ocp.CheckpointManager:
    best = policies.BestN(get_metric_fn=_rank, n=keep_best, keep_checkpoints_without_metrics=False)
    options = ocp.CheckpointManagerOptions(
        best_fn=lambda metrics: _rank(metrics)[0],
        preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(keep_last), best]),
        cleanup_tmp_directories=not read_only,
        read_only=read_only,
        # The default trusts any folder with a number for a name; a commit marker is proof.
        atomicity_options=ocp.options.AtomicityOptions(mode=ocp.options.AtomicityMode.COMMIT_FILE),
    )
    handlers = {name: ocp.StandardCheckpointHandler() for name in _ITEMS} | {"meta": ocp.JsonCheckpointHandler()}
    return ocp.CheckpointManager((workdir / folder).resolve(), options=options, item_handlers=handlers)


def read_meta(manager: ocp.CheckpointManager, step: int, folder: Path) -> Meta:
    """The JSON part of a checkpoint."""
    try:
        values = manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]
        return Meta.from_json(values, f"{folder / str(step)}")
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(
            f"{folder / str(step)} is damaged: its description cannot be read ({_brief(error)})"
        ) from error


def _restore(
    manager: ocp.CheckpointManager, step: int, target: dict[str, Tree], meta: Meta, folder: Path
) -> dict[str, Tree]:
    where = folder / str(step)
    _check_shapes(target, meta, where)
    try:
        args = {name: ocp.args.StandardRestore(jax.tree.map(_abstract, tree)) for name, tree in target.items()}
        found = manager.restore(step, args=ocp.args.Composite(**args))
    except Exception as error:
        raise CheckpointError(f"{where} is damaged or does not fit: {_brief(error)}") from error
    items = {name: found[name] for name in target}
    for path, x in paths.flatten(items).items():
        if digest(x) != meta.digests.get(path):
            raise CheckpointError(
                f"{where} is damaged: {path} differs from what was saved. Remove that folder to go on "
                "from an older checkpoint"
            )
    return items


def _check_shapes(target: dict[str, Tree], meta: Meta, where: Path) -> None:
    """Says in words where a checkpoint is of another model, before Orbax says it in its own."""
    wanted = paths.flatten(target)
    saved = {path for path in meta.digests if path.split("/")[0] in target}
    missing, extra = sorted(set(wanted) - saved), sorted(saved - set(wanted))
    if missing or extra:
        shown = [f"not in the checkpoint: {p}" for p in missing[:3]] + [
            f"only in the checkpoint: {p}" for p in extra[:3]
        ]
        raise CheckpointError(f"{where} is of another model or optimizer: " + "; ".join(shown))
    for path, leaf in sorted(wanted.items(), key=lambda item: _ITEMS.index(item[0].split("/")[0])):
        shape = tuple(meta.shapes[path])
        if shape != tuple(leaf.shape):
            raise CheckpointError(
                f"{where} is of another model: {path} has shape {shape} there, {tuple(leaf.shape)} here"
            )


def _abstract(x: Any) -> jax.ShapeDtypeStruct:
    sharding = getattr(x, "sharding", None) or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)


def _brief(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}"
