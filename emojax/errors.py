"""The errors that emojax raises on purpose: each names what was expected, what was found and what to do.

The command line prints them as one line and exits with `exit_code`; anything else that escapes is a defect of emojax.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

from emojax.visible import visible

EXIT_CODES = {
    0: "done",
    1: "a defect of emojax, with a traceback",
    2: "bad input: a knob, the command line, the data; or pictures that could not be read",
    3: "a checkpoint is missing, damaged, of another model, or could not be written",
    4: "the work directory cannot be used: no parent, not writable, another config, or another run holds it",
    5: "training diverged: too many updates in a row were not finite",
    6: "every checkpoint of the run is damaged",
    7: "the disk is full, or a quota or file-size limit reached; what was saved before is whole",
    8: "an export failed its comparison with the model; nothing was written",
    9: "a checkpoint needs all processes of the job, and another one seems to be lost; start all of them again",
    130: "stopped by Ctrl-C, with everything saved",
    143: "stopped by SIGTERM, with everything saved",
}
"""What the exit codes of every command mean; a process that is killed otherwise ends as the system has it."""

FINAL = frozenset(EXIT_CODES) - {1, 9}
"""Codes after which the same command, started again at once, would end the same, or is not wanted."""

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REFUSED = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP,
    errno.ENAMETOOLONG,
}  # fmt: skip
# Of these a job of several processes is not started again. What does not exist, or does already, is not among them:
# libraries try that as they go, and another process may have moved a file.
_REFUSED_FILE = _REFUSED - {errno.ENOENT, errno.EEXIST} | {errno.EIO}
_FILE_TEXTS = ("EACCES", "EROFS", "Permission denied", "Read-only file system", "Input/output error")
_FULL_TEXTS = ("No space left on device", "Disk quota exceeded", "File too large", "ENOSPC")


class EmojaxError(Exception):
    """Base of every error meant for the user."""

    exit_code = 2


class ConfigError(EmojaxError):
    """A config value is unknown, mistyped, out of range or contradicts another one."""


class DataError(EmojaxError):
    """The data cannot be used as given; the message names the file, row or class."""


class CheckpointError(EmojaxError):
    """A checkpoint is missing, damaged, or belongs to another model, class list or config."""

    exit_code = 3


class DamagedError(CheckpointError):
    """A checkpoint is not what was saved: bits have changed, or files are missing."""


class LostError(CheckpointError):
    """Every checkpoint of a run is damaged. To begin again is for a person to decide."""

    exit_code = 6


class FullError(CheckpointError):
    """Nothing more can be written. What was saved is whole; the same command goes on once there is room."""

    exit_code = 7


class PeerError(CheckpointError):
    """A checkpoint could not be written together with the other processes of the job, one of which may have died."""

    exit_code = 9


class ExportError(EmojaxError):
    """What was exported does not say what the model says; nothing was written."""

    exit_code = 8


class WorkdirError(EmojaxError):
    """The work directory cannot be used: missing parent, other config, or another run holds it."""

    exit_code = 4


class TrainingError(EmojaxError):
    """Training cannot go on: loss or gradient are no longer numbers, or loader processes fail again and again."""

    exit_code = 5


class InterruptedRunError(EmojaxError):
    """A signal has ended the run, which is saved; the same command goes on. Exit code 128 + its number, as in shells:
    143 for SIGTERM, 130 for SIGINT (Ctrl-C)."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + number


def told(error: EmojaxError) -> str:
    """The line that the command line shows, control characters in it made visible; to be stopped is no error."""
    return visible(str(error) if isinstance(error, InterruptedRunError) else f"error: {error}")


def full(error: BaseException) -> FullError | None:
    """`error` in words, when it or one of its causes is a full disk; else None.

    Libraries that write in C++ (TensorStore, ArrayRecord) wrap the system's error number in text.
    """
    for cause in _causes(error):
        if (isinstance(cause, OSError) and cause.errno in _FULL) or any(text in str(cause) for text in _FULL_TEXTS):
            where = f"{cause.filename}: " if isinstance(cause, OSError) and cause.filename else ""
            return FullError(
                f"{where}the disk is full, or a quota or file-size limit is reached. What was saved is whole: make "
                "room, and the same command goes on from the last checkpoint"
            )
    return None


def refused(error: BaseException) -> EmojaxError | None:
    """`error` in words, when the system has refused a path that was given: it may not be written or does not exist.
    Else None. Its causes do not count: what was raised because of them is something else."""
    if isinstance(error, OSError) and error.errno in _REFUSED and error.filename:
        return EmojaxError(f"{error.filename}: cannot be read or written here: {error.strerror}")
    return None


def of_a_file(error: BaseException) -> bool:
    """Whether the system has refused a file, as `error` or one of its causes tells: no other process has part in it."""
    return any(
        (isinstance(cause, OSError) and cause.errno in _REFUSED_FILE) or any(text in str(cause) for text in _FILE_TEXTS)
        for cause in _causes(error)
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        one = pending.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            yield one
            pending += [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]


def exit_codes() -> str:
    """The table for `--help`."""
    return "Exit codes:\n" + "\n".join(f"  {code:>3}  {text}" for code, text in EXIT_CODES.items())
