"""A run in Weights & Biases: its knobs, numbers, figures and report. Not thread safe: one thread writes.

Offline, in WORKDIR/wandb, unless the environment variable WANDB_MODE says otherwise; `wandb sync` uploads it. Error
reports of the library to its makers stay off unless the environment asks for them.
"""

from __future__ import annotations

import importlib
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from emojax.files import parse_json, plain, write_json

FILE = "wandb.json"
"""In the work directory: which run it is."""


class WandbWriter:
    """Writes one run; one that was resumed goes on under the id that it had."""

    def __init__(self, workdir: Path, project: str) -> None:
        """`workdir` exists; its name is the run's."""
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        self._wandb: Any = importlib.import_module("wandb")
        self.run_id = _known(workdir / FILE) or secrets.token_hex(4)
        write_json(workdir / FILE, {"run_id": self.run_id, "project": project})
        self._run = self._wandb.init(
            project=project,
            name=workdir.resolve().name,
            id=self.run_id,
            resume="allow",
            dir=workdir,
            mode=os.environ.get("WANDB_MODE") or "offline",
            # The terminal, the machine's load and the code are not its business.
            settings=self._wandb.Settings(
                console="off", silent=True, save_code=False, disable_git=True, x_disable_stats=True, login_timeout=30
            ),
        )
        # Figures come after numbers of later steps; by W&B's own count of steps they would be lost.
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")
        self._reported = False

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        """One number per tag."""
        self._run.log({**{tag: float(value) for tag, value in scalars.items()}, "step": int(step)})

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """uint8 [H, W, 3] per tag."""
        self._run.log({**{tag: self._wandb.Image(image) for tag, image in images.items()}, "step": int(step)})

    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
        """Flat names and values as the run's config."""
        self._run.config.update({name: plain(value) for name, value in hparams.items()}, allow_val_change=True)

    def write_report(self, folder: Path) -> None:
        """Keeps the files of the finished run's report, as an artifact."""
        artifact = self._wandb.Artifact(f"report-{self.run_id}", type="report")
        artifact.add_dir(str(folder))
        self._run.log_artifact(artifact)
        self._reported = True

    def close(self) -> None:
        """Ends the run: successful after its report, else failed, until it is resumed."""
        self._run.finish(exit_code=0 if self._reported else 1)


def _known(path: Path) -> str:
    """The id of the work directory's run; "" where it has none."""
    try:
        return str(parse_json(path.read_text(encoding="utf-8"))["run_id"]) if path.is_file() else ""
    except (ValueError, KeyError, TypeError):
        return ""  # not ours: a new run is begun
