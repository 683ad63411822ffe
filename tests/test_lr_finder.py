"""How a range test is read; whole tests are in test_cli_runs.py."""

import math

import numpy as np
import pytest

from emojax import lr_finder

UPDATE = np.arange(100)
RATES = 1e-8 * 1e8 ** (UPDATE / 99)


def read(losses):
    return lr_finder._read(losses, low=1e-8, growth=math.log(1e8) / 99)


def fall(by, *, at, blow_up):
    return 2 - by / (1 + np.exp(-(UPDATE - at) / 3)) + np.maximum(0, UPDATE - blow_up) / 4


@pytest.mark.parametrize(("by", "noise"), [(1.0, 0.1), (0.5, 0.03), (0.12, 0.01)])
def test_the_steepest_fall_is_found_where_it_is(by, noise):
    found = read(fall(by, at=60, blow_up=85) + noise * np.random.default_rng(0).standard_normal(100))
    assert RATES[54] < found.steepest < RATES[66] and RATES[66] < found.lowest < RATES[88]


def test_a_loss_that_does_not_fall_gives_no_suggestion():
    for seed in range(20):
        noise = 2 + 0.1 * np.random.default_rng(seed).standard_normal(100)
        assert math.isnan(read(noise).steepest), seed
    assert math.isnan(read(2 + UPDATE / 50).steepest), "it only rises"
