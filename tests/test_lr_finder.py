"""How a range test is read; whole tests are in test_cli_runs.py."""

import math

import numpy as np

from emojax import lr_finder

RATES = 1e-8 * (1e8 ** (np.arange(100) / 99))


def read(smoothed):
    return lr_finder._read(smoothed, smoothed, low=1e-8, growth=math.log(1e8) / 99)


def test_the_steepest_fall_is_found_whatever_the_first_updates_did():
    fall = 2 - 1 / (1 + np.exp(-(np.arange(100) - 60) / 4)) + 3 * np.exp((np.arange(100) - 95) / 2)
    noisy = fall + np.where(np.arange(100) < 8, np.array([0.3, -0.6] * 50), 0)
    found = read(noisy)
    assert RATES[58] < found.steepest < RATES[62] and RATES[70] < found.lowest < RATES[90]


def test_a_loss_that_does_not_fall_gives_no_suggestion():
    noise = 2 + 0.01 * np.sin(np.arange(100))
    noise[:5] = (2.6, 2.2, 2.0, 2.1, 2.0)
    assert math.isnan(read(noise).steepest)
