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


class WorkdirError(EmojaxError):
    """The work directory cannot be used: missing parent, other config, or another run holds it."""

    exit_code = 4


class TrainingError(EmojaxError):
    """Training cannot go on: the loss is no longer a number."""

    exit_code = 5
