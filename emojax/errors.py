"""The errors that emojax raises on purpose: each names what was expected, what was found and what to do.

The command line prints them as one line and exits with `exit_code`; anything else that escapes is a defect of emojax.
"""


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
    """The line that the command line shows; to be stopped is no error."""
    return str(error) if isinstance(error, InterruptedRunError) else f"error: {error}"
