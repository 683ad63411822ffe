"""FER2013 with a wider network and for longer than fer2013_15min.py: 91 minutes of CPU time, on two cores.

    python -m emojax.main --config=configs/fer2013_best.py --workdir=runs/fer2013_best --config.data.path=FOLDER

FOLDER as for `configs/fer2013_15min.py`. What was measured is in docs/fer2013.md.
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
        data=DataConfig(path="FOLDER", slice_columns=("dup_of_train",)),
        # Stronger than in fer2013_15min.py: fifty epochs are enough to learn 28,000 pictures by heart.
        augment=AugmentConfig(
            flip=0.5,
            rotate=15,
            translate=0.1,
            zoom=0.15,
            brightness=0.2,
            contrast=0.3,
            erase=0.4,
            erase_area=(0.02, 0.2),
            mixup=0.2,
        ),
        # 6.3 million parameters. bfloat16 products as in fer2013_15min.py.
        model=ModelConfig(name="resnet18", stem="small2", widths=(48, 96, 192, 384), dropout=0.3, products="bfloat16"),
        loss=LossConfig(smoothing=0.1),
        optim=OptimConfig(name="sgd", learning_rate=0.1, weight_decay=5e-4),
        schedule=ScheduleConfig(warmup_epochs=1.5),
        average=AverageConfig(name="ema", decay=0.999),
        # Half of the epochs on small pictures, at half the cost.
        stages=(StageConfig(epochs=25, image_size=32), StageConfig(epochs=25, image_size=48)),
        eval=EvalConfig(every_epochs=5, batch_size=256, views="flip"),
    )
