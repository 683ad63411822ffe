"""A run in MLflow: its knobs, numbers, figures and report. Not thread safe: one thread writes.

The store is that of the environment variable MLFLOW_TRACKING_URI, else a database beside the work directory, which the
runs of one folder share. MLflow's own usage reports stay off unless the environment asks for them.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emojax import __version__
from emojax.files import parse_json, plain, write_json

if TYPE_CHECKING:
    from mlflow import MlflowClient

FILE = "mlflow.json"
"""In the work directory: which run of which store it is."""

_AT_ONCE, _LONGEST = 100, 6000
"""MLflow's limits: parameters in one call, characters of a value."""


class MlflowWriter:
    """Writes one run; one that was resumed goes on in the run that it had."""

    def __init__(self, workdir: Path, experiment: str) -> None:
        """Makes the experiment and the run where they are missing. `workdir` exists; its name is the run's."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
        from mlflow import MlflowClient

        folder = workdir.resolve().parent
        given = os.environ.get("MLFLOW_TRACKING_URI", "")
        store = given or f"sqlite:///{folder / 'mlflow.db'}"
        self._client = MlflowClient(store)
        self._reported = False
        found = _known(workdir / FILE, store, self._client)
        self.run_id = found or _new(self._client, experiment, workdir, "" if given else folder)
        if not found:
            write_json(workdir / FILE, {"run_id": self.run_id, "store": store, "experiment": experiment})
        self._fresh = not found
        self._written = {} if self._fresh else _last_steps(self._client, self.run_id)

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        """One number per tag. A resumed run repeats what it wrote after its last checkpoint: those points are kept."""
        from mlflow.entities import Metric

        now = time.time_ns() // 1_000_000
        new = [
            Metric(tag, float(value), now, int(step))
            for tag, value in scalars.items()
            if step > self._written.get(tag, -1)
        ]
        if new:
            self._client.log_batch(self.run_id, metrics=new)

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """uint8 [H, W, 3] per tag."""
        for tag, image in images.items():
            self._client.log_image(self.run_id, image, artifact_file=f"figures/{tag}/{step:08d}.png")

    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
        """Flat names and values as parameters. Those of a run never change, so a resumed one keeps what it has."""
        from mlflow.entities import Param

        if not self._fresh:
            return
        found = [
            Param(re.sub(r"\[(\d+)\]", r".\1", name), str(plain(value))[:_LONGEST]) for name, value in hparams.items()
        ]
        for start in range(0, len(found), _AT_ONCE):
            self._client.log_batch(self.run_id, params=found[start : start + _AT_ONCE])

    def write_report(self, folder: Path) -> None:
        """Keeps the files of the finished run's report."""
        self._client.log_artifacts(self.run_id, str(folder), "report")
        self._reported = True

    def close(self) -> None:
        """Ends the run: finished after its report, else killed, until it is resumed."""
        self._client.set_terminated(self.run_id, "FINISHED" if self._reported else "KILLED")


def _known(path: Path, store: str, client: MlflowClient) -> str:
    """The run of the work directory, running again; "" where it has none in this store, or someone deleted it."""
    from mlflow.exceptions import MlflowException

    try:
        kept = parse_json(path.read_text(encoding="utf-8")) if path.is_file() else {}
        run_id = str(kept["run_id"]) if kept.get("store") == store else ""
    except (ValueError, KeyError, AttributeError):
        return ""  # not ours: a new run is begun
    if not run_id:
        return ""
    try:
        if client.get_run(run_id).info.lifecycle_stage != "active":
            return ""
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return ""
        raise
    client.update_run(run_id, "RUNNING")
    return run_id


def _new(client: MlflowClient, experiment: str, workdir: Path, folder: Path | str) -> str:
    """Begins a run; files of an experiment that is new in our own database lie below `folder`."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(experiment)
    if found is None:
        place = (Path(folder) / "mlflow-artifacts").as_uri() if folder else None
        try:
            number = client.create_experiment(experiment, artifact_location=place)
        except MlflowException:
            if (found := client.get_experiment_by_name(experiment)) is None:
                raise
            number = found.experiment_id  # another run has just made it
    else:
        number = found.experiment_id
    tags = {"emojax.version": __version__}
    return client.create_run(number, run_name=workdir.resolve().name, tags=tags).info.run_id


def _last_steps(client: MlflowClient, run_id: str) -> dict[str, int]:
    """tag -> last step that the run has a number of."""
    tags = client.get_run(run_id).data.metrics
    return {tag: max(point.step for point in client.get_metric_history(run_id, tag)) for tag in tags}
