"""Bundles: the same bits as the work directory, and nothing from a stranger that is not what it says."""

import dataclasses
import hashlib
import json
import stat
import subprocess
import sys
import zipfile

import jax
import numpy as np
import pytest
from stored_models import NAMES, SMALL, make, pictures
from tiny import make_folder

import emojax
from emojax import bundle, checkpoint_meta, cli, conformal, data, decision, export, predict, stored
from emojax.cli import evaluate
from emojax.config import DataConfig, ModelConfig
from emojax.data import pipeline, sources
from emojax.errors import CheckpointError, ConfigError, DamagedError
from emojax.export import bundle_file
from emojax.scaling import Scaling


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A work directory with a calibration."""
    folder = make(tmp_path_factory.mktemp("bundle") / "run")
    found = emojax.load(folder)
    chosen = decision.Decision(
        scaling=Scaling((0.5,) * 3, (0.0, 0.1, -0.1)),
        method="vector",
        tau=0.0,
        threshold=0.4,
        risk=0.1,
        sets=conformal.Sets("lac", 0.9, 0.8),
    )
    from emojax import stored

    digest = decision.weights_digest(stored.read(folder).meta.digests)
    decision.write(folder, chosen, class_names=NAMES, weights=digest, views=found.views, fitted_on="nothing")
    return folder


@pytest.fixture(scope="module")
def made(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("made")
    export.run(run, out / "model", ["bundle"], val=None, images=7)
    export.run(run, out / "model.zip", ["bundle"], val=None, images=7)
    return out


def test_a_strangers_batch_size_does_not_set_how_much_memory_is_taken(made, tmp_path, monkeypatch):
    """A recipe may ask for batches of a million; what is made at once stays bounded, and no picture is lost."""
    classifier = emojax.load(made / "model")
    config = dataclasses.replace(classifier.config, batch_size=1 << 20)
    greedy = dataclasses.replace(classifier, config=config)
    split = data.open_dataset(DataConfig(path=str(make_folder(tmp_path / "data")))).splits["test"]
    monkeypatch.setattr(predict, "MAX_PIXELS", 5 * classifier.image_size**2)
    made_at_once = []
    batches = pipeline.eval_batches

    def noted(*args, **kwargs):
        made_at_once.append(kwargs["batch_size"])
        return batches(*args, **kwargs)

    monkeypatch.setattr(pipeline, "eval_batches", noted)
    found = greedy.predict_split(split)
    assert made_at_once == [5 + -5 % jax.device_count()]
    np.testing.assert_allclose(found.probs, classifier.predict_split(split, batch_size=4).probs, atol=1e-6)


@pytest.mark.parametrize("name", ["model", "model.zip"])
def test_a_bundle_gives_the_bits_of_its_work_directory(run, made, name):
    ours, theirs = emojax.load(run), emojax.load(made / name)
    assert theirs.class_names == NAMES and theirs.step == 7 and theirs.decision == ours.decision is not None
    np.testing.assert_array_equal(ours.predict(pictures()).probs, theirs.predict(pictures()).probs)
    assert np.ptp(ours.predict(pictures()).probs) > 0.01
    raw = emojax.load(made / name, decision="none").predict(pictures()).probs
    assert np.abs(raw - ours.predict(pictures()).probs).max() > 1e-3


def test_a_bundle_of_a_bundle_is_the_same_but_for_nothing(made, tmp_path):
    export.run(made / "model.zip", tmp_path / "again", ["bundle"], val=None, images=7)
    for name in (bundle.WEIGHTS, bundle.CARD, bundle.MANIFEST):
        assert (tmp_path / "again" / name).read_bytes() == (made / "model" / name).read_bytes()


def test_the_card_has_the_measured_numbers(made):
    text = (made / "model" / bundle.CARD).read_text()
    assert "0.7500 [0.5000, 1.0000]" in text and "blue, green, red" in text and "vector scaling" in text


def test_the_card_tells_of_copies_of_training_pictures(tmp_path):
    run = make(tmp_path / "run")
    path = run / "report/val.json"
    report = json.loads(path.read_text())
    for check, said in (
        (None, "val: not leak-checked."),
        ({"text": "2 leaked: accuracy 0.7500 with, 0.7000 without them, 10 left"}, "0.7000 without them, 10 left."),
    ):
        path.write_text(json.dumps(report | {"leak_check": check}))
        assert said in bundle_file.card(stored.read(run), predict.load(run), {})


def test_the_card_is_of_what_is_exported_and_names_where_it_started(made, tmp_path):
    text = (made / "model" / bundle.CARD).read_text()
    assert "| started from | random weights |" in text
    assert "| weights.safetensors | the same bits on 7 pictures, 7 of them different, by emojax.load |" in text
    stale = copy(made, tmp_path / "stale", files={bundle.CARD: b"# another model, 100 % right"})
    export.run(stale, tmp_path / "raw", ["bundle", "stablehlo"], val=None, images=5, views="center", decision="none")
    text = (tmp_path / "raw" / bundle.CARD).read_text()
    assert "100 %" not in text and "0.7500 [0.5000, 1.0000]" in text
    assert "| test-time views | center |" in text and "none: probabilities as trained" in text
    assert "| model.stablehlo | probs within " in text and "on 5 pictures" in text
    start = ModelConfig(
        **dataclasses.asdict(SMALL) | {"weights": "somewhere/net.safetensors", "weights_sha256": "a" * 64}
    )
    run = make(tmp_path / "tuned", model=start)
    export.run(run, tmp_path / "tuned.out", ["bundle"], val=None, images=5)
    text = (tmp_path / "tuned.out" / bundle.CARD).read_text()
    assert f"| started from | net.safetensors, SHA-256 {'a' * 64} |" in text


@pytest.mark.parametrize(
    "numbers", [3, {"val": 3}, {"val": {"accuracy": "much", "n": 1, "views": "", "intervals": {}}}]
)
def test_numbers_that_are_none_are_damage(made, tmp_path, numbers):
    bad = copy(made, tmp_path / "bad", lambda values: values.update(numbers=numbers))
    with pytest.raises(DamagedError, match="numbers"):
        export.run(bad, tmp_path / "out", ["bundle"], val=None, images=2)
    assert not (tmp_path / "out").exists()


def test_it_is_no_place_for_checkpoints_or_new_calibrations(made):
    with pytest.raises(CheckpointError, match="holds one model"):
        emojax.load(made / "model", which="last")
    with pytest.raises(ConfigError, match="stays as it is"):
        from emojax.cli import calibrate

        calibrate.main([f"--workdir={made / 'model'}"])


def test_predict_takes_a_bundle(made, tmp_path, capsys):
    from PIL import Image

    Image.fromarray(pictures()[0]).save(tmp_path / "a.png")
    assert cli.main(["predict", f"--workdir={made / 'model.zip'}", "--json", str(tmp_path / "a.png")]) == 0
    assert json.loads(capsys.readouterr().out)["probs"].keys() == set(NAMES)


def test_what_is_missing_in_a_bundle_is_fitted_to_its_run(run, tmp_path, capsys):
    export.run(run, tmp_path / "raw", ["bundle"], val=None, images=2, decision="none")
    assert cli.main(["predict", f"--workdir={tmp_path / 'raw'}", "a.png", "--abstain"]) == 2
    told = capsys.readouterr().err
    assert "`emojax calibrate --workdir=RUN --risk=SHARE` first and export the run again" in told


def copy(made, to, change=lambda values: None, files=None):
    """The bundle with another manifest, sealed anew, and other files: what a clever stranger would send."""
    to.mkdir()
    for path in (made / "model").iterdir():
        (to / path.name).write_bytes((files or {}).get(path.name, path.read_bytes()))
    values = json.loads((to / bundle.MANIFEST).read_text())
    values.pop("seal")
    for name in values["files"]:
        data = (to / name).read_bytes()
        values["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    change(values)
    (to / bundle.MANIFEST).write_text(json.dumps({**values, "seal": checkpoint_meta.seal(values)}))
    return to


def with_meta(**changes):
    def change(values):
        meta = values["meta"] | changes
        meta.pop("seal")
        values["meta"] = meta | {"seal": checkpoint_meta.seal(meta)}

    return change


def with_model(**knobs):
    def change(values):
        config = json.loads(values["meta"]["config"])
        config["model"] |= knobs
        with_meta(config=json.dumps(config))(values)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.update(version=2, emojax="9.9"), "version 2, written by emojax '9.9'"),
        (lambda v: v.update(format="other"), "not that of an emojax bundle"),
        (lambda v: v.update(files=[]), "no usable list of files"),
        (lambda v: v["files"].pop(bundle.WEIGHTS), "has no weights.safetensors"),
        (lambda v: v["files"][bundle.WEIGHTS].update(bytes=1 << 60), "says that"),
        (lambda v: v["files"][bundle.WEIGHTS].update(sha256="0" * 64), "has changed"),
        (lambda v: v.update(step="7"), "as step"),
        (lambda v: v.update(meta=3), "does not say what the weights are"),
        (lambda v: v["meta"].update(image_size=99), "damaged"),
        (with_meta(image_size=10**9), "image size"),
        (with_meta(class_names=[]), "names of classes"),
        (with_meta(class_names=["a", "b", "c", "d"]), "head/dense/kernel is"),
        (with_model(depths=[10**9, 1]), "describes another network"),
        (with_model(depths=[1, 1, 1], widths=[8, 16, 24]), "is missing"),
        (with_model(widths=[8, 24]), "expected"),
        (with_model(name="os.system"), "expected one of"),
        (with_model(name=5), "expected str, found 5"),
    ],
)
def test_manifests_that_are_not_what_they_say_are_refused(made, tmp_path, change, message):
    with pytest.raises((CheckpointError, ConfigError), match=message):
        emojax.load(copy(made, tmp_path / "bad", change))


def test_changed_bytes_are_refused(made, tmp_path):
    for name in (bundle.WEIGHTS, bundle.MANIFEST, bundle.CARD):
        data = bytearray((made / "model" / name).read_bytes())
        data[len(data) // 2] ^= 1
        bad = tmp_path / name
        bad.mkdir()
        for path in (made / "model").iterdir():
            (bad / path.name).write_bytes(data if path.name == name else path.read_bytes())
        with pytest.raises(CheckpointError):
            emojax.load(bad)


@pytest.mark.parametrize("data", [b"", b"\xff" * 64, (2**62).to_bytes(8, "little") + b"{}"])
def test_weights_that_are_no_safetensors_are_refused(made, tmp_path, data):
    with pytest.raises(DamagedError, match="safetensors"):
        emojax.load(copy(made, tmp_path / "bad", files={bundle.WEIGHTS: data}))


def test_links_in_a_folder_are_not_followed(made, tmp_path):
    bad = copy(made, tmp_path / "bad")
    (bad / bundle.WEIGHTS).unlink()
    (bad / bundle.WEIGHTS).symlink_to(made / "model" / bundle.WEIGHTS)
    with pytest.raises(DamagedError, match="link"):
        emojax.load(bad)


def archive(made, to, *, names=None, compress=zipfile.ZIP_STORED, mode=stat.S_IFREG):
    with zipfile.ZipFile(to, "w") as out:
        for path in sorted((made / "model").iterdir()):
            entry = zipfile.ZipInfo((names or {}).get(path.name, path.name))
            entry.external_attr, entry.compress_type = (mode | 0o644) << 16, compress
            out.writestr(entry, path.read_bytes())
    return to


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"names": {bundle.CARD: "../README.md"}}, "leads elsewhere"),
        ({"names": {bundle.CARD: "/etc/README.md"}}, "leads elsewhere"),
        ({"names": {bundle.CARD: "a/README.md"}}, "leads elsewhere"),
        ({"mode": stat.S_IFLNK}, "link"),
        ({"compress": zipfile.ZIP_DEFLATED}, "is compressed"),
        ({"names": {bundle.WEIGHTS: "other"}}, "missing"),
    ],
)
def test_zip_files_that_are_not_plain_are_refused(made, tmp_path, how, message):
    with pytest.raises(DamagedError, match=message):
        emojax.load(archive(made, tmp_path / "bad.zip", **how))


def test_zip_files_that_are_broken_or_something_else_are_refused(made, tmp_path):
    whole = (made / "model.zip").read_bytes()
    for i, damaged in enumerate((b"", b"PK\x03\x04", whole[: len(whole) // 2], b"\x89PNG" + whole[4:100])):
        bad = tmp_path / f"{i}.zip"
        bad.write_bytes(damaged)
        with pytest.raises(CheckpointError):
            emojax.load(bad)
    with pytest.warns(UserWarning, match="Duplicate"):
        doubled = archive(made, tmp_path / "two.zip", names={bundle.CARD: bundle.WEIGHTS})
    with pytest.raises(DamagedError, match="different names"):
        emojax.load(doubled)


def test_no_prefix_of_a_zip_file_is_taken_for_it(made, tmp_path):
    whole = (made / "model.zip").read_bytes()
    for i, cut in enumerate(np.random.default_rng(0).integers(1, len(whole) - 1, 20)):
        (tmp_path / f"{i}.zip").write_bytes(whole[:cut])
        with pytest.raises(CheckpointError):
            emojax.load(tmp_path / f"{i}.zip")


def with_config(part, **knobs):
    """Knobs of a part of the config, or of the config itself."""

    def change(values):
        config = json.loads(values["meta"]["config"])
        (config[part] if part else config).update(knobs)
        with_meta(config=json.dumps(config))(values)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_config("eval", crop=0.0), "config.eval.crop"),
        (with_config("eval", crop=1e9), "config.eval.crop"),
        (with_config("eval", interpolation="code"), "config.eval.interpolation"),
        (with_config("eval", views="everything"), "config.eval.views"),
        (with_config("eval", view_average="sum"), "config.eval.view_average"),
        (with_config("eval", batch_size=-1), "config.eval.batch_size"),
        (with_config("", batch_size=1 << 40), "config.batch_size"),
        (with_config("", fit="other"), "config.fit"),
        (with_config("data", workers=10**6), "config.data.workers"),
        (with_config("model", head_scale=-1.0), "config.model.head_scale"),
        (with_config("model", std=[0.0, 1.0, 1.0]), "config.model.std"),
    ],
)
def test_a_config_out_of_range_is_a_damaged_bundle(made, tmp_path, change, message):
    with pytest.raises(DamagedError, match=message) as caught:
        emojax.load(copy(made, tmp_path / "bad", change))
    assert "\n" not in str(caught.value) and str(tmp_path / "bad") in str(caught.value)


def test_a_tracker_that_is_not_installed_here_keeps_no_bundle_closed(made, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    emojax.load(copy(made, tmp_path / "good", with_config("monitor", wandb="project")))


@pytest.fixture
def stranger(made, tmp_path):
    """(a bundle, the data that it names)."""
    data = make_folder(tmp_path / "private", per_class=1)
    return copy(made, tmp_path / "bundle", with_config("data", path=str(data))), data


def test_data_that_a_bundle_names_are_opened_only_where_the_user_names_them(stranger, tmp_path, capsys, monkeypatch):
    bundle_, private = stranger
    opened = []
    monkeypatch.setattr(sources, "read", lambda config, read=sources.read: opened.append(config.path) or read(config))
    page = f"--report={tmp_path / 'report'}"
    for line in (
        ["evaluate", f"--workdir={bundle_}"],
        ["evaluate", f"--workdir={bundle_}", "--split=train"],
        ["robustness", f"--workdir={bundle_}", page],
        ["report", f"--workdir={bundle_}"],
        ["calibrate", f"--workdir={bundle_}"],
        ["export", f"--workdir={bundle_}", str(tmp_path / "no"), "--format=int8"],
    ):
        assert cli.main(line) in (2, 3), line
        assert "Traceback" not in capsys.readouterr().err
    assert cli.main(["export", f"--workdir={bundle_}", str(tmp_path / "out"), "--images=4"]) == 0
    assert "4 of noise" in capsys.readouterr().out and opened == []

    own = make_folder(tmp_path / "own", per_class=1)
    assert cli.main(["evaluate", f"--workdir={bundle_}", f"--data={own}"]) == 0
    assert "not leak-checked" in capsys.readouterr().err
    fit = ["evaluate", f"--workdir={bundle_}", f"--data={own}", "--post-process=fit"]
    assert cli.main(fit) == 2 and "its work directory" in capsys.readouterr().err
    assert cli.main(["robustness", f"--workdir={bundle_}", page, f"--data={own}", "--limit=1"]) == 0
    given = ["export", f"--workdir={bundle_}", str(tmp_path / "two"), "--images=4", f"--data={own}"]
    assert cli.main(given) == 0 and "3 of val" in capsys.readouterr().out
    assert set(opened) == {str(own)}
    assert str(private) not in opened


def test_a_dataset_of_tensorflow_that_a_bundle_names_is_not_built(made, tmp_path, monkeypatch):
    bad = copy(made, tmp_path / "bad", with_config("data", path="tfds:mnist"))
    monkeypatch.setattr(sources, "read", lambda config: pytest.fail(f"opened {config.path}"))
    with pytest.raises(ConfigError, match="may come from a stranger"):
        evaluate.main([f"--workdir={bad}"])


def test_a_bundle_is_opened_without_orbax(made):
    code = (
        "import sys, emojax\n"
        f"emojax.load({str(made / 'model.zip')!r})\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('orbax', 'tensorstore', 'grain')])"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "[]"
