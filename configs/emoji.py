"""Quick start: seven emotions from 270 emoji faces, tested on an art style that training never saw.

    python -m emojax.main --config=configs/emoji.py --workdir=runs/emoji

Also the recipe to try first on a small folder of one's own: --config.data.path=FOLDER.
"""

from emojax.config import (
    AugmentConfig,
    AverageConfig,
    Config,
    EvalConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    ScheduleConfig,
    StageConfig,
)


def get_config() -> Config:
    return Config(
        image_size=64,
        batch_size=32,
        augment=AugmentConfig(
            flip=0.5,
            rotate=15,
            translate=0.08,
            zoom=0.15,
            brightness=0.3,
            contrast=0.3,
            saturation=0.3,
            hue=0.05,
            erase=0.2,
        ),
        # One block per stage: 4.9 million parameters, 16 px maps after the stem. Chosen on val against (1, 2, 2, 1)
        # blocks of half the width at 48 px (macro-F1 on val 0.72 against 0.50; the same accuracy on test).
        model=ModelConfig(name="resnet18", depths=(1, 1, 1, 1)),
        loss=LossConfig(smoothing=0.1),
        optim=OptimConfig(learning_rate=2e-3, weight_decay=0.05),
        schedule=ScheduleConfig(warmup_epochs=4),
        average=AverageConfig(name="ema", decay=0.99),
        stages=(StageConfig(epochs=32),),
        # Four of ten faces are happy: accuracy on 57 of them ties too often to choose an epoch by.
        eval=EvalConfig(every_epochs=8, batch_size=64, metric="macro_f1", views="flip"),
    )
