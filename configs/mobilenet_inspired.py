"""A MobileNet-like network from scratch (seed document 002), and the training that its two siblings share.

    python -m emojax.main --config=configs/mobilenet_inspired.py --workdir=runs/mobilenet --config.data.path=FOLDER

All three networks, before and after the document's tuning, with a table of the results:

    emojax study --workdir=runs/seed002 --seeds=0,1,2 --config.data.path=FOLDER \\
        mobilenet_inspired.py:before mobilenet_inspired.py squeezenet_inspired.py:before squeezenet_inspired.py \\
        resnet_inspired.py:before resnet_inspired.py

Every number is the document's "after" column (its rotation, shift and zoom are one resampling here); the variant
`before` is its "before" column. The document expects 92 to 95 % on its own pictures of vehicles.
"""

from emojax import recipes
from emojax.config import (
    AugmentConfig,
    Config,
    DataConfig,
    EvalConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    ScheduleConfig,
    StageConfig,
)


def get_config(variant: str = "") -> Config:
    recipes.check_variant(variant, ("before",))
    return before() if variant == "before" else after()


def after() -> Config:
    return Config(
        image_size=224,
        fit="squash",
        batch_size=128,
        data=DataConfig(path="FOLDER"),
        augment=AugmentConfig(
            flip=0.5,
            rotate=20,
            translate=0.15,
            zoom=0.15,
            resample="nearest",
            fill="black",
            brightness=0.4,
            contrast=0.4,
            saturation=0.3,
            hue=0.15,
            perspective=0.2,
            perspective_probability=0.3,
            grayscale=0.1,
            erase=0.3,
            erase_area=(0.02, 0.15),
        ),
        model=ModelConfig(name="mobilenet_inspired", dropout=0.4),
        loss=LossConfig(smoothing=0.1),
        optim=OptimConfig(learning_rate=1e-3, weight_decay=1e-4, no_decay="", clip_norm=1.0),
        # Cycles of 10, 20 and 40 epochs; the fourth ends at 30 of 80, so the best checkpoint counts, not the last.
        schedule=ScheduleConfig(name="restarts", first_epochs=10, multiply=2, final=1e-3),
        stages=(StageConfig(epochs=100),),
        eval=EvalConfig(patience=15, min_delta=5e-6),
    )


def before() -> Config:
    return Config(
        image_size=224,
        fit="squash",
        batch_size=32,
        data=DataConfig(path="FOLDER"),
        augment=AugmentConfig(
            flip=0.5,
            rotate=15,
            translate=0.1,
            zoom=0.1,
            resample="nearest",
            fill="black",
            brightness=0.3,
            contrast=0.3,
            saturation=0.2,
            hue=0.1,
        ),
        model=ModelConfig(name="mobilenet_inspired", dropout=0.2),
        optim=OptimConfig(name="adam", learning_rate=1e-3, weight_decay=1e-4, no_decay=""),
        schedule=ScheduleConfig(name="plateau", factor=0.5, patience=5, metric="loss"),
        stages=(StageConfig(epochs=50),),
        eval=EvalConfig(metric="loss", patience=10),
    )
