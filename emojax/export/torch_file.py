"""Weights for timm or torchvision, as safetensors; read back by the library itself where it is installed."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from emojax import models
from emojax.errors import ExportError
from emojax.models import vit
from emojax.stored import Stored


def write(path: Path, stored: Stored) -> models.Target:
    """Writes the weights under the other library's names. Raises `ConfigError` where it has no such network."""
    from safetensors import numpy as safetensors

    config, weights = stored.meta.config.model, stored.weights
    state, target = models.to_torch(
        config, weights["params"], weights["model_state"], image_size=stored.meta.image_size
    )
    path.write_bytes(safetensors.save(state, metadata={"format": "pt", "library": target.library, "name": target.name}))
    return target


def read(path: Path, stored: Stored, target: models.Target) -> tuple[Callable[[np.ndarray], np.ndarray], str]:
    """(normalised images float32 [B, S, S, 3] -> logits [B, K], by what): the other library where it is installed, else
    our own network with the weights as the file has them."""
    classes = len(stored.meta.class_names)
    try:
        torch, library = importlib.import_module("torch"), importlib.import_module(target.library)
    except ImportError:
        return _by_ourselves(path, stored), "our own import rules"
    if target.library == "timm":
        net = library.create_model(target.name, checkpoint_path=str(path), num_classes=classes, **target.arguments)
    else:
        net = library.models.get_model(target.name, num_classes=classes)
        state = importlib.import_module("safetensors.torch").load_file(path)
        net.load_state_dict(state)
    net.train(False)

    def run(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return net(torch.from_numpy(images.copy()).permute(0, 3, 1, 2)).numpy()

    return run, f"{target.library} {library.__version__}"


def _by_ourselves(path: Path, stored: Stored) -> Callable[[np.ndarray], np.ndarray]:
    from safetensors import numpy as safetensors

    state = safetensors.load_file(path)
    if "pos_embed" in state:  # resized for the other library; what reads it back has the whole grid
        state["pos_embed"] = _whole_grid(state["pos_embed"])
    params, model_state = stored.model.from_torch(state)
    if not stored.meta.config.model.layer_scale:
        params = _without(params, "gamma")
    call = jax.jit(lambda images: stored.model.apply(params, model_state, images, train=False)[0].logits)
    return lambda images: np.asarray(call(images))


def _whole_grid(position: np.ndarray) -> np.ndarray:
    """Positions of our grid that `vit.resize_positions` makes the given ones of: it is linear, so that they are a
    solution of a system of equations. Raises `ExportError` when there are none."""
    side, size = math.isqrt(position.shape[1] - 1), vit.GRID**2
    if side == vit.GRID:
        return position
    unit = jnp.asarray(np.eye(1 + size, size, -1, dtype=np.float32)[None])
    matrix = np.asarray(vit.resize_positions(unit, side, side), np.float64)[0, 1:]
    given = np.asarray(position[0, 1:], np.float64)
    grid = np.linalg.pinv(matrix) @ given
    if not np.abs(matrix @ grid - given).max() < 1e-5 * max(1.0, np.abs(given).max()):
        raise ExportError("pos_embed as it was written comes of no grid of positions, so nothing was written")
    return np.concatenate([position[:, :1], grid[None].astype(np.float32)], 1)


def _without(tree: Any, name: str) -> Any:
    return {k: _without(v, name) for k, v in tree.items() if k != name} if isinstance(tree, dict) else tree
