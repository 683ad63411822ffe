"""Whole runs: what they leave behind, resuming, stages, bad input, and the promises of the step."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from PIL import Image

import emojax
from emojax import (
    checkpoint,
    cli,
    config as config_lib,
    config_json,
    data,
    finish,
    jsonl,
    metrics,
    models,
    paths,
    train,
    transitions,
    wiring,
    workdir,
)
from emojax.config import CheckpointConfig, EvalConfig, OptimConfig, StageConfig
from emojax.data import checks
from emojax.errors import CheckpointError, ConfigError, DataError, TrainingError, WorkdirError
from emojax.types import Batch


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.make_folder(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, folder):
    run = tmp_path_factory.mktemp("runs") / "finished"
    train.run(tiny.config(folder), run)
    return run


def rows(run):
    return [r for r in jsonl.read(run / "metrics.jsonl") if r["kind"] in ("train", "eval")]


def final_state(run):
    keeper = checkpoint.Checkpointer(run, CheckpointConfig())
    step = keeper.latest()
    meta = keeper.meta(step)
    keeper.close()
    return step, meta


def test_a_run_leaves_everything_behind(finished):
    for name in (
        "config.json",
        "finished.json",
        "metrics.jsonl",
        "log.txt",
        "parameters.txt",
        "report/val.json",
        "report/test.json",
        "report/val.md",
        "report/test-confusion.png",
        "report/history.png",
    ):
        assert (finished / name).stat().st_size > 0, name
    assert list((finished / "tensorboard").glob("*tfevents*"))
    events = b"".join(path.read_bytes() for path in (finished / "tensorboard").glob("*tfevents*"))
    for name in ("confusion", "per-class", "reliability", "risk-coverage"):
        assert all(events.count(f"report/{split}/{name}".encode()) == 1 for split in ("val", "test")), name
    assert events.count(b"report/history") == 1, "every figure of the report is in TensorBoard too"
    numbers = json.loads((finished / "report/test.json").read_text())
    assert numbers["accuracy"] >= 0.9 and numbers["class_names"] == ["blue", "green", "red"]
    train_rows = [r for r in rows(finished) if r["kind"] == "train"]
    assert [r["step"] for r in train_rows] == list(range(1, 19))
    assert all(np.isfinite(r["loss"]) for r in train_rows)


def test_running_again_says_so_and_changes_nothing(finished, folder, capsys):
    before = {p: p.stat().st_mtime_ns for p in finished.rglob("*") if p.is_file() and p.name != ".lock"}
    train.run(tiny.config(folder), finished)
    assert "This run is finished" in capsys.readouterr().err
    after = {p: p.stat().st_mtime_ns for p in finished.rglob("*") if p.is_file() and p.name != ".lock"}
    assert {p.name for p in before if before[p] != after[p]} <= {"config.json", "log.txt"}


@pytest.mark.parametrize("crash_at", [9, pytest.param(5, marks=pytest.mark.slow)])
def test_resuming_is_exact(tmp_path, folder, finished, monkeypatch, crash_at):
    class CrashError(Exception):
        pass

    original = train._log

    def crash(pending, monitor):
        if pending and pending[0] == crash_at:
            raise CrashError
        original(pending, monitor)

    monkeypatch.setattr(train, "_log", crash)
    with pytest.raises(CrashError):
        train.run(tiny.config(folder), tmp_path / "run")
    monkeypatch.undo()
    train.run(tiny.config(folder), tmp_path / "run")
    (step, meta), (reference_step, reference) = final_state(tmp_path / "run"), final_state(finished)
    assert step == reference_step and meta.digests == reference.digests
    assert rows(tmp_path / "run") == rows(finished)


def test_evaluate_and_predict_verbs(finished, folder, capsys, tmp_path):
    assert cli.main(["evaluate", f"--workdir={finished}", f"--report={tmp_path / 'report'}"]) == 0
    shown = capsys.readouterr().out
    reported = json.loads((finished / "report/test.json").read_text())
    again = json.loads((tmp_path / "report/test.json").read_text())
    assert again["accuracy"] == reported["accuracy"] and again["loss"] == pytest.approx(reported["loss"], abs=1e-6)
    assert "balanced" in shown and "red" in shown
    (folder / "broken.png").write_bytes(b"not an image")
    picture = folder / "test/red/00.png"
    assert cli.main(["predict", f"--workdir={finished}", "--json", str(picture), str(folder / "broken.png")]) == 2
    good, bad = map(json.loads, capsys.readouterr().out.splitlines())
    assert good["class"] == "red" and sum(good["probs"].values()) == pytest.approx(1, abs=1e-4)
    assert bad == {"image": str(folder / "broken.png"), "error": "not a JPEG, PNG, WebP, BMP, GIF or TIFF image"}
    (folder / "broken.png").unlink()
    assert cli.main(["predict", f"--workdir={finished}", "--csv", str(folder / "test")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "image,class,error,p:blue,p:green,p:red" and len(lines) == 13
    assert cli.main(["predict", f"--workdir={finished}", str(picture)]) == 0
    assert re.search(r"00.png +red +0\.\d{3}", capsys.readouterr().out)
    command = ["evaluate", f"--workdir={finished}", "--post-process=seed000", f"--report={tmp_path / 'post'}"]
    assert cli.main(command) == 2, "the seed's constants are for emotions"
    assert "classes" in capsys.readouterr().err
    assert cli.main([*command[:2], "--post-process=fit", "--per-view", f"--report={tmp_path / 'post'}"]) == 0
    page = (tmp_path / "post/test.md").read_text()
    assert "after post-processing: accuracy" in page and "view mirror" in page and "the run's result, update" in page
    fitted = tmp_path / "post/post-process.json"
    capsys.readouterr()
    shown = []
    for more in ([], [f"--post-process={fitted}"]):
        assert cli.main(["predict", f"--workdir={finished}", "--json", str(picture), *more]) == 0
        shown.append(json.loads(capsys.readouterr().out)["probs"]["red"])
    assert abs(shown[0] - shown[1]) > 1e-3, "the fitted temperature was not used"


def test_load_gives_the_same_answers_as_the_report(finished, folder):
    classifier = emojax.load(finished)
    assert classifier.class_names == ("blue", "green", "red")
    files = sorted((folder / "test").rglob("*.png"))
    by_path = classifier.predict(files)
    by_array = classifier.predict([np.asarray(Image.open(p)) for p in files])
    np.testing.assert_array_equal(by_path.probs, by_array.probs)
    accuracy = np.mean(
        [classifier.class_names[k] == p.parent.name for k, p in zip(by_path.probs.argmax(1), files, strict=True)]
    )
    assert accuracy == json.loads((finished / "report/test.json").read_text())["accuracy"]


def test_a_picture_that_cannot_be_read_has_no_class(finished, folder):
    file = sorted((folder / "test").rglob("*.png"))[0]
    found = emojax.load(finished).predict([str(folder / "nowhere.png"), file, b"no picture"])
    assert found.weight.tolist() == [0, 1, 0]
    assert np.isnan(found.probs).all(axis=1).tolist() == [True, False, True]


def test_any_number_of_pictures_runs_in_few_programs(finished, folder):
    classifier = emojax.load(finished)
    files = sorted((folder / "test").rglob("*.png"))
    whole = classifier.predict(files).probs  # 12 pictures in a batch of 16
    for count in (1, 2, 3, 4, 5, 7):
        np.testing.assert_allclose(classifier.predict(files[:count]).probs, whole[:count], atol=1e-5)
    many = classifier.predict([*files, *files, *files])  # 32, then the other four in a batch of 4
    np.testing.assert_allclose(many.probs, np.concatenate([whole] * 3), atol=1e-5)
    assert many.id.tolist() == [str(path) for path in [*files, *files, *files]]
    assert classifier._infer._cache_size() == 5  # 2, 4, 8, 16 and 32: there are two devices
    assert len(classifier.predict([]).probs) == 0


def test_other_classes_are_refused(finished, tmp_path):
    other = tiny.make_folder(tmp_path / "data")
    for split in ("train", "val", "test"):
        (other / split / "red").rename(other / split / "pink")
        (other / split / "green").rename(other / split / "lime")
    assert cli.main(["evaluate", f"--workdir={finished}", f"--data={other}"]) == 2


def test_another_config_in_the_same_folder(finished, folder):
    with pytest.raises(WorkdirError, match=r"optim\.learning_rate: 0\.01 -> 0\.02"):
        train.run(
            tiny.config(folder, optim=OptimConfig(learning_rate=0.02, clip_norm=1.0, accumulate=2, layer_decay=0.9)),
            finished,
        )


def test_changed_data_are_refused_on_resume(tmp_path, monkeypatch):
    source = tiny.make_folder(tmp_path / "data")
    monkeypatch.setattr(finish, "write_result", lambda *_: None)
    config = tiny.config(source, stages=(StageConfig(epochs=1),))
    train.run(config, tmp_path / "run")
    (source / "train/red/00.png").unlink()
    with pytest.raises(CheckpointError, match=r"train: 1 missing or unreadable \(train/red/00\.png\)"):
        train.run(config, tmp_path / "run")


def test_early_stopping(tmp_path, folder):
    config = tiny.config(
        folder,
        optim=OptimConfig(learning_rate=1e-9),
        stages=(StageConfig(epochs=50),),
        eval=EvalConfig(every_epochs=1, patience=2),
        checkpoint=CheckpointConfig(),
    )
    train.run(config, tmp_path / "run")
    judged = [r for r in rows(tmp_path / "run") if r["kind"] == "eval" and r["split"] == "val"]
    assert 3 <= len(judged) < 10
    assert json.loads((tmp_path / "run/finished.json").read_text())["stopped_early"] is True
    train.run(config, tmp_path / "run")  # a run that stopped early is finished too


def test_regression_02_the_loop_makes_a_teacher_and_renews_it_at_restarts(tmp_path, folder, monkeypatch):
    """Seed 000 configured a teacher that its loop never loaded."""
    stages = (StageConfig(epochs=2), StageConfig(epochs=4, distill=1))
    schedule = config_lib.ScheduleConfig(name="cycles", cycles=3)
    config = tiny.config(folder, stages=stages, schedule=schedule, checkpoint=CheckpointConfig())
    plain = tiny.config(folder, stages=(stages[0], StageConfig(epochs=4)), schedule=schedule)
    taught, original = {}, transitions.taught

    def watch(parts, state, checkpointer):
        state = original(parts, state, checkpointer)
        taught[int(state.step)] = np.concatenate([np.ravel(x) for x in jax.tree.leaves(state.teacher["params"])])
        return state

    monkeypatch.setattr(transitions, "taught", watch)
    train.run(config, tmp_path / "run")
    assert list(taught) == [6, 12] and np.abs(taught[6] - taught[12]).max() > 1e-4
    train.run(plain, tmp_path / "plain")
    loss, without = (
        {r["step"]: r["loss"] for r in rows(tmp_path / name) if r["kind"] == "train"} for name in ("run", "plain")
    )
    assert all(loss[step] == without[step] for step in range(1, 7))
    assert abs(loss[7] - without[7]) > 1e-3


def test_a_network_that_starts_anew_learns_from_the_one_before(tmp_path, folder, monkeypatch):
    """Born-again networks (Furlanello et al. 2018, arXiv:1805.04770) in one run: the first network teaches, as it was
    judged best, and nothing of it stays in the second."""
    stages = (StageConfig(epochs=2), StageConfig(epochs=2, restart=".", fresh=1, distill=1))
    config = tiny.config(folder, stages=stages, distill=config_lib.DistillConfig(teacher="best"))
    seen, original = {}, transitions.taught

    def watch(parts, state, checkpointer):
        state = original(parts, state, checkpointer)
        seen[int(state.step)] = jax.device_get((state.teacher, {"params": state.params, "average": state.average}))
        return state

    monkeypatch.setattr(transitions, "taught", watch)
    train.run(config, tmp_path / "run")
    teacher, state = seen.pop(6)
    assert not seen, "one teacher for the whole stage"
    before, new = (paths.flatten(tree["params"]) for tree in (teacher, state))
    kernels = [path for path in new if path.endswith("kernel")]
    assert kernels and all(np.abs(before[path] - new[path]).max() > 1e-3 for path in kernels)
    average = paths.flatten(state["average"]["ema"]["params"])
    assert all(np.array_equal(average[path], new[path]) for path in new), "the average starts anew too"


def test_regression_09_frozen_weights_stay_for_three_epochs_and_move_in_the_fourth(tmp_path, folder):
    config = tiny.config(
        folder,
        stages=(StageConfig(epochs=3, frozen="^(stem|stage)"), StageConfig(epochs=1)),
        checkpoint=CheckpointConfig(every_epochs=0.33, keep_last=50),
    )
    train.run(config, tmp_path / "run")
    seen = {}
    for step in (1, 9, 12):
        found = checkpoint.load_weights(tmp_path / "run", which=str(step))[1]
        seen[step] = {path: value for path, value in found.digests.items() if path.startswith("params/")}
    body = {path for path in seen[1] if re.match("params/(stem|stage)", path)}
    moved = {path for path in seen[1] if seen[1][path] != seen[9][path]}
    assert body and moved and not moved & body
    assert all(seen[9][path] != seen[12][path] for path in body)


def test_regression_04_every_image_counts_once_under_test_time_views(finished, folder):
    """Seed 004 divided by images that it had not seen; here the last batch is a partial one."""
    test = data.open_dataset(tiny.config(folder).data).splits["test"]
    assert len(test) % 8
    classifier = emojax.load(finished, views="six")
    for each in (classifier, *classifier.per_view().values()):
        found = each.predict_split(test, batch_size=8)
        right = int((found.probs.argmax(1) == test.label.argmax(1)).sum())
        judged = metrics.evaluate(found, classifier.class_names)
        assert judged.n == len(test) == 12 and judged.accuracy == pytest.approx(right / 12)


def test_a_stage_ends_early_and_the_next_goes_on(tmp_path, folder, monkeypatch):
    """Also when the run is stopped just there."""
    config = tiny.config(
        folder,
        stages=(StageConfig(epochs=1), StageConfig(epochs=50, patience=2, distill=1), StageConfig(epochs=1, distill=1)),
        schedule=config_lib.ScheduleConfig(name="cycles", cycles=3),
        eval=EvalConfig(every_epochs=1, min_delta=1.0),
        checkpoint=CheckpointConfig(),
    )
    taught, original = [], transitions.taught

    def watch(parts, state, keeper):
        taught.append(int(state.step))
        return original(parts, state, keeper)

    monkeypatch.setattr(transitions, "taught", watch)
    train.run(config, tmp_path / "run")
    judged = [r["step"] for r in rows(tmp_path / "run") if r["kind"] == "eval"]
    assert judged == [3, 6, 9, 12, 156], "the stage's first evaluation sets its mark, two more bring no gain"
    assert taught == [3, 12], "a restart would still have come in the stage: its teacher is made at the end"
    ends = [row["epochs"] for row in json.loads((tmp_path / "run/report/val.json").read_text())["stages"]]
    assert ends == [[1, 1], [2, 4], [52, 52]]
    assert json.loads((tmp_path / "run/finished.json").read_text())["stopped_early"] is False

    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(train.transitions, "ended", stop)
    with pytest.raises(KeyboardInterrupt):
        train.run(config, tmp_path / "again")
    monkeypatch.undo()
    train.run(config, tmp_path / "again")
    assert rows(tmp_path / "again") == rows(tmp_path / "run")
    assert final_state(tmp_path / "again")[1].digests == final_state(tmp_path / "run")[1].digests


def test_a_diverging_run_says_what_to_do(tmp_path, folder):
    config = tiny.config(folder, optim=OptimConfig(name="sgd", learning_rate=1e3, weight_decay=1e3, momentum=0.99))
    config.model.dropout = 0.0
    with pytest.raises(TrainingError, match=r"Lower config.optim.learning_rate"):
        train.run(dataclasses.replace(config, stages=(StageConfig(epochs=40),)), tmp_path / "run")


def test_unreadable_images_are_left_out_and_listed(tmp_path):
    source = tiny.make_folder(tmp_path / "data", per_class=20)
    (source / "train/red/00.png").write_bytes(b"")
    whole = (source / "train/blue/01.png").read_bytes()
    (source / "train/blue/01.png").write_bytes(whole[: len(whole) // 2])
    train.run(tiny.config(source, stages=(StageConfig(epochs=0.5),)), tmp_path / "run")
    found = json.loads((tmp_path / "run/report/val.json").read_text())
    assert sorted(s["id"] for s in found["skipped"]) == ["train/blue/01.png", "train/red/00.png"]
    for name in ("02", "03", "04"):
        (source / f"train/red/{name}.png").write_text("text")
    with pytest.raises(DataError, match="images cannot be read"):
        train.run(tiny.config(source), tmp_path / "again")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"batch_size": 64}, DataError, "batch of 128 images is larger than the training split"),
        ({"batch_size": 7}, ConfigError, "config.batch_size: 7 images cannot be shared evenly by 2 devices"),
        ({"stages": (StageConfig(epochs=1, frozen="nothing"),)}, ConfigError, "'nothing' matches no parameter"),
        ({"eval": EvalConfig(metric="acuracy")}, ConfigError, "accuracy"),
        ({"model": dataclasses.replace(tiny.config("x").model, name="resnet19")}, ConfigError, "resnet18"),
    ],
)
def test_bad_knobs_are_found_before_training(tmp_path, folder, change, error, message):
    with pytest.raises(error, match=message):
        train.run(tiny.config(folder, **change), tmp_path / "run")
    assert not (tmp_path / "run/metrics.jsonl").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stages": (StageConfig(epochs=1), StageConfig(epochs=0.01))}, r"stages\[1\].epochs: .* no whole update"),
        ({"average": tiny.AverageConfig(name="swa", swa_start=5.9)}, "SWA would never take a snapshot"),
        ({"stages": (StageConfig(epochs=1), StageConfig(epochs=1, distill=1))}, "no running average that could teach"),
        (
            {"stages": (StageConfig(), StageConfig(frozen="nothing"))},
            r"stages\[1\].frozen: 'nothing' matches no parameter",
        ),
        ({"stages": (StageConfig(epochs=1, frozen="."),)}, "'.' matches every parameter"),
        ({"fit": "stretch"}, "config.fit: expected one of 'crop', 'squash', found 'stretch'"),
        ({"data": config_lib.DataConfig(classes=("red",))}, "expected two or more classes"),
        ({"loss": config_lib.LossConfig(name="hinge")}, "expected one of 'ce', 'focal', 'ce_focal'"),
    ],
)
def test_bad_plans_are_found_before_an_image_is_read(tmp_path, folder, monkeypatch, change, message):
    def read(*_):
        raise AssertionError("an image was read")

    monkeypatch.setattr(checks, "scan", read)
    values = {"average": tiny.AverageConfig(), **change}
    if "data" in values:
        values["data"].path = str(folder)
    with pytest.raises(ConfigError, match=message):
        train.run(tiny.config(folder, **values), tmp_path / "run")


@pytest.mark.parametrize("case", ["empty", "one class", "missing"])
def test_bad_folders(tmp_path, case):
    source = tmp_path / "data"
    if case == "empty":
        source.mkdir()
    elif case == "one class":
        tiny.make_folder(source, splits=("train",))
        for name in ("blue", "green"):
            for path in (source / "train" / name).iterdir():
                path.unlink()
            (source / "train" / name).rmdir()
    with pytest.raises(DataError, match=re.escape(str(source))):
        train.run(tiny.config(source), tmp_path / "run")


# The promises of one step.


def one_step(parts, batch, stage=0):
    state = wiring.initial_state(parts)
    from emojax import metrics, parallel

    totals = parallel.replicate(parts.mesh, metrics.TrainMetrics.empty())
    placed = parallel.shard(parts.mesh, batch, accumulate=parts.config.optim.accumulate)
    return wiring.train_step(parts, parts.stages[stage])[0](state, totals, placed, parts.key)


@pytest.fixture
def parts(folder, mesh):
    config = tiny.config(folder, optim=OptimConfig(learning_rate=1e-2), stages=(StageConfig(epochs=2, frozen="^stem"),))
    return wiring.build(config, data.open_dataset(config.data), mesh)


def test_rows_of_weight_zero_change_nothing(parts):
    no_statistics = dataclasses.replace(
        parts.config.model, name="convnext_atto", depths=(1,), widths=(8,), stem="small"
    )
    config = dataclasses.replace(parts.config, model=no_statistics, stages=(StageConfig(epochs=2),))
    config.model.dropout = config.model.drop_path = 0.0
    parts = wiring.build(config, parts.dataset, parts.mesh)
    rng = np.random.default_rng(0)
    label = np.eye(3, dtype=np.float32)[rng.integers(0, 3, 8)]
    weight = np.array([1, 1, 0, 1, 0, 1, 1, 2], np.float32)
    images = rng.integers(0, 256, (2, 8, 16, 16, 3), dtype=np.uint8)
    images[1][weight > 0] = images[0][weight > 0]
    states = [one_step(parts, Batch(image, label, weight, np.arange(8, dtype=np.int32)))[0] for image in images]
    for a, b in zip(*(jax.tree.leaves(s.params) for s in states), strict=True):
        np.testing.assert_array_equal(a, b)


def test_frozen_parameters_and_statistics_do_not_move(parts):
    with wiring.train_batches(parts, parts.stages[0], start=0) as batches:
        batch = next(batches)
    before = paths.flatten(dataclasses.asdict(wiring.initial_state(parts)))
    after = paths.flatten(dataclasses.asdict(one_step(parts, batch)[0]))
    moved = {path for path in before if not np.array_equal(before[path], after[path])}
    assert not [path for path in moved if "/stem/" in path and not path.startswith(("opt_state", "average"))]
    for path in ("params/head/dense/kernel", "params/stage2/block1/conv2/norm/scale"):
        assert path in moved
    assert any(path.startswith("model_state/stage1") for path in moved)


def test_accumulation_equals_the_large_batch(folder, mesh):
    results = []
    for batch_size, accumulate in ((16, 1), (8, 2)):
        config = tiny.config(
            folder, batch_size=batch_size, optim=OptimConfig(learning_rate=1e-2, accumulate=accumulate)
        )
        config.model = dataclasses.replace(config.model, name="convnext_atto", depths=(1,), widths=(8,), stem="small")
        config.model.dropout = config.model.drop_path = 0.0
        config.stages = (StageConfig(epochs=2),)
        config.augment = config_lib.AugmentConfig()  # MixUp would draw for every micro-batch
        built = wiring.build(config, data.open_dataset(config.data), mesh)
        with wiring.train_batches(built, built.stages[0], start=0) as batches:
            results.append(one_step(built, next(batches))[0])
    for a, b in zip(*(jax.tree.leaves(r.params) for r in results), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)
    assert int(results[1].step) == 1


def test_ten_steps_follow_the_golden_trace(finished):
    """A change that should not alter numbers must not alter these; see CONTRIBUTING."""
    trace = [round(r["loss"], 3) for r in rows(finished) if r["kind"] == "train"][:10]
    golden = json.loads((Path(__file__).parent / "golden/loss_trace.json").read_text())
    np.testing.assert_allclose(trace, golden, atol=2e-2, err_msg=f"the first ten losses are now {trace}")


@pytest.mark.slow
def test_one_device_and_two_agree(tmp_path, folder, finished):
    code = (
        "import jax, sys; jax.config.update('jax_num_cpu_devices', 1)\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\nimport tiny; from emojax import train\n"
        f"train.run(tiny.config({str(folder)!r}), {str(tmp_path / 'run')!r})"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    for one, two in zip(rows(tmp_path / "run"), rows(finished), strict=True):
        assert (one["kind"], one["step"]) == (two["kind"], two["step"])
        assert one["loss"] == pytest.approx(two["loss"], rel=2e-3)


def test_config_of_a_run_is_readable(finished, folder):
    assert workdir.read_config(finished) == tiny.config(folder)
    assert config_json.differences(workdir.read_config(finished), tiny.config(folder, seed=1)) == ["seed: 0 -> 1"]


def test_the_average_starts_as_the_weights(parts):
    state = wiring.initial_state(parts)
    for a, b in zip(jax.tree.leaves(state.average["ema"]["params"]), jax.tree.leaves(state.params), strict=True):
        np.testing.assert_array_equal(a, b)
    assert jnp.asarray(state.step).dtype == jnp.int32


def test_a_stage_after_an_evaluation_only_one_learns_at_its_own_rate(tmp_path, folder):
    """What is logged is what is applied: plain SGD moves each weight by exactly rate x gradient, so by its norm too."""
    config = tiny.config(
        folder,
        augment=config_lib.AugmentConfig(),
        optim=OptimConfig(name="sgd", momentum=0.0, weight_decay=0.0, learning_rate=1e-2),
        schedule=config_lib.ScheduleConfig(name="constant"),
        average=tiny.AverageConfig(),
        stages=(StageConfig(epochs=1), StageConfig(epochs=1, train=0), StageConfig(epochs=1)),
        checkpoint=CheckpointConfig(every_epochs=0.167, keep_last=50),
    )
    config.model = dataclasses.replace(config.model, dropout=0.0, drop_path=0.0)
    train.run(config, tmp_path / "run")
    logged = {r["step"]: r for r in rows(tmp_path / "run") if r["kind"] == "train"}
    assert sorted(logged) == [1, 2, 3, 4, 5, 6, 13, 14, 15, 16, 17, 18]

    def weights(step):
        found = checkpoint.load_weights(tmp_path / "run", which=str(step))[2]
        model = models.build(config.model, 3)
        like = jax.eval_shape(
            lambda: dict(zip(("params", "model_state"), model.init(jax.random.key(0), 16), strict=True))
        )
        return jax.tree.leaves(found(like)["params"])

    for before, after in ((5, 6), (12, 13), (13, 14)):
        moved = np.sqrt(sum(float(jnp.sum((a - b) ** 2)) for a, b in zip(weights(before), weights(after), strict=True)))
        assert moved == pytest.approx(1e-2 * logged[after]["grad_norm"], rel=1e-3), after


def test_statistics_of_an_average_are_of_the_size_it_is_judged_at(folder, mesh):
    config = tiny.config(
        folder,
        average=tiny.AverageConfig(name="swa", swa_start=1, refresh_batches=2),
        stages=(StageConfig(epochs=1, image_size=16), StageConfig(epochs=1, image_size=32)),
    )
    parts = wiring.build(config, data.open_dataset(config.data), mesh)
    state = wiring.initial_state(parts)
    seen = {}
    for size in (16, 32):
        found = transitions.refreshed(parts, state.params, state.model_state, image_size=size)
        seen[size] = np.concatenate([np.ravel(x) for x in jax.tree.leaves(found)])
    again = transitions.refreshed(parts, state.params, state.model_state, image_size=16)
    np.testing.assert_array_equal(np.concatenate([np.ravel(x) for x in jax.tree.leaves(again)]), seen[16])
    assert np.abs(seen[16] - seen[32]).max() > 1e-3


def test_weights_judged_by_swa_are_the_ones_that_load_returns(tmp_path, folder):
    """With BatchNorm, before the first snapshot and after it."""
    config = tiny.config(
        folder,
        average=tiny.AverageConfig(name="swa", swa_start=3, refresh_batches=2),
        stages=(StageConfig(epochs=2, judge="swa"), StageConfig(epochs=4, judge="swa")),
        checkpoint=CheckpointConfig(keep_last=50),
    )
    train.run(config, tmp_path / "run")
    judged = {r["step"]: r for r in rows(tmp_path / "run") if r["kind"] == "eval"}
    val = data.open_dataset(config.data).splits["val"]
    for step, row in judged.items():
        found = emojax.load(tmp_path / "run", which=str(step)).predict_split(val, batch_size=8)
        report = metrics.evaluate(found, ("blue", "green", "red"))
        assert report.loss == pytest.approx(row["loss"], rel=1e-4), step
    assert json.loads((tmp_path / "run/report/val.json").read_text())["candidates"][1]["name"] == "SWA of 3 snapshots"
