"""What the knobs of losses, and of what they need elsewhere, may be, and what they say about each other."""

from __future__ import annotations

from typing import Any

from emojax.config import Config, LossConfig, StageConfig
from emojax.errors import ConfigError

RANGES = {
    "loss.logit_adjust": (0, 10, "[]"),
    "loss.margin": (0, 1e3, "[]"),
    "loss.q": (0, 1, "(]"),
    "loss.reverse": (0, 100, "[]"),
    "loss.log_zero": (-100, 0, "[)"),
    "loss.trust": (0, 1, "(]"),
    "loss.elr": (0, 100, "[]"),
    "loss.elr_momentum": (0, 1, "[)"),
    "loss.forget": (0, 1, "[)"),
    "loss.forget_epochs": (0, 1e6, "[]"),
    "loss.importance": (0, 1, "[)"),
    "loss.importance_share": (0, 1, "()"),
    "loss.importance_margin": (0, 1, "[]"),
    "loss.relabel": (0, 1, "[)"),
    "loss.flip_consistency": (0, 100, "[]"),
    "model.twins": (0, 1, "[]"),
    "model.importance": (0, 1, "[]"),
}
"""As `validate._RANGES`: path -> (lowest, highest, whether the ends are allowed)."""


def check(config: Config) -> None:
    """Raises `ConfigError` for losses that contradict themselves, the model, the optimizer or a stage."""
    used = {f"stages[{i}].loss" if s.loss.name else "loss": s for i, s in enumerate(config.stages) if s.train}
    losses = {where: stage.loss if stage.loss.name else config.loss for where, stage in used.items()}
    for where, loss in losses.items():
        _check_loss(where, loss)
    for i, stage in enumerate(config.stages):
        if stage.train:
            own = bool(stage.loss.name)
            _check_stage(config, stage, f"stages[{i}].loss" if own else "loss", stage.loss if own else config.loss)
    model = config.model
    wanted = any(loss.importance for loss in losses.values())
    _check("model.importance", model.importance, not model.importance or wanted, "0 where no loss has importance")
    distils = any(stage.distill for stage in config.stages)
    _check("model.twins", model.twins, not (model.twins and distils), "0 where a stage distils")
    _check(
        "model.twins", model.twins, not (model.twins and model.weights), "0 with model.weights: one network has them"
    )
    rules = ("lamb", "muon")  # they look at whole matrices, and twins share theirs
    fits = not (model.twins and config.optim.name in rules)
    _check("model.twins", model.twins, fits, f"0 with optim.name {' or '.join(rules)}")
    first = config.stages[0].restart
    _check("stages[0].restart", first, not first, "'': everything starts with random values anyway")
    for i, stage in enumerate(config.stages):
        fits = not (stage.restart and stage.distill and config.distill.teacher == "ema")
        expected = "'' in a stage that distils from ema, for the average starts anew too; distill.teacher = best"
        _check(f"stages[{i}].restart", stage.restart, fits, expected)


def _check_loss(where: str, loss: LossConfig) -> None:
    fits = loss.name != "multi_target" or not loss.smoothing
    _check(f"{where}.smoothing", loss.smoothing, fits, "0 with multi_target: it would make every class right")
    fits = loss.name != "multi_target" or loss.mixed == "soft"
    _check(f"{where}.mixed", loss.mixed, fits, "soft with multi_target, which treats the classes of a label alike")
    named, weight = loss.regulariser != "none", loss.regulariser_weight
    _check(f"{where}.regulariser_weight", weight, named == (weight > 0), "more than 0 with a regulariser, else 0")
    _check(f"{where}.relabel", loss.relabel, not loss.relabel or loss.importance > 0, "0 without importance")


def _check_stage(config: Config, stage: StageConfig, where: str, loss: LossConfig) -> None:
    model, sampler = config.model, stage.sampler or config.data.sampler
    mixes = (config.augment.mixup and config.augment.mixup_probability * stage.mixup) or (
        config.augment.cutmix and config.augment.cutmix_probability * stage.cutmix
    )
    several = loss.name == "multi_target"
    _check(where, loss.name, not (several and mixes), "another loss, or no MixUp and CutMix: any class would be right")
    drawn = config.augment.draw_labels
    _check("augment.draw_labels", drawn, not (drawn and several), "0 with multi_target: one class would be left")
    _check(f"{where}.elr", loss.elr, not (loss.elr and mixes), "0 in a stage with MixUp or CutMix")
    expected = "0 with the balanced sampler: the classes are equally frequent already"
    _check(f"{where}.logit_adjust", loss.logit_adjust, not loss.logit_adjust or sampler != "balanced", expected)
    _check(
        f"{where}.importance", loss.importance, not loss.importance or bool(model.importance), "model.importance = 1"
    )
    alone = not (loss.importance and (model.twins or stage.distill))
    _check(f"{where}.importance", loss.importance, alone, "0 with model.twins or distill")
    _check(f"{where}.forget", loss.forget, not (loss.forget and stage.distill), "0 in a stage that distils")


def _check(path: str, value: Any, ok: bool, expected: str) -> None:
    if not ok:
        raise ConfigError(f"config.{path}: expected {expected}, found {value!r}")
