"""The schedule that waits: by hand, and against torch."""

import numpy as np
import pytest

from emojax.plateau import Plateau

RULE = {"lower_is_better": True, "factor": 0.5, "patience": 2, "lowest": 0.2}


def test_by_hand():
    state, scales = Plateau(), []
    for value in (1.0, 0.9, 0.95, 0.95, 0.95, 0.89, 0.9, 0.9, 0.9, 1.0, 1.0, 1.0):
        state = state.after(value, **RULE)
        scales.append(state.scale)
    assert scales == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.2]  # never below 0.2


def test_more_is_better():
    state = Plateau()
    for value in (0.5, 0.6, 0.6, 0.6, 0.6):
        state = state.after(value, **RULE | {"lower_is_better": False})
    assert (state.best, state.scale) == (0.6, 0.5)


@pytest.mark.peers
@pytest.mark.parametrize("lower", [True, False])
def test_equals_torch(lower):
    torch = pytest.importorskip("torch")
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode="min" if lower else "max", factor=0.5, patience=5, min_lr=0.1
    )
    state = Plateau()
    for value in 1 + 0.3 * np.random.default_rng(0).random(80):
        theirs.step(value)
        state = state.after(value, lower_is_better=lower, factor=0.5, patience=5, lowest=0.1)
        assert state.scale == optimizer.param_groups[0]["lr"]
