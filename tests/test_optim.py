"""The optax chain: links by hand or against optax, freezing that really freezes, accumulation that counts updates."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

from emojax import optim, paths
from emojax.config import Config, OptimConfig, ScheduleConfig, StageConfig
from emojax.errors import ConfigError
from emojax.stages import plan

PARAMS = {"stem": {"kernel": jnp.ones((2, 2))}, "head": {"kernel": jnp.full((2,), 2.0), "bias": jnp.ones(2)}}
GRADS = jax.tree.map(lambda x: 0.5 * jnp.ones_like(x), PARAMS)


def depth(path):
    return {"head": 0, "stem": 2}[path.split("/")[0]]


def chain(config, frozen="", rate=0.1):
    return at_rate(optim.make(config, PARAMS, frozen=frozen, depth=depth, head="^head/"), rate)


def at_rate(tx, rate):
    """`tx` with a learning rate that need not be given; `scale` is a factor on it."""
    return optax.GradientTransformationExtraArgs(
        tx.init, lambda grads, state, params=None, *, scale=1.0, **_: tx.update(grads, state, params, rate=rate * scale)
    )


def one_update(tx, grads=GRADS, params=PARAMS):
    updates, _ = jax.jit(tx.update)(grads, tx.init(params), params)
    return updates


def walk(tx, updates, params=PARAMS, grads=None, **extra):
    """The parameters after some updates with gradients that change."""
    state = tx.init(params)
    step = jax.jit(tx.update)
    for i in range(updates):
        changing = jax.tree.map(lambda p, i=i: jnp.cos(3.0 * i + p), params) if grads is None else grads
        moves, state = step(changing, state, params, **extra)
        params = optax.apply_updates(params, moves)
    return params


def assert_equal(ours, theirs, rtol=1e-5):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-6)


def test_sgd_by_hand():
    updates = one_update(chain(OptimConfig(name="sgd", momentum=0.9, weight_decay=0.1, no_decay="bias$")))
    # Nesterov: g + 0.9 (0.9 * 0 + g) = 1.9 g with g = gradient + decay * weight.
    np.testing.assert_allclose(updates["stem"]["kernel"], -0.1 * 1.9 * 0.6 * np.ones((2, 2)), rtol=1e-6)
    np.testing.assert_allclose(updates["head"]["kernel"], -0.1 * 1.9 * 0.7 * np.ones(2), rtol=1e-6)
    np.testing.assert_allclose(updates["head"]["bias"], -0.1 * 1.9 * 0.5 * np.ones(2), rtol=1e-6)


def test_clipping_by_hand():
    config = OptimConfig(name="sgd", momentum=0.0, weight_decay=0.0, clip_norm=1.0)
    updates = one_update(chain(config, rate=1.0), jax.tree.map(lambda g: 4 * g, GRADS))
    assert float(optax.tree.norm(updates)) == pytest.approx(1.0, rel=1e-5)


def test_clipping_does_not_see_frozen_parameters():
    config = OptimConfig(name="sgd", momentum=0.0, weight_decay=0.0, clip_norm=1.0)
    grads = {"stem": {"kernel": jnp.full((2, 2), 1e6)}, "head": {"kernel": jnp.array([0.3, 0.0]), "bias": jnp.zeros(2)}}
    updates = one_update(chain(config, frozen="^stem", rate=1.0), grads)
    np.testing.assert_allclose(updates["head"]["kernel"], [-0.3, 0.0], rtol=1e-6)


@pytest.mark.parametrize("knobs", [{}, {"lookahead": 2}, {"accumulate": 2}, {"head_multiplier": 3.0}])
@pytest.mark.parametrize("name", optim.RULES)
def test_frozen_parameters_do_not_move(name, knobs):
    config = OptimConfig(name=name, weight_decay=0.5, **knobs)
    free, held = chain(config), chain(config, frozen="^stem")
    params, state = PARAMS, free.init(PARAMS)
    assert jax.tree.structure(state) == jax.tree.structure(held.init(PARAMS))  # carried from stage to stage
    for tx, updates in ((free, 3), (held, 4)):  # builds up momentum, and slow weights that differ, first
        before = params
        for _ in range(updates):
            moves, state = jax.jit(tx.update)(GRADS, state, params)
            params = optax.apply_updates(params, moves)
    np.testing.assert_array_equal(params["stem"]["kernel"], before["stem"]["kernel"])
    assert np.all(params["head"]["kernel"] != before["head"]["kernel"])


def test_layer_rates_by_hand():
    config = OptimConfig(name="sgd", momentum=0.0, weight_decay=0.0, layer_decay=0.5)
    updates = one_update(chain(config, rate=1.0))
    np.testing.assert_allclose(updates["stem"]["kernel"], -0.25 * 0.5 * np.ones((2, 2)))
    np.testing.assert_allclose(updates["head"]["kernel"], -0.5 * np.ones(2))


def test_head_rate_by_hand():
    config = OptimConfig(name="sgd", momentum=0.0, weight_decay=0.1, no_decay="bias$", head_multiplier=10.0)
    updates = one_update(chain(config, rate=0.1))
    np.testing.assert_allclose(updates["stem"]["kernel"], -0.1 * 0.6 * np.ones((2, 2)), rtol=1e-6)
    np.testing.assert_allclose(updates["head"]["kernel"], -0.1 * 10 * 0.7 * np.ones(2), rtol=1e-6)
    np.testing.assert_allclose(updates["head"]["bias"], -0.1 * 10 * 0.5 * np.ones(2), rtol=1e-6)


MASK = {"stem": {"kernel": True}, "head": {"kernel": True, "bias": False}}


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("adamw", optax.adamw(0.1, b1=0.8, b2=0.99, weight_decay=0.05, mask=MASK)),
        ("adam", optax.chain(optax.add_decayed_weights(0.05, MASK), optax.adam(0.1, b1=0.8, b2=0.99))),
        ("sgd", optax.chain(optax.add_decayed_weights(0.05, MASK), optax.sgd(0.1, 0.7, nesterov=True))),
        ("lamb", optax.lamb(0.1, b1=0.8, b2=0.99, weight_decay=0.05, mask=MASK)),
        ("lion", optax.lion(0.1, b1=0.8, b2=0.99, weight_decay=0.05, mask=MASK)),
    ],
)
def test_rules_equal_optax(name, theirs):
    config = OptimConfig(name=name, weight_decay=0.05, no_decay="bias$", beta1=0.8, beta2=0.99, momentum=0.7)
    assert_equal(walk(chain(config), 6), walk(theirs, 6))


NET = {
    "stem": {"conv": {"kernel": jnp.ones((3, 3, 3, 4))}},
    "block": {
        "conv": {"kernel": jnp.ones((3, 3, 4, 6))},
        "dwconv": {"kernel": jnp.ones((3, 3, 1, 6))},
        "dense": {"kernel": jnp.ones((6, 4)), "bias": jnp.ones(4)},
    },
    "head": {"dense": {"kernel": jnp.ones((4, 2)), "bias": jnp.ones(2)}},
}


def muon(**knobs):
    config = OptimConfig(name="muon", momentum=0.9, no_decay="bias$", **knobs)
    return at_rate(optim.make(config, NET, frozen="", depth=lambda _: 0, head="^head/dense/"), 0.1)


def noise():
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: rng.standard_normal(x.shape).astype(np.float32), NET)


def test_muon_takes_hidden_matrices_and_adamw_the_rest():
    grads = noise()
    ours = one_update(muon(weight_decay=0.5), grads, NET)
    config = OptimConfig(name="adamw", weight_decay=0.5, no_decay="bias$")
    adamw = at_rate(optim.make(config, NET, frozen="", depth=lambda _: 0, head=""), 0.1)
    theirs = one_update(adamw, grads, NET)
    flat, reference = paths.flatten(ours), paths.flatten(theirs)
    other = {path for path in flat if not np.allclose(flat[path], reference[path])}
    assert other == {"block/conv/kernel", "block/dense/kernel"}


def test_muon_makes_steps_with_equal_singular_values():
    """The momentum's singular vectors, and values near 1 times the size of AdamW's steps, for dense and convolution."""
    grads = noise()
    updates = one_update(muon(weight_decay=0.0), grads, NET)
    for name, rows in (("dense", 6), ("conv", 36)):
        g, u = (np.asarray(x["block"][name]["kernel"]).reshape(rows, -1) for x in (grads, updates))
        left, _, right = np.linalg.svd(g, full_matrices=False)
        values = left.T @ (-u / (0.1 * 0.2 * np.sqrt(rows))) @ right.T  # 0.2 sqrt(max(rows, columns)): RMS 0.2
        assert np.all((np.diag(values) > 0.6) & (np.diag(values) < 1.3))
        np.testing.assert_allclose(values - np.diag(np.diag(values)), 0, atol=0.02)


def test_lookahead_by_hand():
    config = OptimConfig(name="sgd", momentum=0.0, weight_decay=0.0, lookahead=2, lookahead_alpha=0.5)
    tx = chain(config, rate=1.0)
    # Steps of -0.5: the bias goes 1, 0.5, (0: half way back to 1 is) 0.5, 0, (-0.5: half way back to 0.5 is) 0.
    found = [float(walk(tx, n, grads=GRADS)["head"]["bias"][0]) for n in range(5)]
    assert found == pytest.approx([1.0, 0.5, 0.5, 0.0, 0.0])


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_lookahead_equals_optax(name):
    config = OptimConfig(name=name, lookahead=3, lookahead_alpha=0.4, no_decay="bias$")
    ours = walk(chain(config), 8)
    theirs = optax.lookahead(chain(dataclasses.replace(config, lookahead=0)), 3, 0.4)
    pair, step = optax.LookaheadParams.init_synced(PARAMS), jax.jit(theirs.update)
    state = theirs.init(pair)
    for i in range(8):
        grads = jax.tree.map(lambda p, i=i: jnp.cos(3.0 * i + p), pair.fast)
        moves, state = step(grads, state, pair)
        pair = optax.apply_updates(pair, moves)
    assert_equal(ours, pair.fast)


def test_lookahead_counts_updates_under_accumulation():
    config = OptimConfig(name="adamw", lookahead=2)
    plain = walk(chain(config), 5, grads=GRADS)
    twice = walk(chain(dataclasses.replace(config, accumulate=2)), 10, grads=GRADS)
    assert_equal(twice, plain)


@pytest.mark.parametrize("knobs", [{}, {"accumulate": 2}, {"lookahead": 2}])
def test_a_scale_is_a_factor_on_the_rate(knobs):
    config = OptimConfig(name="adamw", weight_decay=0.3, **knobs)
    scaled = walk(chain(config, rate=0.1), 6, scale=jnp.float32(0.25))
    assert_equal(scaled, walk(chain(config, rate=0.025), 6))


def test_sam_by_hand():
    params, grads = {"a": jnp.array([1.0]), "b": jnp.array([2.0])}, {"a": jnp.array([3.0]), "b": jnp.array([-4.0])}
    moved = optim.perturbed(params, grads, rho=0.5)
    np.testing.assert_allclose([moved["a"][0], moved["b"][0]], [1.3, 1.6], rtol=1e-6)
    still = optim.perturbed(params, jax.tree.map(jnp.zeros_like, grads), rho=0.5)
    assert_equal(still, params)


def test_sam_equals_optax():
    def gradient(params, _=None):
        return jax.grad(lambda p: sum(jnp.sum(jnp.sin(3 * x) * x) for x in jax.tree.leaves(p)))(params)

    base = chain(OptimConfig(name="adamw"))
    ascent = optax.chain(optax.contrib.normalize(), optax.sgd(0.2))
    theirs = optax.contrib.sam(base, ascent, sync_period=2, opaque_mode=True)

    def ours_step(params, state):
        moves, state = base.update(gradient(optim.perturbed(params, gradient(params), rho=0.2)), state, params)
        return optax.apply_updates(params, moves), state

    def theirs_step(params, state):
        moves, state = theirs.update(gradient(params), state, params, grad_fn=gradient)
        return optax.apply_updates(params, moves), state

    ours_step, theirs_step = jax.jit(ours_step), jax.jit(theirs_step)
    ours, reference = (PARAMS, base.init(PARAMS)), (PARAMS, theirs.init(PARAMS))
    for _ in range(5):
        ours, reference = ours_step(*ours), theirs_step(*reference)
    assert_equal(ours[0], reference[0])


def test_accumulation_averages_and_takes_the_rate_of_the_last_batch():
    seen = OptimConfig(name="sgd", momentum=0.0, weight_decay=0.0, accumulate=2)
    tx = optim.make(seen, PARAMS, frozen="", depth=depth, head="^head/")
    state, outcomes = tx.init(PARAMS), []
    for scale, rate in ((1.0, 1.0), (3.0, 1.0), (1.0, 2.0), (3.0, 2.0)):
        updates, state = tx.update(jax.tree.map(lambda g, s=scale: s * g, GRADS), state, PARAMS, rate=rate)
        outcomes.append(float(updates["head"]["bias"][0]))
    assert outcomes == pytest.approx([0.0, -1.0 * 1.0, 0.0, -2.0 * 1.0])


def test_a_pattern_that_matches_nothing_is_an_error():
    with pytest.raises(
        ConfigError, match="'^backbone' matches no parameter; top-level names are head, stem".replace("^", r"\^")
    ):
        chain(OptimConfig(), frozen="^backbone")
    with pytest.raises(ConfigError, match="not a regular expression"):
        chain(OptimConfig(no_decay="("))


def test_unknown_rules_list_the_known_ones():
    expected = r"config\.optim\.name: expected one of adamw, adam, sgd, lamb, lion, muon, found 'adamax'"
    with pytest.raises(ConfigError, match=expected):
        chain(OptimConfig(name="adamax"))


def test_learning_rate_of_a_run_with_stages():
    constant = ScheduleConfig(name="constant")
    config = Config(
        batch_size=10,
        optim=OptimConfig(learning_rate=2.0),
        stages=(
            StageConfig(epochs=1),
            StageConfig(epochs=1, schedule=constant),
            StageConfig(epochs=1, schedule=constant, learning_rate=0.5),
        ),
    )
    rate = optim.learning_rate(plan(config, 100))
    assert [float(rate(n)) for n in (0, 5, 10, 19, 20, 29)] == pytest.approx([2, 1, 2, 2, 0.5, 0.5])
