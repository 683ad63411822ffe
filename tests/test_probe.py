"""The frozen-feature probe: its solver against scikit-learn, and the run that it leaves."""

import csv
import dataclasses
import functools
import json
import os
import shutil
import signal
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from sklearn.linear_model import LogisticRegression
from test_pretrained import own_file

from emojax import (
    checkpoint,
    cli,
    data,
    jsonl,
    judging,
    logistic,
    models,
    paths,
    predict,
    probe,
    resume,
    stored,
    tensor_file,
    train,
    wiring,
)
from emojax.config import AverageConfig, CheckpointConfig, DataConfig, ModelConfig, ParallelConfig, StageConfig
from emojax.data import pipeline
from emojax.errors import ConfigError, DataError, InterruptedRunError
from emojax.export import bundle_file
from emojax.validate import validate


def clusters(n, *, classes=3, width=8, spread=1.5, seed=0):
    rng = np.random.default_rng(seed)
    centres, label = rng.normal(size=(classes, width)), rng.integers(classes, size=n)
    x = (centres[label] + spread * rng.normal(size=(n, width))).astype(np.float32)
    return x, np.eye(classes, dtype=np.float32)[label], np.ones(n, np.float32)


@pytest.mark.parametrize("penalty", [1.0, 1e-2, 1e-4])
def test_the_solver_finds_what_scikit_learn_finds(penalty):
    x, target, weight = clusters(400)
    weight[::3] = 2.5
    kernel, bias = logistic.fit(x, target, weight, penalty=penalty)
    other = LogisticRegression(C=1 / (weight.sum() * penalty), tol=1e-8, max_iter=5000)
    other.fit(x, target.argmax(1), sample_weight=weight)
    np.testing.assert_allclose(kernel - kernel.mean(1, keepdims=True), other.coef_.T, atol=2e-3)
    np.testing.assert_allclose(bias - bias.mean(), other.intercept_ - other.intercept_.mean(), atol=2e-3)


def test_labels_may_be_shares_and_rows_may_weigh_nothing():
    """A label of two halves is the same as the row twice, once with each class; weight 0 is no row."""
    x, target, weight = clusters(60)
    target[:20] = [0.5, 0.5, 0.0]
    twice = np.concatenate([np.arange(60), np.arange(20)])
    single = target[twice].copy()
    single[:20], single[60:] = [1, 0, 0], [0, 1, 0]
    halves = np.ones(80, np.float32)
    halves[:20] = halves[60:] = 0.5
    expected = logistic.fit(x[twice], single, halves, penalty=0.01)
    np.testing.assert_allclose(logistic.fit(x, target, weight, penalty=0.01)[0], expected[0], atol=1e-3)
    more = np.concatenate([x, 100 * x]), np.concatenate([target, target]), np.repeat([1.0, 0.0], 60)
    np.testing.assert_allclose(logistic.fit(*more, penalty=0.01)[0], expected[0], atol=1e-3)


def test_the_penalty_is_the_one_that_generalises():
    """Sixty columns of noise beside two that tell: too weak a penalty learns the noise by heart."""
    x, target, weight = clusters(90, width=2, spread=0.7)
    rng = np.random.default_rng(1)
    x = np.concatenate([x, rng.normal(size=(90, 60)).astype(np.float32)], axis=1)
    found, loss = logistic.best_penalty(x, target, weight, np.arange(90) % 5)
    assert 1e-3 < found < 10
    for penalty in (10.0, 1e-5):
        assert logistic.best_penalty(x, target, weight, np.arange(90) % 5, penalties=[penalty])[1] > loss


def test_rows_of_one_part_alone_are_not_enough():
    x, target, weight = clusters(20)
    weight[np.arange(20) % 5 != 0] = 0
    with pytest.raises(DataError, match="one part alone"):
        logistic.best_penalty(x, target, weight, np.arange(20) % 5)


@pytest.fixture(scope="module")
def probed(tmp_path_factory):
    """(config, workdir, recipe) of a probe of random features, which tell colours apart nevertheless."""
    folder = tmp_path_factory.mktemp("probe")
    data = tiny.make_folder(folder / "data")
    config = tiny.config(data, stages=(StageConfig(epochs=1),))
    arrays = own_file(folder / "w.safetensors", config.model, 3)
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, weights=str(folder / "w.safetensors")))
    train.run(probe.config_of(config), folder / "run")
    return config, folder / "run", arrays


def test_only_the_last_layer_is_new(probed):
    _, run, arrays = probed
    found = paths.flatten(predict.load(run).weights)
    for path, array in found.items():
        same = np.array_equal(array, arrays[path])
        assert same != path.startswith("params/head/dense/"), path
    assert json.loads((run / "report/test.json").read_text())["accuracy"] == 1.0
    log = (run / "log.txt").read_text()
    assert "penalty" in log and "best checkpoint: without an update" in log and "after update" not in log
    assert "best checkpoint, without an update" in (run / "report/test.md").read_text()
    assert "| weights | without an update |" in bundle_file.card(stored.read(run), predict.load(run), {})


def test_training_may_start_from_the_solved_layer(probed, tmp_path):
    """With next to no learning rate it stays the probe, in the average too; the first stage's evaluation says so."""
    config, run, _ = probed
    expected = paths.flatten(predict.load(run).weights)
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, head_start="solved"))
    config.optim = dataclasses.replace(config.optim, learning_rate=1e-12)
    config.stages = (StageConfig(epochs=1, frozen_statistics="."),)
    assert config.average.name == "ema"
    train.run(config, tmp_path / "run")
    for path, array in paths.flatten(predict.load(tmp_path / "run").weights).items():
        np.testing.assert_allclose(array, expected[path], atol=1e-6, err_msg=path)
    assert "last layer solved for" in (tmp_path / "run/log.txt").read_text()


def starting(config, **knobs):
    """The config as a training from the solved layer: one epoch, six updates."""
    model = dataclasses.replace(config.model, head_start="solved")
    values = {"stages": (StageConfig(epochs=1, frozen_statistics="."),), "model": model, **knobs}
    return dataclasses.replace(config, **values)


def rows(run):
    return [row for row in jsonl.read(run / "metrics.jsonl") if row["kind"] == "eval"]


def test_the_solved_layer_is_judged_and_stays_the_best_if_training_spoils_it(probed, tmp_path):
    config, run, _ = probed
    config = starting(config, optim=dataclasses.replace(config.optim, learning_rate=10.0, clip_norm=0.0))
    train.run(config, tmp_path / "run")
    first, last = rows(tmp_path / "run")[0], rows(tmp_path / "run")[-1]
    assert (first["step"], first["accuracy"]) == (0, 1.0) and last["step"] > 0 and last["accuracy"] < 1.0
    found, expected = (paths.flatten(predict.load(each).weights) for each in (tmp_path / "run", run))
    for path in expected:
        np.testing.assert_array_equal(found[path], expected[path], err_msg=path)


def test_slow_weights_start_from_the_solved_layer_too(probed, tmp_path):
    config, run, _ = probed
    optim = dataclasses.replace(config.optim, learning_rate=1e-12, lookahead=2, lookahead_alpha=0.5)
    train.run(starting(config, optim=optim, average=AverageConfig()), tmp_path / "run")
    found, expected = (
        paths.flatten(predict.load(each, which=w).weights) for each, w in ((tmp_path / "run", "last"), (run, "best"))
    )
    np.testing.assert_allclose(found["params/head/dense/kernel"], expected["params/head/dense/kernel"], atol=1e-5)


class KilledError(BaseException):
    """Ends a run as SIGKILL does."""


@pytest.mark.slow
@pytest.mark.parametrize("after", ["the layer is solved for", "it is judged", "the first update is saved"])
def test_a_killed_start_ends_as_one_that_was_left_alone(probed, tmp_path, monkeypatch, after):
    config = starting(probed[0], checkpoint=CheckpointConfig(every_epochs=0.3))
    train.run(config, tmp_path / "alone")
    owner, name, number = {
        "the layer is solved for": (probe, "solved", 1),
        "it is judged": (judging, "judge", 1),
        "the first update is saved": (checkpoint.Checkpointer, "save", 2),
    }[after]
    real, calls = getattr(owner, name), []

    def killed(*args, **kwargs):
        found = real(*args, **kwargs)
        calls.append(1)
        if len(calls) == number:
            raise KilledError
        return found

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(owner, name, killed)
        train.run(config, tmp_path / "run")
    solved = []
    real_solved = probe.solved
    monkeypatch.setattr(probe, "solved", lambda *args: solved.append(1) or real_solved(*args))
    train.run(config, tmp_path / "run")
    assert len(solved) == (1 if after == "the layer is solved for" else 0)
    assert resume.differences(resume.outcome(tmp_path / "alone"), resume.outcome(tmp_path / "run")) == []
    assert [row["step"] for row in rows(tmp_path / "run")] == [row["step"] for row in rows(tmp_path / "alone")]


def test_a_signal_ends_the_search_for_the_layer(probed, tmp_path, monkeypatch):
    """Not minutes later: a scheduler does not wait."""
    real = logistic.fit

    def fit(*args, **kwargs):
        os.kill(os.getpid(), signal.SIGTERM)
        return real(*args, **kwargs)

    monkeypatch.setattr(logistic, "fit", fit)
    with pytest.raises(InterruptedRunError) as raised:
        train.run(starting(probed[0]), tmp_path / "run")
    assert raised.value.exit_code == 143 and not rows(tmp_path / "run")


def test_the_layer_is_the_regression_on_its_inputs(probed):
    """Features by hand, a plain regression on them with scikit-learn, and the same probabilities."""
    config, run, _ = probed
    classifier = predict.load(run)
    split = data.open_dataset(config.data).splits["train"]
    with pipeline.eval_batches(split, size=config.image_size, crop=1.0, batch_size=len(split)) as batches:
        image = next(iter(batches)).image
    both, label = jnp.concatenate([image, image[:, :, ::-1]]), split.label.argmax(1)
    weights = classifier.weights
    model = classifier._model
    x = np.asarray(model.last_inputs(weights["params"], weights["model_state"], model.normalised(both)), np.float64)
    x = (x - x.mean(0)) / np.where(x.std(0) > 0, x.std(0), 1)  # some channels are 0 for all
    penalty = float((run / "log.txt").read_text().partition("penalty ")[2].split(",")[0])
    other = LogisticRegression(C=1 / (len(x) * penalty), tol=1e-8, max_iter=5000).fit(x, np.tile(label, 2))
    each = other.predict_proba(x).reshape(2, len(split), 3).mean(0)
    np.testing.assert_allclose(classifier.predict_split(split, batch_size=16).probs, each, atol=0.02)


def test_a_finished_probe_says_so_and_an_interrupted_one_goes_on(probed, capsys, monkeypatch):
    config, run, _ = probed
    before = (run / "report/test.json").read_text()
    train.run(probe.config_of(config), run)
    assert "This run is finished" in capsys.readouterr().err
    (run / "finished.json").unlink()
    monkeypatch.setattr(probe, "solved", lambda *_: pytest.fail("it was solved already"))
    train.run(probe.config_of(config), run)
    assert json.loads((run / "report/test.json").read_text())["accuracy"] == json.loads(before)["accuracy"]


def test_features_that_are_no_numbers_end_the_run_in_words(probed, tmp_path):
    config, _, arrays = probed
    file = tmp_path / "w.safetensors"
    own_file(file, config.model, 3)
    broken = {**arrays, "params/stem/conv/kernel": arrays["params/stem/conv/kernel"] * np.float32(1e38)}
    about = {"name": config.model.name, "stem": config.model.stem, "classes": 3, "knobs": {}}
    tensor_file.write(file, broken, tensor_file.as_metadata("emojax", about))
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, weights=str(file)))
    with pytest.raises(DataError, match="are no numbers"):
        train.run(probe.config_of(config), tmp_path / "run")
    assert not (tmp_path / "run/finished.json").exists()


def test_records_of_a_group_and_identical_pictures_share_a_fold(probed):
    config, *_ = probed
    dataset = data.open_dataset(config.data)
    split = dataset.splits["train"]
    folds_of = functools.partial(probe.folds_of, seed=0)
    assert folds_of(dataset, DataConfig()).max() == probe.FOLDS - 1
    person = np.array([f"p{i // 4}" for i in range(len(split))], dtype=np.str_)
    for names, count in ((person, probe.FOLDS), (np.where(np.arange(len(split)) % 2, "a", "b"), 2)):
        grouped = dataclasses.replace(split, slices={"person": names})
        fold = folds_of(dataclasses.replace(dataset, splits={"train": grouped}), DataConfig(group_column="person"))
        assert len(set(fold.tolist())) == count
        assert all(len(set(fold[names == name].tolist())) == 1 for name in set(names.tolist()))
    alone = dataclasses.replace(split, slices={"person": np.full(len(split), "a")})
    with pytest.raises(DataError, match="all training records are of one group"):
        folds_of(dataclasses.replace(dataset, splits={"train": alone}), DataConfig(group_column="person"))
    same = dataclasses.replace(dataset, contents={**dataset.contents, "train": ["x", "x", *map(str, split.id[2:])]})
    assert len(set(folds_of(same, DataConfig())[:2].tolist())) == 1


@pytest.mark.parametrize("own", ["", "person"])
def test_the_group_column_of_the_config_counts(probed, tmp_path, monkeypatch, own):
    """A table's groups are named in the config; the data set itself has none."""
    config, *_ = probed
    folder = Path(shutil.copytree(config.data.path, tmp_path / "data"))
    faces = sorted(folder.glob("train/*/*.png"))
    rows = [[f.relative_to(folder), f.parent.name, f"p{i % 12}"] for i, f in enumerate(faces)]
    table = folder / "table.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([["image", "label", "person"], *rows])
    found = []
    real = probe.folds.folds
    monkeypatch.setattr(probe.folds, "folds", lambda *a, **k: found.append(k["groups"]) or real(*a, **k))
    knobs = dataclasses.replace(config.data, path=str(table), group_column=own)
    train.run(probe.config_of(dataclasses.replace(config, data=knobs)), tmp_path / "run")
    assert bool(found[-1]) == bool(own) and (not own or len(set(found[-1])) < 12)  # some are in val and test


def test_a_run_that_only_judges_has_no_soup(probed):
    config, *_ = probed
    config = dataclasses.replace(probe.config_of(config), average=AverageConfig(soup=1))
    with pytest.raises(ConfigError, match=r"average\.soup: expected 0"):
        validate(config)


@pytest.mark.filterwarnings("ignore:the load_module")  # how ml_collections reads a recipe
def test_what_cannot_be_probed_is_refused(probed, tmp_path, capsys):
    config, *_ = probed
    with pytest.raises(ConfigError, match=r"needs pretrained weights"):
        probe.config_of(dataclasses.replace(config, model=ModelConfig()))
    with pytest.raises(
        ConfigError, match=r"model\.weights: expected a file of pretrained weights, on which the last layer"
    ):
        validate(starting(dataclasses.replace(config, model=ModelConfig())))
    assert cli.main(["probe", "--config=configs/emoji.py", f"--workdir={tmp_path / 'run'}"]) == 2
    assert "config.model.weights" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="does not end with one dense layer"):
        wiring.check_model(
            probe.config_of(dataclasses.replace(config, model=dataclasses.replace(config.model, head="cosine")))
        )
    squeezenet = ModelConfig(name="squeezenet1_1", weights=config.model.weights)
    with pytest.raises(ConfigError, match="squeezenet1_1 with this head does not end with one dense layer"):
        wiring.check_model(probe.config_of(dataclasses.replace(config, image_size=64, model=squeezenet)))
    with pytest.raises(ConfigError, match="one process solves"):
        validate(probe.config_of(dataclasses.replace(config, parallel=ParallelConfig(distributed=1))))
    arguments = ["find-lr", "--config=configs/finetune_pretrained.py", f"--out={tmp_path / 'x.png'}"]
    assert cli.main(arguments) == 2 and "model.head_start=random" in capsys.readouterr().err
    for head in ("cosine", ""):
        knobs = {"head": "cosine"} if head else {"importance": 1}
        model = models.build(dataclasses.replace(config.model, weights="", **knobs), 3)
        params, stats = model.init(jax.random.key(0), 32)
        with pytest.raises(ConfigError, match="does not end with one dense layer"):
            model.last_inputs(params, stats, jnp.zeros((1, 32, 32, 3)))
