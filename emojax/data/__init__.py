"""Data: readers, splits, checks, image transforms, mixing and the loader.

Modules that loader processes import use NumPy, Pillow, OpenCV and simplejpeg only and touch no device.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emojax.config import DataConfig
    from emojax.types import Dataset

__all__ = ["open_dataset", "open_for_evaluation"]


def open_dataset(
    config: DataConfig,
    *,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    listed: Callable[[int], None] | None = None,
) -> Dataset:
    """Reads, checks and splits the data that `config` describes; see `emojax.data.sources.open_dataset`."""
    from emojax.data import sources  # imported here so that `import emojax.data` costs nothing

    return sources.open_dataset(config, cache=cache, progress=progress, listed=listed)


def open_for_evaluation(config: DataConfig) -> Dataset:
    """Reads data for judging a trained model; see `emojax.data.sources.open_for_evaluation`."""
    from emojax.data import sources

    return sources.open_for_evaluation(config)
