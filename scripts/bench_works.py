"""What `scripts/bench.py` measures: every piece of work, its unit and its bars. Data only; imports nothing heavy."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

SECTIONS = ("train", "infer", "pipeline", "run", "startup", "memory")
EQUAL = "worker processes each"
"""In the names of works of the pipeline whose two sides have equally many."""
HIGHER_IS_BETTER = ("images/s",)
"""Units of which more is better: ratio = ours / peer. For all others (s, bytes, share) it is peer / ours, so that a
ratio above 1 always says that emojax does better."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One comparison.

    Attributes:
      section: one of `SECTIONS`.
      name: what the tables call it; unique within its section.
      unit: of both sides' numbers: images/s, s, bytes or share (in [0, 1]).
      at_least, aim: the bars, or None where the number is recorded only.
      bar_on: "ratio", or "ours": a ceiling on our own number, in `unit`; such a work has no peer and no ratio.
      options: what both sides are told, as JSON.
    """

    section: str
    name: str
    unit: str
    at_least: float | None = None
    aim: float | None = None
    bar_on: str = "ratio"
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def _train(name: str, model: str, size: int, batch: int, bars: tuple[float, float]) -> Work:
    return Work(
        section="train",
        name=f"{name}, {size} px, batch {batch}",
        unit="images/s",
        at_least=bars[0],
        aim=bars[1],
        options={"model": model, "size": size, "batch": batch},
    )


def _infer(name: str, model: str, batch: int, engine: str) -> Work:
    return Work(
        section="infer",
        name=f"{name}, 224 px, batch {batch}, against {engine}",
        unit="images/s",
        at_least=0.8,
        aim=1.1,
        options={"model": model, "size": 224, "batch": batch, "engine": engine},
    )


JPEG = {
    "pictures": "jpeg",
    "size": 224,
    "batch": 32,
    "augment": {"crop_area": [0.35, 1.0], "flip": 0.5, "policy": "randaugment", "erase": 0.25},
}
FACES = {
    "pictures": "faces",
    "size": 48,
    "batch": 128,
    "augment": {
        "flip": 0.5,
        "rotate": 10.0,
        "translate": 0.07,
        "zoom": 0.1,
        "erase": 0.25,
        "erase_area": [0.02, 0.15],
    },
}
"""The training transforms of configs/fer2013_15min.py."""

FER_NETWORK = {"depths": (1, 2, 2, 1), "widths": (32, 64, 128, 256), "dropout": 0.2}
FER_TRAINING = {"learning_rate": 0.1, "weight_decay": 5e-4, "smoothing": 0.1}
"""The network and the training of the same file, for the peer's script."""
WARM_UP_EPOCHS = 0.1
"""Of the one epoch in bench_recipe.py and in the peer's script."""


def _pipeline(name: str, options: Mapping[str, Any], workers: int, bars: tuple[float, float]) -> Work:
    place = f"{workers} {EQUAL}" if workers else "2 threads against 1 process"
    return Work(
        section="pipeline",
        name=f"{name}, {place}",
        unit="images/s",
        at_least=bars[0],
        aim=bars[1],
        options={**options, "workers": workers},
    )


TINY = {"model": "convnext_tiny", "size": 64, "batch": 32}
MEMORY = {"model": "convnext_tiny", "size": 224, "batch": 8}
FAST = {"ours": "float32, bfloat16 products", "peer": "bfloat16, contiguous"}
"""The variants in which the section `train` runs ConvNeXt-Tiny, as the fastest: memory is measured of these."""

WORKS: tuple[Work, ...] = (
    _train("ConvNeXt-Tiny", "convnext_tiny", 64, 32, (1.0, 1.3)),
    _train("ConvNeXt-Tiny", "convnext_tiny", 224, 8, (1.0, 1.3)),
    _train("ConvNeXt-Atto", "convnext_atto", 64, 32, (1.0, 1.3)),
    _train("ResNet-50", "resnet50", 64, 32, (0.8, 1.1)),
    _train("ResNet-18", "resnet18", 64, 32, (0.8, 1.1)),
    *(
        _infer(name, model, batch, engine)
        for name, model in (("ConvNeXt-Tiny", "convnext_tiny"), ("ResNet-50", "resnet50"))
        for batch in (1, 32)
        for engine in ("torch", "onnxruntime")
    ),
    *(_pipeline("JPEG of 500 px to 224 px", JPEG, workers, (2.0, 4.0)) for workers in (0, 2)),
    *(_pipeline("faces of 48 px, held decoded against PNGs", FACES, workers, (3.0, 6.0)) for workers in (0, 2)),
    Work(section="run", name="one epoch, first run", unit="s", at_least=1.0, aim=1.5, options={"cold": True}),
    Work(section="run", name="one epoch, later run", unit="s", at_least=1.0, aim=1.5, options={"cold": False}),
    Work(
        section="run",
        name="share of the epoch that waits for data",
        unit="share",
        at_least=0.05,
        aim=0.01,
        bar_on="ours",
        options={"number": "data_wait"},
    ),
    Work(section="startup", name="import of the package", unit="s", options={"kind": "import"}),
    Work(section="startup", name="import of all that trains", unit="s", options={"kind": "import all"}),
    Work(section="startup", name="--help", unit="s", options={"kind": "help"}),
    Work(
        section="startup",
        name="ConvNeXt-Tiny: compiling the train step",
        unit="s",
        at_least=12.0,
        bar_on="ours",
        options={"kind": "first step", "number": "compile"},
    ),
    Work(section="startup", name="ConvNeXt-Tiny: first start to first step", unit="s", options={"kind": "first step"}),
    Work(
        section="startup", name="ConvNeXt-Tiny: second start to first step", unit="s", options={"kind": "second step"}
    ),
    Work(
        section="startup",
        name="ConvNeXt-Tiny: second start to first step, ceiling",
        unit="s",
        at_least=8.0,
        bar_on="ours",
        options={"kind": "second step"},
    ),
    Work(
        section="memory",
        name="ConvNeXt-Tiny train step, remat against plain",
        unit="bytes",
        options={**MEMORY, "number": "peak", "remat": "blocks"},
    ),
    Work(  # what may grow is a copy of the gradients; activations of all micro-batches at once would be near 0.3
        section="memory",
        name="ConvNeXt-Tiny temporaries, 4 micro-batches against one",
        unit="bytes",
        options={**MEMORY, "number": "temporary", "accumulate": 4},
    ),
    Work(section="memory", name="ConvNeXt-Tiny training process", unit="bytes", options={**TINY, "process": True}),
)


def selected(section: str, only: str = "") -> list[Work]:
    """The works of a section (or of "all") whose name contains `only`, whatever its case."""
    return [w for w in WORKS if section in ("all", w.section) and only.lower() in w.name.lower()]
