"""How the C library's allocator treats the memory of training steps."""

from __future__ import annotations

import contextlib
import ctypes

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8  # of <malloc.h>


def keep_freed() -> None:
    """Lets freed memory stay with the process, for the next step. Call it before anything starts a thread.

    XLA's CPU client allocates the temporary arrays of every step anew. By default glibc returns such large pieces to
    the kernel, which hands them out again page by page, filled with zeros: for ConvNeXt-Tiny on 64 px half of the time
    of a step. Memory use is then what it was at its highest, for the whole process: only commands do that, never a
    call from Python such as `emojax.load`, in whose process others live. Other C libraries are left as they are.
    Threads that exist already may have got heaps of their own, which still shrink: a third of a training's time, when
    this came too late.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(_MMAP_MAX, 0)  # large pieces too come from the heap ...
        mallopt(_TRIM_THRESHOLD, -1)  # ... which never shrinks, ...
        mallopt(_ARENA_MAX, 1)  # and is one for all threads: heaps of other threads hold no more than 64 MiB
