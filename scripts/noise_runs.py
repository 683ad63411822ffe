"""One training of the benchmark of wrong labels and rare classes: data with a planted fault, and what it comes to.

The pictures are scikit-learn's digits, 1,797 of 8 x 8 grey pixels, cut once into 1,000 for training, 300 to choose
settings on (dev) and 497 to report (test). What is planted depends on the seed of the run. Labels of dev and test are
never touched.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from emojax import class_weights, data, metrics, parallel, scaling, transitions, wiring
from emojax.config import Config, DataConfig, LossConfig, ModelConfig, OptimConfig, ScheduleConfig, StageConfig
from emojax.train_metrics import TrainMetrics
from emojax.types import Predictions
from emojax.validate import validate

CLASSES, TRAIN, DEV = 10, 1000, 300
EPOCHS = 40
NOISE = 0.2
"""Share of training labels that become another class, each as likely."""
MOST, SKEW = 60, 20
"""Images of the most frequent class, and how many times those of the rarest; in between by equal ratios."""
VOTES, DOUBT = 10, 0.6
"""Votes for every training image, and the largest probability that one is for its second class, uniform from 0."""

Change = Callable[[Config], None]
"""A method: what it changes in the base config."""


def base(epochs: float) -> Config:
    """Plain cross-entropy; a small ResNet that can learn every label by heart, right or wrong."""
    return Config(
        image_size=8,
        batch_size=50,
        data=DataConfig(format="npz", classes=tuple(map(str, range(CLASSES))), leak_check=0),
        model=ModelConfig(name="resnet18", stem="small", depths=(1, 1), widths=(16, 32)),
        loss=LossConfig(),
        optim=OptimConfig(learning_rate=3e-3, weight_decay=1e-4),
        schedule=ScheduleConfig(name="cosine", warmup_epochs=1),
        stages=(StageConfig(epochs=epochs),),
    )


def digits() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """{split: (uint8 [N, 8, 8], int [N])}; the same cut in every run."""
    found: Any = load_digits()
    image = (found.images * (255 / 16)).round().astype(np.uint8)
    order = np.random.default_rng(0).permutation(len(image))
    cut = np.split(order, [TRAIN, TRAIN + DEV])
    return {name: (image[rows], found.target[rows]) for name, rows in zip(("train", "val", "test"), cut, strict=True)}


def noisy(label: np.ndarray, seed: int) -> np.ndarray:
    """Exactly the share `NOISE` of the labels, drawn at random, becomes another class."""
    rng = np.random.default_rng([seed, 1])
    wrong = rng.permutation(len(label))[: round(NOISE * len(label))]
    label = label.copy()
    label[wrong] = (label[wrong] + rng.integers(1, CLASSES, len(wrong))) % CLASSES
    return label


def skewed(label: np.ndarray, seed: int) -> np.ndarray:
    """Rows that stay: from `MOST` images of one class down to a `SKEW`th of that; the seed says which class is rare."""
    rng = np.random.default_rng([seed, 2])
    counts = np.round(MOST * SKEW ** -np.linspace(0, 1, CLASSES)).astype(int)
    rows = [
        rng.permutation(np.flatnonzero(label == c))[:n] for c, n in zip(rng.permutation(CLASSES), counts, strict=True)
    ]
    return np.sort(np.concatenate(rows))


def voted(label: np.ndarray, seed: int) -> np.ndarray:
    """[N, CLASSES]: `VOTES` votes for every image, some of them for another class, the same one for all of an image."""
    rng = np.random.default_rng([seed, 3])
    other = (label + rng.integers(1, CLASSES, len(label))) % CLASSES
    doubt = rng.binomial(VOTES, rng.uniform(0, DOUBT, len(label)))
    classes = np.eye(CLASSES, dtype=np.float32)
    return classes[label] * (VOTES - doubt)[:, None] + classes[other] * doubt[:, None]


def one_of(votes: np.ndarray, seed: int) -> np.ndarray:
    """The label by one of an image's votes."""
    until = np.cumsum(votes, 1) / votes.sum(1, keepdims=True)
    return (np.random.default_rng([seed, 4]).random((len(votes), 1)) < until).argmax(1)


def planted(fault: str, seed: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The data with a fault in their training split: "", "noise", "skew", "votes", or "mirror": noise, and every other
    image of all splits is mirrored."""
    splits = digits()
    if fault == "mirror":
        splits = {
            name: (np.where(np.arange(len(image))[:, None, None] % 2 == 1, image[:, :, ::-1], image), label)
            for name, (image, label) in splits.items()
        }
    image, label = splits["train"]
    if fault in ("noise", "mirror"):
        splits["train"] = image, noisy(label, seed)
    elif fault == "skew":
        rows = skewed(label, seed)
        splits["train"] = image[rows], label[rows]
    elif fault == "votes":
        agreed = VOTES * np.eye(CLASSES, dtype=np.float32)
        splits = {name: (image, agreed[label]) for name, (image, label) in splits.items()}
        splits["train"] = image, voted(label, seed)
    return splits


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """What the last weights of one run came to on dev or test; `shifted`: after the post-hoc shift of the prior."""

    accuracy: float
    mean_class: float
    shifted: float
    seconds: float


def run(fault: str, change: Change, *, seed: int, split: str, epochs: float = EPOCHS) -> Found:
    """Trains once, without choosing a checkpoint, and judges the last weights on `split` ("val" or "test")."""
    began = time.monotonic()
    config = base(epochs)
    config.seed = seed
    change(config)
    with tempfile.TemporaryDirectory() as folder:
        config.data.path = str(Path(folder) / "digits.npz")
        arrays = {}
        for name, (image, label) in planted(fault, seed).items():
            one = label if label.ndim == 1 else one_of(label, seed)
            arrays |= {f"{name}_image": image, f"{name}_label": label, f"{name}_one": one}
        np.savez(config.data.path, **arrays)
        found = _trained(validate(config), split)
    prior = class_weights.effective_mass(found[1], sampler="shuffle", weight=None)
    shifted = scaling.apply(scaling.Scaling.none(CLASSES).adjusted(prior, 1.0), found[0])
    names = tuple(map(str, range(CLASSES)))
    judged, after = (metrics.evaluate(p, names) for p in (found[0], shifted))
    return Found(
        judged.number("accuracy"),
        judged.number("balanced_accuracy"),
        after.number("balanced_accuracy"),
        time.monotonic() - began,
    )


def _trained(config: Config, split: str) -> tuple[Predictions, np.ndarray]:
    """(predictions of the last weights, images per training class), by the parts of which `emojax train` is made."""
    with parallel.mesh() as mesh:
        parts = wiring.build(config, data.open_dataset(config.data), mesh)
        state: Any = wiring.initial_state(parts)
        unread: Any = None  # checkpoints, from which no stage here starts
        for stage in parts.stages:
            state = transitions.entered(parts, stage, state, unread)
            train_step, _ = wiring.train_step(parts, stage)
            totals = parallel.replicate(mesh, TrainMetrics.empty())
            with wiring.train_batches(parts, stage, start=stage.start) as batches:
                for batch in batches:
                    state, totals = train_step(state, totals, parallel.shard(mesh, batch), parts.key)
        judged = "ema" if "ema" in state.average else "weights"
        weights = transitions.judged_weights(parts, state, judged, image_size=config.image_size)
        found = wiring.predictions(
            parts, weights, parts.dataset.splits[split], image_size=config.image_size, views="center"
        )
        return found, parts.class_mass
