"""Checkpoints: save, restore, best and last, weights only. The only module that knows Orbax.

A checkpoint is a folder `WORKDIR/checkpoints/<step>` with one item per part of the `TrainState` and one JSON item
`meta`: config, class names, data fingerprint, loop state, version, and a digest of every array. Orbax commits it with a
marker file as its last act, so a folder without the marker is never taken for a checkpoint; the digests are there
because Orbax restores a flipped bit of an array file without noticing.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import math
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from emojax import __version__, config_json, paths
from emojax.config import CheckpointConfig, Config
from emojax.errors import CheckpointError
from emojax.types import TrainState, Tree

FOLDER = "checkpoints"
_ITEMS = ("params", "model_state", "opt_state", "average")

logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax logs every save; the monitor says what matters


@dataclasses.dataclass(frozen=True, slots=True)
class Meta:
    """What a checkpoint says about itself, besides arrays.

    Attributes:
      config: the resolved config of the run.
      class_names: in label order.
      image_size: side of the images at this step, pixels.
      fingerprint: digest of the data order (ids, labels, batch size, seed).
      loop: the training loop's own variables (best value so far, evaluations without improvement, ...).
      digests: array path → digest of dtype, shape and bytes; filled in by `save`.
      shapes: array path → shape; filled in by `save`.
      version: emojax version that wrote it.
    """

    config: Config
    class_names: tuple[str, ...]
    image_size: int
    fingerprint: str
    loop: dict[str, Any]
    digests: dict[str, str] = dataclasses.field(default_factory=dict)
    shapes: dict[str, list[int]] = dataclasses.field(default_factory=dict)
    version: str = __version__

    def to_json(self) -> dict[str, Any]:
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return values | {"config": config_json.to_json(self.config), "class_names": list(self.class_names)}

    @classmethod
    def from_json(cls, values: dict[str, Any], where: str) -> Meta:
        config = config_json.from_json(values["config"], where=f"{where}: config")
        return cls(**(values | {"config": config, "class_names": tuple(values["class_names"])}))


def digest(x: Any) -> str:
    """128 bits over dtype, shape and bytes of an array."""
    host = np.ascontiguousarray(jax.device_get(x))
    total = hashlib.sha256(f"{host.dtype.str}{host.shape}".encode())
    total.update(host.reshape(-1).view(np.uint8).data)
    return total.hexdigest()[:32]


class Checkpointer:
    """Writes and reads the checkpoints of one run."""

    def __init__(self, workdir: Path, config: CheckpointConfig) -> None:
        self._manager = _manager(workdir, config)
        self._folder = workdir / FOLDER

    def latest(self) -> int | None:
        """Step of the newest complete checkpoint."""
        return self._manager.latest_step()

    def best(self) -> int:
        """Step of the best checkpoint; the newest when none was ranked."""
        self._manager.wait_until_finished()
        return _best_step(self._manager)

    def save(self, state: TrainState, meta: Meta, *, rank: float) -> None:
        """Writes a checkpoint of `state` in the background.

        Args:
          state: the arrays are copied before this returns, so that the next step may reuse their memory.
          meta: what it says about itself; digests and shapes are filled in here.
          rank: what makes a checkpoint the best one: the largest finite rank, the earliest of equals; -inf = no claim.

        Raises:
          CheckpointError: the checkpoint was not written.
        """
        step = int(state.step)
        items = {name: getattr(state, name) for name in _ITEMS if jax.tree.leaves(getattr(state, name))}
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
            saved = self._manager.save(step, args=args, metrics=metrics | {"step": step})
        except Exception as error:
            raise CheckpointError(f"{self._folder}: checkpoint {step} could not be written: {error}") from error
        if not saved:  # Orbax says no silently, for example when the step exists
            raise CheckpointError(f"{self._folder}: checkpoint {step} was refused; is there a newer one already?")

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


def load_weights(workdir: Path, *, which: str) -> tuple[int, Meta, Any]:
    """Opens a run's checkpoint for prediction.

    Args:
      workdir: of a training run.
      which: "best", "last", or a step.

    Returns:
      (step, meta, read) where `read(like)` takes {"params": ..., "model_state": ...} of shapes and returns such a tree
      of arrays: the running average when the run kept one, else the weights.

    Raises:
      CheckpointError: there is none, or it is damaged.
    """
    folder = workdir / FOLDER
    if not folder.is_dir():
        raise CheckpointError(f"{workdir} holds no checkpoints; is it the --workdir of a training run?")
    manager = _manager(workdir, CheckpointConfig(), read_only=True)
    steps = list(manager.all_steps())
    if not steps:
        raise CheckpointError(f"{folder} holds no complete checkpoint; the run was stopped before its first one")
    if which == "best":
        step = _best_step(manager)
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
        averaged = any(path.startswith("average/") for path in meta.digests)
        target = {name: tree for name, tree in like.items() if jax.tree.leaves(tree)}
        if averaged:
            found = _restore(manager, step, {"average": like}, meta, folder)["average"]
        else:
            found = _restore(manager, step, target, meta, folder)
        return {name: found.get(name, {}) for name in like}

    return step, meta, read


def _best_step(manager: ocp.CheckpointManager) -> int:
    """Step of the best checkpoint that is kept; the newest when none was ever ranked."""
    steps = manager.all_steps()
    ranks = {step: _rank(manager.metrics(step)) for step in steps}
    return max(steps, key=lambda step: ranks[step])


def _rank(metrics: Any) -> Any:
    """Sort key of a checkpoint, (rank, tie-break): the metric, and the earlier of equals."""
    if not metrics:
        return (-math.inf, 0)
    rank = float(metrics["rank"])
    # Unranked checkpoints among themselves: the newest.
    return (rank, int(metrics["step"]) if rank == -1e300 else -int(metrics["step"]))


def _manager(workdir: Path, config: CheckpointConfig, *, read_only: bool = False) -> ocp.CheckpointManager:
    best = policies.BestN(get_metric_fn=_rank, n=1, keep_checkpoints_without_metrics=False)
    options = ocp.CheckpointManagerOptions(
        best_fn=lambda metrics: _rank(metrics)[0],
        preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(config.keep_last), best]),
        cleanup_tmp_directories=not read_only,
        read_only=read_only,
        # The default trusts any folder with a number for a name; a commit marker is proof.
        atomicity_options=ocp.options.AtomicityOptions(mode=ocp.options.AtomicityMode.COMMIT_FILE),
    )
    handlers = {name: ocp.StandardCheckpointHandler() for name in _ITEMS} | {"meta": ocp.JsonCheckpointHandler()}
    return ocp.CheckpointManager((workdir / FOLDER).resolve(), options=options, item_handlers=handlers)


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
