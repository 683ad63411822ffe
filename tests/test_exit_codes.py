"""Every exit code means what its table says: each is brought about for real, or as near as a fast test comes."""

import contextlib
import errno
import re
import subprocess
import sys
import types

import jax
import numpy as np
import pytest
import stored_models
import tiny
from PIL import Image
from test_checkpoint import META, make_state
from test_pretrained import own_file

from emojax import checkpoint_list, checkpoint_store, cli, errors, main, workdir
from emojax.checkpoint import Checkpointer
from emojax.cli import launch, runs
from emojax.config import CheckpointConfig, ModelConfig
from emojax.errors import EXIT_CODES, FINAL, EmojaxError, InterruptedRunError, LostError, TrainingError, exit_codes
from emojax.export import stablehlo

# ml_collections loads recipes in a way that Python will drop.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")


def raising(error):
    def run(*_, **__):
        raise error

    return run


def trained(monkeypatch, tmp_path, error):
    """Exit code of a training that ends with `error`."""
    monkeypatch.setattr(main.app, "run", raising(error))
    return main.run_with_errors(["emojax", "--config=configs/emoji.py", f"--workdir={tmp_path / 'run'}"])


def damaged_run(tmp_path):
    """A work directory with one checkpoint that is not what was saved."""
    with contextlib.closing(Checkpointer(tmp_path, CheckpointConfig())) as keeper:
        keeper.save(make_state(), META, rank=0.5)
    for part in (tmp_path / "checkpoints/3/params").rglob("*"):
        if part.is_file() and part.name != "_sharding":
            part.write_bytes(bytes(part.stat().st_size))
    return tmp_path


def no_knob(monkeypatch, tmp_path):
    try:
        main.config_from(["--config=configs/emoji.py", "--config.no_such_knob=1"])
    except EmojaxError as error:
        return error.exit_code


def no_data(monkeypatch, tmp_path):
    return cli.main(["data", "pack", f"--data={tmp_path / 'nothing'}", f"--out={tmp_path / 'pack'}"])


def export_that_differs(monkeypatch, tmp_path):
    """The file says something else than the model, as a converter with a defect would make it."""
    stored_models.make(tmp_path / "run")
    monkeypatch.setattr(stablehlo, "read", lambda path: lambda images: np.full((len(images), 3), 0.2, np.float32))
    how = ["--format=stablehlo", "--images=3"]
    return cli.main(["export", f"--workdir={tmp_path / 'run'}", str(tmp_path / "out"), *how])


def damaged(monkeypatch, tmp_path):
    return cli.main(["checkpoints", "verify", f"--workdir={damaged_run(tmp_path)}"])


def held(monkeypatch, tmp_path):
    with workdir.claim(tmp_path / "run", tiny.config(tmp_path)):
        try:
            with workdir.claim(tmp_path / "run", tiny.config(tmp_path)):
                return 0
        except EmojaxError as error:
            return error.exit_code


def lost(monkeypatch, tmp_path):
    with contextlib.closing(Checkpointer(damaged_run(tmp_path), CheckpointConfig())) as keeper:
        try:
            keeper.newest(lambda step: keeper.restore(make_state(), step))
        except LostError as error:
            return error.exit_code


def not_written_together(told):
    """A case: one of two processes fails with a library's words `told` while both write a checkpoint."""

    def run(monkeypatch, tmp_path):
        monkeypatch.setattr(jax, "process_count", lambda: 2)
        manager = types.SimpleNamespace(wait_until_finished=raising(ValueError(told)))
        try:
            checkpoint_store.wait(manager, tmp_path)
        except EmojaxError as error:
            assert told in str(error)
            return error.exit_code

    return run


RESET = "UNKNOWN: Gloo AllGather failed: Read error [127.0.0.1]:58755: Connection reset by peer"
DENIED = "PERMISSION_DENIED: Error opening file [OS error 13: EACCES Permission denied]"
"""As TensorStore says it: it would be refused again when all processes start again."""
CASES = {
    "an export that differs": (8, export_that_differs),
    "a lost process": (9, not_written_together(RESET)),
    "a folder that is refused, in a job": (3, not_written_together(DENIED)),
    "done": (0, lambda monkeypatch, tmp_path: cli.main(["--version"])),
    "a knob": (2, no_knob),
    "no such data": (2, no_data),
    "no such verb": (2, lambda monkeypatch, tmp_path: cli.main(["paint"])),
    "a damaged checkpoint": (3, damaged),
    "two runs": (4, held),
    "diverged": (5, lambda m, t: trained(m, t, TrainingError("x"))),
    "all damaged": (6, lost),
    "full while a report is written": (7, lambda m, t: trained(m, t, OSError(errno.ENOSPC, "No space left on device"))),
    "Ctrl-C": (130, lambda m, t: trained(m, t, InterruptedRunError("x", 2))),
    "Ctrl-C before anything": (130, lambda m, t: trained(m, t, KeyboardInterrupt())),
    "SIGTERM": (143, lambda m, t: trained(m, t, InterruptedRunError("x", 15))),
}


@pytest.mark.parametrize("case", CASES)
def test_the_code_is_what_the_table_says(monkeypatch, tmp_path, case, capsys):
    code, run = CASES[case]
    assert run(monkeypatch, tmp_path) == code
    assert "Traceback" not in capsys.readouterr().err


def test_every_code_is_in_the_table_and_in_a_case():
    kinds, pending = set(), [EmojaxError]
    while pending:
        kind = pending.pop()
        kinds.add(kind.exit_code)
        pending += kind.__subclasses__()
    assert kinds <= EXIT_CODES.keys()
    assert {code for code, _ in CASES.values()} == EXIT_CODES.keys() - {1}  # 1: a defect, with a traceback


def test_a_defect_is_no_message(monkeypatch, tmp_path):
    with pytest.raises(ZeroDivisionError):  # Python itself then ends with 1
        trained(monkeypatch, tmp_path, ZeroDivisionError())
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_list, "inspect", raising(ZeroDivisionError()))
        with pytest.raises(ZeroDivisionError):
            cli.main(["checkpoints", "list", "--workdir=x"])


@pytest.mark.parametrize("out", ["/proc/x", "a_file/x", "n" * 300])
@pytest.mark.parametrize("what", ["predict", "export", "align", "import"])
def test_a_place_that_cannot_be_written_is_told_by_every_verb(monkeypatch, tmp_path, capsys, what, out):
    """Also for root, whom permissions do not stop."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a_file").write_text("x")
    (tmp_path / "in").mkdir()
    Image.fromarray(stored_models.pictures()[0]).save(tmp_path / "in/a.png")
    if what in ("predict", "export"):
        stored_models.make(tmp_path / "run")
    else:
        own_file(tmp_path / "w.safetensors", ModelConfig(name="resnet20", stem="small"), 3)
    line = {
        "predict": ["predict", "--workdir=run", "in", f"--out={out}.csv"],
        "export": ["export", "--workdir=run", "--images=2", out],
        "align": ["data", "align", "in", out],
        "import": ["weights", "import", "w.safetensors", f"{out}.safetensors"],
    }[what]
    assert cli.main(line) in (2, 4)  # 4: `export` tells before that it wants a folder
    told = capsys.readouterr().err
    assert told.splitlines()[-1].startswith("emojax: error: ") and out.split("/")[0] in told and ".tmp" not in told


def test_a_training_whose_files_vanish_is_a_defect_that_launch_begins_again(monkeypatch, tmp_path):
    monkeypatch.setattr(main.app, "run", raising(FileNotFoundError(errno.ENOENT, "No such file", "checkpoint")))
    with pytest.raises(FileNotFoundError):
        cli.main(["train", "--config=configs/emoji.py", f"--workdir={tmp_path / 'run'}"])


def test_help_tells_them(capsys):
    for show in (lambda: cli.main(["--help"]), lambda: main.run_with_errors(["emojax", "--help"])):
        assert show() == 0
        shown = capsys.readouterr().out
        assert exit_codes() in shown
        assert [int(code) for code in re.findall(r"^  +(\d+)  \w", shown, re.MULTILINE)] == list(EXIT_CODES)


def test_launch_starts_again_after_crashes_only(monkeypatch):
    """-9: killed; 134: JAX ends a process whose peer has died; 1: perhaps the machine's fault."""
    for code in (*EXIT_CODES, -9, 134):
        began = []
        monkeypatch.setattr(launch, "_job", lambda *_, code=code, began=began, **__: began.append(1) or code)
        assert launch.main(["--processes=1", "--restarts=1", "--", "train"]) == code
        assert len(began) == (1 if code in FINAL else 2), code


def test_the_killed_one_is_the_cause_of_what_ends_with_it():
    for codes, found in (([9, -9], 137), ([3, -9], 137), ([9, None], 9), ([9, 5], 5), ([2, -6], 2), ([0, 0], 0)):
        assert launch._first_failure(codes) == found
    for codes, found in (([143, 7], 7), ([0, 143, 3], 3), ([143, 9], 9), ([143, 143], 143)):
        assert launch._first_failure(codes) == found, "143 says that everything is saved"


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), True),
        (OSError(errno.EIO, "Input/output error"), True),
        (RuntimeError("INTERNAL: Read-only file system"), True),
        (OSError(errno.EHOSTUNREACH, "No route to host"), False),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), False),
        (TimeoutError(errno.ETIMEDOUT, "Connection timed out"), False),
    ],
)
def test_a_file_that_is_refused_is_told_from_a_peer_that_is_gone(error, found):
    assert errors.of_a_file(error) is found
    try:
        raise RuntimeError("DEADLINE_EXCEEDED: barrier") from error
    except RuntimeError as wrapped:
        assert errors.of_a_file(wrapped) is found


def test_what_a_library_tried_on_the_way_is_no_refusal():
    try:
        try:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", "lock")
        except FileNotFoundError:
            raise RuntimeError("DEADLINE_EXCEEDED: barrier")  # noqa: B904 - as a library does it
    except RuntimeError as error:
        assert not errors.of_a_file(error)


def test_verbs_that_start_runs_hand_their_code_on(monkeypatch, tmp_path):
    monkeypatch.setattr(runs, "start", lambda run: subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"]))
    with pytest.raises(TrainingError) as raised:
        runs.train(runs.Run("r.py", tmp_path, ()))
    assert raised.value.exit_code == 7
