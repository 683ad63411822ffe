"""Real faces, 48 x 48 grey: FER2013 (Goodfellow et al. 2013), as parquet, CSV of paths, or image folders.

    python -m emojax.main --config=configs/fer2013_15min.py --workdir=runs/fer2013_15min --config.data.path=FOLDER

FOLDER holds train.parquet and val.parquet (columns image, label), or train/CLASS/*.png and val/CLASS/*.png. A boolean
column dup_of_train, where there is one, makes the report show the accuracy without images that training has seen.
A quarter of an hour on two CPU cores with fast bfloat16 products, without them several times as long; what was
measured is in docs/fer2013.md.
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
        augment=AugmentConfig(flip=0.5, rotate=10, translate=0.07, zoom=0.1, erase=0.25, erase_area=(0.02, 0.15)),
        # 1.6 million parameters; the cheap stem and the small first pictures are what makes two cores enough.
        # bfloat16 products: twice as fast on AMD EPYC with AVX512_BF16; on an Intel Xeon that has it, but no AMX, not
        # faster than float32, which is config.model.products="".
        model=ModelConfig(
            name="resnet18",
            stem="small2",
            depths=(1, 2, 2, 1),
            widths=(32, 64, 128, 256),
            dropout=0.2,
            products="bfloat16",
        ),
        loss=LossConfig(smoothing=0.1),
        optim=OptimConfig(name="sgd", learning_rate=0.1, weight_decay=5e-4),
        schedule=ScheduleConfig(warmup_epochs=1.5),
        average=AverageConfig(name="ema", decay=0.998),
        stages=(StageConfig(epochs=12, image_size=32), StageConfig(epochs=16, image_size=48)),
        eval=EvalConfig(every_epochs=3, batch_size=256, views="flip"),
    )
