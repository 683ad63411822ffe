"""A trained model as it lies on disk, in the work directory of its run or in a bundle: one door to both."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax

from emojax import bundle, decision as decision_lib, models, paths, validate
from emojax.checkpoint_meta import Meta
from emojax.decision import Decision
from emojax.errors import CheckpointError, DamagedError, EmojaxError
from emojax.types import Tree


@dataclasses.dataclass(frozen=True, slots=True)
class Stored:
    """A trained model as it was stored.

    Attributes:
      path: the work directory or the bundle.
      step: update from which the weights are.
      meta: what the weights are; of a bundle's, `digests` are those of its arrays.
      model: the network.
      weights: {"params": ..., "model_state": ...}, float32.
      calibration: what `emojax calibrate` has stored, as `decision.parse` takes it; None = nothing.
      manifest: of a bundle; {} for a work directory.
    """

    path: Path
    step: int
    meta: Meta
    model: models.Model
    weights: dict[str, Tree]
    calibration: Any
    manifest: dict[str, Any]

    def decision(self, views: str) -> tuple[Decision | None, str]:
        """What is stored for these weights and views, see `decision.parse`."""
        return decision_lib.parse(
            self.calibration,
            self.path,
            class_names=self.meta.class_names,
            weights=decision_lib.weights_digest(self.meta.digests),
            views=views,
        )


def read(path: str | Path, *, which: str = "best") -> Stored:
    """Opens a work directory or a bundle (folder or zip file).

    Raises `CheckpointError` when there is no usable model, when `which` names a checkpoint of a bundle, which holds one
    model alone, or when a bundle is damaged, of a newer version or not what it says.
    """
    path = Path(path)
    if bundle.is_bundle(path):
        if which != "best":
            raise CheckpointError(f"{path} is a bundle, which holds one model; --which={which} asks for a checkpoint")
        return _of_bundle(path)
    from emojax import checkpoint  # Orbax, which no bundle needs and which takes half a second

    step, meta, load = checkpoint.load_weights(path, which=which)
    model = models.build(meta.config.model, len(meta.class_names))
    weights = load(_like(model, meta.image_size))
    return Stored(path, step, meta, model, weights, decision_lib.stored(path), {})


def _of_bundle(path: Path) -> Stored:
    reader = bundle.Reader(path)
    meta, arrays = reader.meta(), reader.weights()
    bundle.plausible(meta, len(arrays), path)
    try:
        validate.check_knobs(meta.config)
        model = models.build(meta.config.model, len(meta.class_names))
        like = _like(model, meta.image_size)
    except EmojaxError as error:
        raise DamagedError(f"{path}: {error}") from error
    except (TypeError, ValueError, ZeroDivisionError, OverflowError, MemoryError) as error:
        raise DamagedError(f"{path}: its config describes no network: {error}") from error
    found = bundle.merge(arrays, {name: leaf.shape for name, leaf in paths.flatten(like).items()}, path)
    weights = paths.map_with_path(lambda name, _: found[name], like)
    step = reader.manifest.get("step")
    if type(step) is not int:
        raise DamagedError(f"{path}: expected the number of an update as step, found {step!r}")
    reader.file(bundle.CARD)  # a bundle whose card has changed is damaged, too
    return Stored(path, step, meta, model, weights, reader.manifest.get("calibration"), reader.manifest)


def _like(model: models.Model, image_size: int) -> dict[str, Tree]:
    params, model_state = jax.eval_shape(lambda: model.init(jax.random.key(0), image_size))
    return {"params": params, "model_state": model_state}
