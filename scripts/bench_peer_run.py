"""A whole training run as a plain PyTorch script: the model and transforms of configs/fer2013_15min.py, for one epoch.

    PEER_PYTHON scripts/bench_peer_run.py --data=FOLDER --out=FILE.pt --workers=2 --precision=bfloat16

FOLDER holds train.parquet and val.parquet. Trains with SGD and cosine decay, evaluates on val, saves, and prints one
line of JSON. Imports stand at the top, as they do in scripts.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import bench_peer_models as models
import bench_peer_pipeline as pipeline
import torch  # pyright: ignore[reportMissingImports]
from bench_works import FACES, FER_NETWORK, FER_TRAINING, WARM_UP_EPOCHS
from torch import nn  # pyright: ignore[reportMissingImports]
from torchvision.models.resnet import BasicBlock  # pyright: ignore[reportMissingImports]
from torchvision.transforms import v2  # pyright: ignore[reportMissingImports]


def network() -> nn.Sequential:
    """The ResNet of the recipe: stem 3x3 with stride 2, basic blocks, dropout before the last layer."""
    depths, widths = FER_NETWORK["depths"], FER_NETWORK["widths"]
    width = widths[0]
    parts: list[Any] = [
        models.Normalise(),
        nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    ]
    for i, (depth, out) in enumerate(zip(depths, widths, strict=True)):
        for j in range(depth):
            stride = 2 if i and j == 0 else 1
            shortcut = None
            if width != out:
                shortcut = nn.Sequential(nn.Conv2d(width, out, 1, stride, bias=False), nn.BatchNorm2d(out))
            parts.append(BasicBlock(width, out, stride, shortcut))
            width = out
    return nn.Sequential(
        *parts,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(FER_NETWORK["dropout"]),
        nn.Linear(width, models.CLASSES),
    )


def learning_rate(step: int, total: int) -> float:
    """Factor on the peak: linear warm-up, cosine to 0."""
    warm = max(1, round(WARM_UP_EPOCHS * total))
    return (step + 1) / warm if step < warm else 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))


def train(model: Any, batches: Any, precision: str) -> float:
    """One epoch; returns the share of its time that waited for data."""
    peak, decay = FER_TRAINING["learning_rate"], FER_TRAINING["weight_decay"]
    optimizer = torch.optim.SGD(model.parameters(), peak, momentum=0.9, weight_decay=decay, nesterov=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate(step, len(batches)))
    loss_function = nn.CrossEntropyLoss(label_smoothing=FER_TRAINING["smoothing"])
    model.train()
    waited, began = 0.0, time.perf_counter()
    iterator = iter(batches)
    for _ in range(len(batches)):
        before = time.perf_counter()
        image, target = next(iterator)
        waited += time.perf_counter() - before
        with models.autocast(precision):
            loss = loss_function(model(image), target)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    return waited / (time.perf_counter() - began)


def accuracy(model: Any, batches: Any, precision: str) -> float:
    model.eval()
    right = count = 0
    with torch.inference_mode(), models.autocast(precision):
        for image, target in batches:
            right += int((model(image).argmax(1) == target).sum())
            count += len(target)
    return right / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--precision", choices=models.PRECISIONS, default="float32")
    options = parser.parse_args()
    torch.manual_seed(0)
    transform = pipeline.transforms(FACES, "PIL")
    train_data = pipeline.Faces(options.data / "train.parquet", transform, "PIL")
    val_data = pipeline.Faces(options.data / "val.parquet", v2.PILToTensor(), "PIL")
    model = network().to(memory_format=torch.channels_last)
    wait = train(model, pipeline.loader(train_data, FACES["batch"], options.workers), options.precision)
    found = accuracy(model, pipeline.loader(val_data, 256, options.workers, train=False), options.precision)
    torch.save(model.state_dict(), options.out)
    print(json.dumps({"parameters": models.parameters(model), "accuracy": round(found, 4), "data_wait": wait}))


if __name__ == "__main__":
    main()
