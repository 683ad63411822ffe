"""The first step of a training script with timm and torch: prints a line when it is done."""

from __future__ import annotations

import argparse
import json

import bench_peer_models as models
import torch  # pyright: ignore[reportMissingImports]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    options = vars(parser.parse_args())
    model, form = models.create(options["model"], "float32, contiguous")
    image = models.images(options, form)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05, fused=True)
    target = torch.arange(options["batch"]) % models.CLASSES
    torch.nn.functional.cross_entropy(model(models.Normalise()(image)), target).backward()
    optimizer.step()
    print(json.dumps({"step": 1}), flush=True)


if __name__ == "__main__":
    main()
