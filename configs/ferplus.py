"""FER2013's faces with the crowd's labels of FER+ (Barsoum et al. 2016, arXiv:1608.01041), 8 classes.

    python -m emojax.main --config=configs/ferplus.py --workdir=runs/ferplus --config.data.path=FOLDER

FOLDER holds train.parquet and val.parquet with a list column `votes` of ten counts per picture, in FER+'s order with
unknown and not_a_face last. Training learns the votes' distribution; val is judged on the majority, and pictures
without one are no part of it. What was measured is in docs/fer2013.md.
"""

from emojax.config import (
    AugmentConfig,
    AverageConfig,
    Config,
    DataConfig,
    EvalConfig,
    ModelConfig,
    OptimConfig,
    ScheduleConfig,
    StageConfig,
)


def get_config() -> Config:
    return Config(
        image_size=48,
        batch_size=128,
        data=DataConfig(
            path="FOLDER",
            vote_columns=("votes",),
            vote_rule="cross_entropy",
            vote_rule_eval="majority",
            slice_columns=("dup_of_train",),
        ),
        augment=AugmentConfig(
            flip=0.5,
            rotate=15,
            translate=0.1,
            zoom=0.15,
            brightness=0.2,
            contrast=0.3,
            erase=0.3,
            erase_area=(0.02, 0.2),
        ),
        # The network of fer2013_15min.py; labels that say how sure the crowd was need no smoothing.
        model=ModelConfig(
            name="resnet18",
            stem="small2",
            depths=(1, 2, 2, 1),
            widths=(32, 64, 128, 256),
            dropout=0.2,
            products="bfloat16",
        ),
        optim=OptimConfig(name="sgd", learning_rate=0.1, weight_decay=5e-4),
        schedule=ScheduleConfig(warmup_epochs=1.5),
        average=AverageConfig(name="ema", decay=0.998),
        stages=(StageConfig(epochs=14, image_size=32), StageConfig(epochs=18, image_size=48)),
        eval=EvalConfig(every_epochs=4, batch_size=256, views="flip"),
    )
