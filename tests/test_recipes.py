"""Every recipe runs end to end in small; what the seed documents say about when things happen, step by step."""

import dataclasses
import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny
from reduced import reduced

from emojax import checkpoint, config_json, data, jsonl, optim, paths, recipes, stages as stages_lib, train, wiring
from emojax.config import AugmentConfig, Config
from emojax.data import pipeline
from emojax.errors import ConfigError
from emojax.validate import validate

ROOT = Path(__file__).resolve().parents[1]
RECIPES = sorted(path.name for path in (ROOT / "configs").glob("*.py"))
VARIANTS = [
    "mobilenet_inspired.py:before",
    "resnet50_emotion.py:attention",
    "resnet50_emotion.py:baseline",
    "resnet50_emotion.py:high_accuracy",
    "resnet50_emotion.py:efficientnet",
    "resnet50_emotion.py:vit",
]
"""Those that cross code which no recipe without a variant does; the lite EmoteNet is stopped and resumed below."""
EVERY_VARIANT = [
    *VARIANTS,
    "convnext_emotenet.py:lite",
    "convnext_emotenet.py:large",
    "convnext_emotenet.py:transfer",
    "affectnet_convnext_large.py:layer_decay",
    "squeezenet_inspired.py:before",
    "resnet_inspired.py:before",
    *(
        f"finetune_pretrained.py:{name}"
        for name in ("squeezenet", "resnet20", "convnext", "scratch", "resnet20_scratch")
    ),
    *(f"convnext_tiny_scratch.py:{name}" for name in ("size128", "size176", "resnet34", "resnet50", "linear_head")),
    *(f"convnext_tiny_scratch.py:{name}" for name in ("lower_drop", "gamma3", "no_mixing")),
    *(f"convnext_tiny_scratch.py:{name}" for name in ("no_randaugment", "never_stop", "ce", "no_ema", "decay_all")),
    *(f"convnext_tiny_scratch.py:{name}" for name in ("no_smoothing", "patch2")),
]
NOMINAL = 12_800
"""Training images for which the golden curves are drawn: a multiple of every recipe's batch."""
EPOCHS = (
    0,
    1,
    3,
    5,
    8,
    10,
    11,
    14,
    15,
    20,
    24,
    25,
    30,
    31,
    35,
    45,
    46,
    50,
    60,
    61,
    65,
    70,
    71,
    100,
    130,
    131,
    150,
    400,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.make_folder(tmp_path_factory.mktemp("data"), size=32)


@pytest.mark.parametrize("name", RECIPES)
def test_an_unknown_variant_of_any_recipe_is_told(name):
    with pytest.raises(ConfigError, match=r"no variants?\b.*'nope'") as error:
        recipes.load(f"{name}:nope")
    assert "there are ," not in str(error.value)


@pytest.mark.recipes
@pytest.mark.parametrize("name", [*RECIPES, *VARIANTS])
def test_every_stage_of_every_recipe_runs(tmp_path, folder, name):
    config = reduced(recipes.load(name), folder)
    train.run(config, tmp_path / "run")
    rows = jsonl.read(tmp_path / "run" / "metrics.jsonl")
    dataset = data.open_dataset(config.data)
    planned = stages_lib.plan(config, len(dataset.splits["train"]))
    evaluated = {row["step"] for row in rows if row["kind"] == "eval"}
    assert {stage.stop for stage in planned} <= evaluated, "a stage did not end with an evaluation"
    assert all(np.isfinite(row["loss"]) for row in rows if row["kind"] in ("train", "eval"))
    found = json.loads((tmp_path / "run/report/test.json").read_text())
    assert found["n"] == 12 and [row["name"] for row in found["stages"]] == [stage.name for stage in planned]
    assert sum(row["chosen"] for row in found["candidates"]) == 1


@pytest.mark.recipes
@pytest.mark.parametrize("name", ["resnet50_emotion.py", "convnext_emotenet.py:lite"])
def test_bfloat16_and_recomputation_go_with_all_the_rest(tmp_path, folder, name):
    config = reduced(recipes.load(name), folder, own_compute=True)
    assert (config.model.compute, config.model.remat) == ("bfloat16", "blocks")
    config = dataclasses.replace(config, stages=(config.stages[0], config.stages[-1]))
    config.average.swa_start, config.schedule.warmup_epochs = 1.0, 0.0
    train.run(config, tmp_path / "run")
    rows = [row for row in jsonl.read(tmp_path / "run" / "metrics.jsonl") if row["kind"] in ("train", "eval")]
    assert all(np.isfinite(row["loss"]) for row in rows) and len({row["step"] for row in rows}) >= 2


@pytest.mark.recipes
@pytest.mark.parametrize(
    ("name", "steps"), [("convnext_emotenet.py:lite", (20, 26)), ("affectnet_convnext_large.py", (20, 28))]
)
def test_a_stopped_run_of_a_seed_goes_on_bit_for_bit(tmp_path, folder, monkeypatch, name, steps):
    """Stopped where there are a teacher, snapshots, weights from a checkpoint, and an optimizer made afresh."""
    config = reduced(recipes.load(name), folder)
    train.run(config, tmp_path / "whole")
    original = train._log
    for step in steps:

        def stop(pending, monitor, step=step):
            if pending and pending[0] == step:
                raise KeyboardInterrupt
            original(pending, monitor)

        monkeypatch.setattr(train, "_log", stop)
        with pytest.raises(KeyboardInterrupt):
            train.run(config, tmp_path / "stopped")
        monkeypatch.undo()
    train.run(config, tmp_path / "stopped")

    def left(run):
        keeper = checkpoint.Checkpointer(tmp_path / run, config.checkpoint)
        meta = keeper.meta(keeper.latest())
        keeper.close()
        lines = [r for r in jsonl.read(tmp_path / run / "metrics.jsonl") if r["kind"] in ("train", "eval")]
        return meta.digests, lines, json.loads((tmp_path / run / "report/val.json").read_text())["candidates"]

    assert left("stopped") == left("whole")


@pytest.mark.parametrize("name", EVERY_VARIANT)
def test_every_variant_changes_what_its_golden_entry_says(name):
    validate(recipes.load(name))
    found = changes(name)
    golden = json.loads((ROOT / "tests/golden/variants.json").read_text())
    assert found["knobs"] and golden.get(name) == found, f"if that is meant: scripts/update_golden.py; found {found}"


def changes(name: str) -> dict:
    """What a variant changes: the knobs, and the learning-rate curve where it is another."""
    base, config = recipes.load(recipes.split(name)[0]), recipes.load(name)
    found: dict = {"knobs": config_json.differences(base, config)}
    return found if curve(config) == curve(base) else found | {"learning_rates": curve(config)}


def test_an_unknown_variant_lists_the_known_ones():
    with pytest.raises(ConfigError, match="no variant 'huge'; there are large, lite, transfer"):
        recipes.load("convnext_emotenet.py:huge")


def curve(config: Config) -> dict[str, float]:
    """epoch -> learning rate of the update with which that epoch begins; the last one stands for the end."""
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, path="x"))
    stages = stages_lib.plan(config, NOMINAL)
    rate, per_epoch = optim.learning_rate(stages), stages_lib.steps_per_epoch(config, NOMINAL)
    end = stages[-1].stop / per_epoch
    return {f"{epoch}": float(f"{float(rate(round(epoch * per_epoch))):.5g}") for epoch in EPOCHS if epoch <= end}


@pytest.mark.parametrize("name", RECIPES)
def test_learning_rates_match_their_golden_curve(name):
    golden = json.loads((ROOT / "tests/golden/learning_rates.json").read_text())
    found = curve(recipes.load(name))
    assert golden.get(name) == pytest.approx(found, rel=1e-4), f"the curve of {name} is now {json.dumps(found)}"


def test_regression_01_restarts_of_002_and_cycles_of_000():
    golden = curve(recipes.load("resnet_inspired.py"))
    for epoch in ("0", "10", "30", "70"):
        assert golden[epoch] == pytest.approx(1e-3), "a cycle begins at its peak"
    assert golden["100"] == pytest.approx(1e-6 + 0.999e-3 * 0.5 * (1 + np.cos(np.pi * 30 / 80)), rel=1e-4)
    emote = curve(recipes.load("convnext_emotenet.py"))
    assert emote["15"] == pytest.approx(5e-5) and emote["5"] < 2e-5 and emote["400"] == pytest.approx(1e-6, rel=1e-3)
    config = recipes.load("convnext_emotenet.py")
    stages = stages_lib.plan(config, NOMINAL)
    teach = [step / stages_lib.steps_per_epoch(config, NOMINAL) for stage in stages for step in stage.teach]
    assert teach[0] == 20 and len(teach) == 6  # where distillation starts, then at five restarts of six cycles
    assert teach[1] == pytest.approx(15 + 385 / 6, abs=0.02)


def test_regression_01_onecycle_of_003_counts_updates():
    config = recipes.load("resnet50_emotion.py")
    stages = stages_lib.plan(config, NOMINAL)
    assert stages[-1].stop == 100 * NOMINAL // (32 * 4)
    rate = optim.learning_rate(stages)
    assert float(rate(0)) == pytest.approx(5e-3 / 25)
    assert float(rate(stages[-1].stop - 1)) == pytest.approx(5e-3 / 25 / 1e4, rel=1e-2)


def state_and_batches(name, folder, mesh, *, stage_epochs=1.0, **changes):
    config = reduced(recipes.load(name), folder, stage_epochs=stage_epochs)
    config = dataclasses.replace(config, **changes)
    return wiring.build(validate(config), data.open_dataset(config.data), mesh)


@pytest.mark.recipes
def test_regression_02_the_recipe_has_a_teacher_that_changes_the_loss(folder, mesh, tmp_path):
    """At epoch 20 of seed 000 there is a teacher, and a step with it differs from one without."""
    from emojax import metrics, parallel, transitions
    from emojax.config import CheckpointConfig

    parts = state_and_batches("convnext_emotenet.py:lite", folder, mesh)  # its head compiles in a fraction of the time
    config = recipes.load("convnext_emotenet.py")
    start = next(stage for stage in stages_lib.plan(config, NOMINAL) if stage.distill)
    assert start.start == 20 * NOMINAL // 128 and start.teach[0] == start.start
    stage = next(stage for stage in parts.stages if stage.distill)
    keeper = checkpoint.Checkpointer(tmp_path, CheckpointConfig())
    state = wiring.initial_state(parts)
    assert state.teacher == {}
    # a teacher that disagrees with the student
    moved = jax.tree.map(lambda x: x + 0.05, state.average["ema"]["params"])
    state = dataclasses.replace(state, average={**state.average, "ema": {**state.average["ema"], "params": moved}})
    state = transitions.taught(parts, state, keeper)
    keeper.close()
    for a, b in zip(jax.tree.leaves(state.teacher["params"]), jax.tree.leaves(moved), strict=True):
        np.testing.assert_array_equal(a, b)
    with wiring.train_batches(parts, stage, start=0) as batches:
        batch = parallel.shard(mesh, next(batches), accumulate=2)
    empty = parallel.replicate(mesh, metrics.TrainMetrics.empty())
    losses = {}
    for distil in (True, False):
        step, _ = wiring.train_step(parts, dataclasses.replace(stage, distill=distil))
        _, totals = step(jax.tree.map(lambda x: x.copy(), state), empty, batch, parts.key)
        losses[distil] = totals.compute()["loss"]
    assert np.isfinite(losses[True]) and abs(losses[True] - losses[False]) > 1e-3


def test_regression_07_mixing_stops_and_phases_switch_at_the_exact_epoch():
    scratch = recipes.load("convnext_tiny_scratch.py")
    mixed, clean = stages_lib.plan(scratch, NOMINAL)
    assert mixed.stop == clean.start == 130 * NOMINAL // 256
    assert (mixed.mixup, mixed.cutmix, clean.mixup, clean.cutmix) == (1, 1, 0, 0)
    assert (mixed.loss.name, clean.loss.name, clean.loss.smoothing) == ("focal", "ce", 0.05)
    never = stages_lib.plan(recipes.load("convnext_tiny_scratch.py:never_stop"), NOMINAL)
    assert never[1].mixup == never[1].cutmix == 1
    emote = recipes.load("convnext_emotenet.py")
    planned = stages_lib.plan(emote, NOMINAL)

    def at(epoch):
        step = epoch * NOMINAL // 128
        return next(stage for stage in planned if stage.start <= step < stage.stop)

    expected = {
        0: 0.3,
        7: 0.3,
        8: 0.6,
        14: 0.6,
        15: 0.8,
        24: 0.8,
        25: 1.0,
        34: 1.0,
        35: 1.1,
        49: 1.1,
        50: 1.1,
        399: 1.1,
    }
    assert {epoch: at(epoch).strength for epoch in expected} == expected
    assert (at(0).mixup, at(1).mixup, at(2).cutmix, at(3).cutmix) == (0, 0.3, 0, 0.3)
    assert (at(4).loss.mixed, at(5).loss.mixed) == ("dominant", "soft")


def test_regression_07_clean_batches_hold_whole_labels(folder):
    """The batches themselves, not only the plan: before the switch all are mixed, after it none is."""
    config = reduced(recipes.load("convnext_tiny_scratch.py"), folder)
    split = data.open_dataset(config.data).splits["train"]
    shares = []
    for stage in stages_lib.plan(config, len(split)):
        options = dict(size=16, batch_size=8, seed=0, strength=1.0, sampler="shuffle", start=0, stop=6)
        augment = dataclasses.replace(AugmentConfig(), mixup=5.0, cutmix=5.0)  # shares far from 0 and 1
        with pipeline.train_batches(split, augment=augment, mixup=stage.mixup, cutmix=stage.cutmix, **options) as found:
            shares.append([float((batch.label.max(1) < 1).mean()) for batch in found])
    assert min(shares[0]) > 0 and max(shares[1]) == 0


@pytest.mark.recipes
def test_regression_09_the_recipe_thaws_its_backbone_in_the_fourth_epoch(folder, tmp_path):
    config = recipes.load("convnext_emotenet.py")
    frozen = [stage for stage in stages_lib.plan(config, NOMINAL) if stage.frozen]
    assert frozen[-1].stop == 3 * NOMINAL // 128 and frozen[0].start == 0
    small = reduced(recipes.load("convnext_emotenet.py:lite"), folder)
    small = dataclasses.replace(small, schedule=dataclasses.replace(small.schedule, name="constant", warmup_epochs=0))
    small.optim.learning_rate = 1e-2
    from emojax import metrics, parallel

    with parallel.mesh() as mesh:
        parts = wiring.build(validate(small), data.open_dataset(small.data), mesh)
        state = wiring.initial_state(parts)
        before = jax.device_get(paths.flatten(state.params))
        totals = parallel.replicate(mesh, metrics.TrainMetrics.empty())
        seen = {}
        for stage in parts.stages[:3]:
            step, _ = wiring.train_step(parts, stage)
            with wiring.train_batches(parts, stage, start=stage.start) as batches:
                for batch in batches:
                    state, totals = step(state, totals, parallel.shard(mesh, batch, accumulate=2), parts.key)
            after = jax.device_get(paths.flatten(state.params))
            seen[stage.number] = {path for path in before if not np.array_equal(before[path], after[path])}
    frozen_count = len([stage for stage in parts.stages[:3] if stage.frozen])
    body = {path for path in before if re.match("stem|stage|head/norm/", path)}  # ConvNeXt's last norm too
    assert "head/norm/scale" in body
    assert frozen_count == 2
    assert not seen[1] & body and seen[1], "while the backbone is frozen only the head moves"
    assert len(seen[2] & body) > len(body) / 2


def test_regression_12_val_keeps_its_last_batch_and_selection_never_sees_test(folder, tmp_path, monkeypatch):
    config = dataclasses.replace(tiny.config(folder), stages=(tiny.StageConfig(epochs=2),))
    judged = []
    original = wiring.predictions

    def watch(parts, weights, split, **options):
        judged.append((split.name, len(original_split := split)))
        found = original(parts, weights, original_split, **options)
        assert (found.weight > 0).sum() == len(split)
        return found

    monkeypatch.setattr(wiring, "predictions", watch)
    train.run(config, tmp_path / "run")
    assert len(data.open_dataset(config.data).splits["val"]) % config.batch_size, "the last batch must be a partial one"
    assert judged[-1][0] == "test" and [name for name, _ in judged].count("test") == 1
    assert all(name == "val" for name, _ in judged[:-1])
