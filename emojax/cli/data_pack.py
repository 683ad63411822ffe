"""`emojax data pack`: writes the images of each split into one file, for disks that are slow with many small ones."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from emojax.cli import data_options


def main(arguments: list[str]) -> int:
    """Packs a data set and tells how to train on the pack."""
    parser = argparse.ArgumentParser(prog="emojax data pack", description=__doc__, epilog=data_options.EPILOG)
    data_options.add(parser, "pack")
    parser.add_argument("--out", required=True, help="new folder for the pack")
    options, config = data_options.parse(parser, arguments)

    from emojax.data import pack, sources
    from emojax.errors import ConfigError
    from emojax.progress import Terminal

    folder = Path(options.out)
    if Path(config.path).is_dir() and folder.resolve().is_relative_to(Path(config.path).resolve()):
        raise ConfigError(f"--out={folder} lies inside the data; give a folder elsewhere")
    dataset = sources.read(config)
    terminal = Terminal(sys.stderr)
    lost = pack.write(
        dataset, folder, progress=lambda done, total: terminal.update(lambda: [(0, f"packing {done:,}/{total:,}")])
    )
    terminal.clear()
    sizes = ", ".join(f"{name} {len(split):,}" for name, split in dataset.splits.items())
    total = sum(file.stat().st_size for file in folder.iterdir())
    sys.stdout.write(f"{folder}: {sizes} images, {total / 1e6:,.3g} MB\n")
    if lost:
        sys.stdout.write(f"{lost:,} of them cannot be read as images: training will leave them out\n")
    sys.stdout.write(f"train on it with --config.data.path={folder}\n")
    return 0
