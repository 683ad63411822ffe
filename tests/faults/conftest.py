"""Shared by the fault tests: a data set, and the run that was left alone."""

import pytest
import tiny
from harness import finish, small


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    return tiny.make_folder(tmp_path_factory.mktemp("faults") / "data")


@pytest.fixture(scope="session")
def alone(tmp_path_factory, pictures):
    run = tmp_path_factory.mktemp("faults") / "alone"
    finish(small(pictures), run)
    return run
