"""Inference with torch eager, and with onnxruntime on the same model exported: uint8 pictures in, probabilities out."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import bench_peer_models as models
import torch  # pyright: ignore[reportMissingImports]
from bench_protocol import Job


def variants(options: dict[str, Any]) -> list[str]:
    return [*models.VARIANTS, *models.ROUNDED] if options["engine"] == "torch" else ["float32"]


def prepare(options: dict[str, Any], variant: str) -> Job:
    """options: `model`, `size`, `batch`, `engine` (torch or onnxruntime)."""
    model, form = models.create(options["model"], variant)
    dtype = next(model.parameters()).dtype
    whole = torch.nn.Sequential(models.Normalise(dtype), model, torch.nn.Softmax(dim=-1)).eval()
    image = models.images(options, form)
    info = {"parameters": models.parameters(model), "weights": str(dtype).removeprefix("torch.")}
    if options["engine"] == "onnxruntime":
        predict = _onnxruntime(whole, image)
    else:

        def predict() -> None:
            with torch.inference_mode(), models.autocast(variant):
                whole(image).float().numpy()

    def seconds(n: int) -> float:
        began = time.perf_counter()
        for _ in range(n):
            predict()
        return time.perf_counter() - began

    return Job(seconds, options["batch"], info)


def _onnxruntime(whole: Any, image: Any) -> Any:
    import onnxruntime  # pyright: ignore[reportMissingImports]

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        torch.onnx.export(whole, (image,), file, input_names=["image"], output_names=["probs"], dynamo=True)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    host = image.numpy()
    return lambda: session.run(None, {"image": host})
