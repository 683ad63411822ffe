"""The verbs that train several times: study, ablate, sweep, kfold, ensemble; and the learning-rate finder."""

import fcntl
import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tiny
from PIL import Image

import emojax
from emojax import checkpoint, cli, data, intervals, metrics, predictions_csv, report
from emojax.cli import parts, runs, space
from emojax.config import AugmentConfig, Config, OptimConfig, items
from emojax.errors import ConfigError, TrainingError
from emojax.types import Predictions

pytestmark = pytest.mark.filterwarnings("ignore:the load_module")  # ml_collections loads a recipe so

RECIPE = """
from emojax.config import *
def get_config(variant=""):
    return Config(
        image_size=16,
        batch_size=8,
        data=DataConfig(path="FOLDER"),
        model=ModelConfig(name="resnet18", stem="small2", depths=(1, 1), widths=(8, 16)),
        optim=OptimConfig(learning_rate=1e-4 if variant == "slow" else 1e-2),
        stages=(StageConfig(epochs=2),),
        monitor=MonitorConfig(tensorboard=0),
    )
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("verbs")
    (folder / "small.py").write_text(RECIPE)
    tiny.make_folder(folder / "data")
    return folder


@pytest.mark.slow
def test_study_trains_all_and_prints_one_table(place, capsys):
    command = ["study", f"--workdir={place / 'study'}", "--seeds=0,1", f"--config.data.path={place / 'data'}"]
    assert cli.main([*command, f"{place}/small.py", f"{place}/small.py:slow"]) == 0
    shown = capsys.readouterr().out
    found = json.loads((place / "study/study.json").read_text())
    assert list(found["runs"]) == ["small", "small-slow"] and all(len(group) == 2 for group in found["runs"].values())
    assert shown.count("±") == 8 and "| **small**" in shown and (place / "study/study.md").read_text() == shown
    config = json.loads((place / "study/small-slow/seed1/config.json").read_text())
    assert (config["seed"], config["optim"]["learning_rate"]) == (1, 1e-4)
    before = (place / "study/small/seed0/finished.json").stat().st_mtime_ns
    assert cli.main([*command, f"{place}/small.py", f"{place}/small.py:slow"]) == 0  # nothing is trained again
    assert (place / "study/small/seed0/finished.json").stat().st_mtime_ns == before
    members = [str(place / f"study/small/seed{seed}") for seed in (0, 1)]
    capsys.readouterr()
    assert cli.main(["ensemble", *members, "--split=test", "--average=logits", f"--out={place / 'both.csv'}"]) == 0
    assert "| ensemble" in capsys.readouterr().out
    parts = [predictions_csv.read(place / f"study/small/seed{seed}/report/test-predictions.csv")[0] for seed in (0, 1)]
    logits = np.mean([np.log(part.probs) for part in parts], axis=0)
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(predictions_csv.read(place / "both.csv")[0].probs, expected, atol=1e-5)


@pytest.mark.slow
def test_ensemble_of_the_best_checkpoints_of_one_run(place, capsys):
    run = place / "several"
    knobs = (f"--config.data.path={place / 'data'}", "--config.checkpoint.keep_best=2")
    runs.train(runs.Run(f"{place}/small.py", run, knobs))
    command = ["ensemble", str(run), f"--out={place / 'several.csv'}"]
    assert cli.main([*command, "--checkpoints=2", "--split=test"]) == 0
    assert capsys.readouterr().out.count(f"{run}, update ") == 2
    found = [emojax.load(run, which=str(step)) for step in checkpoint.kept_steps(run)]
    test = data.open_dataset(found[0].config.data).splits["test"]
    expected = np.mean([each.predict_split(test, batch_size=8).probs for each in found], axis=0)
    np.testing.assert_allclose(predictions_csv.read(place / "several.csv")[0].probs, expected, atol=1e-5)
    assert cli.main([*command, "--checkpoints=3"]) == 3
    assert "keeps 2 judged checkpoints, not 3; train with --config.checkpoint.keep_best=3" in capsys.readouterr().err


@pytest.mark.slow
def test_ablate_compares_each_change_with_the_base_and_leaves_test_alone(place, capsys):
    command = ["ablate", f"--config={place}/small.py", f"--workdir={place / 'ablate'}", "--seeds=0,1", "--jobs=2"]
    command += [f"--config.data.path={place / 'data'}", "--config.stages[0].epochs=1", "--change=:slow"]
    assert cli.main(command) == 0
    before = (place / "ablate/base/seed0/finished.json").stat().st_mtime_ns
    capsys.readouterr()
    assert cli.main([*command, "--change=optim.weight_decay=0 optim.name=sgd"]) == 0  # another change, on the same base
    assert (place / "ablate/base/seed0/finished.json").stat().st_mtime_ns == before
    shown = capsys.readouterr().out
    assert shown.strip() == (place / "ablate/ablate.md").read_text().strip() and "±" in shown and "Two seeds" in shown
    base, slow, sgd = json.loads((place / "ablate/ablate.json").read_text())["rows"]
    assert [row["folder"] for row in (base, slow, sgd)] == ["base", "slow", "optim.weight_decay=0-optim.name=sgd"]
    config = json.loads((place / "ablate" / sgd["folder"] / "seed1/config.json").read_text())
    assert (config["seed"], config["optim"]["name"], config["optim"]["weight_decay"]) == (1, "sgd", 0)
    found = [json.loads((place / f"ablate/slow/seed{i}/report/val.json").read_text()) for i in (0, 1)]
    row = slow["differences"]["val"]["accuracy"]
    assert row["b"] == pytest.approx(np.mean([report["accuracy"] for report in found]))
    assert row["a"] == pytest.approx(np.mean([run["val"]["accuracy"] for run in base["runs"]]))
    assert row["low"] <= row["b"] - row["a"] <= row["high"]
    assert not list((place / "ablate").rglob("test*.json*")) and "test" not in slow["differences"]


def test_ablate_tells_a_run_that_diverged_and_goes_on(place, monkeypatch, capsys):
    """One change diverges with one seed: its row says so, and the others are compared."""
    values = {"base": [0.5, 0.75], "model.dropout=0.5": [1.0, 1.0], "model.dropout=0.9": [0.0, 0.0]}
    label = np.eye(2, dtype=np.float32)[np.arange(40) % 2]

    def train(run):
        right = values[run.workdir.parent.name][int(run.workdir.name[-1])]
        if right == 0 and run.workdir.name == "seed1":
            raise TrainingError("diverged")
        probs = np.where(np.arange(40)[:, None] < 40 * right, label, 1 - label)
        ids = np.arange(40).astype(str)
        found = Predictions(probs.astype(np.float32), label, np.ones(40, np.float32), ids)
        predictions_csv.write(run.workdir / "report/val-predictions.csv", found, ("a", "b"))
        numbers = {**metrics.evaluate(found, ("a", "b")).to_json(), "step": 1, "seconds": 1.0}
        (run.workdir / "report/val.json").write_text(json.dumps(numbers))
        (run.workdir / "parameters.txt").write_text("Total: 1,234 -- 4,936 bytes\n")

    monkeypatch.setattr(runs, "train", train)
    command = ["ablate", f"--config={place}/small.py", f"--workdir={place / 'diverged'}", "--seeds=0,1"]
    assert cli.main([*command, "--change=model.dropout=0.5", "--change=model.dropout=0.9"]) == 0
    rows = json.loads((place / "diverged/ablate.json").read_text())["rows"]
    assert rows[1]["differences"]["val"]["accuracy"]["b"] == 1 and rows[2]["diverged"] == [1]
    shown = capsys.readouterr().out
    assert "diverged, seed 1" in shown and "+37.5" in shown and "62.5 ± 17.7" in shown
    values["base"][1] = 0
    assert cli.main([*command, "--change=model.dropout=0.5"]) == 5
    assert "the base diverged with the seeds 1" in capsys.readouterr().err


def test_parts_of_a_recipe_that_are_on():
    recipe = tiny.config("x", augment=AugmentConfig(flip=0.5, hue=0.1, crop_area=(0.5, 1.0), mixup=0.2))
    found = {change.name: dict(change.knobs) for change in parts.switched_off(recipe)}
    assert found["without flips"] == {"augment.flip": "0.0"} and found["without colour jitter"] == {
        "augment.hue": "0.0"
    }
    assert found["without random crops"] == {"augment.crop_area": "(1.0, 1.0)"}
    assert found["without freezing"] == {"stages[0].frozen": ""} and found["without EMA"] == {"average.name": "none"}
    assert {"without MixUp", "without dropout", "without warm-up", "without label smoothing"} <= set(found)
    assert not {"without blur", "without CutMix", "without SAM", "without class weights"} & set(found)
    everything = {knob for knobs in parts._PARTS.values() for knob in knobs if not knob.startswith("stages.")}
    assert everything <= {knob for knob, _ in items(Config())}
    plain = parts.switched_off(Config(optim=OptimConfig(weight_decay=0)))
    assert [change.name for change in plain] == ["with a constant rate"], "the defaults have no other part on"


@pytest.mark.slow
def test_kfold_predicts_every_record_once_and_leaves_test_alone(place, capsys):
    command = ["kfold", f"--config={place}/small.py", f"--workdir={place / 'folds'}", "--folds=2"]
    assert cli.main([*command, f"--config.data.path={place / 'data'}"]) == 0
    shown = capsys.readouterr().out
    assert "mean ± std" in shown and "| fold1" in shown and "| out of fold" in shown
    whole, names = predictions_csv.read(place / "folds/out-of-fold.csv")
    assert names == ("blue", "green", "red") and len(set(whole.id.tolist())) == 48 + 12  # train and val, not test
    assert not [name for name in whole.id if name.startswith("test")]
    parts = [predictions_csv.read(place / f"folds/fold{i}/report/val-predictions.csv")[0] for i in (1, 2)]
    assert sum(len(part.weight) for part in parts) == 60
    assert all(part.label.sum(0).max() - part.label.sum(0).min() <= 1 for part in parts)
    assert json.loads((place / "folds/report/all.json").read_text())["leak_check"]["text"] == "leak-checked"


def leave_report(run, *, n=8):
    """What a training leaves: a report on val, three of four right."""
    label = np.eye(2, dtype=np.float32)[np.arange(n) % 2]
    probs = np.where(np.arange(n)[:, None] % 4 > 0, label, 1 - label).astype(np.float32)
    ids = np.array([f"{run.workdir.name}/{i}" for i in range(n)])
    found = Predictions(probs, label, np.ones(n, np.float32), ids)
    about = report.RunInfo(dataset="d", step=1, result="r", selected_by="accuracy", seed=0, views="none", seconds=1.0)
    report.write(
        run.workdir / "report", split="val", report=metrics.evaluate(found, ("a", "b")), bounds=intervals.of(found),
        predictions=found, history=[], run=about,
    )  # fmt: skip


def test_folds_and_members_have_intervals(place, monkeypatch, capsys):
    """Three of four right of 8, and of 16, by Wilson's formula."""
    monkeypatch.setattr(runs, "train", leave_report)
    command = ["kfold", f"--config={place}/small.py", f"--workdir={place / 'bracketed'}", "--folds=2"]
    assert cli.main([*command, f"--config.data.path={place / 'data'}"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("75.0 [40.9, 92.9]") == 2 and "75.0 [50.5, 89.8]" in shown and runs.BRACKETS in shown
    for name in ("one", "two"):
        leave_report(runs.Run("", place / "bracketed" / name, ()))
        path = place / "bracketed" / name / "report/val-predictions.csv"
        path.write_text(path.read_text().replace(f"{name}/", ""))
    assert cli.main(["ensemble", str(place / "bracketed/one"), str(place / "bracketed/two")]) == 0
    shown = capsys.readouterr().out
    assert shown.count("75.0 [40.9, 92.9]") == 3 and runs.BRACKETS in shown


@pytest.mark.slow
def test_find_lr_suggests_a_rate_and_draws_it(place, capsys):
    command = ["find-lr", f"--config={place}/small.py", f"--out={place / 'lr.png'}", "--batches=60", "--high=10"]
    assert cli.main([*command, f"--config.data.path={place / 'data'}", "--config.optim.accumulate=2"]) == 0
    shown = capsys.readouterr().out
    rate = float(shown.split("falls fastest at ")[1].split()[0])
    assert 1e-6 < rate < 1, shown
    assert Image.open(place / "lr.png").size[0] > 500


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["study", "--workdir=x", "emoji.py", "--epochs=3"], "unexpected '--epochs=3'; knobs have the form"),
        (["study", "--workdir=x", "--seeds=a", "emoji.py"], "--seeds=a: expected whole numbers"),
        (["study", "--workdir=x", "emoji.py", "emoji.py"], "two of the recipes are called the same"),
        (["study", "--workdir=x", "emojo.py"], "no such file; recipes that ship with emojax: .*emoji.py"),
        (["study", "--workdir=x", "resnet_inspired.py:after"], "no variant 'after'; there are before"),
        (["study", "--workdir=x", "emoji.py", "--config.model.name=nope"], "config.model.name"),
        (["study", "--workdir=x", "emoji.py", "--config.stages[0].frozen=^nothing"], "^nothing"),
        (
            ["kfold", "--config=emoji.py", "--workdir=x", "--folds=100"],
            "100 folds cannot be stratified: too few records of",
        ),
        (["kfold", "--config=emoji.py", "--workdir=x", "--folds=1"], "--folds=1: expected 2 or more"),
        (["ensemble", "x"], "needs two or more members"),
        (["ensemble", "x", "./x"], "one is named twice"),
        (["ensemble", "x", "y"], "x: there are no predictions for val; is it the --workdir of a finished run?"),
        (["ensemble", "x", "--checkpoints=-1"], "--checkpoints=-1: expected 0 or more"),
        (["ablate", "--config=emoji.py", "--workdir=x"], "nothing to change"),
        (["ablate", "--config=emoji.py", "--workdir=x", "--change=data.path=y"], "may be judged on other images"),
        (["ablate", "--config=emoji.py", "--workdir=x", "--change=seed=1"], "see --seeds and --test"),
        (["ablate", "--config=emoji.py", "--workdir=x", "--change=flip"], "expected KNOB=VALUE"),
        (["ablate", "--config=emoji.py", "--workdir=x", "--change=model.dropout=2"], "config.model.dropout"),
        (["ablate", "--config=emoji.py", "--workdir=x", "--auto", "--jobs=0"], "--jobs=0: expected 1 or more"),
        (
            ["ablate", "--config=emoji.py", "--workdir=x", *["--change=augment.flip=0"] * 2],
            "two changes are called the same",
        ),
        (["find-lr", "--config=emoji.py", "--batches=3"], "--batches of 10 or more"),
        (["find-lr", "--config=emoji.py", "--config.optim.lr=3"], "there is no such knob"),
    ],
)
def test_bad_calls_are_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 2
    shown = capsys.readouterr().err
    assert message.split(".*")[0] in shown and shown.startswith("emojax: error: ") and "Traceback" not in shown
    assert not list(tmp_path.iterdir()), "a refused command must leave nothing"


def test_a_verb_that_starts_runs_takes_no_device_itself():
    """A TPU belongs to one process: the runs, not the verb, must get it."""
    code = "from emojax.cli import runs; runs.config('emoji.py', ())\n"
    code += "from jax._src import xla_bridge; print(len(xla_bridge._backends))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "0"


def test_tables_are_aligned():
    table = runs.markdown(["a", "number"], [["x", "1"], ["long name", "22.5"]])
    assert len({len(line) for line in table.splitlines()}) == 1
    assert runs.mean_std([0.5, 0.7, 0.9]) == "70.0 ± 20.0" and runs.mean_std([0.5]) == "50.0"
    with pytest.raises(ConfigError):
        import argparse

        runs.parse(argparse.ArgumentParser(), ["--config.x"])


SPACES = {
    "a=1,2,x": (("1", "2", "x"), ""),
    "a=0.5..2": (("0.5", "2"), ""),
    "a=log:1e-4..0.1": (("0.0001", "0.1"), "log"),
    "a=int:2..9": (("2", "9"), "int"),
}


@pytest.mark.parametrize("text", SPACES)
def test_search_spaces(text):
    (part,) = space.parse([text])
    assert (part.knob, part.values, getattr(part, "kind", "")) == ("a", *SPACES[text])


@pytest.mark.parametrize(
    "text", ["a", "=1", "a=", "a=1,,2", "a=1,1", "a=2..1", "a=log:0..1", "a=int:1.5..2", "a=x..y", "a=log:1,2"]
)
def test_what_is_no_search_space(text):
    with pytest.raises(ConfigError):
        space.parse([text])


@pytest.mark.slow
def test_sweep_ranks_on_val_and_confirms_on_a_fresh_seed(place, capsys):
    command = ["sweep", f"--config={place}/small.py", f"--workdir={place / 'sweep'}", "--method=grid", "--confirm=1"]
    command += [f"--config.data.path={place / 'data'}", "optim.learning_rate=1e-7,1e-2"]
    assert cli.main([*command, "--trials=1"]) == 0
    (trial,) = (place / "sweep/trials").iterdir()
    before = (trial / "finished.json").stat().st_mtime_ns
    capsys.readouterr()
    assert cli.main([*command, "--trials=9"]) == 0  # goes on, and ends with the grid
    found = json.loads((place / "sweep/sweep.json").read_text())
    best = max(found["trials"], key=lambda row: row["value"])
    assert {row["knobs"]["optim.learning_rate"] for row in found["trials"]} == {"1e-7", "1e-2"}
    assert found["best_value"] == best["value"] and [row["seed"] for row in found["confirmed"]] == [1]
    assert (trial / "finished.json").stat().st_mtime_ns == before, "a finished trial was trained again"
    for row in found["trials"]:
        trial = place / "sweep/trials" / row["folder"]
        assert json.loads((trial / "report/val.json").read_text())["accuracy"] == row["value"]
        assert not (trial / "report/test.json").exists() and not (trial / "test_judged.jsonl").exists()
    shown = capsys.readouterr().out
    assert "fresh seeds (1)" in shown and "which the search never saw" in shown
    assert (
        len((place / "sweep/winners" / found["confirmed"][0]["folder"] / "test_judged.jsonl").read_text().splitlines())
        == 1
    )
    assert cli.main([*command[:-1], "optim.learning_rate=1e-3,1e-2"]) == 2
    assert "another search" in capsys.readouterr().err


@pytest.mark.slow
def test_sweep_goes_on_after_a_kill(place):
    """A search killed in its first trial: the trial's run is resumed, and there are as many trials as asked for."""
    command = ["sweep", f"--config={place}/small.py", f"--workdir={place / 'tpe'}", "--trials=2", "--confirm=0"]
    command += [f"--config.data.path={place / 'data'}", "optim.learning_rate=log:1e-7..1e-2"]
    process = subprocess.Popen([sys.executable, "-m", "emojax.cli", *command], stdout=subprocess.PIPE)
    while not list(place.glob("tpe/trials/*/checkpoints/[0-9]*")):
        assert process.poll() is None
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (first,) = (place / "tpe/trials").iterdir()
    while not _free(first):
        time.sleep(0.2)  # the run of the killed search ends by itself
    assert cli.main(command) == 0
    found = json.loads((place / "tpe/sweep.json").read_text())
    assert first.name in {row["folder"] for row in found["trials"]} and len(found["trials"]) == 2
    assert len(list((place / "tpe/trials").iterdir())) == 2


def test_a_bad_trial_is_pruned(place, monkeypatch):
    """Five runs at 0.9 per evaluation, then one at 0.1: it is stopped with SIGTERM, and does not compete."""
    values, stopped = iter([0.9] * 5 + [0.1]), []

    class Process:
        def __init__(self, run):
            (run.workdir / "report").mkdir(parents=True)
            self.returncode, value = None, next(values)
            rows = [{"kind": "eval", "split": "val", "step": i, "accuracy": value} for i in range(4)]
            (run.workdir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            (run.workdir / "report/val.json").write_text(json.dumps({"accuracy": value}))
            self.polls = 0

        def poll(self):
            self.polls += 1
            self.returncode = 0 if self.polls > 1 and self.returncode is None else self.returncode
            return self.returncode

        def send_signal(self, number):
            stopped.append(number)
            self.returncode = 128 + number

        def wait(self):
            return self.returncode

    monkeypatch.setattr(runs, "start", Process)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    command = ["sweep", f"--config={place}/small.py", f"--workdir={place / 'pruned'}", "--trials=6", "--confirm=0"]
    assert cli.main([*command, f"--config.data.path={place / 'data'}", "optim.learning_rate=log:1e-7..1e-2"]) == 0
    assert stopped == [signal.SIGTERM]
    assert len(json.loads((place / "pruned/sweep.json").read_text())["trials"]) == 5
    assert "1 were pruned" in (place / "pruned/sweep.md").read_text()


def test_a_trial_that_diverges_ends_no_sweep(place, monkeypatch, capsys):
    """The second of three grid points diverges (exit code 5): it counts as tried, is listed, and is not tried again."""
    started = []

    class Process:
        def __init__(self, run):
            started.append(run.workdir.name)
            self.returncode = 5 if "--config.optim.learning_rate=10" in run.overrides else 0
            (run.workdir / "report").mkdir(parents=True, exist_ok=True)
            (run.workdir / "report/val.json").write_text(json.dumps({"accuracy": 0.5}))

        def poll(self):
            return self.returncode

    monkeypatch.setattr(runs, "start", Process)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    command = ["sweep", f"--config={place}/small.py", f"--workdir={place / 'diverged'}", "--method=grid", "--confirm=0"]
    command += [f"--config.data.path={place / 'data'}", "optim.learning_rate=1e-3,10,1e-2"]
    assert cli.main(command) == 0
    assert "diverged" in capsys.readouterr().err
    found = json.loads((place / "diverged/sweep.json").read_text())
    assert [row["knobs"]["optim.learning_rate"] for row in found["diverged"]] == ["10"] and len(found["trials"]) == 2
    text = (place / "diverged/sweep.md").read_text()
    assert "1 diverged" in text and "--config.optim.learning_rate=10" in text
    assert cli.main(command) == 0 and len(started) == 3, "nothing is trained again"


def _free(workdir):
    with (workdir / ".lock").open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True


def test_a_run_that_diverges_ends_no_study_no_folds_and_no_confirmation(place, monkeypatch, capsys):
    """The others are trained; tables and messages say which one it was."""
    diverging = {"small/seed0", "diverging/fold1", "winners/seed1"}
    trained = []

    def train(run):
        name = f"{run.workdir.parent.name}/{run.workdir.name.rpartition('-')[2]}"
        trained.append(name)
        if name in diverging:
            raise TrainingError("diverged")
        leave_report(run)
        (run.workdir / "parameters.txt").write_text("Total: 1,234 -- 4,936 bytes\n")

    class Process:
        returncode = 0

        def __init__(self, run):
            leave_report(run)

        def poll(self):
            return 0

    monkeypatch.setattr(runs, "train", train)
    knob = f"--config.data.path={place / 'data'}"
    folder = place / "lost"
    command = ["study", f"--workdir={folder}", "--seeds=0,1", f"{place}/small.py", f"{place}/small.py:slow", knob]
    assert cli.main(command) == 0
    shown = capsys.readouterr().out
    assert "1; diverged, seed 0" in shown and "| **small-slow**" in shown and "flatter the recipe" in shown
    assert json.loads((folder / "study.json").read_text())["runs"]["small"][0] == {}
    diverging |= {"small/seed1", "small-slow/seed0", "small-slow/seed1"}
    assert cli.main(command) == 5 and "every run of the study has diverged" in capsys.readouterr().err
    diverging -= {"small-slow/seed0", "small-slow/seed1"}
    assert cli.main(command) == 0 and "| 0; diverged, seed 0, 1 |" in capsys.readouterr().out

    command = ["kfold", f"--config={place}/small.py", f"--workdir={place / 'diverging'}", "--folds=2", knob]
    assert cli.main(command) == 5 and trained[-2:] == ["diverging/fold1", "diverging/fold2"]
    assert "diverged: fold1; predictions of every record need all folds" in capsys.readouterr().err

    monkeypatch.setattr(runs, "start", Process)
    command = ["sweep", f"--config={place}/small.py", f"--workdir={place / 'unsure'}", "--method=grid", "--confirm=2"]
    assert cli.main([*command, knob, "optim.learning_rate=1e-3"]) == 0
    shown = capsys.readouterr().out
    assert "The winner with 1 fresh seeds (2)" in shown and "The winner diverged with the fresh seeds 1:" in shown
    found = json.loads((place / "unsure/sweep.json").read_text())
    assert found["confirmed_diverged"] == [1] and [row["seed"] for row in found["confirmed"]] == [2]
