"""ResNet-50 v1.5 (He et al. 2015, arXiv:1512.03385) from scratch on any image folder, 224 px: the baseline to beat.

    python -m emojax.main --config=configs/resnet50.py --workdir=runs/resnet50 --config.data.path=FOLDER

SGD with Nesterov momentum, 0.1 per 256 images, as in Goyal et al. 2017 (arXiv:1706.02677). Meant for a GPU or TPU.
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
        image_size=224,
        batch_size=128,
        data=DataConfig(path="FOLDER"),
        augment=AugmentConfig(crop_area=(0.35, 1.0), flip=0.5, brightness=0.3, contrast=0.3, saturation=0.3),
        model=ModelConfig(name="resnet50", compute="bfloat16"),
        loss=LossConfig(smoothing=0.1),
        optim=OptimConfig(name="sgd", learning_rate=0.05, weight_decay=1e-4),
        schedule=ScheduleConfig(warmup_epochs=5),
        average=AverageConfig(name="ema", decay=0.999),
        stages=(StageConfig(epochs=90),),
        eval=EvalConfig(crop=0.875),
    )
