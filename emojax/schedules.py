"""Step → learning rate. Every schedule is a function of the step alone, so nothing about it needs saving.

A new schedule is one function and one line of `SHAPES`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from emojax.errors import ConfigError

Schedule = Callable[[Any], Float[Array, ""]]
"""Number of updates already done → learning rate of the next update."""
Shape = Callable[[Float[Array, ""]], Float[Array, ""]]
"""Updates since the end of the warm-up, in [0, length] → share of the peak."""
Number = int | float
"""A recipe may say 2 for 2.0."""


@dataclasses.dataclass(frozen=True, slots=True)
class ScheduleSpec:
    """A schedule in steps; `ScheduleConfig` has it in epochs. Lengths may be fractional where they are floats.

    Attributes:
      name: a key of `SHAPES`.
      start, stop: the span; outside it the rate stays at its ends.
      warmup: steps of linear warm-up; the rest counts from its end.
      warmup_start: first rate of the warm-up as a share of the peak; 0 = 1 / warmup: rate 0 would waste an update.
      final: cosine, restarts, cycles: lowest rate as a share of the peak.
      cycles: cycles: how many.
      first, multiply: restarts: length of the first cycle; of each one over the one before.
      rise, div, final_div: onecycle: as in `ScheduleConfig`.
      every, factor: step: steps between drops; factor of a drop.
    """

    name: str
    start: int
    stop: int
    warmup: int = 0
    warmup_start: Number = 0.0
    final: Number = 0.0
    cycles: int = 1
    first: Number = 1.0
    multiply: Number = 1.0
    rise: Number = 0.3
    div: Number = 25.0
    final_div: Number = 1e4
    every: Number = 1.0
    factor: Number = 0.1

    @property
    def length(self) -> int:
        """Steps after the warm-up."""
        return self.stop - self.start - self.warmup


Cycle = tuple[Number, Number]
"""(start, length) of a stretch in steps since the end of the warm-up."""


def _growing(first: Number, multiply: Number, length: int) -> list[Cycle]:
    """Stretches of lengths first, first multiply, ... that begin within `length`."""
    if first < 1 or multiply < 1:
        raise ConfigError(
            f"config.schedule: a first cycle of {first:g} updates, each next one {multiply:g} times as long: "
            f"expected at least 1 update and a factor of at least 1"
        )
    found: list[Cycle] = [(0, first)]
    # Half a thousandth of a step against rounding: a stretch that ends with the span is not followed by another.
    while sum(found[-1]) < length - 5e-4:
        found.append((sum(found[-1]), found[-1][1] * multiply))
    return found


CYCLES: dict[str, Callable[[ScheduleSpec], list[Cycle]]] = {
    "cosine": lambda spec: [(0, spec.length)],
    "cycles": lambda spec: [(i * spec.length / spec.cycles, spec.length / spec.cycles) for i in range(spec.cycles)],
    "restarts": lambda spec: _growing(spec.first, spec.multiply, spec.length),
}
"""The schedules that are cosine cycles (Loshchilov & Hutter 2016, arXiv:1608.03983), and their cycles."""


def _first_step(start: Number) -> int:
    """The first whole step at or after `start`."""
    return math.ceil(start - 5e-4)


def _index(t: Float[Array, ""], stretches: list[Cycle]) -> Int[Array, ""]:
    """Which stretch step `t` lies in. Compares whole steps, so that rounding cannot move a boundary."""
    return jnp.searchsorted(jnp.asarray([_first_step(start) for start, _ in stretches]), t, side="right") - 1


def _constant(spec: ScheduleSpec) -> Shape:
    del spec
    return jnp.ones_like


def _cosine_cycles(spec: ScheduleSpec) -> Shape:
    cycles = CYCLES[spec.name](spec)
    starts, lengths = jnp.asarray(cycles, jnp.float32).T

    def share(t: Float[Array, ""]) -> Float[Array, ""]:
        i = _index(t, cycles)
        progress = jnp.clip((t - starts[i]) / lengths[i], 0, 1)
        return spec.final + (1 - spec.final) * 0.5 * (1 + jnp.cos(jnp.pi * progress))

    return share


def _onecycle(spec: ScheduleSpec) -> Shape:
    """Smith & Topin 2017, arXiv:1708.07120, with cosine flanks; the phases' ends are those of torch's OneCycleLR."""
    top, end = spec.rise * spec.length - 1, spec.length - 1
    low, last = 1 / spec.div, 1 / spec.div / spec.final_div

    def flank(progress: Float[Array, ""], first: float, second: float) -> Float[Array, ""]:
        return second + (first - second) * 0.5 * (1 + jnp.cos(jnp.pi * progress))

    def share(t: Float[Array, ""]) -> Float[Array, ""]:
        t = jnp.minimum(t, end)
        falling = flank((t - top) / max(end - top, 1e-6), 1.0, last)
        return jnp.where(t <= top, flank(t / top, low, 1.0), falling) if top > 0 else falling

    return share


def _step(spec: ScheduleSpec) -> Shape:
    stretches = _growing(spec.every, 1.0, spec.length)
    return lambda t: jnp.float32(spec.factor) ** _index(t, stretches)


SHAPES: dict[str, Callable[[ScheduleSpec], Shape]] = {
    "cosine": _cosine_cycles,
    "constant": _constant,
    "restarts": _cosine_cycles,
    "cycles": _cosine_cycles,
    "onecycle": _onecycle,
    "step": _step,
    "plateau": _constant,  # what it waits for is no function of the step: the loop multiplies a factor on
}


def make(spec: ScheduleSpec, *, peak: float) -> Schedule:
    """Linear warm-up, then `spec.name` from the peak on.

    Returns:
      A function of the step that works under jit and vmap. The warm-up's last step has the peak where it starts from 0,
      and the step after the warm-up has it always.

    Raises:
      ConfigError: the name is unknown, or the cycles or drops of the schedule are shorter than a step.
    """
    if spec.name not in SHAPES:
        raise ConfigError(f"config.schedule.name: expected one of {', '.join(SHAPES)}, found {spec.name!r}")
    shape = SHAPES[spec.name](spec)

    def learning_rate(step: Int[Array, ""] | int) -> Float[Array, ""]:
        t = jnp.clip(jnp.asarray(step, jnp.float32) - spec.start, 0, spec.stop - spec.start)
        rate = shape(jnp.maximum(t - spec.warmup, 0))
        return peak * (jnp.where(t < spec.warmup, _warmup(spec, t), rate) if spec.warmup else rate)

    return learning_rate


def _warmup(spec: ScheduleSpec, t: Float[Array, ""]) -> Float[Array, ""]:
    if spec.warmup_start == 0:
        return (t + 1) / spec.warmup
    return spec.warmup_start + (1 - spec.warmup_start) * t / spec.warmup


def restart_steps(spec: ScheduleSpec) -> tuple[int, ...]:
    """The steps within (start, stop) whose update is the first of a new cosine cycle; () where there are no cycles."""
    cycles = CYCLES[spec.name](spec) if spec.name in CYCLES else []
    return tuple(spec.start + spec.warmup + _first_step(start) for start, _ in cycles[1:])


def join(pieces: list[tuple[int, Schedule]]) -> Schedule:
    """One schedule out of several: `pieces` are (first step, schedule), in order; each gets the run's own step."""

    def learning_rate(step: Int[Array, ""] | int) -> Float[Array, ""]:
        rate = pieces[0][1](step)
        for start, piece in pieces[1:]:
            rate = jnp.where(jnp.asarray(step) >= start, piece(step), rate)
        return rate

    return learning_rate
