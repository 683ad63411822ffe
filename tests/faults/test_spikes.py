"""Loss spikes: noticed, told once, written down with the pictures of the batch, and the same after a resume."""

import dataclasses
import os
import signal

import jax.numpy as jnp
import numpy as np
import pytest
from harness import Changed, at, finish, same, small, steps

from emojax import jsonl, spikes, train, wiring
from emojax.errors import InterruptedRunError
from emojax.spikes import Watch
from emojax.train_metrics import LastGradNorm, MeanLoss, Skipped, TrainMetrics


def update(loss, norm, weight=8.0):
    """The numbers of one update."""
    return dataclasses.replace(
        TrainMetrics.empty(),
        loss=MeanLoss(jnp.float32(loss * weight), jnp.float32(weight)),
        grad_norm=LastGradNorm(jnp.float32(norm)),
        skipped=Skipped.empty(),
    )


def watched(updates, *, interval=5, memory=None):
    """[(number of the update, spike)] and the memory, as the training loop would look at `updates`."""
    totals, memory, found = TrainMetrics.empty(), {} if memory is None else memory, []
    watch = Watch(memory, totals)
    for i, numbers in enumerate(updates, start=1):
        totals = totals.merge(numbers)
        closed = i % interval == 0
        watch.hold(i, totals, closed=closed, index=np.array([i, -1]))
        step, records, some = watch.look()
        assert step == i and records.tolist() == [i] and watch.look()[2] == []
        found += [(i, spike) for spike in some]
        totals = totals.fresh() if closed else totals
    return found, memory


def noisy(n, seed=0):
    rng = np.random.default_rng(seed)
    return [update(1 + 0.1 * x, float(np.exp(0.3 * y))) for x, y in rng.standard_normal((n, 2))]


def test_a_jump_is_measured_from_the_median_in_spreads():
    """By hand: 40 losses, half 0.9 and half 1.1: median 1.0, every distance 0.1, so one spread is 0.14826."""
    usual = [update(0.9 if i % 2 else 1.1, 2.0) for i in range(40)]
    found, _ = watched([*usual, update(4.0, 2.0)])
    [(at_update, spike)] = found
    assert at_update == 41 and spike.name == "loss" and not spike.again
    assert spike.value == pytest.approx(4.0, rel=1e-5) and spike.usual == pytest.approx(1.0, rel=1e-5)
    assert spike.spreads == pytest.approx(3.0 / 0.14826, rel=1e-4)


def test_a_gradient_alone_can_be_one_and_a_row_is_told_once():
    found, _ = watched([*noisy(40), update(1, 1000), update(1, 1000), update(1, 1), update(1, 1000)])
    assert [(i, s.name, s.again) for i, s in found] == [
        (41, "grad_norm", False),
        (42, "grad_norm", True),
        (44, "grad_norm", False),
    ]
    assert "told" not in found[1][1].told(42, ["a"]) and found[1][1].told(42, ["a"]) == ""


@pytest.mark.parametrize("seed", range(5))
def test_ordinary_noise_and_falling_losses_are_none(seed):
    assert watched(noisy(500, seed))[0] == []
    assert watched([update(3 * 0.98**i, 5 * 0.99**i) for i in range(300)])[0] == []
    assert watched([update(1.0, 1.0) for _ in range(100)])[0] == []


def test_left_out_updates_and_padding_are_not_looked_at():
    found, memory = watched([*noisy(40), TrainMetrics.skip(), update(99, 99, weight=0.0)])
    assert found == [] and len(memory["loss"]) == 40


def test_the_memory_is_all_that_a_resumed_run_needs():
    updates = [*noisy(50), update(30, 1), *noisy(20, 1), update(1, 500)]
    whole, _ = watched(updates)
    first, memory = watched(updates[:40])
    rest, _ = watched(updates[40:], memory=memory)
    assert len(whole) == 2 and whole == first + [(i + 40, spike) for i, spike in rest]


@pytest.fixture
def spiking(monkeypatch):
    """Batches whose labels weigh a thousand times as much in updates 7 and 8."""
    monkeypatch.setattr(spikes, "LEAST", 4)
    original = wiring.train_batches

    def louder(step, batch):
        return dataclasses.replace(batch, label=batch.label * np.float32(1000 if step in (7, 8) else 1))

    def train_batches(parts, stage, *, start):
        return Changed(original(parts, stage, start=start), start, louder)

    monkeypatch.setattr(wiring, "train_batches", train_batches)


def test_a_run_tells_where_to_look_and_goes_on(tmp_path, pictures, spiking, capsys):
    finish(small(pictures), tmp_path / "run")
    rows = [row for row in jsonl.read(tmp_path / "run/metrics.jsonl") if row["kind"] == "spike"]
    assert {(row["step"], row["what"]) for row in rows} >= {(7, "loss"), (7, "grad_norm")}
    assert {row["step"] for row in rows} <= {7, 8} and all(row["value"] > 50 * row["usual"] for row in rows)
    assert len(rows[0]["images"]) == 16 and all((pictures / "train").joinpath(name).exists() or
                                                (pictures / name).exists() for name in rows[0]["images"])  # fmt: skip
    told = [line for line in capsys.readouterr().err.splitlines() if "warning: loss" in line]
    assert len(told) == 1 and "in update 7, usually" in told[0] and rows[0]["images"][0] in told[0]
    assert (tmp_path / "run/finished.json").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("update_", [6, 7, 8])
def test_a_resumed_run_finds_the_same(tmp_path, pictures, spiking, monkeypatch, update_):
    config = small(pictures)
    config.monitor.log_every = 5  # so that the stop falls inside an interval
    finish(config, tmp_path / "alone")
    run = tmp_path / "run"
    stop = lambda: os.kill(os.getpid(), signal.SIGTERM)  # noqa: E731
    with at(monkeypatch, train, "_note", update_, stop), pytest.raises(InterruptedRunError):
        finish(config, run)
    assert max(steps(run)) == update_
    finish(config, run)
    assert same(run, tmp_path / "alone") == []
    assert sum(row["kind"] == "spike" for row in jsonl.read(run / "metrics.jsonl")) >= 2
