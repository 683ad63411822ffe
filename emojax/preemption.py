"""SIGTERM and Ctrl-C: a run ends at its next update, with everything saved."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from emojax import parallel

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Requested(BaseException):
    """Raised by `Stop.poll` out of work that can be repeated, such as an evaluation; `train.run` catches it."""


class Stop:
    """A context manager that notes signals instead of dying of them.

    The first signal asks for the end; a second one, which schedulers and impatient people send, changes nothing, so
    that a save under way is completed; a third ends the process at once. Outside of the main thread, which alone hears
    signals, nothing is installed.
    """

    def __init__(self) -> None:
        """Hears nothing before it is entered."""
        self._count, self._polls = 0, 0
        self._old: dict[int, Any] = {}
        self.signal = 0
        """Number of the first signal, 0 = none so far."""

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            # Of several processes JAX tells all of them when one gets SIGTERM, and listens for that itself.
            heard = SIGNALS if parallel.process()[1] == 1 else (signal.SIGINT,)
            self._old = {number: signal.signal(number, self._note) for number in heard}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._count += 1
        self.signal = self.signal or number
        if self._count >= 3:
            os._exit(128 + number)
        if parallel.process()[1] > 1:
            os.kill(os.getpid(), signal.SIGTERM)

    def requested(self) -> bool:
        """Whether to end now: the same answer in all processes, all of which must ask."""
        self._polls += 1
        if not parallel.stop_agreed(self._polls, self.signal != 0):
            return False
        self.signal = self.signal or signal.SIGTERM  # another process was told
        return True

    def poll(self) -> None:
        """Raises `Requested` when it is time to end."""
        if self.requested():
            raise Requested

    @property
    def name(self) -> str:
        """SIGTERM or SIGINT."""
        return signal.Signals(self.signal).name
