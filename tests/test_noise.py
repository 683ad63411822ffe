"""The kit against wrong labels: each part by hand, and inside steps: weights of 0, accumulation, resuming, devices."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from emojax import (
    checkpoint,
    data,
    models,
    noise,
    objective,
    opening,
    optim,
    parallel,
    paths,
    resume,
    stages,
    step,
    train,
    transitions,
    wiring,
)
from emojax.config import (
    AugmentConfig,
    AverageConfig,
    CheckpointConfig,
    Config,
    LossConfig,
    ModelConfig,
    OptimConfig,
    StageConfig,
)
from emojax.errors import ConfigError
from emojax.judging import Run
from emojax.loop import Loop
from emojax.train_metrics import TrainMetrics
from emojax.types import Batch, ModelOutput
from emojax.validate import validate

LN2 = float(np.log(2))
ONES = jnp.ones(4)
LOGITS = jnp.log(jnp.array([[0.8, 0.2], [0.6, 0.4], [0.1, 0.9], [0.5, 0.5]]))
LABEL = jnp.array([[1.0, 0], [0, 1], [1, 0], [0.5, 0.5]])
CE = -(LABEL * jnp.log(jnp.array([[0.8, 0.2], [0.6, 0.4], [0.1, 0.9], [0.5, 0.5]]))).sum(-1)


def test_elr_by_hand():
    target = noise.remembered(jnp.array([[0.5, 0.5]]), LOGITS[:1], 0.75)
    np.testing.assert_allclose(target, [[0.75 * 0.5 + 0.25 * 0.8, 0.75 * 0.5 + 0.25 * 0.2]], rtol=1e-6)
    found = noise.early_learning(LOGITS[:1], jnp.array([[0.5, 0.25]]))
    np.testing.assert_allclose(found, [np.log(1 - (0.8 * 0.5 + 0.2 * 0.25))], rtol=1e-5)
    # Its gradient makes the class that was predicted early likelier.
    slope = jax.grad(lambda z: noise.early_learning(z, jnp.array([[0.9, 0.0]])).sum())(LOGITS[:1])
    assert float(slope[0, 0]) < 0 < float(slope[0, 1])


def test_small_losses_by_hand():
    each, weight = jnp.array([3.0, 1.0, 2.0, 9.0, 0.0]), jnp.array([1.0, 2.0, 1.0, 1.0, 0.0])
    np.testing.assert_array_equal(noise.small_losses(each, weight, 0.25), [1, 2, 1, 0, 0])  # 3 of 4
    np.testing.assert_array_equal(noise.small_losses(each, weight, 0.5), [0, 2, 1, 0, 0])
    np.testing.assert_array_equal(noise.small_losses(each, weight, 0.99), [0, 2, 0, 0, 0])
    np.testing.assert_array_equal(noise.small_losses(each, weight, 0.0), weight)
    found = [float(noise.forget_rate(jnp.asarray(n), 0.2, 10.0)) for n in (0, 5, 10, 99)]
    assert found == pytest.approx([0, 0.1, 0.2, 0.2])
    assert float(noise.forget_rate(jnp.asarray(0), 0.2, 0.0)) == pytest.approx(0.2)


def test_scn_by_hand():
    importance, weight = jnp.array([0.9, 0.2, 0.5, 0.6, 0.99]), jnp.array([1.0, 1, 1, 1, 0])
    low = noise.unimportant(importance, weight, 0.5)
    np.testing.assert_array_equal(low, [False, True, True, False, False])
    rank = noise.rank_regulariser(importance, low, weight, 0.6)
    assert float(rank) == pytest.approx(0.6 - (0.75 - 0.35))
    assert float(noise.rank_regulariser(importance, low, weight, 0.3)) == 0  # already further apart
    np.testing.assert_allclose(
        jax.grad(noise.rank_regulariser)(importance, low, weight, 0.6), [-0.5, 0.5, 0.5, -0.5, 0], rtol=1e-6
    )
    alone = noise.unimportant(importance, jnp.array([1.0, 0, 0, 0, 0]), 0.5)
    assert not np.any(alone) and float(noise.rank_regulariser(importance, alone, weight.at[1:].set(0), 0.6)) == 0
    low = jnp.array([True, True, True, False])
    # 0.8 on its own label; 0.6 leads 0.4 by 0.2; 0.9 leads 0.1 by 0.8; the last one is important.
    np.testing.assert_allclose(noise.relabelled(LABEL, LOGITS, low, 0.25), [[1, 0], [0, 1], [0, 1], [0.5, 0.5]])
    np.testing.assert_allclose(noise.relabelled(LABEL, LOGITS, low, 0.15), [[1, 0], [1, 0], [0, 1], [0.5, 0.5]])


def test_divergence_by_hand():
    one, other = jnp.array([[100.0, 0.0]]), jnp.array([[0.0, 100.0]])
    np.testing.assert_allclose(noise.divergence(one, other), [LN2], rtol=1e-5)
    np.testing.assert_allclose(noise.divergence(LOGITS, LOGITS + 3.0), 0, atol=1e-6)
    m = np.array([0.45, 0.55])  # of (0.8, 0.2) and (0.1, 0.9)
    expected = sum(0.5 * (p * np.log(p / m)).sum() for p in (np.array([0.8, 0.2]), np.array([0.1, 0.9])))
    np.testing.assert_allclose(noise.divergence(LOGITS[:1], LOGITS[2:3]), [expected], rtol=1e-5)
    slope = jax.grad(lambda a: noise.divergence(a, 1e4 * other).sum())(1e4 * one)
    assert np.all(np.isfinite(slope))


def judged(config, *, weight=ONES, at=0, start=0, class_weight=None, **parts):
    output = ModelOutput(LOGITS, jnp.zeros((4, 2)), (), parts.pop("importance", None), parts.pop("twins", ()))
    seen = step.Seen(output, parts.pop("mirrored", None), None, LABEL, weight, parts.pop("target", None), jnp.int32(at))
    made = objective.make(config, class_weight=class_weight, mass=None, teaching=None, per_epoch=10.0, start=start)
    return made(seen)


def test_the_objective_without_a_kit_is_the_loss():
    found = judged(LossConfig(regulariser="entropy", regulariser_weight=0.5))
    ((each, weight),) = found.terms
    entropy = -(jnp.exp(LOGITS) * LOGITS).sum(-1)
    np.testing.assert_allclose(each, CE + 0.5 * entropy, rtol=1e-5)
    assert weight is ONES and found.target is None


def test_the_objective_adds_what_is_on():
    target = jnp.full((4, 2), 0.25)
    config = LossConfig(elr=3.0, elr_momentum=0.5, flip_consistency=2.0)
    found = judged(config, target=target, mirrored=ModelOutput(LOGITS[::-1], jnp.zeros((4, 2))))
    new = noise.remembered(target, LOGITS, 0.5)
    expected = CE + 3 * noise.early_learning(LOGITS, new) + 2 * noise.divergence(LOGITS, LOGITS[::-1])
    np.testing.assert_allclose(found.terms[0][0], expected, rtol=1e-5)
    np.testing.assert_allclose(found.target, new)


def test_the_objective_forgets_large_losses_more_and_more():
    config = LossConfig(forget=0.5, forget_epochs=2)  # 20 updates
    kept = [judged(config, at=at).terms[0][1].tolist() for at in (0, 10, 20, 40)]
    # CE: 0.22, 0.92, 2.30, 0.69
    assert kept == [[1, 1, 1, 1], [1, 1, 0, 1], [1, 0, 0, 1], [1, 0, 0, 1]]
    again = [judged(config, at=at, start=30).terms[0][1].tolist() for at in (30, 40, 50)]
    assert again == kept[:3], "a network that starts anew has no losses to go by yet"


def test_class_weights_make_no_label_doubtful():
    """Or all examples of a rare class would be left out as wrong."""
    config, weight = LossConfig(forget=0.5, forget_epochs=0), np.float32([20, 1])
    ((each, kept),) = judged(config, class_weight=weight).terms
    np.testing.assert_allclose(each, -(LABEL * weight * LOGITS).sum(-1), rtol=1e-5)
    assert not np.array_equal(np.argsort(each), np.argsort(CE)), "the weights would have chosen others"
    np.testing.assert_array_equal(kept, judged(config).terms[0][1])
    twins = judged(config, class_weight=weight, twins=(LOGITS, LOGITS[::-1])).terms
    for (_, found), (_, expected) in zip(twins, judged(config, twins=(LOGITS, LOGITS[::-1])).terms, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_twins_learn_from_each_others_small_losses():
    other = LOGITS[::-1]
    found = judged(LossConfig(forget=0.5, forget_epochs=0), twins=(LOGITS, other))
    (first, by_second), (second, by_first) = found.terms
    np.testing.assert_allclose(first, CE, rtol=1e-5)
    np.testing.assert_allclose(second, -(LABEL * other).sum(-1), rtol=1e-5)
    np.testing.assert_array_equal(by_first, np.isin(np.arange(4), np.argsort(np.asarray(first))[:2]))
    np.testing.assert_array_equal(by_second, np.isin(np.arange(4), np.argsort(np.asarray(second))[:2]))
    assert by_first.tolist() != by_second.tolist()


def test_scn_in_the_objective():
    importance = jnp.array([0.9, 0.2, 0.5, 0.6])
    config = LossConfig(importance=0.4, importance_share=0.5, importance_margin=0.6, relabel=0.2)
    ((each, _),) = judged(config, importance=importance).terms
    logits = LOGITS * importance[:, None]
    label = LABEL.at[2].set(jnp.array([0.0, 1.0]))  # sqrt(0.1) : sqrt(0.9) = 1 : 3, a lead of 0.5; 1 is no lead of 0.2
    expected = 0.6 * -(label * jax.nn.log_softmax(logits)).sum(-1) + 0.4 * (0.6 - 0.4)
    np.testing.assert_allclose(each, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": LossConfig(elr=1.0)}, r"config\.loss\.elr: expected 0 in a stage with MixUp or CutMix"),
        ({"loss": LossConfig(name="multi_target")}, r"config\.loss: expected another loss, or no MixUp and CutMix"),
        ({"loss": LossConfig(name="multi_target", mixed="parts")}, r"config\.loss\.mixed: expected soft"),
        ({"loss": LossConfig(importance=0.5)}, r"config\.loss\.importance: expected model\.importance = 1"),
        ({"model": ModelConfig(importance=1)}, r"config\.model\.importance: expected 0 where no loss has importance"),
        ({"loss": LossConfig(relabel=0.2)}, r"config\.loss\.relabel: expected 0 without importance"),
        ({"stages": (StageConfig(restart="^head"),)}, r"config\.stages\[0\]\.restart: expected ''"),
        ({"loss": LossConfig(regulariser="entropy")}, r"config\.loss\.regulariser_weight: expected more than 0 with"),
        ({"loss": LossConfig(regulariser_weight=0.1)}, r"config\.loss\.regulariser_weight: expected more than 0 with"),
        (
            {"stages": (StageConfig(), StageConfig(restart=".", distill=1))},
            r"config\.stages\[1\]\.restart: expected '' in a stage that distils from ema",
        ),
        (
            {"loss": LossConfig(logit_adjust=1.0), "stages": (StageConfig(), StageConfig(sampler="balanced"))},
            r"config\.loss\.logit_adjust: expected 0 with the balanced sampler",
        ),
        (
            {"model": ModelConfig(twins=1), "optim": OptimConfig(name="muon")},
            r"config\.model\.twins: expected 0 with optim\.name lamb or muon",
        ),
        (
            {"stages": (StageConfig(), StageConfig(distill=1, loss=LossConfig(forget=0.1)))},
            r"config\.stages\[1\]\.loss\.forget: expected 0 in a stage that distils",
        ),
    ],
)
def test_what_cannot_be_is_said(changes, message):
    augment = dataclasses.replace(Config().augment, mixup=0.2)
    with pytest.raises(ConfigError, match=message):
        validate(Config(augment=augment, average=AverageConfig(name="ema"), **changes))


def test_a_drawn_label_is_no_set_of_right_answers():
    config = Config(loss=LossConfig(name="multi_target"), augment=AugmentConfig(draw_labels=1))
    with pytest.raises(ConfigError, match=r"config\.augment\.draw_labels: expected 0 with multi_target"):
        validate(config)


# ---- inside of steps ----


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.make_folder(tmp_path_factory.mktemp("data"))


def built(folder, mesh, **changes):
    """A run of one small convolutional network without dropout; `model`, `loss` and others on top."""
    norm = changes.pop("norm", False)
    name = "resnet18" if norm else "convnext_atto"
    widths = {"stem": "small2", "depths": (1,), "widths": (8,)} if norm else {"depths": (1,), "widths": (8,)}
    model = ModelConfig(name=name, **({"stem": "small"} | widths), **changes.pop("model", {}))
    values = dict(
        model=model,
        augment=Config().augment,
        optim=OptimConfig(learning_rate=1e-2),
        average=AverageConfig(),
        stages=(StageConfig(epochs=2),),
    )
    config = validate(tiny.config(folder, **(values | changes)))
    return wiring.build(config, data.open_dataset(config.data), mesh)


def some_batch(rows=8, *, seed=0, weight=None):
    rng = np.random.default_rng(seed)
    return Batch(
        rng.integers(0, 256, (rows, 16, 16, 3), dtype=np.uint8),
        np.eye(3, dtype=np.float32)[rng.integers(0, 3, rows)],
        np.ones(rows, np.float32) if weight is None else np.asarray(weight, np.float32),
        np.arange(rows, dtype=np.int32),
    )


def stepped(parts, batches, state=None, stage=0):
    state = wiring.initial_state(parts) if state is None else state
    train_step, _ = wiring.train_step(parts, parts.stages[stage])
    for batch in batches:
        totals = parallel.replicate(parts.mesh, TrainMetrics.empty())
        placed = parallel.shard(parts.mesh, batch, accumulate=parts.config.optim.accumulate)
        state, _ = train_step(state, totals, placed, parts.key)
    return state


def leaves_equal(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


KIT = LossConfig(
    name="gce", logit_adjust=0.5, elr=1.0, forget=0.25, forget_epochs=0, importance=0.5, relabel=0.1,
    flip_consistency=1.0, smoothing=0.1,
)  # fmt: skip


def test_rows_of_weight_zero_change_nothing_in_the_whole_kit(folder, mesh):
    parts = built(folder, mesh, model={"importance": 1}, loss=KIT)
    weight = np.array([1, 1, 0, 1, 0, 1, 1, 2])
    one, other = some_batch(weight=weight), some_batch(weight=weight, seed=1)
    image = np.where((weight > 0)[:, None, None, None], one.image, other.image)
    index = np.where(weight > 0, one.index, -1)
    a, b = stepped(parts, [one]), stepped(parts, [dataclasses.replace(one, image=image, index=index.astype(np.int32))])
    leaves_equal((a.params, a.memory), (b.params, b.memory))


def test_the_memory_follows_the_records(folder, mesh):
    parts = built(folder, mesh, loss=LossConfig(elr=1.0, elr_momentum=0.75))
    batch = some_batch(weight=[1, 1, 1, 1, 1, 1, 0, 1])
    batch.index[:] = [5, 40, 7, 5, 0, 1, 2, -1]
    before = wiring.initial_state(parts)
    assert before.memory["target"].shape == (48, 3)
    output, _ = parts.model.apply(before.params, {}, parts.model.normalised(jnp.asarray(batch.image)), train=False)
    p = np.asarray(jax.nn.softmax(output.logits))
    expected = np.zeros((48, 3), np.float32)
    for row, record in enumerate(batch.index):
        if batch.weight[row] and record >= 0:
            expected[record] += 0.25 * p[row]  # record 5 is there twice
    after = stepped(parts, [batch], before)
    np.testing.assert_allclose(after.memory["target"], expected, atol=1e-5)


def test_a_step_that_is_no_number_leaves_the_memory(folder, mesh):
    for accumulate in (1, 2):
        optimizer = OptimConfig(learning_rate=1e-2, accumulate=accumulate)
        parts = built(folder, mesh, loss=LossConfig(elr=1.0), optim=optimizer, batch_size=8 // accumulate)
        state = stepped(parts, [some_batch()])
        kept = np.array(state.memory["target"])
        bad = some_batch(seed=1)
        bad.label[-1] = np.nan
        after = stepped(parts, [bad], state)
        np.testing.assert_array_equal(after.memory["target"], kept)
        assert np.any(kept)


def test_elr_under_accumulation_is_that_of_the_large_batch(folder, mesh):
    results = []
    for accumulate in (1, 2):
        optimizer = OptimConfig(learning_rate=1e-2, accumulate=accumulate)
        loss = LossConfig(elr=1.0, flip_consistency=1.0)
        parts = built(folder, mesh, loss=loss, optim=optimizer, batch_size=16 // accumulate)
        results.append(stepped(parts, [some_batch(16)]))
    for a, b in zip(*(jax.tree.leaves((r.params, r.memory)) for r in results), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


def test_the_memory_comes_back_to_the_bit(folder, mesh, tmp_path):
    parts = built(folder, mesh, model={"importance": 1, "products": "bfloat16"}, loss=KIT)
    batches = [some_batch(seed=seed) for seed in range(3)]
    state = stepped(parts, batches[:2])
    keeper = checkpoint.Checkpointer(tmp_path, CheckpointConfig())
    Run(parts, keeper, None, None, tmp_path).save(state, Loop(), parts.stages[0])
    restored, meta = wiring.restored(parts, keeper, 2)
    keeper.close()
    assert any(path.startswith("memory/") for path in meta.digests)
    leaves_equal(restored, state)
    on, again = stepped(parts, batches[2:], restored), stepped(parts, batches)
    leaves_equal(on, again)
    assert not np.array_equal(on.memory["target"], np.zeros((48, 3)))


def test_twins_are_two_networks_that_do_not_know_each_other(folder, mesh):
    """Without co-teaching: each is the network that the same start would give alone."""
    model = models.build(ModelConfig(name="resnet18", stem="small2", depths=(1,), widths=(8,)), 3)
    pair = models.build(ModelConfig(name="resnet18", stem="small2", depths=(1,), widths=(8,), twins=1), 3)
    params, state = pair.init(jax.random.key(0), 16)
    assert list(paths.flatten(params)) == list(paths.flatten(model.init(jax.random.key(0), 16)[0]))
    image = jax.random.normal(jax.random.key(1), (4, 16, 16, 3))
    output, moved = pair.apply(params, state, image, train=True)
    probs = []
    for i in (0, 1):
        one, one_state = (jax.tree.map(lambda x, i=i: x[i], tree) for tree in (params, state))
        alone, alone_moved = model.apply(one, one_state, image, train=True)
        np.testing.assert_allclose(output.twins[i], alone.logits, atol=1e-5)
        leaves_equal(jax.tree.map(lambda x, i=i: x[i], moved), alone_moved)
        probs.append(jax.nn.softmax(alone.logits))
    assert not np.allclose(*probs, atol=1e-3)
    np.testing.assert_allclose(jnp.exp(output.logits), sum(probs) / 2, rtol=1e-5)
    parts = built(folder, mesh, norm=True, model={"twins": 1}, loss=LossConfig(forget=0.5, forget_epochs=0))
    before = wiring.initial_state(parts)
    kept = jax.tree.map(np.asarray, before.params)
    after = stepped(parts, [some_batch()], before)
    moved = jax.tree.map(lambda a, b: np.abs(np.asarray(a) - b).reshape(2, -1).max(1), after.params, kept)
    assert all(np.all(x > 0) for x in moved["head"]["dense"].values())


def test_classifier_retraining(folder, mesh):
    """A stage with a frozen body, a new head and a balanced sampler (arXiv:1910.09217)."""
    again = StageConfig(epochs=1, frozen="^(?!head/)", restart="^head/", sampler="balanced")
    parts = built(
        folder, mesh, norm=True, stages=(StageConfig(epochs=1), again), average=AverageConfig(name="ema", decay=0.5)
    )
    assert [s.sampler for s in parts.stages] == ["shuffle", "balanced"] and parts.stages[1].fresh
    state = stepped(parts, [some_batch(seed=seed) for seed in range(parts.stages[0].stop)])
    old = jax.tree.map(np.asarray, dataclasses.asdict(state))
    state = transitions.entered(parts, parts.stages[1], state, None)
    for tree in (state.params, state.average["ema"]["params"]):
        flat = paths.flatten(tree)
        changed = {path for path, x in flat.items() if not np.array_equal(x, paths.flatten(old["params"])[path])}
        assert "head/dense/kernel" in changed
    new = {path for path, x in paths.flatten(state.params).items() if path.startswith("stage")}
    for path in new:
        np.testing.assert_array_equal(paths.flatten(state.params)[path], paths.flatten(old["params"])[path])
    np.testing.assert_array_equal(
        state.params["head"]["dense"]["kernel"], state.average["ema"]["params"]["head"]["dense"]["kernel"]
    )
    drawn = np.asarray(state.params["head"]["dense"]["kernel"])
    body = jax.tree.map(np.asarray, (state.params["stage1"], state.model_state))
    after = stepped(parts, [some_batch()], state, stage=1)
    leaves_equal(body, (after.params["stage1"], after.model_state))
    assert not np.array_equal(after.params["head"]["dense"]["kernel"], drawn)


def test_a_network_that_starts_anew_forgets_what_the_old_one_predicted(folder, mesh):
    loss = LossConfig(elr=3.0, forget=0.4, forget_epochs=1.0)
    again = StageConfig(epochs=1, restart=".")
    parts = built(folder, mesh, norm=True, loss=loss, stages=(StageConfig(epochs=1), again, StageConfig(epochs=1)))
    assert [stage.anew for stage in parts.stages] == [0, parts.stages[1].start, parts.stages[1].start]
    state = stepped(parts, [some_batch(seed=seed) for seed in range(parts.stages[0].stop)])
    assert float(jnp.abs(state.memory["target"]).sum()) > 0
    state = transitions.entered(parts, parts.stages[1], state, None)
    assert float(jnp.abs(state.memory["target"]).sum()) == 0
    assert float(jnp.abs(stepped(parts, [some_batch()], state, stage=1).memory["target"]).sum()) > 0


def test_the_start_of_a_run_tells_that_two_corrections_meet(folder, mesh):
    """Each of them alone makes classes of 60, 20 and 3 images weigh alike; both together turn them round."""
    loss = LossConfig(logit_adjust=1.0, class_weights="balanced")
    parts = dataclasses.replace(built(folder, mesh, norm=True, loss=loss), class_mass=np.array([60.0, 20.0, 3.0]))
    ((key, told),) = opening._class_mass(parts).items()
    assert key == "class mass, sampler shuffle, weights balanced, logit adjustment 1"
    weight = np.array([1 / 60, 1 / 20, 1 / 3])
    assert [f"{100 * x:.1f}%" for x in weight / weight.sum()] == [part.split()[-1] for part in told.split(", ")]


def test_what_starts_anew_must_learn():
    again = StageConfig(epochs=1, restart="^head/", frozen="^head/")
    config = validate(Config(stages=(StageConfig(epochs=1), again)))
    with pytest.raises(ConfigError, match=r"config\.stages\[1\]\.restart: '\^head/' matches head/.*, which is frozen"):
        wiring.check_model(config)


def test_deferred_re_weighting_is_two_stages():
    config = Config(
        batch_size=10,
        loss=LossConfig(name="ldam"),
        stages=(StageConfig(epochs=1), StageConfig(epochs=1, loss=LossConfig(name="ldam", class_weights="effective"))),
    )
    first, second = stages.plan(validate(config), 100)
    assert (first.loss.class_weights, second.loss.class_weights) == ("none", "effective")
    assert first.loss.name == second.loss.name == "ldam" and not second.fresh


def test_sam_keeps_the_statistics_of_the_weights_themselves(folder, mesh):
    """BatchNorm sees the batch twice, at the weights and uphill; the second time must leave no trace."""
    batch = some_batch()
    plain = stepped(built(folder, mesh, norm=True, optim=OptimConfig()), [batch])
    sharp = stepped(built(folder, mesh, norm=True, optim=OptimConfig(sam=5.0)), [batch])
    for a, b in zip(jax.tree.leaves(plain.model_state), jax.tree.leaves(sharp.model_state), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    pairs = zip(jax.tree.leaves(plain.params), jax.tree.leaves(sharp.params), strict=True)
    assert any(not np.allclose(a, b, atol=1e-4) for a, b in pairs)


def test_mirrors_go_through_the_network_beside_their_pictures():
    seen = []

    def apply(params, model_state, image, *, train, key):
        seen.append(image)
        return ModelOutput(image.sum((1, 2)) @ params["w"], image.mean((1, 2))), model_state

    image = jnp.arange(2 * 1 * 3 * 3, dtype=jnp.float32).reshape(2, 1, 3, 3)
    weights = {"w": jnp.eye(3)}
    first, mirrored, _ = step._forward(apply, weights, {}, image, jax.random.key(0), mirror=True)
    np.testing.assert_array_equal(seen[0][0::2], image)
    np.testing.assert_array_equal(seen[0][1::2], image[:, :, ::-1])
    np.testing.assert_array_equal(first.features, image.mean((1, 2)))
    np.testing.assert_allclose(mirrored.logits, first.logits)  # sums do not know the order


def test_cosine_head():
    config = ModelConfig(name="resnet18", stem="small2", depths=(1,), widths=(8,), head="cosine")
    model = models.build(config, 3)
    params, state = model.init(jax.random.key(0), 16)
    image = jax.random.normal(jax.random.key(1), (4, 16, 16, 3))
    output, _ = model.apply(params, state, image, train=False)
    kernel = np.asarray(params["head"]["dense"]["kernel"])
    features = np.asarray(output.features)
    cosines = features @ kernel / np.linalg.norm(features, axis=1)[:, None] / np.linalg.norm(kernel, axis=0)
    np.testing.assert_allclose(output.logits, 30 * cosines, rtol=1e-4, atol=1e-4)
    assert list(params["head"]["dense"]) == ["kernel"]


def test_importance_is_a_layer_on_the_features():
    model = models.build(ModelConfig(name="convnext_atto", depths=(1,), widths=(8,), stem="small", importance=1), 3)
    params, state = model.init(jax.random.key(0), 16)
    layer = params["head"]["importance"]
    assert (layer["kernel"].shape, layer["bias"].shape) == ((8, 1), (1,))
    layer["kernel"] = jnp.linspace(-1, 1, 8)[:, None]
    image = jax.random.normal(jax.random.key(1), (4, 16, 16, 3))
    output, _ = model.apply(params, state, image, train=False)
    np.testing.assert_allclose(
        output.importance, 1 / (1 + np.exp(-np.asarray(output.features) @ np.linspace(-1, 1, 8))), rtol=1e-5
    )
    tx = optim.make(OptimConfig(), params, frozen="", depth=model.depth, head=wiring.HEAD)
    assert isinstance(tx, optax.GradientTransformationExtraArgs)


@pytest.mark.slow
def test_a_run_with_the_whole_kit_resumes_to_the_bit(folder, tmp_path, monkeypatch):
    """Memory, twins or importance, stages with samplers and restarts, accumulation: killed and resumed."""

    class CrashError(Exception):
        pass

    again = StageConfig(epochs=2, frozen="^(?!head/)", restart="^head/", sampler="balanced")
    for extra, loss in (
        ({"importance": 1}, dataclasses.replace(KIT, logit_adjust=0.0)),
        ({"twins": 1}, LossConfig(name="sce", elr=1.0, forget=0.2, forget_epochs=1.0)),
    ):
        config = tiny.config(folder, augment=Config().augment, loss=loss, stages=(StageConfig(epochs=2), again))
        config.model = dataclasses.replace(config.model, **extra)
        name = next(iter(extra))
        train.run(config, tmp_path / f"{name}-whole")
        original = train._log

        def crash(pending, monitor, original=original):
            if pending and pending[0] == 8:
                raise CrashError
            original(pending, monitor)

        monkeypatch.setattr(train, "_log", crash)
        with pytest.raises(CrashError):
            train.run(config, tmp_path / name)
        monkeypatch.undo()
        train.run(config, tmp_path / name)
        assert resume.differences(resume.outcome(tmp_path / f"{name}-whole"), resume.outcome(tmp_path / name)) == []
