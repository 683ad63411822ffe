"""How fast training runs: images per second and the share of time spent waiting for data."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@dataclasses.dataclass(frozen=True, slots=True)
class Speed:
    """One interval: images per second, share of the time that waited for data in [0, 1], and its length in seconds."""

    images_per_second: float
    data_wait: float
    seconds: float


class Throughput:
    """Measures intervals of training by a monotonic clock, leaving out compilation, evaluation and saving."""

    def __init__(self, *, step: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._interval_step = self._step = step
        self._first: tuple[int, float] | None = None  # step and time of the first update that had returned
        self._compile_start: float | None = None
        self._pause_start: float | None = None
        self._compiling = True
        self._since = clock()
        self._wait = self._away = 0.0
        self._unmeasured = 0

    @property
    def compiling(self) -> bool:
        """Whether the next update is compiled first."""
        return self._compiling

    def expect_compile(self) -> None:
        """The next update is compiled first; its time and images do not count."""
        self._compiling, self._compile_start = True, None

    def pause(self) -> None:
        """From now to the next wait for data is not training."""
        if self._pause_start is None:
            self._pause_start = self._clock()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Time in here is spent waiting for data."""
        start = self._clock()
        if self._pause_start is not None:
            self._away += start - self._pause_start
            self._pause_start = None
        try:
            yield
        finally:
            end = self._clock()
            self._wait += end - start
            self._compile_start = end

    def tick(self, step: int) -> float | None:
        """The update that makes `step` was dispatched. Returns the seconds of its compilation, None if it had none."""
        self._step = step
        if not self._compiling:
            return None
        now = self._clock()
        seconds = now - (self._since if self._compile_start is None else self._compile_start)
        # A new interval starts here: before it the loader was filling up and XLA compiled.
        self._compiling, self._since, self._wait, self._away = False, now, 0.0, 0.0
        self._unmeasured = step - self._interval_step
        self._first = self._first or (step, now)
        return seconds

    def skip_to(self, step: int) -> None:
        """The updates up to `step` are left out: they took no time and say nothing about the pace."""
        if self._first is not None:
            self._first = (self._first[0] + step - self._step, self._first[1])
        self._interval_step = self._step = step

    def close(self, step: int, images: int) -> Speed | None:
        """Ends the interval at `step`, after `images` images; None when none of its steps was measured."""
        now = self._clock()
        steps = step - self._interval_step
        seconds = now - self._since - self._away
        share = (steps - self._unmeasured) / steps if steps > 0 else 0
        wait = self._wait
        self._interval_step, self._since, self._wait, self._away, self._unmeasured = step, now, 0.0, 0.0, 0
        if self._compiling or share <= 0 or seconds <= 0:
            return None
        return Speed(images_per_second=images * share / seconds, data_wait=min(wait / seconds, 1.0), seconds=seconds)

    def seconds_left(self, total_steps: int) -> float | None:
        """Time to `total_steps` at the mean pace so far, evaluations included; None before there is one."""
        if self._first is None or self._step <= self._first[0]:
            return None
        pace = (self._clock() - self._first[1]) / (self._step - self._first[0])
        return pace * max(total_steps - self._step, 0)
