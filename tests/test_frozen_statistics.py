"""BatchNorm of pretrained networks: what is stored is used in training too, and stays, where a stage says so."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from emojax import averaging, data, metrics, models, parallel, paths, transitions, wiring
from emojax.config import ModelConfig, StageConfig
from emojax.errors import ConfigError

NETWORKS = {
    "resnet18": ModelConfig(name="resnet18", stem="small", depths=(1, 1), widths=(8, 16)),
    "resnet18, computed again": ModelConfig(
        name="resnet18", stem="small", depths=(1, 1), widths=(8, 16), remat="blocks"
    ),
    "twins": ModelConfig(name="resnet18", stem="small", depths=(1, 1), widths=(8, 16), twins=1),
}


def made(config):
    """(network, parameters, statistics that are not those of any batch, images)."""
    model = models.build(dataclasses.replace(config, dropout=0.0, drop_path=0.0), 3)
    params, stats = model.init(jax.random.key(0), 32)
    rng = np.random.default_rng(1)
    stats = jax.tree.map(lambda x: x + jnp.asarray(rng.uniform(0.1, 0.5, x.shape), x.dtype), stats)
    return model, params, stats, jnp.asarray(rng.normal(size=(4, 32, 32, 3)), jnp.float32)


@pytest.mark.parametrize("name", NETWORKS)
def test_on_stored_statistics_training_and_evaluation_are_one_function(name):
    model, params, stats, image = made(NETWORKS[name])
    evaluated, _ = model.apply(params, stats, image, train=False)
    trained, after = jax.jit(lambda *x: model.apply(*x, train=True, key=jax.random.key(2), stored=["."]))(
        params, stats, image
    )
    np.testing.assert_allclose(trained.logits, evaluated.logits, atol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, after, stats)
    usual, moved = model.apply(params, stats, image, train=True, key=jax.random.key(2))
    assert np.abs(usual.logits - evaluated.logits).max() > 1e-3
    assert not any(np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (moved, stats)), strict=True))


def test_only_statistics_that_match_are_stored():
    model, params, stats, image = made(NETWORKS["resnet18"])
    before = paths.flatten(stats)
    after = paths.flatten(model.apply(params, stats, image, train=True, key=jax.random.key(2), stored=["^stage1/"])[1])
    kept = {path for path in before if np.array_equal(before[path], after[path])}
    assert kept == {path for path in before if path.startswith("stage1/")} and kept < set(before)


@pytest.fixture
def parts(tmp_path, mesh):
    """Two stages: the head alone, then all on stored statistics."""
    config = tiny.config(
        tiny.make_folder(tmp_path),
        stages=(StageConfig(epochs=2, frozen="^(stem|stage)"), StageConfig(epochs=2, frozen_statistics="^stage1|stem")),
        average=tiny.AverageConfig(name="swa", swa_start=3, refresh_batches=2),
    )
    return wiring.build(config, data.open_dataset(config.data), mesh)


@pytest.mark.parametrize("number", [0, 1])
def test_a_stage_keeps_what_it_freezes(parts, number):
    state = wiring.initial_state(parts)
    before = paths.flatten({"params": state.params, "model_state": state.model_state})
    before = {path: np.array(leaf) for path, leaf in before.items()}
    totals = parallel.replicate(parts.mesh, metrics.TrainMetrics.empty())
    with wiring.train_batches(parts, parts.stages[0], start=0) as batches:
        batch = parallel.shard(parts.mesh, next(batches), accumulate=parts.config.optim.accumulate)
    state, _ = wiring.train_step(parts, parts.stages[number])[0](state, totals, batch, parts.key)
    after = paths.flatten({"params": state.params, "model_state": state.model_state})
    same = {path for path in before if np.array_equal(before[path], after[path])}
    statistics = {path for path in before if path.startswith("model_state")}
    if number == 0:
        assert statistics <= same and not any("/head/" in path for path in same)
    else:
        assert same & statistics == {path for path in statistics if "stage2" not in path and "head" not in path}
        assert not {path for path in same if path.startswith("params/stem/conv")}


def test_flags_of_a_pattern_are_its_own(parts):
    """Two patterns are never joined: flags stand at the start of one, and groups count from 1 in each."""
    stage = dataclasses.replace(parts.stages[0], frozen="(?i)^(STEM)", stored=("(?i)^(STEM)", r"^stage1/(\w+)/.*\1"))
    step, _ = wiring.train_step(parts, stage)
    jax.eval_shape(step, *wiring.step_shapes(parts, stage))


def test_statistics_of_an_average_stay_too(parts):
    state = wiring.initial_state(parts)
    state.model_state["stem"]["norm"]["mean"] += 0.25
    found = paths.flatten(transitions.refreshed(parts, state.params, state.model_state, image_size=16))
    for path, leaf in paths.flatten(state.model_state).items():
        assert np.array_equal(found[path], leaf) == ("stage2" not in path and "head" not in path), path
    same = averaging.refresh(lambda params, stats, image: stats, {}, {"mean": jnp.ones(1)}, [0, 0], stored=["mean"])
    assert float(same["mean"][0]) == 1.0


@pytest.mark.parametrize(
    ("name", "pattern", "words"),
    [
        (
            "resnet18",
            "^stage9",
            r"stages\[0\]\.frozen_statistics: '\^stage9' matches no statistic; top-level names are",
        ),
        ("convnext_atto", ".", r"frozen_statistics: '\.' matches no statistic; there are none"),
        ("resnet18", "/var$", r"matches no statistic"),
        ("resnet18", "(", r"frozen_statistics: '\(' is not a regular expression"),
    ],
)
def test_a_pattern_that_keeps_nothing_is_refused(tmp_path, name, pattern, words):
    config = tiny.config(tmp_path, stages=(StageConfig(epochs=1, frozen_statistics=pattern),), image_size=64)
    config.model = ModelConfig(name=name)
    with pytest.raises(ConfigError, match=words):
        wiring.check_model(config)
