"""Losses, class weights and distillation against numbers worked out by hand, and their gradients at the edges."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.utils.class_weight import compute_class_weight

from emojax import class_weights, distill, losses
from emojax.config import DistillConfig, LossConfig
from emojax.errors import ConfigError
from emojax.types import ModelOutput

P = np.array([0.5, 0.25, 0.25])
LOGITS = jnp.log(jnp.array([P]))
LN2 = np.log(2)
MIXTURE = jnp.array([[0.7, 0.3, 0.0]])


def value(label, weight=None, logits=LOGITS, **knobs):
    weight = None if weight is None else np.array(weight, np.float32)
    return float(losses.make(LossConfig(**knobs), weight)(logits, jnp.array([label], jnp.float32))[0])


def test_regression_11_smoothing_styles():
    """Seed 002's code says (.925, .025) and its example (.9, .0333): two styles, not one."""
    label = jnp.array([[1.0, 0, 0, 0]])
    np.testing.assert_allclose(losses.SMOOTHING["all"](label, 0.1), [[0.925, 0.025, 0.025, 0.025]], rtol=1e-6)
    third = 0.1 / 3
    np.testing.assert_allclose(losses.SMOOTHING["others"](label, 0.1), [[0.9, third, third, third]], rtol=1e-6)


@pytest.mark.parametrize("style", losses.SMOOTHING)
def test_smoothing_keeps_the_mass_and_is_linear(style):
    a, b = jnp.eye(5)[:1], jnp.eye(5)[3:4]
    smooth = losses.SMOOTHING[style]
    mixed = smooth(0.7 * a + 0.3 * b, 0.2)
    np.testing.assert_allclose(mixed, 0.7 * smooth(a, 0.2) + 0.3 * smooth(b, 0.2), rtol=1e-6)
    assert float(mixed.sum()) == pytest.approx(1)


def test_cross_entropy_by_hand():
    assert value([0.5, 0.5, 0.0]) == pytest.approx(0.5 * LN2 + 0.5 * 2 * LN2)
    assert value([1, 0, 0], smoothing=0.3) == pytest.approx(0.8 * LN2 + 2 * 0.1 * 2 * LN2)
    assert value([1, 0, 0], smoothing=0.3, smoothing_style="others") == pytest.approx(0.7 * LN2 + 0.3 * 2 * LN2)
    assert value([0.5, 0.5, 0.0], [2, 3, 9]) == pytest.approx(0.5 * 2 * LN2 + 0.5 * 3 * 2 * LN2)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_equals_optax(smoothing):
    key = jax.random.key(0)
    logits = 5 * jax.random.normal(key, (16, 7))
    label = jax.nn.one_hot(jnp.arange(16) % 7, 7)
    theirs = optax.softmax_cross_entropy(logits, optax.smooth_labels(label, smoothing))
    np.testing.assert_allclose(losses.make(LossConfig(smoothing=smoothing))(logits, label), theirs, rtol=1e-5)


def test_focal_by_hand():
    hard = value([0, 1, 0], name="focal", gamma=2.0, alpha=0.25)
    assert hard == pytest.approx(0.25 * 0.75**2 * 2 * LN2)
    soft = value([0.7, 0.3, 0.0], name="focal", gamma=2.0)
    assert soft == pytest.approx(0.7 * 0.5**2 * LN2 + 0.3 * 0.75**2 * 2 * LN2)
    weighted = value([0.7, 0.3, 0.0], [2, 10, 1], name="focal", gamma=1.0)
    assert weighted == pytest.approx(0.7 * 2 * 0.5 * LN2 + 0.3 * 10 * 0.75 * 2 * LN2)


def test_ce_focal_by_hand():
    # One class: q = p, so it is the focal loss.
    assert value([0, 1, 0], name="ce_focal", gamma=2.0, alpha=0.25) == pytest.approx(0.25 * 0.75**2 * 2 * LN2)
    # Weight 3 on a class of probability 1/4: CE = 3 ln 4 and q = 4^-3, against the plain q = 1/4.
    assert value([0, 1, 0], [1, 3, 1], name="ce_focal") == pytest.approx((63 / 64) ** 2 * 6 * LN2)
    plain = value([0, 1, 0], [1, 3, 1], name="ce_focal", focus_weighted=0)
    assert plain == pytest.approx((3 / 4) ** 2 * 6 * LN2)


@pytest.mark.parametrize("name", ["focal", "ce_focal"])
def test_gamma_zero_is_cross_entropy(name):
    assert value([0.7, 0.3, 0.0], name=name, gamma=0.0) == pytest.approx(value([0.7, 0.3, 0.0]))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("name", losses.LOSSES)
def test_parts_are_the_losses_of_the_classes(name, smoothing):
    knobs = {"name": name, "smoothing": smoothing, "gamma": 2.0}
    mixed = value([0.7, 0.3, 0.0], [1, 2, 3], mixed="parts", **knobs)
    a, b = value([1, 0, 0], [1, 2, 3], **knobs), value([0, 1, 0], [1, 2, 3], **knobs)
    assert mixed == pytest.approx(0.7 * a + 0.3 * b)
    if name == "ce":  # linear in the label
        assert mixed == pytest.approx(value([0.7, 0.3, 0.0], [1, 2, 3], **knobs))


def test_dominant_is_the_loss_of_the_heaviest_class():
    assert value([0.3, 0.7, 0.0], mixed="dominant", smoothing=0.1) == value([0, 1, 0], smoothing=0.1)


@pytest.mark.parametrize("mixed", losses.MIXED)
def test_labels_of_one_class_are_no_mixtures(mixed):
    assert value([0, 0, 1], name="focal", mixed=mixed) == pytest.approx(value([0, 0, 1], name="focal"))


def test_mixtures_may_go_unsmoothed():
    loss = losses.make(LossConfig(smoothing=0.3, smooth_mixed=0))
    both = loss(jnp.repeat(LOGITS, 2, axis=0), jnp.array([[0.7, 0.3, 0.0], [1.0, 0.0, 0.0]]))
    assert float(both[0]) == pytest.approx(value([0.7, 0.3, 0.0]))
    assert float(both[1]) == pytest.approx(value([1, 0, 0], smoothing=0.3))
    parts = value([0.7, 0.3, 0.0], smoothing=0.3, smooth_mixed=0, mixed="parts")
    assert parts == pytest.approx(0.7 * LN2 + 0.3 * 2 * LN2)


def test_regression_06_kl_to_uniform_pushes_towards_uniform():
    """Seed 000's first version had the sign wrong: what it called KL sharpened the predictions."""
    logits = 3 * jax.random.normal(jax.random.key(1), (64, 7))
    flat = jnp.zeros((1, 7))
    loss = losses.make(LossConfig(regulariser="uniform", regulariser_weight=0.35))
    without = losses.make(LossConfig())
    label = jnp.full((64, 7), 1 / 7)

    def added(z):
        return loss(z, label[: len(z)]) - without(z, label[: len(z)])

    p = jax.nn.softmax(logits)
    np.testing.assert_allclose(added(logits), 0.35 * (p * jnp.log(7 * p)).sum(-1), rtol=1e-3, atol=1e-5)
    assert float(added(logits).min()) > 0
    assert float(added(flat)[0]) == pytest.approx(0, abs=1e-6)
    stepped = logits - 0.5 * jax.grad(lambda z: added(z).sum())(logits)
    assert np.all(jax.nn.softmax(stepped).max(-1) < p.max(-1))
    np.testing.assert_allclose(jax.grad(lambda z: added(z).sum())(flat), 0, atol=1e-7)


def test_entropy_sharpens():
    knobs = {"regulariser": "entropy", "regulariser_weight": 2.0}
    assert value([1, 0, 0], **knobs) == pytest.approx(LN2 + 2.0 * 1.5 * LN2)  # H(1/2, 1/4, 1/4) = 1.5 ln 2
    loss = losses.make(LossConfig(**knobs))
    plain = losses.make(LossConfig())
    slope = jax.grad(lambda z: (loss(z, MIXTURE) - plain(z, MIXTURE)).sum())(LOGITS)
    assert jax.nn.softmax(LOGITS - 0.1 * slope).max() > 0.5


@pytest.mark.parametrize(
    ("name", "gamma", "mixed", "regulariser"),
    [
        case
        for case in itertools.product(losses.LOSSES, (0.0, 0.5, 2.0), losses.MIXED, losses.REGULARISERS)
        if case[1] == 2 or "focal" in case[0]  # the others do not read gamma
    ],
)
def test_gradients_are_finite_where_probabilities_are_0_and_1(name, gamma, mixed, regulariser):
    config = LossConfig(
        name=name, gamma=gamma, mixed=mixed, regulariser=regulariser, regulariser_weight=0.3, logit_adjust=1.5
    )
    logits = jnp.array([[1e4, 0.0, -1e4], [1e4, 0.0, -1e4], [0.0, 0.0, 0.0], [60.0, -60.0, 0.0], [17.0, 0.0, 0.0]])
    label = jnp.array([[1.0, 0, 0], [0.0, 0, 1], [0.2, 0.3, 0.5], [0.6, 0.4, 0.0], [1.0, 0, 0]])
    loss = losses.make(config, np.array([1.0, 0.0, 3.0]), np.array([9.0, 0.0, 2.0]))
    each, slope = jax.jit(lambda z: (loss(z, label), jax.grad(lambda z: loss(z, label).sum())(z)))(logits)
    assert np.all(np.isfinite(each)) and np.all(np.isfinite(slope))
    np.testing.assert_allclose(slope.sum(-1), 0, atol=1e-3)  # a shift of all logits changes nothing


@pytest.mark.parametrize(
    ("knob", "names"),
    [
        ("name", "ce, focal, ce_focal, multi_target, ldam, gce, sce, bootstrap_soft, bootstrap_hard"),
        ("smoothing_style", "all, others"),
        ("mixed", "soft, parts, dominant"),
        ("regulariser", "none, uniform, entropy"),
    ],
)
def test_unknown_names_list_the_known_ones(knob, names):
    with pytest.raises(ConfigError, match=rf"config\.loss\.{knob}: expected one of {names}, found 'hinge'"):
        losses.make(dataclasses.replace(LossConfig(), **{knob: "hinge"}))


MASS = np.array([80.0, 16.0, 4.0])


def with_mass(label, mass=MASS, weight=None, logits=LOGITS, **knobs):
    weight = None if weight is None else np.array(weight, np.float32)
    return float(losses.make(LossConfig(**knobs), weight, mass)(logits, jnp.array([label], jnp.float32))[0])


def test_logit_adjusted_loss_by_hand():
    # p = (1/2, 1/4, 1/4) times shares (0.8, 0.16, 0.04): (0.4, 0.04, 0.01) / 0.45
    assert with_mass([0, 0, 1], logit_adjust=1.0) == pytest.approx(np.log(45))
    assert with_mass([0.5, 0.5, 0], logit_adjust=1.0) == pytest.approx(0.5 * np.log(45 / 40) + 0.5 * np.log(45 / 4))
    twice = P * (MASS / 100) ** 2
    assert with_mass([0, 1, 0], logit_adjust=2.0) == pytest.approx(-np.log(twice[1] / twice.sum()))
    assert with_mass([0, 1, 0]) == value([0, 1, 0])
    # A class that is not there counts as the rarest of the others.
    assert with_mass([0, 0, 1], np.array([80.0, 4.0, 0.0]), logit_adjust=1.0) == pytest.approx(
        with_mass([0, 0, 1], np.array([80.0, 4.0, 4.0]), logit_adjust=1.0)
    )


def test_tau_1_is_balanced_softmax():
    """-log n_y exp(z_y) / sum_k n_k exp(z_k): Ren et al. 2020, arXiv:2007.10740, equation 4."""
    logits = 3 * jax.random.normal(jax.random.key(2), (32, 3))
    y = np.arange(32) % 3
    ours = losses.make(LossConfig(logit_adjust=1.0), None, MASS)(logits, jnp.eye(3)[y])
    powers = MASS * np.exp(np.asarray(logits, np.float64))
    np.testing.assert_allclose(ours, -np.log(powers[np.arange(32), y] / powers.sum(1)), rtol=1e-4, atol=1e-5)


def test_ldam_by_hand():
    # n^-1/4 against the rarest: (4 / 64)^(1/4) = 1/2 and 1; margins 0.35 and 0.7.
    mass, logits = np.array([64.0, 4.0]), jnp.log(jnp.array([[0.6, 0.4]]))
    for label, margin in (([1, 0], 0.35), ([0, 1], 0.7)):
        p = 0.6 if label[0] else 0.4
        mine = p * np.exp(-margin)
        expected = -np.log(mine / (mine + 1 - p))
        assert with_mass(label, mass, logits=logits, name="ldam", margin=0.7) == pytest.approx(expected)
    parts = [with_mass(one, mass, logits=logits, name="ldam", margin=0.7) for one in ([1, 0], [0, 1])]
    mixed = with_mass([0.3, 0.7], mass, [2, 5], logits=logits, name="ldam", margin=0.7)
    assert mixed == pytest.approx(0.3 * 2 * parts[0] + 0.7 * 5 * parts[1])
    assert with_mass([0, 1, 0], name="ldam", margin=0.0) == pytest.approx(value([0, 1, 0]))


def test_gce_by_hand():
    assert value([1, 0, 0], name="gce", q=0.5) == pytest.approx((1 - np.sqrt(0.5)) / 0.5)
    assert value([1, 0, 0], name="gce", q=1.0) == pytest.approx(0.5)  # mean absolute error, half of it
    assert value([1, 0, 0], name="gce", q=1e-3) == pytest.approx(LN2, rel=1e-3)  # cross-entropy
    soft = value([0.7, 0.3, 0], [2, 10, 1], name="gce", q=1.0)
    assert soft == pytest.approx(0.7 * 2 * 0.5 + 0.3 * 10 * 0.75)


def test_sce_by_hand():
    # Reverse: -(1 - p_y) A for a single class; alpha CE + reverse RCE.
    assert value([1, 0, 0], name="sce", alpha=0.1, reverse=2.0) == pytest.approx(0.1 * LN2 + 2.0 * 0.5 * 4)
    assert value([1, 0, 0], name="sce", alpha=1.0, reverse=1.0, log_zero=-6.0) == pytest.approx(LN2 + 0.5 * 6)
    assert value([1, 0, 0], name="sce", alpha=1.0, reverse=1.0, log_zero=-100.0) == pytest.approx(LN2 + 0.5 * 100)
    ce = 0.5 * LN2 + 0.5 * 2 * LN2
    reverse = 0.75 * LN2 + 0.25 * 4
    assert value([0.5, 0.5, 0], name="sce", alpha=1.0) == pytest.approx(ce + reverse)
    assert value([0, 1, 0], [1, 3, 1], name="sce", alpha=1.0) == pytest.approx(3 * (2 * LN2 + 0.75 * 4))


def test_bootstrapping_by_hand():
    entropy = 1.5 * LN2
    assert value([0, 1, 0], name="bootstrap_soft", trust=0.8) == pytest.approx(0.8 * 2 * LN2 + 0.2 * entropy)
    assert value([0, 1, 0], name="bootstrap_hard", trust=0.8) == pytest.approx(0.8 * 2 * LN2 + 0.2 * LN2)
    assert value([0, 0.5, 0.5], name="bootstrap_hard", trust=0.5) == pytest.approx(0.5 * 2 * LN2 + 0.5 * LN2)
    for name in ("bootstrap_soft", "bootstrap_hard"):
        assert value([0, 1, 0], name=name, trust=1.0) == pytest.approx(value([0, 1, 0]))


def test_class_weights_by_hand():
    counts = np.array([90.0, 9.0, 1.0])
    np.testing.assert_allclose(class_weights.weights("balanced", counts, beta=0.0), 100 / 3 / counts, rtol=1e-6)
    inverse = np.array([1 / np.sqrt(90), 1 / 3, 1.0])
    np.testing.assert_allclose(class_weights.weights("sqrt", counts, beta=0.0), 3 * inverse / inverse.sum(), rtol=1e-6)
    # beta 0.5: effective numbers 2 - 2^-89, 2 - 2^-8 and 1.
    effective = 1 / np.array([2.0, 2 - 2**-8, 1.0])
    found = class_weights.weights("effective", counts, beta=0.5)
    np.testing.assert_allclose(found, 3 * effective / effective.sum(), rtol=1e-6)
    assert found.dtype == np.float32
    assert class_weights.weights("none", counts, beta=0.0) is None


def test_balanced_weights_equal_scikit_learn():
    y = np.random.default_rng(0).choice(5, 200, p=[0.5, 0.3, 0.1, 0.06, 0.04])
    theirs = compute_class_weight("balanced", classes=np.arange(5), y=y)
    np.testing.assert_allclose(class_weights.weights("balanced", np.bincount(y), beta=0.0), theirs, rtol=1e-6)


@pytest.mark.parametrize("kind", ["balanced", "sqrt", "effective"])
def test_classes_without_images_weigh_nothing(kind):
    with_empty = class_weights.weights(kind, np.array([8.0, 0.0, 2.0]), beta=0.9)
    without = class_weights.weights(kind, np.array([8.0, 2.0]), beta=0.9)
    np.testing.assert_array_equal(with_empty, [without[0], 0, without[1]])
    mean = (with_empty * [0.8, 0, 0.2]).sum() if kind == "balanced" else with_empty.sum() / 2
    assert mean == pytest.approx(1)


def test_unknown_class_weights():
    with pytest.raises(ConfigError, match="expected one of none, balanced, sqrt, effective, found 'cube'"):
        class_weights.weights("cube", np.ones(2), beta=0.0)


def test_effective_mass_counts_every_correction():
    counts, thrice = np.array([6.0, 3.0, 0.0]), np.array([1.0, 3.0, 0.0])
    mass = class_weights.effective_mass
    np.testing.assert_allclose(mass(counts, sampler="shuffle", weight=None), [2 / 3, 1 / 3, 0])
    np.testing.assert_allclose(mass(counts, sampler="balanced", weight=None), [1 / 2, 1 / 2, 0])
    np.testing.assert_allclose(mass(counts, sampler="shuffle", weight=thrice), [6 / 15, 9 / 15, 0])
    np.testing.assert_allclose(mass(counts, sampler="balanced", weight=thrice), [1 / 4, 3 / 4, 0])  # seed 003's stack
    balanced = class_weights.weights("balanced", counts, beta=0.0)
    np.testing.assert_allclose(mass(counts, sampler="shuffle", weight=balanced), [1 / 2, 1 / 2, 0])
    # A loss that is adjusted by tau leaves the prior^(1 - tau) in the logits: nothing with tau = 1.
    np.testing.assert_allclose(mass(counts, sampler="shuffle", weight=None, adjust=1.0), [1 / 2, 1 / 2, 0])
    root2 = np.sqrt(2.0)
    np.testing.assert_allclose(
        mass(counts, sampler="shuffle", weight=None, adjust=0.5), [root2 / (1 + root2), 1 / (1 + root2), 0]
    )


def output(logits, *taps):
    return ModelOutput(jnp.asarray(logits), jnp.zeros((1, 2)), taps)


def test_distillation_by_hand():
    # At T = 2: teacher (9, 1) / 10, student (1, 1) / 2.
    teacher, student = output([[2 * np.log(9.0), 0.0]]), output([[0.0, 0.0]])
    expected = 4 * (0.9 * np.log(1.8) + 0.1 * np.log(0.2))
    found = distill.loss(student.logits, teacher.logits, temperature=2.0)
    np.testing.assert_allclose(found, [expected], rtol=1e-6)
    combine = distill.make(DistillConfig(alpha=0.4, temperature=2.0), lambda logits: jnp.array([0.25]))
    np.testing.assert_allclose(
        combine(student, teacher, jnp.array([10.0])), [0.4 * expected + 0.6 * 10 + 0.25], rtol=1e-6
    )


def test_distillation_ends_where_student_and_teacher_agree():
    logits = 4 * jax.random.normal(jax.random.key(0), (8, 7))
    slope = jax.grad(lambda z: distill.loss(z, logits + 1.0, temperature=2.5).sum())(logits)
    np.testing.assert_allclose(slope, 0, atol=1e-6)


def test_attention_transfer_by_hand():
    student = jnp.array([[[[3.0, 3.0], [0.0, 0.0]]]])  # [1, 1, 2, 2]: mean square (9, 0), of length 1: (1, 0)
    teacher = jnp.array([[[[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]]])  # (1, 1) / sqrt(2); channels may differ
    half = np.sqrt(0.5)
    expected = ((1 - half) ** 2 + half**2) / 2
    np.testing.assert_allclose(distill.attention_transfer((student,), (teacher,)), [expected], rtol=1e-6)
    combine = distill.make(DistillConfig(alpha=0.4, attention=0.1), lambda logits: jnp.zeros(1))
    same = output([[1.0, 0]], student, student), output([[1.0, 0]], teacher, student)
    two = combine(*same, jnp.zeros(1))  # alpha divides label and teacher alone
    np.testing.assert_allclose(two, [0.1 * expected], rtol=1e-5)
    slope = jax.grad(lambda x: combine(same[0], output([[1.0, 0]], x, student), jnp.zeros(1)).sum())(teacher)
    assert not np.any(slope), "a teacher gets no gradient"


def test_attention_is_finite_for_dead_maps_and_needs_taps():
    dead, alive = jnp.zeros((1, 2, 2, 3)), jnp.ones((1, 2, 2, 3))
    slope = jax.grad(lambda x: distill.attention_transfer((x,), (alive,)).sum())(dead)
    assert np.all(np.isfinite(slope))
    with pytest.raises(ConfigError, match=r"config\.distill\.attention: expected 0"):
        distill.make(DistillConfig(attention=0.1), lambda logits: jnp.zeros(1))(
            output([[0.0, 1.0]]), output([[0.0, 1.0]]), jnp.zeros(1)
        )
