"""Learning-rate range test (Smith 2015, arXiv:1506.01186): one short run with a rising rate."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from emojax import metrics, parallel, wiring
from emojax.errors import ConfigError
from emojax.wiring import Parts

SMOOTHING = 0.98
"""Decay of the running mean of the loss that ends the test."""
_CLEARLY = 8.0
"""By how many standard errors of its mean the loss must fall for a suggestion."""
BLOW_UP = 4.0
"""The test ends where the smoothed loss exceeds this many times its smallest value."""


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """The curve, one entry per update, and what it suggests.

    Attributes:
      rates, losses, smoothed: float64 [N]; the last is a centred mean over a tenth of the updates, which lags behind
        neither side.
      steepest: rate at which the smoothed loss falls fastest per decade: a good peak learning rate. NaN where it falls
        by no more than the noise of its mean.
      lowest: rate at its minimum; the largest useful rate is about a tenth of it.
    """

    rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    steepest: float
    lowest: float


def search(parts: Parts, *, batches: int = 100, low: float = 1e-8, high: float = 1.0) -> Found:
    """Trains from the start while the rate rises from `low` to `high`, equally per update on a log scale.

    The first stage's data, loss and frozen parameters are used, and the optimizer of the config; nothing is written.
    Raises `ConfigError` when there are fewer than ten updates to look at.
    """
    stage = dataclasses.replace(parts.stages[0], stop=batches)
    growth = math.log(high / low) / (batches - 1)
    trial = dataclasses.replace(
        parts, rate=lambda step: low * jnp.exp(growth * jnp.asarray(step, jnp.float32)), compiled={}
    )
    train_step, _ = wiring.train_step(trial, dataclasses.replace(stage, distill=False))
    state, empty = wiring.initial_state(trial), parallel.replicate(trial.mesh, metrics.TrainMetrics.empty())
    losses: list[float] = []
    smoothed: list[float] = []
    mean = 0.0
    with wiring.train_batches(trial, stage, start=0) as loader:
        for step, host in enumerate(loader):
            batch = parallel.shard(trial.mesh, host, accumulate=trial.config.optim.accumulate)
            state, totals = train_step(state, empty, batch, trial.key)
            loss = float(jax.device_get(totals.loss.compute()))
            if not math.isfinite(loss):
                break
            mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
            losses.append(loss)
            smoothed.append(mean / (1 - SMOOTHING ** (step + 1)))
            if len(smoothed) > 1 and smoothed[-1] > BLOW_UP * min(smoothed):
                break
    return _read(np.array(losses), low=low, growth=growth)


def _read(losses: np.ndarray, *, low: float, growth: float) -> Found:
    if len(losses) < 10:
        raise ConfigError(f"the loss blew up after {len(losses)} updates; start from a lower rate (--low)")
    rates = low * np.exp(growth * np.arange(len(losses)))
    side = max(2, len(losses) // 20)
    width = 2 * side + 1
    smoothed = np.convolve(np.pad(losses, side, mode="reflect"), np.full(width, 1 / width), mode="valid")
    bottom = int(smoothed.argmin())
    slope = np.gradient(smoothed)[: bottom + 1]
    noise = float(np.std((losses - smoothed)[: bottom + 1])) / math.sqrt(width)
    falls = smoothed[0] - smoothed[bottom] > _CLEARLY * noise
    steepest = float(rates[slope.argmin()]) if bottom and falls else math.nan
    return Found(rates, losses, smoothed, steepest=steepest, lowest=float(rates[bottom]))
