"""ConvNeXt-Large on AffectNet in six phases (seed document 001), ending with MixUp, SWA and test-time views.

    emojax train --config=configs/affectnet_convnext_large.py --workdir=runs/affectnet --config.data.path=FOLDER

The log and the report end with the document's table, one row per phase. The document gives the phases, their epochs,
AdamW, 3e-5 and a cosine over 20 epochs; every other number is a proposal after the ConvNeXt and AffectNet literature.
MixUp and SWA start from the checkpoint that is best on val so far, which need not be one of phase three; that phase
stops early, after 10 epochs without a better one. The views are the centre and the corners of a picture 1.1 times as
large, mirrored too; phases before them see that centre. Pretrained weights are not loaded
yet: from random weights expect less than the 58 to 61.5 % that the document states. Classes are in alphabetical order
and known by name. Variant layer_decay: rates fall by 0.8 for every three blocks. Meant for a GPU.
"""

from emojax import recipes
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


def get_config(variant: str = "") -> Config:
    recipes.check_variant(variant, ("layer_decay",))
    return Config(
        image_size=224,
        batch_size=64,
        data=DataConfig(path="FOLDER"),
        augment=AugmentConfig(
            crop_area=(0.8, 1.0),
            flip=0.5,
            brightness=0.2,
            contrast=0.2,
            saturation=0.2,
            mixup=0.2,
            mixup_probability=1.0,
        ),
        model=ModelConfig(name="convnext_large", drop_path=0.3, head_scale=1e-3, compute="bfloat16", remat="blocks"),
        loss=LossConfig(smoothing=0.1),
        optim=OptimConfig(learning_rate=5e-5, weight_decay=0.05, layer_decay=0.8 if variant == "layer_decay" else 1.0),
        average=AverageConfig(name="swa", swa_start=60, swa_first=1),
        stages=(
            StageConfig(  # epochs 1-14 of a loop that was planned for 30
                name="fine-tuning",
                epochs=14,
                mixup=0,
                views="center_crop",
                schedule=ScheduleConfig(name="cosine", epochs=30, warmup_epochs=1),
            ),
            StageConfig(  # 15-24
                name="optimizer tuning",
                epochs=10,
                mixup=0,
                views="center_crop",
                fresh=1,
                learning_rate=3e-5,
                schedule=ScheduleConfig(name="constant"),
            ),
            StageConfig(  # 25-45
                name="plateau, best single model",
                epochs=21,
                mixup=0,
                views="center_crop",
                fresh=1,
                learning_rate=3e-5,
                schedule=ScheduleConfig(name="cosine", epochs=20, final=1 / 300),
                patience=10,
            ),
            StageConfig(  # 46-60
                name="MixUp",
                epochs=15,
                views="center_crop",
                start_from="best",
                learning_rate=1e-5,
                schedule=ScheduleConfig(name="cosine", final=0.1),
            ),
            StageConfig(  # 61-65: the checkpoint it starts from is the first of six snapshots
                name="SWA",
                epochs=5,
                mixup=0,
                views="center_crop",
                start_from="best",
                learning_rate=5e-6,
                schedule=ScheduleConfig(name="constant"),
                judge="swa",
            ),
            StageConfig(name="test-time views", epochs=5, train=0, judge="swa", views="ten"),  # 66-70
        ),
        eval=EvalConfig(views="ten"),
    )
