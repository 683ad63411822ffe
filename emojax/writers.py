"""Where the monitor's numbers and figures go: TensorBoard files, MLflow, Weights & Biases.

The event files lie in the work directory and are part of the run: when they cannot be written, it ends. Trackers may be
far away or broken, and a training must neither wait for them nor end with them: each has a thread of its own, and one
that fails is told once and left alone.
"""

from __future__ import annotations

import importlib.util
import queue
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from emojax.config import MonitorConfig
from emojax.errors import ConfigError
from emojax.events import EventWriter
from emojax.mlflow_writer import MlflowWriter
from emojax.visible import one_line
from emojax.wandb_writer import WandbWriter

TRACKERS: dict[str, Callable[[Path, str], TrackerWriter]] = {"mlflow": MlflowWriter, "wandb": WandbWriter}
"""Knob of `MonitorConfig`, package and extra → (work directory, value of the knob) → writer."""

_NAMES = {"mlflow": "MLflow", "wandb": "Weights & Biases"}

WAITING = 2000
"""Calls that may wait for a tracker: one that is so far behind is given up."""

FINISH_SECONDS, STOP_SECONDS = 120.0, 30.0
"""How long the end of a run waits for a tracker, and how long a run that is stopped does, whose time may be short.
MLflow's first database in a folder takes some ten seconds to make."""


class TrackerWriter(Protocol):
    """What a tracker must be able to do; see `mlflow_writer`."""

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None: ...
    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None: ...
    def write_hparams(self, hparams: Mapping[str, Any]) -> None: ...
    def write_report(self, folder: Path) -> None: ...
    def close(self) -> None: ...


def check(config: MonitorConfig) -> None:
    """Raises `ConfigError` for a tracker whose package is not installed: before hours of training, not after."""
    for knob in _wanted(config):
        if importlib.util.find_spec(knob) is None:
            raise ConfigError(f"config.monitor.{knob}: {_NAMES[knob]} is not installed: pip install 'emojax[{knob}]'")


def _wanted(config: MonitorConfig) -> dict[str, str]:
    """Those of `TRACKERS` that are on, with the values of their knobs."""
    return {knob: value for knob, value in (("mlflow", config.mlflow), ("wandb", config.wandb)) if value}


class Writers:
    """All of them; false while nobody wants to be written to. Nothing is opened before `start`."""

    def __init__(self, workdir: Path, config: MonitorConfig, say: Callable[[str], None]) -> None:
        """`say` is told when a tracker has failed."""
        self._workdir, self._config, self._say = workdir, config, say
        self._events: EventWriter | None = None
        self._trackers: list[_Tracker] = []
        self._fresh, self._patience = True, STOP_SECONDS

    def __bool__(self) -> bool:
        return self._events is not None or bool(self._trackers)

    def start(self, step: int) -> None:
        """Opens what the config asks for, in a run that goes on after `step`; again, when it goes back to `step`."""
        if self._config.tensorboard:
            if self._events:
                self._events.close()
            self._events = EventWriter(self._workdir / "tensorboard", purge_step=step + 1 if step else 0)
        self._fresh = step == 0
        if not self._trackers:
            wanted = _wanted(self._config)
            self._trackers = [_Tracker(knob, self._workdir, value, self._say) for knob, value in wanted.items()]

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """One number per tag."""
        if self._events:
            self._events.write_scalars(step, scalars)
        self._tell(lambda writer, values=dict(scalars): writer.write_scalars(step, values))

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """uint8 [H, W, 3] per tag."""
        if self._events:
            self._events.write_images(step, images)
        self._tell(lambda writer, values=dict(images): writer.write_images(step, values))

    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
        """The knobs of the run, flat names; TensorBoard gets them once, the trackers know by themselves."""
        if self._events and self._fresh:
            self._events.write_hparams(hparams)
        self._tell(lambda writer, values=dict(hparams): writer.write_hparams(values))

    def write_report(self, folder: Path) -> None:
        """The run is finished, and its report lies in `folder`; TensorBoard has the figures of it already."""
        self._patience = FINISH_SECONDS
        self._tell(lambda writer: writer.write_report(folder))

    def flush(self) -> None:
        """The event files are on disk when this returns."""
        if self._events:
            self._events.flush()

    def close(self) -> None:
        """Closes all of them; trackers that are still at work get some time."""
        if self._events:
            self._events.close()
        self._events = None
        until = time.monotonic() + self._patience
        for tracker in self._trackers:
            tracker.finish()
        for tracker in self._trackers:
            tracker.join(until)
        self._trackers = []

    def _tell(self, call: Callable[[TrackerWriter], None]) -> None:
        for tracker in self._trackers:
            tracker.put(call)


class _Tracker:
    """A tracker and the thread that talks to it. What fails there is told by the thread that uses this object."""

    def __init__(self, knob: str, workdir: Path, value: str, say: Callable[[str], None]) -> None:
        self._name, self._say = _NAMES[knob], say
        self._make = lambda: TRACKERS[knob](workdir, value)
        self._calls: queue.Queue[Callable[[TrackerWriter], None] | None] = queue.Queue(WAITING)
        self._error, self._given_up = "", False
        self._thread = threading.Thread(target=self._work, name=knob, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            writer = self._make()
            while (call := self._calls.get()) is not None and not self._given_up:
                call(writer)
            writer.close()
        except Exception as error:
            self._error = f"{type(error).__name__}: {error}"

    def put(self, call: Callable[[TrackerWriter], None] | None) -> None:
        """Has `call` made soon, in order; nothing once the tracker has failed."""
        if self._error:
            self._give_up(self._error)
        if not self._given_up:
            try:
                self._calls.put_nowait(call)
            except queue.Full:
                self._give_up(f"it is {WAITING:,} calls behind")

    def finish(self) -> None:
        """Nothing more will come."""
        self.put(None)

    def join(self, until: float) -> None:
        """Waits for what is still to be written, up to a time of the monotonic clock."""
        if not self._given_up:
            self._thread.join(max(0.0, until - time.monotonic()))
            if self._error:
                self._give_up(self._error)
            elif self._thread.is_alive():
                self._give_up("it did not finish in time")

    def _give_up(self, why: str) -> None:
        if not self._given_up:
            self._given_up = True
            self._say(f"warning: {self._name} gets nothing more of this run: {one_line(why)[:300]}")
