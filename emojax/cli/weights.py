"""`emojax weights`: what a file of pretrained weights is, and its arrays under emojax's names."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emojax.visible import one_line

if TYPE_CHECKING:
    from emojax.models.pretrained import Match, Source


def main(arguments: list[str]) -> int:
    """Inspects or imports a file; the exit code is 3 when it is no such file or its numbers cannot be used, and where
    an import fits no network."""
    parser = argparse.ArgumentParser(prog="emojax weights", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    inspect = verbs.add_parser("inspect", help="tell whose the arrays are and for which network")
    bring = verbs.add_parser("import", help="write the arrays under emojax's names, with what they want of their input")
    for one in (inspect, bring):
        one.add_argument("file", help="a .safetensors or .npz file, or hf:ORG/NAME[/FILE]")
    inspect.add_argument("--arrays", action="store_true", help="list every array with its type and shape, too")
    bring.add_argument("out", help="the new file, .safetensors")
    bring.add_argument("--model", default="", help="config.model.name of the network; default: found by its shapes")
    bring.add_argument("--stem", default="", help="config.model.stem; default: found by its shapes")
    for name, what in (("mean", "mean colour that was subtracted"), ("std", "deviation that was divided by")):
        bring.add_argument(f"--{name}", type=float, nargs=3, metavar="X", help=f"{what}, R G B in [0, 1]")
    bring.add_argument("--interpolation", choices=("bicubic", "bilinear"), help="how evaluation resized pictures")
    bring.add_argument("--padding", choices=("equal", "same", "valid"), help="see config.model.padding")
    bring.add_argument("--norm-epsilon", type=float, help="see config.model.norm_epsilon")
    options = parser.parse_args(arguments)
    return _inspect(options) if options.verb == "inspect" else _import(options)


def _inspect(options: argparse.Namespace) -> int:
    from emojax import tensor_file
    from emojax.errors import CheckpointError
    from emojax.models import layouts, pretrained

    source, unusable = pretrained.open_source(options.file), ""
    try:
        tensor_file.read(source.path)
    except CheckpointError as error:
        unusable = str(error)
        sys.stdout.write(f"cannot be used: {unusable}\n")
    sys.stdout.write(f"layout: {_layout(source)}\n")
    try:
        match, differs = pretrained.nearest(source)
    except CheckpointError as error:
        sys.stdout.write(f"network: none: {error}\n")
    else:
        none = "none that emojax knows has these shapes; the nearest: " if differs else ""
        sys.stdout.write(f"network: {none}{_network(match)}{f': {differs}' if differs else ''}\n")
        knobs = {"model.name": match.name, "model.stem": match.stem, "model.weights": options.file}
        if not differs and not unusable:
            sys.stdout.write("to start from them: " + " ".join(f"--config.{k}={v}" for k, v in knobs.items()) + "\n")
    for knob, value in source.knobs.items():
        sys.stdout.write(f"{knob}: {value}\n")
    if "mean" not in source.knobs:
        sys.stdout.write("mean, std: not in the file; ImageNet's are taken unless config.model.mean and std say more\n")
    if note := layouts.unsure(source.layout, source.knobs):
        sys.stdout.write(f"note: {note}\n")
    for key, text in source.header.metadata.items():
        sys.stdout.write(f"metadata {one_line(key)}: {one_line(text)[:300]}\n")
    entries = source.header.entries
    count, more = (
        sum(_size(entry.shape) for entry in entries.values()),
        "" if options.arrays else "; --arrays lists them",
    )
    sys.stdout.write(f"{len(entries)} arrays, {count:,} numbers{more}\n")
    for name, entry in entries.items() if options.arrays else ():
        sys.stdout.write(f"{one_line(name)}  {entry.dtype} {list(entry.shape)}\n")
    return CheckpointError.exit_code if unusable else 0


def _network(match: Match) -> str:
    return f"{match.name}, stem {match.stem}, {match.classes} classes"


def _layout(source: Source) -> str:
    return "emojax" if source.own is not None else source.layout.title if source.layout else "not recognised"


def _size(shape: tuple[int, ...]) -> int:
    count = 1
    for side in shape:
        count *= side
    return count


def _import(options: argparse.Namespace) -> int:
    from emojax import __version__, models, tensor_file
    from emojax.config import ModelConfig
    from emojax.errors import CheckpointError, ConfigError
    from emojax.models import layouts, pretrained

    source, out = pretrained.open_source(options.file), Path(options.out)
    if out.exists():
        what = "the file that is read" if out.samefile(source.path) else "there already"
        raise ConfigError(f"{out} is {what}; give the new one another name")
    if not out.parent.is_dir():
        raise ConfigError(f"{out}: its folder {out.parent} does not exist; create it first")
    match, differs = pretrained.nearest(source, name=options.model, stem=options.stem)
    if differs:
        only = "" if options.model and options.stem else ", the nearest"
        raise CheckpointError(f"{options.file} has not the shapes of {_network(match)}{only}: {differs}")
    given = {key: getattr(options, key) for key in ("mean", "std", "interpolation", "padding", "norm_epsilon")}
    knobs: dict[str, Any] = source.knobs | {
        k: tuple(v) if isinstance(v, list) else v for k, v in given.items() if v is not None
    }
    wanted: dict[str, Any] = {knob: knobs[knob] for knob in pretrained.KNOBS if knob in knobs}
    model = models.build(ModelConfig(name=match.name, stem=match.stem, **wanted), match.classes)  # checks the knobs
    taken = pretrained.fitted(
        pretrained.arrays(model, source), pretrained.shapes_of(model), reinit="", where=options.file
    )
    about = dataclasses.asdict(match) | {
        "knobs": knobs,
        "layout": _layout(source),
        "source": source.path.name,
        "source_sha256": tensor_file.digest(source.path),
        "version": __version__,
    }
    tensor_file.write(out, taken, tensor_file.as_metadata(pretrained.OWN, about))
    sys.stdout.write(
        f"{out}: {len(taken)} arrays of {_network(match)}; names before: {_layout(source)}\n"
        f"SHA-256 {tensor_file.digest(out)}\n"
    )
    note = layouts.unsure(source.layout, source.knobs)
    if note and options.padding is None and options.norm_epsilon is None:
        sys.stdout.write(f"note: {note}\n")
    return 0
