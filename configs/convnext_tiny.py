"""The general recipe: ConvNeXt-Tiny (Liu et al. 2022, arXiv:2201.03545) from scratch on any image folder, 224 px.

    python -m emojax.main --config=configs/convnext_tiny.py --workdir=runs/mine --config.data.path=FOLDER

Decay, smoothing, erasing, mixing and drop-path follow the paper's ImageNet recipe; the learning rate is its 4e-3 at
4096 images, scaled down in proportion to the batch of 128; EMA forgets faster, for runs of thousands of updates. Meant
for a GPU or TPU.
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
        augment=AugmentConfig(
            crop_area=(0.5, 1.0),
            flip=0.5,
            rotate=10,
            brightness=0.3,
            contrast=0.3,
            saturation=0.3,
            hue=0.05,
            erase=0.25,
            mixup=0.8,
            mixup_probability=0.25,
            cutmix=1.0,
            cutmix_probability=0.25,
        ),
        model=ModelConfig(name="convnext_tiny", drop_path=0.1, compute="bfloat16"),
        loss=LossConfig(smoothing=0.1),
        optim=OptimConfig(learning_rate=1.25e-4, weight_decay=0.05),
        schedule=ScheduleConfig(warmup_epochs=5, final=0.01),
        average=AverageConfig(name="ema", decay=0.999),
        stages=(StageConfig(epochs=100),),
        eval=EvalConfig(crop=0.875, patience=20),
    )
