"""Losses, schedules, optimizers and averages against PyTorch and timm, where they install."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from emojax import averaging, distill, losses, optim, schedules
from emojax.config import AverageConfig, LossConfig, OptimConfig
from emojax.schedules import ScheduleSpec

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peers
functional = torch.nn.functional
RNG = np.random.default_rng(0)
LOGITS = (4 * RNG.standard_normal((32, 7))).astype(np.float32)
TARGET = RNG.integers(0, 7, 32)
ONE_HOT = np.eye(7, dtype=np.float32)[TARGET]
SOFT = RNG.dirichlet(np.ones(7), 32).astype(np.float32)
WEIGHT = RNG.uniform(0.2, 3.0, 7).astype(np.float32)


def ours(label, weight=None, **knobs):
    return np.asarray(losses.make(LossConfig(**knobs), weight)(jnp.asarray(LOGITS), jnp.asarray(label)))


def gradients(label, weight=None, **knobs):
    loss = losses.make(LossConfig(**knobs), weight)
    return np.asarray(jax.grad(lambda z: loss(z, jnp.asarray(label)).sum())(LOGITS))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.4])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("soft", [False, True])
def test_cross_entropy_of_torch(smoothing, weighted, soft):
    z = torch.tensor(LOGITS, requires_grad=True)
    target = torch.tensor(SOFT if soft else TARGET)
    weight = torch.tensor(WEIGHT) if weighted else None
    theirs = functional.cross_entropy(z, target, weight=weight, label_smoothing=smoothing, reduction="none")
    theirs.sum().backward()
    args = (SOFT if soft else ONE_HOT, WEIGHT if weighted else None)
    np.testing.assert_allclose(ours(*args, smoothing=smoothing), theirs.detach(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(gradients(*args, smoothing=smoothing), z.grad, rtol=1e-4, atol=1e-5)


def test_soft_target_cross_entropy_of_timm():
    loss = pytest.importorskip("timm.loss")
    theirs = loss.SoftTargetCrossEntropy()(torch.tensor(LOGITS), torch.tensor(SOFT))
    assert ours(SOFT).mean() == pytest.approx(float(theirs), rel=1e-5)


def test_label_smoothing_of_timm():
    loss = pytest.importorskip("timm.loss")
    theirs = loss.LabelSmoothingCrossEntropy(0.15)(torch.tensor(LOGITS), torch.tensor(TARGET))
    assert ours(ONE_HOT, smoothing=0.15).mean() == pytest.approx(float(theirs), rel=1e-5)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_losses_from_torch_operations(gamma):
    """No library has them on distributions: the equations in torch's automatic differentiation, double precision."""
    z = torch.tensor(LOGITS.astype(np.float64), requires_grad=True)
    p, t, w = torch.softmax(z, -1), torch.tensor(SOFT), torch.tensor(WEIGHT)
    focal = -0.25 * (t * (1 - p) ** gamma * p.log()).sum(-1)
    ce = functional.cross_entropy(z, t.double(), weight=w.double(), reduction="none")
    for theirs, name, weight in ((focal, "focal", None), (0.25 * (1 - (-ce).exp()) ** gamma * ce, "ce_focal", WEIGHT)):
        z.grad = None
        theirs.sum().backward(retain_graph=True)
        knobs = {"name": name, "gamma": gamma, "alpha": 0.25}
        np.testing.assert_allclose(ours(SOFT, weight, **knobs), theirs.detach(), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(gradients(SOFT, weight, **knobs), z.grad, rtol=1e-3, atol=1e-4)


def test_mixed_loss_of_seed_003():
    partner, part = np.roll(TARGET, 1), 0.7
    label = part * ONE_HOT + (1 - part) * np.roll(ONE_HOT, 1, axis=0)
    z = torch.tensor(LOGITS)

    def one(target):
        ce = functional.cross_entropy(z, torch.tensor(target), weight=torch.tensor(WEIGHT), reduction="none")
        return 0.25 * (1 - (-ce).exp()) ** 2 * ce

    theirs = part * one(TARGET) + (1 - part) * one(partner)
    found = ours(label.astype(np.float32), WEIGHT, name="ce_focal", alpha=0.25, gamma=2.0, mixed="parts")
    np.testing.assert_allclose(found, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_distillation_of_torch(temperature):
    teacher = (3 * RNG.standard_normal((32, 7))).astype(np.float32)
    z = torch.tensor(LOGITS, requires_grad=True)
    criterion = torch.nn.KLDivLoss(reduction="none")
    each = criterion((z / temperature).log_softmax(-1), (torch.tensor(teacher) / temperature).softmax(-1))
    theirs = temperature**2 * each.sum(-1)
    theirs.sum().backward()

    def value(logits):
        return distill.loss(jnp.asarray(logits), jnp.asarray(teacher), temperature=temperature)

    np.testing.assert_allclose(value(LOGITS), theirs.detach(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(jax.grad(lambda x: value(x).sum())(LOGITS), z.grad, rtol=1e-3, atol=1e-5)


def test_attention_transfer_of_torch():
    a, b = (jnp.asarray(RNG.standard_normal((4, 5, 6, 8)), jnp.float32) for _ in range(2))
    first, second = (
        functional.normalize(torch.tensor(np.asarray(x)).permute(0, 3, 1, 2).pow(2).mean(1).flatten(1), dim=1)
        for x in (a, b)
    )
    theirs = (first - second).pow(2).mean(1)
    np.testing.assert_allclose(distill.attention_transfer((a, a), (b, a)), theirs, rtol=1e-4, atol=1e-7)


def rates(spec, peak, steps):
    return np.asarray(jax.jit(jax.vmap(schedules.make(spec, peak=peak)))(np.asarray(steps)))


def torch_rates(scheduler, steps, positions=None):
    """The learning rate of each of the first updates."""
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the optimizer is never stepped, and a position is a deprecated argument
        for i in range(steps):
            if positions is not None:
                scheduler.step(positions[i])
            found.append(scheduler.optimizer.param_groups[0]["lr"])
            if positions is None and i + 1 < steps:
                scheduler.step()
    return np.array(found)


def sgd(rate):
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate, momentum=0.9)


@pytest.mark.parametrize("total", [12, 37, 1000])
@pytest.mark.parametrize(("rise", "div", "final_div"), [(0.3, 25.0, 1e4), (0.1, 10.0, 100.0), (0.25, 25.0, 1e4)])
def test_onecycle_of_torch(total, rise, div, final_div):
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        sgd(1.0), 5e-3, total_steps=total, pct_start=rise, div_factor=div, final_div_factor=final_div
    )
    spec = ScheduleSpec(name="onecycle", start=0, stop=total, rise=rise, div=div, final_div=final_div)
    np.testing.assert_allclose(rates(spec, 5e-3, np.arange(total)), torch_rates(scheduler, total), rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize(("per_epoch", "multiply"), [(7.0, 2), (6.4, 2), (6.4, 1), (7.0, 3)])
def test_warm_restarts_of_torch_in_fractional_epochs(per_epoch, multiply):
    scheduler = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(sgd(1e-3), 10, multiply, eta_min=1e-6)
    total = round(100 * per_epoch)
    positions = np.arange(total) / per_epoch
    spec = ScheduleSpec(
        name="restarts", start=0, stop=total, first=10 * per_epoch, multiply=multiply, final=1e-6 / 1e-3
    )
    theirs = torch_rates(scheduler, total, positions)
    # torch's logarithm and remainder may miss a restart that falls on a whole step, and then hold the rate of the end.
    differ = ~np.isclose(rates(spec, 1e-3, np.arange(total)), theirs, rtol=1e-4, atol=1e-9)
    assert set(np.flatnonzero(differ)) <= set(schedules.restart_steps(spec))
    assert differ.sum() <= 2


def test_warmup_then_cosine_of_torch():
    """Seed 004: linear from 0.01 over 8 epochs, then cosine to 1e-5, here per update as torch would do it."""
    optimizer = sgd(4e-3)
    lr = torch.optim.lr_scheduler
    parts = [lr.LinearLR(optimizer, 0.01, 1.0, 16), lr.CosineAnnealingLR(optimizer, 84, eta_min=1e-5)]
    theirs = torch_rates(lr.SequentialLR(optimizer, parts, [16]), 100)
    spec = ScheduleSpec(name="cosine", start=0, stop=100, warmup=16, warmup_start=0.01, final=1e-5 / 4e-3)
    np.testing.assert_allclose(rates(spec, 4e-3, np.arange(100)), theirs, rtol=1e-4)


def test_step_of_torch():
    theirs = torch_rates(torch.optim.lr_scheduler.StepLR(sgd(0.1), 12, 0.5), 60)
    spec = ScheduleSpec(name="step", start=0, stop=60, every=12.0, factor=0.5)
    np.testing.assert_allclose(rates(spec, 0.1, np.arange(60)), theirs, rtol=1e-5)


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_optimizers_of_torch(name):
    """Several updates with clipping and decay, on a loss whose gradient depends on the weights."""
    start, scale = RNG.standard_normal(6).astype(np.float32), np.linspace(0.5, 3, 6, dtype=np.float32)
    w = torch.nn.Parameter(torch.tensor(start))
    theirs = {
        "adamw": lambda: torch.optim.AdamW([w], 0.05, (0.8, 0.95), weight_decay=0.3),
        "adam": lambda: torch.optim.Adam([w], 0.05, (0.8, 0.95), weight_decay=0.3),
        "sgd": lambda: torch.optim.SGD([w], 0.05, momentum=0.7, nesterov=True, weight_decay=0.3),
    }[name]()
    config = OptimConfig(name=name, weight_decay=0.3, no_decay="", beta1=0.8, beta2=0.95, momentum=0.7, clip_norm=1.5)
    params = {"w": jnp.asarray(start)}
    tx = optim.make(config, params, frozen="", depth=lambda _: 0, head="")
    state, step = tx.init(params), jax.jit(functools.partial(tx.update, rate=0.05))
    for _ in range(12):
        theirs.zero_grad()
        (torch.tensor(scale) * w**2).sum().backward()
        torch.nn.utils.clip_grad_norm_([w], 1.5)
        theirs.step()
        updates, state = step({"w": 2 * scale * params["w"]}, state, params)
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(params["w"], w.detach(), rtol=1e-4, atol=1e-5)


def test_muon_of_torch():
    """One step (later ones differ: optax corrects the bias of its momentum); torch orthogonalises in bfloat16."""
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("needs torch 2.9")
    start, grad = (RNG.standard_normal((12, 20)).astype(np.float32) for _ in range(2))
    w = torch.nn.Parameter(torch.tensor(start.T.copy()))
    w.grad = torch.tensor(grad.T.copy())
    torch.optim.Muon([w], 0.1, weight_decay=0.3, momentum=0.9, adjust_lr_fn="match_rms_adamw").step()
    params = {"kernel": jnp.asarray(start)}
    config = OptimConfig(name="muon", weight_decay=0.3, momentum=0.9)
    tx = optim.make(config, params, frozen="", depth=lambda _: 0, head="")
    updates, _ = tx.update({"kernel": jnp.asarray(grad)}, tx.init(params), params, rate=0.1)
    np.testing.assert_allclose(updates["kernel"], w.detach().numpy().T - start, atol=2e-3)
    assert float(jnp.abs(updates["kernel"]).max()) > 0.05


def test_swa_of_torch():
    net = torch.nn.Linear(3, 2)
    theirs = torch.optim.swa_utils.AveragedModel(net)
    config = AverageConfig(name="swa")
    average = averaging.init(config, {"w": jnp.zeros((2, 3))}, {})
    update = jax.jit(averaging.make(config, swa_steps=(1, 2, 3, 4, 5)))
    for step in range(1, 6):
        values = RNG.standard_normal((2, 3)).astype(np.float32)
        with torch.no_grad():
            net.weight.copy_(torch.tensor(values))
        theirs.update_parameters(net)
        average = update(average, {"w": jnp.asarray(values)}, {}, jnp.array(step))
    np.testing.assert_allclose(average["swa"]["params"]["w"], theirs.module.weight.detach(), rtol=1e-5, atol=1e-6)


def test_refreshed_statistics_of_torch():
    from emojax.models import norms

    batches = RNG.standard_normal((4, 16, 5)).astype(np.float32) * 3 + 1
    net = torch.nn.Sequential(torch.nn.BatchNorm1d(5))
    torch.optim.swa_utils.update_bn([torch.tensor(b) for b in batches], net)
    layer = norms.BatchNorm(momentum=0.01)
    variables = layer.init(jax.random.key(0), batches[0], train=False)

    def apply_train(params, state, image):
        with norms.own_statistics():
            return layer.apply({"params": params, **state}, image, train=True, mutable="batch_stats")[1]

    state = {"batch_stats": variables["batch_stats"]}
    found = averaging.refresh(apply_train, variables["params"], state, batches)["batch_stats"]
    np.testing.assert_allclose(found["mean"], net[0].running_mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["var"], net[0].running_var, rtol=1e-4)
