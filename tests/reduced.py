"""A recipe in small: the same stages, losses, schedules, averages and views, with a tiny network and little time."""

import dataclasses
import re

import numpy as np

from emojax.config import Config, StageConfig

NETWORKS = {  # two or three stages of one block: a program of a quarter of the size compiles in a quarter of the time
    r"convnext_.*|resnet\d+|resnet_inspired": {"depths": (1, 1), "widths": (8, 16)},
    r"mobilenet_inspired": {"depths": (1, 1, 1), "widths": (8, 16, 16)},
    r"efficientnet_.*": {"depths": (1, 1, 1), "widths": (8, 8, 16)},
    r"vit_.*": {"depths": (1,), "widths": (64,)},
    r".*": {},
}


def reduced(
    config: Config,
    path,
    *,
    image_size: int = 32,
    batch_size: int = 8,
    stage_epochs: float = 1.0,
    own_compute: bool = False,
) -> Config:
    """`config` on the pictures at `path`: every stage takes `stage_epochs`, every other time moves along with it.

    With `own_compute`, bfloat16 and recomputation stay as the recipe has them; both compile slowly on a CPU.
    """
    old = np.cumsum([0.0, *(stage.epochs for stage in config.stages)])
    new = np.arange(len(old)) * stage_epochs

    def moved(epoch: float) -> float:
        """Where an epoch of the recipe lies in the small run."""
        return float(np.interp(epoch, old, new))

    share = new[-1] / old[-1]
    size = image_size / config.image_size
    sizes = {**next(v for k, v in NETWORKS.items() if re.fullmatch(k, config.model.name))}
    stages = []
    for stage, length in zip(config.stages, np.diff(old), strict=True):
        inside = stage_epochs / length
        schedule = dataclasses.replace(
            stage.schedule, epochs=stage.schedule.epochs * inside, warmup_epochs=stage.schedule.warmup_epochs * inside
        )
        stages.append(
            dataclasses.replace(
                stage,
                epochs=stage_epochs,
                schedule=schedule,
                image_size=16 * max(1, round(stage.image_size * size / 16)) if stage.image_size else 0,
            )
        )
    assert all(isinstance(stage, StageConfig) for stage in stages)
    return dataclasses.replace(
        config,
        image_size=image_size,
        batch_size=batch_size,
        data=dataclasses.replace(config.data, path=str(path), vote_columns=(), vote_rule="", vote_rule_eval=""),
        model=dataclasses.replace(
            config.model,
            **sizes,
            weights="",
            head_start="random",
            **({} if own_compute else {"compute": "float32", "remat": ""}),
        ),
        schedule=dataclasses.replace(
            config.schedule,
            warmup_epochs=moved(config.schedule.warmup_epochs),
            first_epochs=max(0.4, config.schedule.first_epochs * share),  # two updates: cycles begin and end
        ),
        average=dataclasses.replace(
            config.average,
            swa_start=moved(config.average.swa_start),
            swa_every=0.34,
            refresh_batches=2,
        ),
        stages=tuple(stages),
        eval=dataclasses.replace(config.eval, every_epochs=stage_epochs, patience=0, batch_size=0),
        monitor=dataclasses.replace(config.monitor, log_every=1, tensorboard=0),
    )
