"""Weights for timm or torchvision, as safetensors; read back by the library itself where it is installed."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from emojax import models
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
    import jax
    from safetensors import numpy as safetensors

    state = safetensors.load_file(path)
    if "pos_embed" in state:  # resized for the other library; what reads it back has the whole grid
        state["pos_embed"] = np.asarray(stored.weights["params"]["stem"]["position"])
    params, model_state = stored.model.from_torch(state)
    if not stored.meta.config.model.layer_scale:
        params = _without(params, "gamma")
    call = jax.jit(lambda images: stored.model.apply(params, model_state, images, train=False)[0].logits)
    return lambda images: np.asarray(call(images))


def _without(tree: Any, name: str) -> Any:
    return {k: _without(v, name) for k, v in tree.items() if k != name} if isinstance(tree, dict) else tree
