"""`emojax export`: a trained model as a bundle, ONNX, StableHLO or safetensors, each compared with the model."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from emojax.cli import model_options, other_data


def main(arguments: list[str]) -> int:
    """Writes OUT and tells what the comparisons found."""
    parser = argparse.ArgumentParser(prog="emojax export", description=__doc__)
    model_options.add(parser)
    other_data.add_place(parser)
    parser.add_argument("out", metavar="OUT", help="new folder, or a new file that ends in .zip")
    parser.add_argument(
        "--format",
        default="bundle",
        help="some of bundle (for emojax.load), onnx, int8 (ONNX with int8 products), stablehlo (CPU, CUDA and TPU) "
        "and safetensors (for timm or torchvision), with commas; default: bundle",
    )
    parser.add_argument("--images", type=int, default=1000, help="pictures that are compared; default: 1000")
    parser.add_argument("--raw", action="store_true", help="without what `emojax calibrate` has stored")
    options = parser.parse_args(arguments)

    from emojax import export, predict
    from emojax.errors import DataError

    classifier, val = predict.load(options.workdir, which=options.which, views=options.views), None
    if classifier.note and not options.raw:
        sys.stderr.write(f"emojax: {classifier.note}\n")
    if model_options.is_bundle(options) and not options.data:
        sys.stderr.write(
            "emojax: compared on noise alone, for the data that a bundle names are not opened; give --data\n"
        )
    else:
        try:
            val = other_data.open_own(classifier, options, cache=model_options.cache(options)).splits.get("val")
        except DataError as error:
            if options.data:  # the gate would be weaker than what was asked for
                raise
            sys.stderr.write(f"emojax: compared on noise alone, the data of the run cannot be read: {error}\n")
    export.run(
        options.workdir,
        Path(options.out),
        [name for name in options.format.split(",") if name],
        val=val,
        which=options.which,
        views=options.views,
        decision="none" if options.raw else "stored",
        images=options.images,
        say=_say,
    )
    sys.stdout.write(f"written: {options.out}\n")
    return 0


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
