"""A plain training loop with timm and torch: AdamW, cross-entropy, autocast; the faster of its fused and foreach."""

from __future__ import annotations

import time
from typing import Any

import bench_peer_models as models
import torch  # pyright: ignore[reportMissingImports]
from bench_protocol import Job


def variants(options: dict[str, Any]) -> list[str]:
    del options
    return list(models.VARIANTS)


def prepare(options: dict[str, Any], variant: str) -> Job:
    model, form = models.create(options["model"], variant)
    model.train()
    normalise = models.Normalise()
    image = models.images(options, form)
    target = torch.arange(options["batch"]) % models.CLASSES
    loss_function = torch.nn.CrossEntropyLoss()
    flavour = faster_adamw(model)
    optimizer = adamw(model, flavour)

    def seconds(n: int) -> float:
        began = time.perf_counter()
        for _ in range(n):
            with models.autocast(variant):
                loss = loss_function(model(normalise(image)), target)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        return time.perf_counter() - began

    counts = {"parameters": models.parameters(model), "torchvision": models.torchvision_parameters(options["model"])}
    return Job(seconds, options["batch"], {**counts, "optimizer": f"{flavour} AdamW"})


def adamw(model: Any, flavour: str) -> Any:
    return torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05, **{flavour: True})


def faster_adamw(model: Any) -> str:
    """The implementation that updates this model's parameters faster; leaves them as they are."""

    def seconds(flavour: str) -> float:
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, weight_decay=0.0, **{flavour: True})
        times = []
        for _ in range(4):
            began = time.perf_counter()
            optimizer.step()
            times.append(time.perf_counter() - began)
        return min(times[1:])

    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    found = min(("fused", "foreach"), key=seconds)
    model.zero_grad(set_to_none=True)
    return found
