"""The `emojax` command: one small module per verb, each with `main(arguments) -> exit code`."""

from __future__ import annotations

import importlib
import sys

from emojax import __version__, memory
from emojax.errors import EmojaxError, told

VERBS = {
    "train": "train from a recipe; the same as python -m emojax.main",
    "evaluate": "judge a trained model on its own or other data",
    "predict": "classify pictures and folders of pictures",
    "study": "train several recipes with several seeds, and print one table",
    "kfold": "cross-validate a recipe",
    "ensemble": "average the predictions of several runs",
    "data": "check a data set for copies, leaks and outliers; pack it into one file per split",
    "checkpoints": "list or verify the checkpoints of a run",
    "verify-resume": "prove on your recipe that a killed run loses nothing",
    "launch": "several processes of one training on this machine",
    "find-lr": "look for a learning rate, with a plot",
}

_HELP = """usage: emojax VERB [options]

{verbs}

emojax VERB --help tells the options of a verb. Exit codes: 0 done, 2 bad input, 3 checkpoint, 4 work directory,
5 training diverged, 6 every checkpoint is damaged, 130 stopped by Ctrl-C and 143 by SIGTERM, with everything saved."""


def main(arguments: list[str] | None = None) -> int:
    """Runs one verb and returns its exit code; errors meant for the user are one message on stderr."""
    arguments = sys.argv[1:] if arguments is None else arguments
    verb = arguments[0] if arguments else "--help"
    if verb in ("--help", "-h", "help"):
        table = "\n".join(f"  {name:<13} {text}" for name, text in VERBS.items())
        sys.stdout.write(_HELP.format(verbs=table) + "\n")
        return 0
    if verb == "--version":
        sys.stdout.write(f"emojax {__version__}\n")
        return 0
    if verb not in VERBS:
        sys.stderr.write(f"emojax: error: there is no verb {verb!r}; there are {', '.join(VERBS)}\n")
        return 2
    memory.keep_freed()
    try:
        return importlib.import_module(f"emojax.cli.{verb.replace('-', '_')}").main(arguments[1:])
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        sys.stdout = None
        return 0
    except KeyboardInterrupt:
        return 130
    except EmojaxError as error:
        sys.stderr.write(f"emojax: {told(error)}\n")
        return error.exit_code
