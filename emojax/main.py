"""Trains from a recipe: `python -m emojax.main --config=configs/emoji.py --workdir=runs/emoji`.

Any knob of `emojax/config.py` can be set on the command line: `--config.optim.learning_rate=3e-4`,
`--config.data.path=FOLDER`, `--config.stages[0].epochs=5`; of a knob that is set twice the last one counts. The same
command again resumes the run exactly where it stopped, or says that it is finished. A recipe is a Python file and is
executed: train only from recipes that you trust.
"""

from __future__ import annotations

import difflib
import re
import sys

from absl import app, flags, logging
from ml_collections import config_flags

from emojax import config as config_lib, memory, recipes
from emojax.errors import ConfigError, EmojaxError, exit_codes, full, told

_CONFIG = config_flags.DEFINE_config_file("config", None, "Recipe: a Python file with get_config(). It is executed.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder for checkpoints, logs and the report of this run.")


def main(argv: list[str]) -> None:
    """Runs one training; errors meant for the user end in one line and their exit code."""
    if len(argv) > 1:
        raise ConfigError(f"unexpected arguments: {' '.join(argv[1:])}; every option has the form --name=value")
    config = _checked(_CONFIG.value)
    if _WORKDIR.value is None:
        raise ConfigError("--workdir is missing, for example --workdir=runs/emoji (see --help)")
    logging.set_verbosity(logging.WARNING)  # libraries narrate at INFO; emojax speaks through its monitor
    from emojax import train  # here, so that --help does not wait for JAX

    train.run(config, _WORKDIR.value)


def _parse_flags(argv: list[str], values: flags.FlagValues = flags.FLAGS) -> list[str]:
    argv = _find_recipes(argv)
    try:
        return values(argv)
    except (KeyError, flags.UnrecognizedFlagError) as error:
        raise ConfigError(_unknown_knob(argv, error)) from error
    except IndexError as error:
        named = ", ".join(sorted(set(re.findall(r"config\.[^=]*\[\d+\]", " ".join(argv)))))
        raise ConfigError(f"an index is too large in {named}; 0 is the first") from error
    except SyntaxError as error:
        raise ConfigError(f"the recipe is not valid Python: {error}") from error
    except (flags.Error, TypeError, ValueError) as error:
        raise ConfigError(f"the command line could not be read: {error}") from error


def config_from(arguments: list[str]) -> config_lib.Config:
    """The config that `--config=RECIPE --config.KNOB=VALUE ...` describes, for verbs other than training.

    Raises `ConfigError`; unlike the flags of this module, the call can be repeated.
    """
    values = flags.FlagValues()
    argv = _find_recipes(["emojax", *arguments])
    holder = config_flags.DEFINE_config_file("config", None, flag_values=values, sys_argv=argv)
    _parse_flags(argv, values)
    return _checked(holder.value)


def with_knobs(config: config_lib.Config, overrides: list[str]) -> config_lib.Config:
    """A config that no recipe made, after `--config.KNOB=VALUE ...`. Raises `ConfigError`."""
    values = flags.FlagValues()
    argv = _find_recipes(["emojax", *overrides])
    try:
        holder = config_flags.DEFINE_config_dataclass("config", config, flag_values=values, sys_argv=argv)
    except (KeyError, IndexError, AttributeError, TypeError, ValueError) as error:  # knobs are looked up here already
        raise ConfigError(_unknown_knob(argv, error)) from error
    _parse_flags(argv, values)
    return _checked(holder.value)


def _checked(found: object) -> config_lib.Config:
    if found is None:
        raise ConfigError("--config is missing, for example --config=configs/emoji.py (see --help)")
    if not isinstance(found, config_lib.Config):
        raise ConfigError("get_config() of the recipe must return an emojax.config.Config")
    return found


def _find_recipes(argv: list[str]) -> list[str]:
    """`argv` with --config=NAME and --config NAME as --config=PATH; of a knob that is set twice, the last one stays
    (a tuple would get the values of both)."""

    def found(match: re.Match[str]) -> str:
        if recipes.split(match[1])[1]:
            recipes.load(match[1])  # says in one line what is wrong with a variant
        return f"--config={recipes.find(match[1])}"

    text = re.sub(r"(?<=\0)--?config[=\0]([^\0]*)", found, "\0".join(argv))
    argv = re.sub(r"(?<=\0)(--?config\.[^=\0]+)\0(?!--)", r"\1=", text).split("\0")
    last = {match[1]: i for i, arg in enumerate(argv) if (match := re.match(r"--?(config\.[^=]+)=", arg))}
    kept = set(last.values())
    return [arg for i, arg in enumerate(argv) if i in kept or not re.match(r"--?config\.[^=]+=", arg)]


def _unknown_knob(argv: list[str], error: Exception) -> str:
    known = [re.sub(r"\[\d+\]", "[0]", name) for name, _ in config_lib.items(config_lib.Config())]
    for arg in argv:
        match = re.match(r"--?config\.([^=]+)", arg)
        name = re.sub(r"\[\d+\]", "[0]", match[1]) if match else ""
        if match and name not in known and not any(k.startswith((name + ".", name + "[")) for k in known):
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
            hint = f"; did you mean {' or '.join(near)}?" if near else "."
            return f"config.{match[1]}: there is no such knob{hint} All of them are in emojax/config.py"
    return f"the command line could not be read: {error}"


def run_with_errors(arguments: list[str]) -> int:
    """Parses, trains, and turns errors meant for the user into (message on stderr, exit code)."""
    if {"--help", "-h", "-help", "--helpfull", "-?"} & set(arguments[1:]):
        options = "\n".join(f"  --{name}: {flags.FLAGS[name].help}" for name in ("config", "workdir"))
        sys.stdout.write(f"{__doc__}\n{options}\n\n{exit_codes()}\n")
        return 0
    memory.keep_freed()
    try:
        app.run(main, argv=arguments, flags_parser=_parse_flags)
    except EmojaxError as error:
        return _failed(error)
    except SyntaxError as error:
        sys.stderr.write(f"emojax: error: the recipe is not valid Python: {error}\n")
        return ConfigError.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("\nemojax: interrupted; the same command goes on from the last checkpoint\n")
        return 130
    except SystemExit as stop:
        return int(stop.code or 0)
    except Exception as error:
        if found := full(error):
            return _failed(found)
        raise
    return 0


def _failed(error: EmojaxError) -> int:
    sys.stderr.write(f"emojax: {told(error)}\n")
    if parallel := sys.modules.get("emojax.parallel"):  # imported only where JAX is
        parallel.leave(error.exit_code)
    return error.exit_code


if __name__ == "__main__":
    sys.exit(run_with_errors(sys.argv))
