"""A profile of a few training steps, for TensorBoard's profile tab or Perfetto."""

from __future__ import annotations

from pathlib import Path
from typing import Any

STEPS = 10


class Profiler:
    """Traces `STEPS` updates from `first_step` on into `folder`; 0 = never."""

    def __init__(self, folder: Path, *, first_step: int) -> None:
        self._folder, self._first = folder, first_step
        self._state = "waiting" if first_step else "done"

    def tick(self, step: int, result: Any) -> str:
        """Call after the update that makes `step` was dispatched; returns a message when the profile was written.

        `result`, arrays that this update computes, is waited for at both ends: the device works behind the host.
        """
        if self._state == "waiting" and step >= self._first:
            inside = step < self._first + STEPS  # a run that is resumed after the window does not profile
            self._state = "running" if inside else "done"
            if inside:
                import jax

                jax.block_until_ready(result)
                jax.profiler.start_trace(str(self._folder))
        elif self._state == "running" and step >= self._first + STEPS:
            return self.stop(result)
        return ""

    def stop(self, result: Any = None) -> str:
        """Ends a profile that is running, so that none is left open; returns what to tell, or nothing."""
        if self._state != "running":
            return ""
        import jax

        self._state = "done"
        jax.block_until_ready(result)
        jax.profiler.stop_trace()
        return f"Profile of {STEPS} steps from step {self._first} on: {self._folder}"
