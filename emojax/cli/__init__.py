"""The `emojax` command: one small module per verb, each with `main(arguments) -> exit code`."""

from __future__ import annotations

import importlib
import io
import sys

from emojax import __version__, memory
from emojax.errors import EmojaxError, exit_codes, full, refused, told
from emojax.visible import Guarded

VERBS = {
    "train": "train from a recipe; the same as python -m emojax.main",
    "probe": "solve for the last layer of a pretrained network: what are its features worth",
    "evaluate": "judge a trained model on its own or other data",
    "predict": "classify pictures, folders of pictures, videos and cameras",
    "serve": "answer over HTTP, with a page for trying it in a browser",
    "export": "write a trained model as a bundle, ONNX, StableHLO or safetensors, compared with it",
    "calibrate": "fit probabilities, abstention and sets of classes on val, and store them with the model",
    "robustness": "accuracy by slices, under corruptions and mirrored",
    "study": "train several recipes with several seeds, and print one table",
    "ablate": "a recipe and one change of it at a time: what does each part do",
    "sweep": "search for good values of any knobs, and confirm the winner on fresh seeds",
    "kfold": "cross-validate a recipe",
    "compare": "two runs on the same images, with intervals of the difference",
    "ensemble": "average the predictions of several runs",
    "report": "write the HTML page of a finished run again",
    "data": "check a data set for copies and leaks, align faces, find label errors, pack it into one file per split",
    "weights": "tell what pretrained weights are, and import them",
    "checkpoints": "list or verify the checkpoints of a run",
    "verify-resume": "prove on your recipe that a killed run loses nothing",
    "launch": "several processes of one training on this machine",
    "find-lr": "look for a learning rate, with a plot",
}

_HELP = """usage: emojax VERB [options]

{verbs}

emojax VERB --help tells the options of a verb. Recipes (--config) are Python files and are executed: run only those
that you trust. Everything else that emojax reads, data and checkpoints included, is never executed.

{codes}"""


def main(arguments: list[str] | None = None) -> int:
    """Runs one verb and returns its exit code; errors meant for the user are one message on stderr."""
    arguments = sys.argv[1:] if arguments is None else arguments
    verb = arguments[0] if arguments else "--help"
    if verb in ("--help", "-h", "help"):
        table = "\n".join(f"  {name:<13} {text}" for name, text in VERBS.items())
        sys.stdout.write(_HELP.format(verbs=table, codes=exit_codes()) + "\n")
        return 0
    if verb == "--version":
        sys.stdout.write(f"emojax {__version__}\n")
        return 0
    if verb not in VERBS:
        sys.stderr.write(f"emojax: error: there is no verb {verb!r}; there are {', '.join(VERBS)}\n")
        return 2
    memory.keep_freed()
    if sys.stdout is not None and sys.stdout.isatty():
        sys.stdout = Guarded(sys.stdout)
    elif isinstance(sys.stdout, io.TextIOWrapper):  # a file name may hold bytes that are no text
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return importlib.import_module(f"emojax.cli.{verb.replace('-', '_')}").main(arguments[1:])
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        sys.stdout = None
        return 0
    except KeyboardInterrupt:
        return 130
    except EmojaxError as error:
        return _failed(error)
    except Exception as error:
        # A training keeps its traceback: hours in, a path that is gone is no typo, and `launch` is to begin it again.
        if found := full(error) or (refused(error) if verb != "train" else None):
            return _failed(found)
        raise


def _failed(error: EmojaxError) -> int:
    sys.stderr.write(f"emojax: {told(error)}\n")
    if parallel := sys.modules.get("emojax.parallel"):  # imported only where JAX is
        parallel.leave(error.exit_code)
    return error.exit_code
