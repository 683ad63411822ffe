"""ResNet-50 with a progressive-dropout head (seed document 003): AutoAugment, mixing, focal loss, OneCycle.

    python -m emojax.main --config=configs/resnet50_emotion.py --workdir=runs/resnet50 --config.data.path=FOLDER

Five stratified folds, and the document's ensemble of three networks:

    emojax kfold --config=configs/resnet50_emotion.py --workdir=runs/folds --folds=5 --config.data.path=FOLDER
    emojax study --workdir=runs/three --seeds=42 --config.data.path=FOLDER \\
        resnet50_emotion.py resnet50_emotion.py:efficientnet resnet50_emotion.py:vit
    emojax ensemble --average=logits runs/three/resnet50_emotion/seed42 \\
        runs/three/resnet50_emotion-efficientnet/seed42 runs/three/resnet50_emotion-vit/seed42

Variants: attention (8 heads over the 7x7 map before pooling), efficientnet (B3), vit (B/16), high_accuracy (the gated
sibling of the document's project), baseline (the ResNet-18 it started from). The document corrects class imbalance
three times, by data.sampler, loss.class_weights and the focal loss: each is one switch, and the log says what share of
the loss each class has. Rotation, shift and zoom are one resampling. Its 5e-3 is high for AdamW; try
--config.optim.learning_rate=1e-3. Training accuracy is that of all batches, where its code counts unmixed ones alone.
Pretrained weights are not loaded yet. The document aims at 80 % and has no measurement. Meant for a GPU.
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

VARIANTS = {
    "attention": {"name": "resnet50", "head_attention": "tokens"},
    "efficientnet": {"name": "efficientnet_b3"},
    "vit": {"name": "vit_base_patch16"},
    "high_accuracy": {"name": "resnet50", "head_attention": "gate", "head_hidden": (1024, 512), "dropout": 0.3},
    "baseline": {"name": "resnet18", "head": "linear", "dropout": 0.2},
}


def get_config(variant: str = "") -> Config:
    recipes.check_variant(variant, VARIANTS)
    network = {"name": "resnet50", "head": "mlp", "dropout": 0.5, **VARIANTS.get(variant, {})}
    config = Config(
        seed=42,
        image_size=224,
        fit="squash",
        batch_size=32,
        data=DataConfig(path="FOLDER", sampler="balanced", split_seed=42),
        augment=AugmentConfig(
            flip=0.5,
            rotate=15,
            translate=0.1,
            zoom=0.1,
            fill="black",
            brightness=0.3,
            contrast=0.3,
            saturation=0.3,
            hue=0.1,
            perspective=0.2,
            perspective_probability=0.3,
            policy="autoaugment",
            erase=0.25,
            erase_area=(0.02, 0.2),
            mixup=0.4,
            mixup_probability=0.5,
            cutmix=1.0,
            cutmix_probability=0.25,
        ),
        model=ModelConfig(**network, compute="bfloat16", remat="blocks"),
        loss=LossConfig(name="ce_focal", alpha=0.25, gamma=2.0, class_weights="balanced", mixed="parts"),
        optim=OptimConfig(learning_rate=5e-3, weight_decay=1e-4, no_decay="", clip_norm=1.0, accumulate=4),
        schedule=ScheduleConfig(name="onecycle", rise=0.1),
        stages=(
            StageConfig(name="176 px", epochs=30, image_size=176, views="center"),
            StageConfig(name="224 px", epochs=70, views="center"),
        ),
        eval=EvalConfig(metric="macro_f1", min_delta=1e-4, patience=15, views="eight"),
    )
    if variant == "high_accuracy":
        config.optim.learning_rate, config.optim.accumulate = 1e-3, 2
        config.schedule.div = 1e-3 / 3e-4
        config.stages = (StageConfig(epochs=80, views="center"),)
    if variant == "baseline":
        config.loss = LossConfig(smoothing=0.05, class_weights="balanced")
        config.optim = OptimConfig(learning_rate=3e-4, weight_decay=1e-4)
        config.schedule, config.stages = ScheduleConfig(), (StageConfig(epochs=30),)
        config.augment = AugmentConfig(flip=0.5, rotate=15, brightness=0.2, contrast=0.2, erase=0.25, mixup=0.4)
        config.augment.mixup_probability = 1.0
        config.data.sampler = "shuffle"
        config.eval.views = "center"
    return config
