"""Work directories with a model in them that nobody has trained, in a second."""

import json
from pathlib import Path

import jax
import numpy as np
from tiny import config

from emojax import checkpoint, models, parallel
from emojax.checkpoint_meta import Meta
from emojax.config import EvalConfig, ModelConfig, StageConfig

NAMES = ("blue", "green", "red")
SMALL = ModelConfig(name="convnext_atto", depths=(1, 1), widths=(8, 16))


def make(
    folder: Path,
    *,
    model: ModelConfig = SMALL,
    size: int = 16,
    views: str = "flip",
    data: Path | str = "",
    spread: float = 0.05,
) -> Path:
    """WORKDIR with random weights that are not near 0, as a finished run leaves them: those of the start, and normal
    noise of the deviation `spread`."""
    settings = config(
        data or "nowhere", model=model, image_size=size, eval=EvalConfig(views=views), stages=(StageConfig(),)
    )
    network = models.build(model, len(NAMES))
    rng = np.random.default_rng(0)
    params, state = network.init(jax.random.key(0), size)
    params = jax.tree.map(lambda a: np.asarray(a) + spread * rng.standard_normal(a.shape, np.float32), params)
    state = jax.tree.map(lambda a: np.asarray(a) + rng.uniform(0, 0.1, a.shape).astype(np.float32), state)
    meta = Meta(config=settings, class_names=NAMES, image_size=size, fingerprint="x", loop={})
    with parallel.mesh() as mesh:
        weights = parallel.replicate(mesh, {"params": params, "model_state": state})
        checkpoint.save_result(folder, 7, weights, meta)
    report = {"n": 12, "views": views, "step": 7, "accuracy": 0.75, "intervals": {"accuracy": [0.5, 1.0]}}
    (folder / "report").mkdir()
    (folder / "report" / "val.json").write_text(json.dumps(report))
    return folder


def pictures(size: int = 20, count: int = 5) -> list[np.ndarray]:
    return list(np.random.default_rng(1).integers(0, 256, (count, size, size, 3), np.uint8))
