"""Trackers: what MLflow's local store and W&B's offline folder hold of a run, resumes, and trackers that fail."""

from __future__ import annotations

import io
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emojax import writers
from emojax.config import Config, MonitorConfig, items
from emojax.errors import ConfigError
from emojax.monitor import Monitor
from emojax.validate import validate

# SQLAlchemy and MLflow warn about each other.
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::FutureWarning"
)


def run(folder: Path, config: MonitorConfig, *, start: int, stop: int, finished: bool = False) -> str:
    """A made-up training that logs every step, as `train` calls its monitor; returns what a person sees."""
    stream = io.StringIO()
    with Monitor(folder, config, stream=stream) as monitor:
        monitor.begin(total_steps=9, steps_per_epoch=3, start_step=start, lines=[], parameters="Total: 1 -- 4 bytes")
        monitor.hparams(dict(items(Config(seed=3))))
        for step in range(start + 1, stop + 1):
            monitor.train(step, {"loss": 1 / step, "learning_rate": 0.1}, images=8)
        monitor.images("train_batch", stop, np.zeros((2, 8, 8, 3), np.uint8), np.eye(2, dtype=np.float32), ("a", "b"))
        if finished:
            (folder / "report").mkdir()
            (folder / "report/report.html").write_text("<p>")
            monitor.finished(folder / "report")
    return stream.getvalue()


@pytest.fixture(params=["file", pytest.param("sqlite", marks=pytest.mark.slow)])  # a database takes long to make
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """(client, where artifacts lie): a store of files that the environment names, or the one that emojax makes."""
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")  # before the import
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(writers, "STOP_SECONDS", 300)
    mlflow = pytest.importorskip("mlflow", reason="needs MLflow")
    if request.param == "file":
        monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
        return mlflow.MlflowClient((tmp_path / "store").as_uri()), tmp_path / "store"
    return mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}"), tmp_path / "mlflow-artifacts"


def test_mlflow_holds_the_run_and_a_resume_goes_on_in_it(tmp_path: Path, store: Any) -> None:
    """Killed after step 5, resumed after 3, finished after 9: one run, every point once."""
    config, folder = MonitorConfig(mlflow="faces", tensorboard=0), tmp_path / "first"
    client, place = store
    assert "warning" not in run(folder, config, start=0, stop=5)
    experiment = client.get_experiment_by_name("faces").experiment_id
    (before,) = client.search_runs([experiment])
    assert before.info.status == "KILLED" and before.info.run_name == "first"
    assert "warning" not in run(folder, config, start=3, stop=9, finished=True)
    (found,) = client.search_runs([experiment])
    assert found.info.run_id == before.info.run_id and found.info.status == "FINISHED"
    points = client.get_metric_history(found.info.run_id, "train/loss")
    assert [point.step for point in points] == list(range(1, 10))
    assert [point.value for point in points] == [1 / step for step in range(1, 10)]
    assert found.data.params["seed"] == "3" and found.data.params["stages.0.epochs"] == "30.0"
    assert len(found.data.params) == len(list(items(Config())))
    (root,) = place.rglob(f"{found.info.run_id}/artifacts")
    files = {path.relative_to(root).as_posix() for path in root.rglob("*.*")}
    assert files == {*(f"figures/train_batch/{step:08d}.png" for step in (5, 9)), "report/report.html"}
    # Another run of the folder: the same store and experiment; a run that someone deleted is begun anew.
    client.delete_run(found.info.run_id)
    assert "warning" not in run(folder, config, start=9, stop=9)
    assert "warning" not in run(tmp_path / "second", config, start=0, stop=1)
    names = sorted(r.info.run_name for r in client.search_runs([experiment]))
    assert names == ["first", "second"] and client.get_run(found.info.run_id).info.lifecycle_stage == "deleted"


def test_wandb_is_offline_and_resumes_under_its_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="needs W&B")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    config, folder = MonitorConfig(wandb="faces", tensorboard=0), tmp_path / "first"
    assert "warning" not in run(folder, config, start=0, stop=5)
    assert "warning" not in run(folder, config, start=3, stop=9, finished=True)
    kept = [path.name for path in (folder / "wandb").glob("offline-run-*")]
    # offline-run-TIME-ID, and one number more where both began in the same second
    assert len(kept) == 2 and len({name.split("-")[3] for name in kept}) == 1
    assert len(list((folder / "wandb").rglob("train_batch*.png"))) == 2


class Stub:
    """A tracker that remembers what it gets."""

    got: list[tuple[str, Any]]

    def __init__(self, workdir: Path, value: str) -> None:
        Stub.got = [("open", value)]

    def write_scalars(self, step: int, scalars: dict[str, float]) -> None:
        self.got.append(("scalars", (step, scalars)))

    def write_images(self, step: int, images: dict[str, np.ndarray]) -> None:
        self.got.append(("images", list(images)))

    def write_hparams(self, hparams: dict[str, Any]) -> None:
        self.got.append(("hparams", hparams["seed"]))

    def write_report(self, folder: Path) -> None:
        self.got.append(("report", folder.name))

    def close(self) -> None:
        self.got.append(("close", ""))


BOTH = MonitorConfig(mlflow="faces", wandb="faces", tensorboard=0)


def test_trackers_get_everything_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(writers.TRACKERS, "mlflow", Stub)
    run(tmp_path, MonitorConfig(mlflow="faces", tensorboard=0), start=0, stop=2, finished=True)
    kinds = [kind for kind, _ in Stub.got]
    assert kinds[:2] == ["open", "hparams"] and kinds[-1] == "close" and kinds.count("report") == 1
    assert kinds.count("images") == 1
    rows = [value for kind, value in Stub.got if kind == "scalars" and "train/loss" in value[1]]
    assert rows == [(s, {"train/loss": 1 / s, "train/learning_rate": 0.1}) for s in (1, 2)]


@pytest.mark.parametrize("method", ["__init__", "write_scalars", "write_hparams", "write_report", "close"])
def test_a_failing_tracker_is_told_once_and_nothing_stops(tmp_path, monkeypatch, method) -> None:
    def fail(*_: Any) -> None:
        raise ConnectionError("no\nroute")

    broken = type("Broken", (Stub,), {method: fail})
    monkeypatch.setitem(writers.TRACKERS, "mlflow", broken)
    monkeypatch.setitem(writers.TRACKERS, "wandb", Stub)
    text = run(tmp_path, BOTH, start=0, stop=9, finished=True)
    warned = [line for line in text.splitlines() if line.startswith("warning")]
    assert warned == ["warning: MLflow gets nothing more of this run: ConnectionError: no\\nroute"]
    assert "no\\nroute" in (tmp_path / "log.txt").read_text()
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) >= 9
    # The other one gets everything; each has a thread of its own, so whose call comes last is open.
    assert Stub.got.count(("close", "")) == 1
    assert Stub.got.count(("report", "report")) == (2 if method == "close" else 1)


def test_a_tracker_that_hangs_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = threading.Event()
    monkeypatch.setattr(writers, "STOP_SECONDS", 0.2)
    monkeypatch.setitem(writers.TRACKERS, "mlflow", type("Hangs", (Stub,), {"write_hparams": lambda *_: free.wait()}))
    start = time.monotonic()
    text = run(tmp_path, MonitorConfig(mlflow="faces", tensorboard=0), start=0, stop=9)
    assert time.monotonic() - start < 5 and text.count("warning") == 1 and "did not finish in time" in text
    monkeypatch.setattr(writers, "WAITING", 4)
    text = run(tmp_path / "more", MonitorConfig(mlflow="faces", tensorboard=0), start=0, stop=9)
    assert text.count("warning") == 1 and "4 calls behind" in text
    free.set()


def test_a_missing_package_is_told_before_anything_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setattr(writers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"config.monitor.wandb: Weights & Biases is not installed.*emojax\[wandb\]"):
        validate(Config(monitor=MonitorConfig(wandb="faces")))
    validate(Config())
