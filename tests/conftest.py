"""Test-wide settings: two CPU devices, so that every test of the step is also a test of data parallelism."""

import os
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest
from jaxtyping import install_import_hook

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
