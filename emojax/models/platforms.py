"""Which formulation a program holds: one for CPUs and XLA's own for other platforms, or XLA's own alone."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

from jax import lax

_PLAIN: contextvars.ContextVar[bool] = contextvars.ContextVar("plain", default=False)


@contextlib.contextmanager
def plain() -> Iterator[None]:
    """What is traced inside holds XLA's own formulation alone, as converters to other formats need it: they know a
    convolution, and not the sums of products that a CPU does in its place."""
    token = _PLAIN.set(True)
    try:
        yield
    finally:
        _PLAIN.reset(token)


def is_plain() -> bool:
    """Whether this is traced inside of `plain`."""
    return _PLAIN.get()


def per_platform(*arrays: Any, cpu: Callable[..., Any], default: Callable[..., Any]) -> Any:
    """cpu(*arrays) on CPUs and default(*arrays) elsewhere, decided when the program is lowered: an export for several
    platforms holds both. See `plain`."""
    return default(*arrays) if is_plain() else lax.platform_dependent(*arrays, cpu=cpu, default=default)
