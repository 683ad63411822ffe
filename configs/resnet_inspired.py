"""A ResNet-like network from scratch (seed document 002); trained like its siblings, see mobilenet_inspired.py.

    python -m emojax.main --config=configs/resnet_inspired.py --workdir=runs/resnet --config.data.path=FOLDER

The variant `before` is the document's "before" column, which has no dropout here. The document expects 94 to 97 % on
its own pictures of vehicles.
"""

from emojax import recipes
from emojax.config import Config, ModelConfig


def get_config(variant: str = "") -> Config:
    config = recipes.load("mobilenet_inspired.py", variant)
    config.model = ModelConfig(name="resnet_inspired", dropout=0.0 if variant == "before" else 0.5)
    return config
