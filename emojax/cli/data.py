"""`emojax data`: jobs on data sets. `check` looks for what is wrong with one, see `emojax data check --help`; `pack`
writes the images of each split into one file, for disks that are slow with many small ones."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from emojax.cli import data_options


def main(arguments: list[str]) -> int:
    """Checks a data set, or packs it and tells how to train on the pack."""
    if arguments[:1] == ["check"]:
        from emojax.cli import data_check

        return data_check.main(arguments[1:])
    parser = argparse.ArgumentParser(prog="emojax data", description=__doc__, epilog=data_options.EPILOG)
    parser.add_argument("job", choices=("check", "pack"), help="what to do")
    data_options.add(parser, "pack")
    parser.add_argument("--out", required=True, help="new folder for the pack")
    options, config = data_options.parse(parser, arguments)

    from emojax.data import pack, sources
    from emojax.progress import Terminal

    folder, dataset = Path(options.out), sources.read(config)
    terminal = Terminal(sys.stderr)
    lost = pack.write(
        dataset, folder, progress=lambda done, total: terminal.update(lambda: [(0, f"packing {done:,}/{total:,}")])
    )
    terminal.clear()
    sizes = ", ".join(f"{name} {len(split):,}" for name, split in dataset.splits.items())
    total = sum(file.stat().st_size for file in folder.iterdir())
    sys.stdout.write(f"{folder}: {sizes} images, {total / 1e6:,.1f} MB\n")
    if lost:
        sys.stdout.write(f"{lost} images could not be read and are empty in the pack: training leaves them out\n")
    sys.stdout.write(f"train on it with --config.data.path={folder}\n")
    return 0
