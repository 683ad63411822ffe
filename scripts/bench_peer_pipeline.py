"""The peer's training pipeline: torchvision's v2 transforms in a DataLoader, on the same files and up to the same
uint8 batches. Pictures are PIL's until the end, or tensors from the start; the faster is measured.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch  # pyright: ignore[reportMissingImports]
import torchvision  # pyright: ignore[reportMissingImports]
from bench_protocol import Job, Span
from PIL import Image
from torchvision.transforms import v2  # pyright: ignore[reportMissingImports]

MEAN = [124, 116, 104]


def variants(options: dict[str, Any]) -> list[str]:
    del options
    return ["PIL", "tensors"]


def prepare(options: dict[str, Any], variant: str) -> Job:
    """options: as for bench_ours_pipeline.prepare, and `pictures` (jpeg or faces)."""
    torch.manual_seed(0)
    transform = transforms(options, variant)
    path = Path(options["path"])
    data = jpegs(path / "train", transform, variant) if options["pictures"] == "jpeg" else None
    data = data or Faces(path / "train.parquet", transform, variant)

    def seconds(n: int) -> float:
        span = Span(options["workers"], n)
        records = options["batch"] * span.stop
        stream = torch.utils.data.RandomSampler(data, num_samples=records)  # passes without a gap between them
        return span.seconds(iter(loader(data, options["batch"], options["workers"], sampler=stream)))

    return Job(seconds, options["batch"] * Span(options["workers"], 1).timed)


def loader(data: Any, batch: int, workers: int, *, sampler: Any = None, train: bool = True) -> Any:
    """A DataLoader as scripts have it."""
    shuffle = train and sampler is None
    return torch.utils.data.DataLoader(
        data, batch_size=batch, shuffle=shuffle, sampler=sampler, drop_last=train, num_workers=workers
    )


def transforms(options: dict[str, Any], variant: str) -> Any:
    """The counterparts of our knobs, in our order; uint8 [C, size, size] at the end."""
    a, steps = options["augment"], []
    if "crop_area" in a:
        steps.append(v2.RandomResizedCrop(options["size"], scale=tuple(a["crop_area"]), antialias=True))
    steps.append(v2.RandomHorizontalFlip(a["flip"]))
    if "rotate" in a:
        move, zoom = a["translate"], a["zoom"]
        bilinear = v2.InterpolationMode.BILINEAR
        affine = v2.RandomAffine(
            a["rotate"], translate=(move, move), scale=(1 - zoom, 1 + zoom), interpolation=bilinear
        )
        steps.append(affine)
    if a.get("policy") == "randaugment":
        steps.append(v2.RandAugment(num_ops=2, magnitude=9))
    if variant == "PIL":
        steps.append(v2.PILToTensor())
    area = tuple(a.get("erase_area", (0.02, 0.3333)))
    value = MEAN if options["pictures"] == "jpeg" else MEAN[:1]
    steps.append(v2.RandomErasing(a["erase"], scale=area, value=value))
    return v2.Compose(steps)


def jpegs(folder: Path, transform: Any, variant: str) -> Any:
    """torchvision's ImageFolder."""
    if variant == "PIL":
        return torchvision.datasets.ImageFolder(str(folder), transform)
    rgb = torchvision.io.ImageReadMode.RGB
    return torchvision.datasets.ImageFolder(
        str(folder), transform, loader=lambda path: torchvision.io.decode_image(path, rgb)
    )


class Faces(torch.utils.data.Dataset):
    """Grey PNGs in a parquet file; grey through the transforms, three channels at the end."""

    def __init__(self, file: Path, transform: Any, variant: str) -> None:
        import pyarrow.parquet as pq

        table = pq.read_table(file, columns=["image", "label"])
        images, self.labels = table.column("image").to_pylist(), table.column("label").to_pylist()
        self.images = [x["bytes"] if isinstance(x, dict) else x for x in images]  # Hugging Face keeps {bytes, path}
        self.transform, self.variant = transform, variant

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[Any, int]:
        data = self.images[i]
        if self.variant == "PIL":
            image = Image.open(io.BytesIO(data)).convert("L")
        else:
            grey = torchvision.io.ImageReadMode.GRAY
            image = torchvision.io.decode_image(torch.frombuffer(bytearray(data), dtype=torch.uint8), grey)
        return self.transform(image).expand(3, -1, -1), self.labels[i]
