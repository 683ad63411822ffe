"""Learning rates by hand, at the seeds' own epochs, and against optax where it has the same curve."""

import dataclasses
import math

import jax
import numpy as np
import optax
import pytest

from emojax import optim, schedules
from emojax.config import Config, OptimConfig, ScheduleConfig, StageConfig
from emojax.errors import ConfigError
from emojax.schedules import ScheduleSpec
from emojax.stages import plan


def make(name, stop=100, peak=1.0, start=0, **knobs):
    return schedules.make(ScheduleSpec(name=name, start=start, stop=stop, **knobs), peak=peak)


def curve(rate, steps):
    return np.asarray(jax.jit(jax.vmap(rate))(np.asarray(steps)))


def run(schedule, *, epochs, peak, images, batch, accumulate=1):
    """(rate of the run, updates per epoch, updates of the run, its one stage)."""
    optimizer = OptimConfig(learning_rate=peak, accumulate=accumulate)
    config = Config(batch_size=batch, optim=optimizer, schedule=schedule, stages=(StageConfig(epochs=epochs),))
    (stage,) = plan(config, images)
    return optim.learning_rate([stage]), images / batch / accumulate, stage.stop, stage


def test_cosine_with_warmup_by_hand():
    rate = make("cosine", 14, 2.0, warmup=4, final=0.1)
    assert [float(rate(s)) for s in range(4)] == pytest.approx([0.5, 1.0, 1.5, 2.0])
    assert float(rate(4)) == pytest.approx(2.0)
    assert float(rate(9)) == pytest.approx(2.0 * (0.1 + 0.9 * 0.5))
    assert float(rate(14)) == pytest.approx(0.2)
    assert float(rate(1000)) == pytest.approx(0.2)


def test_warmup_from_a_share_of_the_peak():
    rate = make("constant", 20, 2.0, warmup=10, warmup_start=0.01)
    assert curve(rate, [0, 5, 9, 10, 19]) == pytest.approx([0.02, 1.01, 1.802, 2.0, 2.0])


def test_cosine_equals_optax():
    theirs = optax.cosine_decay_schedule(0.3, 50, alpha=0.01)
    steps = np.arange(60)
    ours = curve(make("cosine", 50, 0.3, final=0.01), steps)
    np.testing.assert_allclose(ours, jax.vmap(theirs)(steps), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", schedules.SHAPES)
def test_span_may_start_late_and_rates_stay_at_its_ends(name):
    knobs = {"warmup": 0 if name == "onecycle" else 8, "cycles": 3, "first": 5.5, "multiply": 1.5, "every": 7.3}
    early, late = make(name, 40, **knobs), make(name, 140, start=100, **knobs)
    steps = np.arange(41)
    np.testing.assert_array_equal(curve(late, steps + 100), curve(early, steps))
    assert len(set(curve(late, [0, 50, 100]).tolist())) == 1
    assert len(set(curve(late, [140, 141, 10_000]).tolist())) == 1


def test_constant():
    rate = make("constant", 10, 0.5, warmup=2)
    assert [float(rate(s)) for s in (0, 1, 2, 9)] == pytest.approx([0.25, 0.5, 0.5, 0.5])


def test_plateau_is_constant_for_the_loop_to_scale():
    steps = np.arange(12)
    np.testing.assert_array_equal(
        curve(make("plateau", 10, warmup=3), steps), curve(make("constant", 10, warmup=3), steps)
    )


def test_step_by_hand():
    rate = make("step", 40, 3.0, warmup=5, every=10.0, factor=0.1)
    assert curve(rate, [5, 14, 15, 24, 25, 39]) == pytest.approx([3, 3, 0.3, 0.3, 0.03, 0.003], rel=1e-5)


def test_step_drops_at_the_step_of_the_epoch_also_where_the_product_rounds():
    every = 30 * (28709 / 128)  # epochs of 224.29 updates
    rate = make("step", 30_000, every=every)
    for n in (1, 2, 3, 4):
        first = math.ceil(n * every)
        assert curve(rate, [first - 1, first]) == pytest.approx([0.1 ** (n - 1), 0.1**n], rel=1e-4)


def test_step_equals_optax():
    theirs = optax.exponential_decay(0.5, 7, 0.3, staircase=True)
    steps = np.arange(60)
    np.testing.assert_allclose(
        curve(make("step", 60, 0.5, every=7.0, factor=0.3), steps), jax.vmap(theirs)(steps), rtol=1e-5
    )


def test_cycles_are_equal_and_return_to_the_peak():
    rate = make("cycles", 35, warmup=5, cycles=3, final=0.2)
    assert curve(rate, [5, 15, 25]) == pytest.approx([1, 1, 1])
    assert curve(rate, [10, 20, 30]) == pytest.approx([0.6] * 3)
    assert float(rate(35)) == pytest.approx(0.2)
    assert schedules.restart_steps(ScheduleSpec(name="cycles", start=0, stop=35, warmup=5, cycles=3)) == (15, 25)


def test_restarts_equal_optax():
    lengths = [10, 20, 40]
    theirs = optax.sgdr_schedule(
        [
            {"init_value": 0.3, "peak_value": 0.3, "warmup_steps": 0, "decay_steps": n, "end_value": 0.003}
            for n in lengths
        ]
    )
    steps = np.arange(70)
    ours = curve(make("restarts", 70, 0.3, first=10.0, multiply=2.0, final=0.01), steps)
    np.testing.assert_allclose(ours, jax.vmap(theirs)(steps), rtol=1e-5)


def test_restarts_in_the_middle_of_a_step_take_effect_at_the_next():
    # Cycles [0, 4.5), [4.5, 9), [9, 13.5): step 5 is half a step into the second.
    spec = ScheduleSpec(name="restarts", start=100, stop=113, first=4.5, multiply=1.0)
    assert schedules.restart_steps(spec) == (105, 109)
    rate = schedules.make(spec, peak=1.0)
    expected = [0.5 * (1 + math.cos(math.pi * t / 4.5)) for t in (4, 0.5, 3.5, 0, 4)]
    assert curve(rate, [104, 105, 108, 109, 113]) == pytest.approx(expected, abs=1e-6)


def test_a_cycle_that_ends_with_the_span_is_followed_by_none():
    spec = ScheduleSpec(name="restarts", start=0, stop=70, first=10.0, multiply=2.0)
    assert schedules.restart_steps(spec) == (10, 30)
    assert float(schedules.make(spec, peak=1.0)(70)) == pytest.approx(0, abs=1e-6)
    for epoch in (0.1, 28709 / 128, 1e3 / 3):  # 10 first epochs, also where the products round
        spec = ScheduleSpec(name="restarts", start=0, stop=round(70 * epoch), first=10 * epoch, multiply=2.0)
        assert len(schedules.restart_steps(spec)) == 2


@pytest.mark.parametrize("name", [n for n in schedules.SHAPES if n not in ("restarts", "cycles")])
def test_only_cosine_cycles_restart(name):
    assert schedules.restart_steps(ScheduleSpec(name=name, start=0, stop=50, cycles=4, first=5.0)) == ()


def test_onecycle_by_hand():
    # torch: rises over rise * total - 1 = 29 steps, falls over the other 70.
    rate = make("onecycle", 100, 5.0, rise=0.3, div=25.0, final_div=1e4)
    assert curve(rate, [0, 29, 64, 99]) == pytest.approx([0.2, 5.0, (5 + 2e-5) / 2, 2e-5], rel=1e-5)
    assert float(make("onecycle", 10, 5.0, rise=0.3)(1)) == pytest.approx(2.6)  # half way up the 2 steps


def test_onecycle_without_a_rise_falls_from_the_peak():
    rate = make("onecycle", 10, rise=0.1)
    assert curve(rate, [0, 9]) == pytest.approx([1.0, 4e-6])


def test_onecycle_resembles_optax():
    """optax counts its phases one step longer than torch does: over 10,000 steps that is nothing."""
    theirs = optax.cosine_onecycle_schedule(10_000, 5e-3, pct_start=0.1)
    steps = np.arange(0, 10_000, 37)
    np.testing.assert_allclose(
        curve(make("onecycle", 10_000, 5e-3, rise=0.1), steps), jax.vmap(theirs)(steps), atol=1e-5
    )


def test_regression_01_restarts_of_seed_002_count_epochs():
    """The original stepped the schedule per batch, so that its first cycle was 10 batches and not 10 epochs."""
    schedule = ScheduleConfig(name="restarts", first_epochs=10, multiply=2, final=1e-6 / 1e-3)
    rate, epoch, stop, stage = run(schedule, epochs=100, peak=1e-3, images=252_723, batch=128)

    def at(n):  # the first update of epoch n, counted from 0
        return float(rate(math.ceil(n * epoch)))

    def by_hand(t, length):
        return 1e-6 + 0.5 * (1e-3 - 1e-6) * (1 + math.cos(math.pi * t / length))

    expected = {0: 1e-3, 10: 1e-3, 11: by_hand(1, 20), 30: 1e-3, 31: by_hand(1, 40), 100: by_hand(30, 80)}
    for n, lr in expected.items():
        assert at(n) == pytest.approx(lr, rel=1e-4), n
    assert at(11) == pytest.approx(9.93851e-4, rel=1e-4)
    assert at(31) == pytest.approx(9.98461e-4, rel=1e-4)
    assert float(rate(stop)) == pytest.approx(6.9165e-4, rel=1e-4)  # mid-cycle: take the best checkpoint, not the last
    assert float(rate(math.ceil(10 * epoch) - 1)) < 1.01e-6  # and the lowest rate just before the restart
    assert schedules.restart_steps(stage.spec) == tuple(math.ceil(n * epoch) for n in (10, 30, 70))


def test_regression_01_onecycle_of_seed_003_ends_when_the_run_does():
    """The original counted batches but advanced per update of 4 batches: only a quarter of the cycle ran."""
    schedule = ScheduleConfig(name="onecycle", rise=0.1, div=25, final_div=1e4)
    rate, epoch, stop, _ = run(schedule, epochs=100, peak=5e-3, images=25_600, batch=32, accumulate=4)
    assert (epoch, stop) == (200, 20_000)
    assert float(rate(0)) == pytest.approx(2e-4)
    assert float(rate(10 * 200 - 1)) == pytest.approx(5e-3)  # the peak, after a tenth of the updates
    assert float(rate(stop - 1)) == pytest.approx(2e-8, rel=1e-3)  # the last update


def test_regression_01_seed_000_has_six_cycles_after_its_warmup():
    """The original's restarts were never stepped, its warm-up never used, and a plateau rule acted instead."""
    schedule = ScheduleConfig(name="cycles", warmup_epochs=15, cycles=6, final=1e-6 / 5e-5)
    rate, epoch, stop, stage = run(schedule, epochs=400, peak=5e-5, images=12_800, batch=64, accumulate=2)
    assert (epoch, stop) == (100, 40_000)
    rates = curve(rate, np.arange(stop))
    assert rates[0] == pytest.approx(5e-5 / 1500) and rates[749] == pytest.approx(2.5e-5)
    assert np.all(np.diff(rates[:1500]) > 0) and rates[1500] == pytest.approx(5e-5)
    jumps = 1 + np.flatnonzero(np.diff(rates[1500:]) > 0) + 1500  # 38,500 updates in six cycles of 6416.7
    assert tuple(jumps) == (7917, 14_334, 20_750, 27_167, 33_584) == schedules.restart_steps(stage.spec)
    np.testing.assert_allclose(rates[jumps], 5e-5, rtol=1e-5)
    np.testing.assert_allclose([*rates[jumps - 1], rates[-1]], 1e-6, rtol=1e-3)


def test_join_switches_at_the_step():
    joined = schedules.join([(0, make("constant", 5, 1.0)), (5, make("constant", 9, 3.0, start=5))])
    assert [float(joined(s)) for s in (0, 4, 5, 8)] == [1, 1, 3, 3]
    assert math.isfinite(float(jax.jit(joined)(7)))


def test_names_and_lengths_are_checked():
    known = "cosine, constant, restarts, cycles, onecycle, step, plateau"
    with pytest.raises(ConfigError, match=rf"config\.schedule\.name: expected one of {known}, found 'linear'"):
        make("linear")
    with pytest.raises(ConfigError, match=r"a first cycle of 0\.5 updates"):
        make("restarts", first=0.5)


def test_specs_are_hashable():
    assert len({ScheduleSpec(name="step", start=0, stop=9), dataclasses.replace(ScheduleSpec("step", 0, 9))}) == 1
