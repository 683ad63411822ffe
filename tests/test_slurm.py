"""scripts/slurm_train.sh with stand-ins for SLURM's commands: what it starts, passes on and gives back."""

import os
import re
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest

from emojax import main, parallel, validate

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "slurm_train.sh"


@pytest.fixture
def cluster(tmp_path):
    """A PATH whose srun runs its command once, and whose scancel signals that; both note how they were called."""
    log = tmp_path / "log"
    for name, body in {
        "srun": f'echo $$ > {tmp_path}/pid; while [[ $1 == --* ]]; do shift; done; exec "$@"',
        "scancel": f"kill -TERM $(cat {tmp_path}/pid)",
        "scontrol": "",
    }.items():
        script = tmp_path / name
        script.write_text(f'#!/usr/bin/env bash\necho "{name} $*" >> {log}\n{body}\n')
        script.chmod(0o755)
    return tmp_path


def start(cluster, training):
    """The script in a job, with a shell program in the place of emojax."""
    (cluster / "emojax").write_text(f"#!/usr/bin/env bash\necho started\n{training}\n")
    (cluster / "emojax").chmod(0o755)
    environment = {**os.environ, "PATH": f"{cluster}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
    command = ["bash", str(SCRIPT), "--config=a.py", "--workdir=b c"]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def calls(cluster):
    return [shlex.split(line) for line in (cluster / "log").read_text().splitlines()]


def test_it_joins_the_processes_and_passes_the_options_on(cluster):
    job = start(cluster, 'printf "%s\\n" "$@"')
    out, err = job.communicate(timeout=30)
    assert (job.returncode, err) == (0, "")
    assert out.splitlines()[1:] == ["train", "--config=a.py", "--workdir=b c", "--config.parallel.distributed=1"]
    assert [call[0] for call in calls(cluster)] == ["srun"]


def test_a_signal_reaches_the_training_which_ends_in_its_own_time_and_is_queued_again(cluster):
    job = start(cluster, "trap 'sleep 0.5; echo saved; exit 143' TERM; while true; do sleep 0.1; done")
    assert job.stdout.readline() == "started\n"
    time.sleep(0.2)  # its trap is set
    job.send_signal(signal.SIGTERM)
    out, _ = job.communicate(timeout=30)
    assert (job.returncode, out) == (143, "saved\n")
    assert calls(cluster)[1:] == [["scancel", "--signal=TERM", "7"], ["scontrol", "requeue", "7"]]


@pytest.mark.parametrize("code", [2, 5, 6])
def test_what_needs_a_person_is_not_queued_again(cluster, code):
    job = start(cluster, f"exit {code}")
    job.communicate(timeout=30)
    assert job.returncode == code and [call[0] for call in calls(cluster)] == ["srun"]


def test_no_options_are_an_error():
    done = subprocess.run(["bash", str(SCRIPT)], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.startswith("usage: sbatch")


@pytest.mark.filterwarnings("ignore:the load_module")  # ml_collections
def test_the_commands_of_the_page_are_understood():
    """Every option in docs/scaling.md is one that the command has."""
    page = (SCRIPT.parents[1] / "docs" / "scaling.md").read_text().replace("\\\n", " ")
    recipes = [re.findall(r'--config[\w.]*=[^\s"]+', line) for line in page.splitlines() if line.startswith("    ")]
    recipes = [found for found in recipes if found]
    assert len(recipes) >= 4
    for found in recipes:
        assert validate.validate(main.config_from(found)).batch_size >= 1
    for variable in re.findall(r"`(EMOJAX_\w+)`", page):
        assert variable in (parallel.COORDINATOR, parallel.PROCESSES, parallel.PROCESS)
