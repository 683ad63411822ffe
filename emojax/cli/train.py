"""`emojax train`: the same as `python -m emojax.main`."""

from __future__ import annotations


def main(arguments: list[str]) -> int:
    """Trains; `arguments` as for `emojax.main`."""
    from emojax.main import run_with_errors

    return run_with_errors(["emojax train", *arguments])
