"""Real faces, 48 x 48 grey: FER2013 (Goodfellow et al. 2013) as parquet, CSV of paths, or image folders.

    python -m emojax.main --config=configs/fer2013.py --workdir=runs/fer2013 --config.data.path=FOLDER

FOLDER holds train.parquet and val.parquet (columns image, label), or train/CLASS/*.png and val/CLASS/*.png.
"""

from emojax.config import (
    AugmentConfig,
    AverageConfig,
    Config,
    DataConfig,
    EvalConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    ScheduleConfig,
    StageConfig,
)


def get_config() -> Config:
    return Config(
        image_size=48,
        batch_size=128,
        data=DataConfig(path="", slice_columns=("dup_of_train",)),
        augment=AugmentConfig(flip=0.5, rotate=12, translate=0.08, zoom=0.1, erase=0.3, erase_area=(0.02, 0.15)),
        model=ModelConfig(name="resnet18", stem="small2", depths=(2, 2, 2, 1), widths=(32, 64, 128, 256), dropout=0.2),
        loss=LossConfig(smoothing=0.1),
        optim=OptimConfig(name="sgd", learning_rate=0.1, weight_decay=5e-4),
        schedule=ScheduleConfig(warmup_epochs=3),
        average=AverageConfig(name="ema", decay=0.998),
        stages=(StageConfig(epochs=24),),
        eval=EvalConfig(every_epochs=2, batch_size=256, views="flip"),
    )
