"""From pretrained weights to one's own classes: the last layer solved for, then all trained, the lower more slowly.

    python -m emojax.main --config=configs/finetune_pretrained.py --workdir=runs/tuned --config.data.path=FOLDER \
        --config.model.weights=efficientnet_lite0_imagenet.safetensors

EfficientNet-Lite0 of ImageNet at 112 px, small enough for two CPU cores. What the weights want of their input (colours,
padding) comes with them. Variants: `squeezenet` (SqueezeNet 1.1 of ImageNet), `resnet20` (of CIFAR-10, for pictures of
32 px), `convnext` (ConvNeXt-Tiny at 224 px, for a GPU), and to compare, `scratch` and `resnet20_scratch` without
weights. `emojax weights inspect FILE` tells which network a file is of; `emojax probe` with the same recipe stops at
the solved layer. What was measured is in docs/finetuning.md.
"""

import dataclasses

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

OPTIM = OptimConfig(learning_rate=3e-4, layer_decay=0.9)
VARIANTS = {
    "": (112, ModelConfig(name="efficientnet_lite0", weights="FILE", dropout=0.2), OPTIM),
    # Its weights see colours from 0 to 255 and have no norms: large steps break them.
    "squeezenet": (
        112,
        ModelConfig(name="squeezenet1_1", weights="FILE", dropout=0.5),
        OptimConfig(learning_rate=2e-4, layer_decay=0.9, clip_norm=1.0),
    ),
    "resnet20": (32, ModelConfig(name="resnet20", stem="small", weights="FILE"), OPTIM),
    "convnext": (
        224,
        ModelConfig(name="convnext_tiny", weights="FILE", drop_path=0.1, compute="bfloat16"),
        OptimConfig(learning_rate=2e-4, layer_decay=0.7),
    ),
    "scratch": (112, ModelConfig(name="efficientnet_lite0", dropout=0.2), OptimConfig()),
    "resnet20_scratch": (32, ModelConfig(name="resnet20", stem="small"), OptimConfig()),
}
"""name -> (pixels, network, optimizer)."""
EPOCHS = 14


def get_config(variant: str = "") -> Config:
    recipes.check_variant(variant, VARIANTS)
    size, model, optim = VARIANTS[variant]
    model, stages = dataclasses.replace(model), (StageConfig(epochs=EPOCHS),)
    if variant == "squeezenet":  # its last layer is a convolution: it learns alone for two epochs instead
        alone = ScheduleConfig(name="constant")
        head = StageConfig(name="head", epochs=2, frozen=r"^(stem|stage\d+)/", learning_rate=6e-4, schedule=alone)
        stages = (head, StageConfig(name="all", epochs=EPOCHS - 2))
    elif model.weights:
        model.head_start = "solved"
        # Few and strongly augmented pictures would move the statistics away from what evaluation sees.
        stages[0].frozen_statistics = "." if variant != "convnext" else ""
    augment = AugmentConfig(crop_area=(0.6, 1.0), flip=0.5, rotate=10, brightness=0.2, contrast=0.2, erase=0.25)
    if size < 48:  # a crop of a tiny picture leaves too little to see
        augment.crop_area, augment.erase = (0.85, 1.0), 0.0
    return Config(
        image_size=size,
        batch_size=64,
        data=DataConfig(path="FOLDER"),
        augment=augment,
        model=model,
        loss=LossConfig(smoothing=0.1),
        optim=dataclasses.replace(optim),
        schedule=ScheduleConfig(warmup_epochs=1, final=0.01),
        average=AverageConfig(name="ema", decay=0.99),
        stages=stages,
        eval=EvalConfig(views="flip"),
    )
