"""timm models for the benchmarks: precision, memory layout, and pictures as float inputs."""

from __future__ import annotations

import contextlib
from typing import Any

import timm  # pyright: ignore[reportMissingImports]
import torch  # pyright: ignore[reportMissingImports]

CLASSES = 7
PRECISIONS = ("float32", "bfloat16")
LAYOUTS = ("contiguous", "channels_last")
VARIANTS = [f"{precision}, {layout}" for precision in PRECISIONS for layout in LAYOUTS]
ROUNDED = [f"bfloat16 weights, {layout}" for layout in LAYOUTS]
"""Without autocast, all of the model in bfloat16: for inference only. "bfloat16" alone is autocast."""


def create(name: str, variant: str) -> tuple[Any, Any]:
    """(model, memory format) of a variant."""
    torch.manual_seed(0)
    form = torch.channels_last if variant.endswith("channels_last") else torch.contiguous_format
    dtype = torch.bfloat16 if variant in ROUNDED else torch.float32
    return timm.create_model(name, num_classes=CLASSES).to(dtype=dtype, memory_format=form), form


def autocast(variant: str) -> contextlib.AbstractContextManager[Any]:
    """bfloat16 autocast, or nothing."""
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=variant.partition(",")[0] == "bfloat16")


def parameters(model: Any) -> int:
    return sum(p.numel() for p in model.parameters())


def torchvision_parameters(name: str) -> int:
    """Parameters of torchvision's model of that name; 0 when it has none or is not installed."""
    try:
        import torchvision  # pyright: ignore[reportMissingImports]

        return parameters(torchvision.models.get_model(name, num_classes=CLASSES))
    except (ImportError, ValueError):
        return 0


class Normalise(torch.nn.Module):
    """uint8 [B, 3, H, W] -> `dtype`, by ImageNet's mean and standard deviation: as timm's loader does it."""

    def __init__(self, dtype: Any = torch.float32) -> None:
        super().__init__()
        self.dtype = dtype
        self.register_buffer("mean", 255 * torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

    def forward(self, image: Any) -> Any:
        return image.float().sub_(self.mean).div_(self.std).to(self.dtype)


def images(options: dict[str, Any], form: Any) -> Any:
    """A batch of noise, uint8 [B, 3, H, W]."""
    shape = (options["batch"], 3, options["size"], options["size"])
    noise = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return noise.contiguous(memory_format=form)
