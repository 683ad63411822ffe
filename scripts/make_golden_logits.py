"""Writes tests/golden/logits.json: logits that torchvision and timm compute for weights drawn from a fixed rule.

    python scripts/make_golden_logits.py

Needs torch, torchvision and timm, and not JAX. tests/test_parity.py draws the same weights from the names and shapes in
the file and compares emojax' logits, so that every environment tests against torch's numbers.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

MODELS = {"resnet18": 64, "resnet50": 64, "convnext_atto": 64, "convnext_nano": 64}
"""name -> image size."""
CLASSES = 7


def weights(shapes: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Random weights under torch's names; every one depends on its name and shape only.

    Norms, statistics and layer scales are all away from their starting values, and logits come out of order 1.
    """
    return {name: _weight(name, tuple(shape)) for name, shape in shapes.items()}


def _weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    noise = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    if len(shape) > 1:
        array = noise * (1.5 / np.prod(shape[1:])) ** 0.5
    elif name.endswith("gamma"):
        array = 0.3 + 0.1 * noise
    elif name.endswith("running_var"):
        array = 1.0 + 0.5 * np.tanh(noise)
    else:
        array = 0.1 * noise + 0.6 * name.endswith("weight")
    return array.astype(np.float32)


def images(size: int) -> np.ndarray:
    """Two normalised images, float32 [2, size, size, 3]."""
    return np.random.default_rng(size).standard_normal((2, size, size, 3)).astype(np.float32)


def main() -> None:
    """Computes the logits and writes the file."""
    import timm  # pyright: ignore[reportMissingImports]
    import torch  # pyright: ignore[reportMissingImports]
    import torchvision  # pyright: ignore[reportMissingImports]

    golden = {}
    for name, size in MODELS.items():
        if name.startswith("resnet"):
            net = torchvision.models.get_model(name, num_classes=CLASSES)
        else:
            net = timm.create_model(name, num_classes=CLASSES)
        shapes = {k: list(v.shape) for k, v in net.state_dict().items() if v.ndim}  # no step counters
        drawn = {key: torch.from_numpy(value) for key, value in weights(shapes).items()}
        net.load_state_dict(drawn, strict=False)
        with torch.no_grad():
            logits = net.eval()(torch.from_numpy(images(size)).permute(0, 3, 1, 2))
        golden[name] = {"size": size, "shapes": shapes, "logits": logits.double().numpy().tolist()}
        print(name, logits.numpy().round(3).tolist())
    path = Path(__file__).resolve().parent.parent / "tests" / "golden" / "logits.json"
    lines = [f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in golden.items()]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
