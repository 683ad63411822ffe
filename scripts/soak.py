"""Counts what emojax survives, and writes docs/reliability.json and the page made from it.

    python scripts/soak.py kills                 # one section; goes on where an earlier call stopped
    python scripts/soak.py kills --count=20 --json=out.json
    python scripts/soak.py all
    python scripts/soak.py page                  # docs/reliability.md anew from its JSON

Sections are those of the page. One that was counted on another machine or with other versions begins anew; so does one
with --fresh.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("section", help="page, all, or a section of docs/reliability.md")
    parser.add_argument("--count", type=int, default=0, help="how many; default: as many as the bar asks for")
    parser.add_argument("--json", type=Path, help="another file than docs/reliability.json")
    parser.add_argument("--fresh", action="store_true", help="forget what was counted before")
    parser.add_argument("--keep", type=Path, help="a new folder for the runs, which stays; default: a temporary one")
    return parser.parse_args()


def prepare(folder: Path) -> None:
    """Before JAX is imported: CPU, and a compile cache that holds even the smallest program."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder / "cache")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"


def campaign(name: str, options: argparse.Namespace, folder: Path) -> bool:
    """Runs one section up to its count; whether everything passed."""
    from soak_record import OUTPUT, Record
    from soak_sections import SECTIONS
    from soak_setting import Setting

    section = SECTIONS[name]
    output, count = options.json or OUTPUT, options.count or section.count
    record = Record(name, what=section.what, bar=section.bar, path=output, fresh=options.fresh)
    if record.values["done"] < count:
        units = section.units(Setting(folder), record.values["units"])
        while record.values["done"] < count:
            began = time.monotonic()
            unit = next(units, None)
            if unit is None:
                break
            record.add(unit, time.monotonic() - began)
            values = record.values
            for row in unit.measured:
                print(name, row, flush=True)
            for row in unit.failures:
                print(f"{name}: FAILED {row}", flush=True)
            print(f"{name}: {values['passed']} of {values['done']} passed, {values['seconds']:.0f} s", flush=True)
    return not record.values["failures"]


def main() -> None:
    options = arguments()
    with tempfile.TemporaryDirectory(prefix="emojax-soak-") as temporary:
        folder = (options.keep or Path(temporary)).resolve()
        prepare(folder)
        import soak_page
        from soak_sections import SECTIONS

        if options.section == "page":
            soak_page.write()
            return
        if options.section not in (*SECTIONS, "all"):
            sys.exit(f"soak: there is no section {options.section!r}; there are {', '.join(SECTIONS)}")
        names = SECTIONS if options.section == "all" else [options.section]
        passed = [campaign(name, options, folder) for name in names]
        if not options.json:
            soak_page.write()
    sys.exit(0 if all(passed) else 1)


if __name__ == "__main__":
    main()
