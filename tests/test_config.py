"""Config: every knob is documented, checked, and survives JSON; overrides and their errors on the command line."""

import ast
import dataclasses
import re
from pathlib import Path

import pytest

from emojax import config as config_lib, config_json, main, recipes, validate as validate_lib
from emojax.config import (
    AugmentConfig,
    AverageConfig,
    Config,
    DataConfig,
    EvalConfig,
    LossConfig,
    OptimConfig,
    ScheduleConfig,
    StageConfig,
)
from emojax.errors import ConfigError
from emojax.validate import validate

ROOT = Path(__file__).resolve().parents[1]
RECIPES = sorted((ROOT / "configs").glob("*.py"))


def test_json_round_trip():
    config = Config(stages=(StageConfig(epochs=2, frozen="stem"), StageConfig(schedule=ScheduleConfig())))
    assert config_json.from_json(config_json.to_json(config)) == config


def test_json_of_another_version_is_refused():
    with pytest.raises(ConfigError, match="unknown keys \\['colour'\\]"):
        config_json.from_json('{"colour": 1}')


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, r"config.batch_size: expected a number in \[1"),
        ({"batch_size": 2.5}, "config.batch_size: expected a value of type int, found 2.5"),
        ({"batch_size": True}, "config.batch_size: expected a value of type int"),
        ({"seed": None}, "config.seed: expected a value of type int, found None"),
        ({"optim": OptimConfig(learning_rate=-1.0)}, "config.optim.learning_rate"),
        ({"optim": OptimConfig(learning_rate=float("nan"))}, "config.optim.learning_rate"),
        (
            {"optim": OptimConfig(name="adamx")},
            "config.optim.name: expected one of 'adamw', 'adam', .*'muon', found 'adamx'",
        ),
        (
            {"loss": LossConfig(name="hinge")},
            "config.loss.name: expected one of 'ce', 'focal', 'ce_focal', 'multi_target', 'ldam', .*found",
        ),
        (
            {"schedule": ScheduleConfig(name="poly")},
            "config.schedule.name: expected one of .*'onecycle', .*found 'poly'",
        ),
        ({"eval": EvalConfig(views="five")}, "config.eval.views: expected one of 'center', .*'sixteen', found 'five'"),
        ({"augment": AugmentConfig(policy="auto")}, "config.augment.policy: expected one of .*'randaugment'"),
        ({"augment": AugmentConfig(order=("crop", "blurr"))}, r"config.augment.order: .*grayscale, blur, .*blurr"),
        ({"data": DataConfig(classes=("happy",), path="x")}, "config.data.classes: expected two or more classes"),
        ({"data": DataConfig(folds=5, fold=5)}, "config.data.fold: expected a fold below data.folds = 5"),
        ({"stages": (StageConfig(distill=1),)}, "config.distill.teacher: expected best, or average.name with ema"),
        (
            {"stages": (StageConfig(distill=1),), "average": AverageConfig(name="ema")},
            r"config.stages\[0\].distill: expected 0 in the first stage: nothing has learned yet",
        ),
        ({"stages": (StageConfig(start_from="best"),)}, r"config.stages\[0\].start_from: expected '' in the first"),
        ({"stages": (StageConfig(judge="swa"),)}, r"config.stages\[0\].judge: expected weights, or an average"),
        (
            {"stages": (StageConfig(loss=LossConfig(name="", smoothing=0.1)),)},
            r"config.stages\[0\].loss.name: expected a name, since the stage's loss has other knobs set",
        ),
        (
            {"stages": (StageConfig(learning_rate=0.1),)},
            r"config.stages\[0\].learning_rate: expected 0, or a schedule of its own",
        ),
        ({"average": AverageConfig(soup=3)}, "config.average.soup: expected at most checkpoint.keep_best"),
        ({"optim": "adamw"}, "config.optim: expected OptimConfig"),
        ({"stages": ()}, "config.stages: expected at least one stage"),
        ({"stages": (3,)}, r"config.stages\[0\]: expected StageConfig"),
        ({"stages": (StageConfig(epochs=0),)}, r"config.stages\[0\].epochs"),
        (
            {"schedule": ScheduleConfig(warmup_epochs=30)},
            "config.schedule.warmup_epochs: expected less than the run's 30",
        ),
        (
            {"stages": (StageConfig(epochs=1, schedule=ScheduleConfig(warmup_epochs=2)),)},
            r"config.stages\[0\].schedule.warmup_epochs",
        ),
    ],
)
def test_bad_values_name_the_knob(change, message):
    with pytest.raises(ConfigError, match=message):
        validate(dataclasses.replace(Config(), **change))


def test_defaults_are_valid_and_every_number_has_a_range():
    validate(Config())
    for name, value in config_lib.items(Config()):
        key = re.sub(r"\[\d+\]", "", name)
        key = re.sub(r"^stages\.(loss|schedule)\.", r"\1.", key)
        if isinstance(value, int | float) and key != "stages.image_size":
            assert key in validate_lib._RANGES, f"{name} can be set to anything"


def test_every_knob_has_a_docstring():
    tree = ast.parse((ROOT / "emojax/config.py").read_text())
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            for i, item in enumerate(node.body):
                if isinstance(item, ast.AnnAssign) and node.name != "Config":
                    after = node.body[i + 1] if i + 1 < len(node.body) else None
                    assert isinstance(after, ast.Expr), f"{node.name}.{item.target.id} has no docstring"


def test_every_knob_is_read():
    text = "".join(p.read_text() for p in (ROOT / "emojax").rglob("*.py") if p.name not in ("config.py", "validate.py"))
    unread = [name for name, _ in config_lib.items(Config()) if not re.search(rf"\.{name.split('.')[-1]}\b", text)]
    assert not unread


def test_differences_ignore_what_cannot_change_the_numbers():
    old, new = Config(), Config(seed=1)
    new.data.workers = 3
    new.monitor.log_every = 1
    assert config_json.differences(old, new) == ["seed: 0 -> 1"]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda p: p.stem)
def test_recipes_are_valid_and_match_their_golden_file(recipe):
    text = config_json.to_json(validate(recipes.load(str(recipe)))) + "\n"
    golden = ROOT / "tests/golden" / f"config_{recipe.stem}.json"
    assert golden.exists() and golden.read_text() == text, (
        f"{recipe.name} resolves to another config than {golden.name}. If that is meant: scripts/update_golden.py"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=configs/nothing.py"], "no such file; recipes that ship with emojax: .*emoji.py"),
        (["--config=configs/emoji.py", "--config.optim.lerning_rate=1"], "did you mean optim.learning_rate"),
        (["--config=configs/emoji.py", "--config.seed=x"], "invalid literal for int"),
        (["--config=configs/emoji.py", "--config.batch_size=-1", "--workdir=runs/x"], "config.batch_size: expected"),
        (["--config=configs/emoji.py"], "--workdir is missing"),
        (["--config", "configs/nothing.py"], "no such file"),
        (["--config=emoji.py:large"], "emoji.py:large: the recipe has no variants, found 'large'"),
        (["--config=resnet_inspired.py:after"], "no variant 'after'; there are before"),
        (
            ["--config=emoji.py", "--config.stages[3].epochs=1"],
            r"an index is too large in config.stages\[3\]",
        ),
        (["--config=emoji.py", "--config.seed=-1", "--workdir=runs/x"], "config.seed: expected a number in"),
        ([], "--config is missing"),
    ],
)
def test_command_line_errors_are_one_line(arguments, message):
    import subprocess
    import sys

    command = [sys.executable, "-m", "emojax.main", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode not in (0, 1)
    assert re.search(message, done.stderr + done.stdout), done.stderr
    assert "Traceback" not in done.stderr


def test_find_recipe_falls_back_to_shipped_ones(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert recipes.find("configs/emoji.py").endswith("configs/emoji.py")
    assert recipes.find("emoji.py") == recipes.find("configs/emoji.py")
    path = recipes.find("emoji.py")
    assert main._find_recipes(["x", "--config", "emoji.py", "--workdir=x"]) == ["x", f"--config={path}", "--workdir=x"]


@pytest.mark.filterwarnings("ignore:the load_module")  # ml_collections loads a recipe so
def test_the_last_of_two_overrides_of_a_knob_counts():
    twice = ["--config.model.widths=(8,16)", "--config.seed=1", "--config.model.widths=(4,8,16)", "--config.seed=2"]
    config = main.config_from(["--config=emoji.py", *twice])
    assert config.model.widths == (4, 8, 16) and config.seed == 2
    apart = ["--config.model.widths", "(8,16)", "--config.model.widths=(4,8)", "--config.seed", "3"]
    config = main.config_from(["--config=emoji.py", *apart])
    assert config.model.widths == (4, 8) and config.seed == 3


def test_help_is_quick_and_exits_0():
    import subprocess
    import sys
    import time

    began = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "emojax.main", "--help"], capture_output=True, text=True, check=True)
    assert time.monotonic() - began < 3
    assert "--workdir" in done.stdout and "resumes the run exactly" in done.stdout
