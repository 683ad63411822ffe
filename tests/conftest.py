"""Test-wide settings: two CPU devices, so that every test of the step is also a test of data parallelism."""

import io
import os
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np
import pytest
from jaxtyping import install_import_hook
from PIL import Image

jax.config.update("jax_num_cpu_devices", 2)

# Array shapes and types are checked against their annotations in the modules that do arithmetic.
install_import_hook(
    [
        f"emojax.{name}"
        for name in (
            "averaging",
            "class_weights",
            "distill",
            "lookahead",
            "losses",
            "metrics",
            "preprocess",
            "schedules",
            "step",
            "data.mixing",
        )
    ],
    "beartype.beartype",
)

from emojax import figures  # noqa: E402 - after the hook

DRAWN = {
    "test_bench",
    "test_cli_runs",
    "test_crossing",
    "test_decision",
    "test_faces",
    "test_fer2013_page",
    "test_intervals",
    "test_label_errors",
    "test_monitor",
    "test_plots",
    "test_postprocess",
    "test_probe",
    "test_report",
    "test_report_html",
    "test_security",
    "test_slices",
    "test_writers",
}
"""Files whose tests look at figures, or might. A test that asks anything of a figure belongs into one of these."""
PIXELS = np.zeros((8, 8, 3), np.uint8)
with io.BytesIO() as _file:
    Image.fromarray(PIXELS).save(_file, "png")
    BLACK = _file.getvalue()


@pytest.fixture(autouse=True)
def figures_are_not_rendered(request):
    """In the other files figures are made, and one small picture stands for all of them: to render those of reports
    took a quarter of the time of tests/test_train.py."""
    with pytest.MonkeyPatch.context() as patch:  # of its own: tests undo theirs
        if request.path.stem not in DRAWN:
            patch.setattr(figures, "png", lambda figure: BLACK)
            patch.setattr(figures, "svg", lambda figure, name, *, colours: '<svg viewBox="0 0 8 8"></svg>')
            patch.setattr(figures, "pixels", lambda figure: PIXELS.copy())
        yield


def shared_data() -> Path | None:
    """The folder of real pictures that lies beside some checkouts, or None."""
    folder = Path(os.environ.get("EMOJAX_SHARED", Path(__file__).resolve().parents[2] / "shared" / "data"))
    return folder if folder.is_dir() else None


@pytest.fixture
def mesh():
    """The mesh over both test devices, entered."""
    from emojax import parallel

    with parallel.mesh() as entered:
        yield entered


@pytest.fixture(scope="session")
def small_run(tmp_path_factory):
    """A finished run that tells blue, green and red apart, made with as little compiling as there can be."""
    import tiny

    from emojax import train
    from emojax.config import AugmentConfig, AverageConfig, EvalConfig, ModelConfig, MonitorConfig, OptimConfig

    place = tmp_path_factory.mktemp("small")
    config = tiny.config(
        tiny.make_folder(place / "data"),
        augment=AugmentConfig(),
        model=ModelConfig(name="resnet18", stem="small2", depths=(1, 1), widths=(8, 16)),
        optim=OptimConfig(learning_rate=1e-2),
        average=AverageConfig(),
        stages=(tiny.StageConfig(epochs=4),),
        eval=EvalConfig(every_epochs=4),
        monitor=MonitorConfig(tensorboard=0),
    )
    train.run(config, place / "run")
    return place / "run"


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """The data of the fault tests."""
    import tiny

    return tiny.make_folder(tmp_path_factory.mktemp("faults") / "data")


@pytest.fixture(scope="session")
def alone(tmp_path_factory, pictures):
    """A run of `harness.small` that was left alone."""
    from harness import finish, small

    run = tmp_path_factory.mktemp("faults") / "alone"
    finish(small(pictures), run)
    return run
