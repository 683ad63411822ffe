"""Who is in the server: a bounded number of pictures and bytes, none before the model is warm or once it drains.

All of it lives in the event loop's thread, so there are no locks.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator

from emojax.serve.limits import Limits, Refused


@dataclasses.dataclass(slots=True)
class Ticket:
    """The room that one request holds: pictures, and bytes of its body."""

    pictures: int
    bytes: int


class Admission:
    """Attributes:
    draining: nothing new is let in.
    """

    def __init__(self, limits: Limits, *, ready: Callable[[], bool]) -> None:
        """`ready`: whether the model can answer."""
        self._limits, self._ready = limits, ready
        self._inside: dict[int, Ticket] = {}
        self.draining = False

    @property
    def pictures(self) -> int:
        """Pictures that wait for their answer."""
        return sum(ticket.pictures for ticket in self._inside.values())

    @property
    def state(self) -> str:
        """warming, ready or draining."""
        return "draining" if self.draining else "ready" if self._ready() else "warming"

    @contextlib.contextmanager
    def enter(self, size: int) -> Iterator[Ticket]:
        """Room for one picture and a body of at most `size` bytes. Raises `Refused`: 503, or 429 when it is full."""
        if self.state != "ready":
            raise Refused(503, f"the server is {self.state}", retry_after=5 if self.draining else 1)
        self._check(1, size)
        ticket = Ticket(1, size)
        self._inside[id(ticket)] = ticket
        try:
            yield ticket
        finally:
            del self._inside[id(ticket)]

    def widen(self, ticket: Ticket, pictures: int, size: int) -> None:
        """Now that the body is known: room for what is in it. Raises `Refused` with 429 when it is full."""
        self._check(pictures - ticket.pictures, size - ticket.bytes)
        ticket.pictures, ticket.bytes = pictures, size

    def _check(self, pictures: int, size: int) -> None:
        held = sum(ticket.bytes for ticket in self._inside.values())
        if self.pictures + pictures > self._limits.queue or held + size > self._limits.memory << 20:
            raise Refused(429, "too many pictures are waiting", retry_after=1)
