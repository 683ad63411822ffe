"""Learning rates by hand, and against optax where it has the same curve."""

import math

import jax
import numpy as np
import optax
import pytest

from emojax import schedules


def test_cosine_with_warmup_by_hand():
    rate = schedules.make("cosine", peak=2.0, start=0, stop=14, warmup=4, final=0.1)
    assert [float(rate(s)) for s in range(4)] == pytest.approx([0.5, 1.0, 1.5, 2.0])
    assert float(rate(4)) == pytest.approx(2.0)
    assert float(rate(9)) == pytest.approx(2.0 * (0.1 + 0.9 * 0.5))
    assert float(rate(14)) == pytest.approx(0.2)
    assert float(rate(1000)) == pytest.approx(0.2)


def test_cosine_equals_optax():
    ours = schedules.make("cosine", peak=0.3, start=0, stop=50, final=0.01)
    theirs = optax.cosine_decay_schedule(0.3, 50, alpha=0.01)
    steps = np.arange(60)
    np.testing.assert_allclose(jax.vmap(ours)(steps), jax.vmap(theirs)(steps), rtol=1e-5, atol=1e-7)


def test_span_may_start_late():
    rate = schedules.make("cosine", peak=1.0, start=100, stop=110)
    assert float(rate(100)) == 1.0
    assert float(rate(105)) == pytest.approx(0.5)
    assert float(rate(0)) == 1.0


def test_constant():
    rate = schedules.make("constant", peak=0.5, start=0, stop=10, warmup=2)
    assert [float(rate(s)) for s in (0, 1, 2, 9)] == pytest.approx([0.25, 0.5, 0.5, 0.5])


def test_join_switches_at_the_step():
    joined = schedules.join(
        [
            (0, schedules.make("constant", peak=1.0, start=0, stop=5)),
            (5, schedules.make("constant", peak=3.0, start=5, stop=9)),
        ]
    )
    assert [float(joined(s)) for s in (0, 4, 5, 8)] == [1, 1, 3, 3]
    assert math.isfinite(float(jax.jit(joined)(7)))
