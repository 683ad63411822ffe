"""What the campaigns train: the tiny sets and configs of the tests, and the runs that were left alone."""

from __future__ import annotations

import dataclasses
import importlib
import sys
import time
from pathlib import Path

import soak_children as children
from bench_setting import ROOT

from emojax.config import Config, ParallelConfig

sys.path.insert(0, str(ROOT / "tests"))
tiny = importlib.import_module("tiny")


@dataclasses.dataclass(frozen=True)
class Variant:
    """A config, its run that was left alone, how long that took with a warm cache, and its phases; seconds."""

    name: str
    words: str
    recipe: Path
    devices: int
    reference: Path
    seconds: float
    lengths: dict[str, float]


def plain(data: Path) -> Config:
    """18 updates on 24 and 20 px, each followed by a checkpoint; three evaluations; all that moves is on: augmentation,
    mixing, dropout, drop-path, BatchNorm, Adam, EMA, accumulation, freezing, layer-wise rates."""
    config = tiny.config(data, image_size=24)
    config.monitor.tensorboard = 0
    config.checkpoint.every_epochs = 1 / 3
    return config


def cut(data: Path) -> Config:
    """`plain` on two devices that share parameters, moments and averages."""
    config = plain(data)
    config.parallel = ParallelConfig(fsdp=2, fsdp_min=256)
    return config


def workers(data: Path) -> Config:
    """`plain` with two loader processes."""
    config = plain(data)
    config.data.workers = 2
    config.eval.every_epochs = 3.0
    return config


def two_kept(data: Path) -> Config:
    """`plain`, which keeps its two newest checkpoints."""
    config = plain(data)
    config.checkpoint.keep_last = 2
    return config


def meshed(data: Path, fsdp: int) -> Config:
    """For runs that are compared across meshes and processes, which sum in other orders: a rate at which 18 updates do
    not blow up the last bit of a float32."""
    config = plain(data)
    config.optim.learning_rate = 1e-3
    config.parallel = ParallelConfig(fsdp=fsdp, fsdp_min=256)
    return config


_VARIANTS = {
    "plain": (plain, 1, "1 device"),
    "cut": (cut, 2, "2 devices, parameters cut over both"),
    "workers": (workers, 1, "2 loader processes"),
    "two kept": (two_kept, 1, "2 newest checkpoints kept"),
}


@dataclasses.dataclass
class Setting:
    """A folder that is the campaign's own, and what was made in it so far."""

    folder: Path
    _variants: dict[str, Variant] = dataclasses.field(default_factory=dict)

    @property
    def data(self) -> Path:
        """48 training pictures of 24 px."""
        if not (self.folder / "data").is_dir():
            tiny.make_folder(self.folder / "data")
        return self.folder / "data"

    def variant(self, name: str) -> Variant:
        """Trained at the first call: twice, so that the second finds everything compiled."""
        if name not in self._variants:
            make, devices, words = _VARIANTS[name]
            folder = self.folder / name
            recipe = children.write_recipe(make(self.data), folder)
            children.finished(recipe, folder / "alone", devices=devices)
            seconds, lengths = _timed(recipe, folder / "again", devices)
            if found := children.compared(folder / "again", folder / "alone", self.folder):
                raise RuntimeError(f"two runs that were left alone differ: {found}")
            self._variants[name] = Variant(name, words, recipe, devices, folder / "alone", seconds, lengths)
        return self._variants[name]


def _timed(recipe: Path, run: Path, devices: int) -> tuple[float, dict[str, float]]:
    """(seconds of a whole run, of its longest stay in each phase)."""
    began = now = time.monotonic()
    child = children.training(recipe, run, devices=devices)
    phase, entered, lengths = child.page.phase, began, {}
    while child.poll() is None:
        time.sleep(0.002)
        now = time.monotonic()
        if child.page.phase != phase:
            lengths[phase] = max(lengths.get(phase, 0.0), now - entered)
            phase, entered = child.page.phase, now
    lengths[phase] = max(lengths.get(phase, 0.0), now - entered)
    if child.code:
        raise RuntimeError(f"the run in {run} ended with {child.code}: {child.told()}")
    return now - began, lengths
