"""A SqueezeNet-like network from scratch (seed document 002); trained like its siblings, see mobilenet_inspired.py.

    python -m emojax.main --config=configs/squeezenet_inspired.py --workdir=runs/squeezenet --config.data.path=FOLDER

The variant `before` is the document's "before" column. As in the document, a ReLU stands before the last pooling, so
logits are never negative; --config.model.final_relu=0 drops it. On few and small faces it does not learn, see
docs/ablations.md.
"""

from emojax import recipes
from emojax.config import Config, ModelConfig


def get_config(variant: str = "") -> Config:
    config = recipes.load("mobilenet_inspired.py", variant)
    config.model = ModelConfig(name="squeezenet_inspired", dropout=0.5)
    return config
