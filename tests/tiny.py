"""A run small enough to be repeated, killed and resumed: 3 colours, 48 pictures, a ResNet of 4k parameters."""

from pathlib import Path

import numpy as np
from PIL import Image

from emojax.config import (
    AugmentConfig,
    AverageConfig,
    CheckpointConfig,
    Config,
    DataConfig,
    EvalConfig,
    LossConfig,
    ModelConfig,
    MonitorConfig,
    OptimConfig,
    ScheduleConfig,
    StageConfig,
)

COLOURS = {"blue": (30, 30, 220), "green": (30, 200, 30), "red": (220, 30, 30)}


def make_folder(root: Path, *, per_class: int = 16, size: int = 24, splits=("train", "val", "test")) -> Path:
    """root/split/colour/*.png: noisy squares of one colour each."""
    rng = np.random.default_rng(0)
    for split in splits:
        for name, colour in COLOURS.items():
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(per_class if split == "train" else 4):
                noise = rng.integers(-25, 25, (size, size, 3))
                Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8)).save(folder / f"{i:02d}.png")
    return root


def config(path: Path | str, **changes) -> Config:
    """Every moving part on: augmentation, mixing, dropout, BatchNorm, EMA, accumulation, two stages, freezing."""
    values = dict(
        image_size=16,
        batch_size=8,
        data=DataConfig(path=str(path)),
        augment=AugmentConfig(
            flip=0.5, rotate=10, translate=0.1, brightness=0.2, hue=0.05, erase=0.3, mixup=0.2, mixup_probability=1.0
        ),
        model=ModelConfig(name="resnet18", stem="small2", depths=(1, 1), widths=(8, 16), dropout=0.1, drop_path=0.1),
        loss=LossConfig(smoothing=0.1),
        optim=OptimConfig(learning_rate=1e-2, clip_norm=1.0, accumulate=2, layer_decay=0.9),
        schedule=ScheduleConfig(warmup_epochs=0.4),
        average=AverageConfig(name="ema", decay=0.9),
        stages=(StageConfig(epochs=2, frozen="^stem"), StageConfig(epochs=4, image_size=20, strength=0.5)),
        eval=EvalConfig(every_epochs=2, views="flip"),
        checkpoint=CheckpointConfig(every_epochs=0.67),
        monitor=MonitorConfig(log_every=1),
    )
    return Config(**(values | changes))
