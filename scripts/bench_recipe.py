"""The runs that `scripts/bench.py` starts: `bench_recipe.py:faces` (one epoch of configs/fer2013_15min.py, of which a
plain PyTorch script can do the same) and `bench_recipe.py:start` (ConvNeXt-Tiny on the emoji that ship with emojax).
"""

from emojax import recipes
from emojax.config import AverageConfig, Config, ModelConfig, ScheduleConfig, StageConfig


def get_config(variant: str = "faces") -> Config:
    if variant == "start":
        return Config(image_size=64, batch_size=32, model=ModelConfig(name="convnext_tiny"))
    recipes.check_variant(variant, ["faces"])
    config = recipes.load("configs/fer2013_15min.py")
    config.stages = (StageConfig(epochs=1, image_size=48),)
    config.schedule = ScheduleConfig(warmup_epochs=0.1)
    config.average = AverageConfig()
    config.eval.views = "center"
    return config
