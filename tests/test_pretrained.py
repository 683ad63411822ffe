"""Pretrained weights: files of others and hostile ones, what is taken and what is refused, and a run that starts so."""

import dataclasses
import json
import pickle
import struct
import sys
import types
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import tiny
from conftest import shared_data
from jax import lax
from safetensors.numpy import save_file

from emojax import checkpoint, cli, models, paths, predict, tensor_file, train
from emojax.config import Config, ModelConfig, StageConfig
from emojax.data import transforms
from emojax.errors import CheckpointError, ConfigError
from emojax.models import layers, layouts, pretrained, resnet
from emojax.preprocess import normalise
from emojax.validate import validate

SMALL = {"depths": (1, 1), "widths": (8, 16), "stem": "small2"}


def raw(path, entries, body=b"", length=None):
    """A safetensors file made by hand."""
    text = json.dumps(entries).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + body)
    return path


def entry(start, stop, dtype="F32", shape=None):
    return {"dtype": dtype, "shape": shape or [(stop - start) // 4], "data_offsets": [start, stop]}


class Canary:
    def __reduce__(self):
        return (Path.write_text, (Path("canary"), "it ran"))


def hostile(folder):
    """{what: (file, what the message says)}."""
    good = folder / "good.safetensors"
    save_file({"a": np.ones(4, np.float32)}, good)
    cut = folder / "cut.safetensors"
    cut.write_bytes(good.read_bytes()[:-3])
    empty = folder / "empty.safetensors"
    empty.write_bytes(b"")
    nan = folder / "nan.safetensors"
    save_file({"a": np.array([1, np.nan], np.float32)}, nan)
    quantised = folder / "int8.safetensors"
    save_file({"a": np.ones(4, np.int8)}, quantised)
    pickled = folder / "pickled.safetensors"
    pickled.write_bytes(pickle.dumps({"a": Canary()}, protocol=2))
    torch = folder / "torch.safetensors"
    with zipfile.ZipFile(torch, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Canary()))
    objects = folder / "objects.npz"
    np.savez(objects, a=np.array([Canary()], object))
    bomb = folder / "bomb.npz"
    np.savez_compressed(bomb, a=np.zeros(1 << 22, np.float32))
    (folder / "old.pth").write_bytes(b"anything")
    (folder / "text.npz").write_text("no archive")
    overlap = {"a": entry(0, 16), "b": entry(8, 24)}
    return {
        "cut": (cut, "not a readable safetensors"),
        "empty": (empty, "not a readable safetensors"),
        "nan": (nan, "not finite"),
        "int8": (quantised, "found I8 in a"),
        "pickle": (pickled, "found a pickle"),
        "torch": (torch, "found a pickle"),
        "objects": (objects, "not a readable npz"),
        "bomb": (bomb, "decompression bomb"),
        "pth": (folder / "old.pth", r"torch_to_safetensors\.py"),
        "no npz": (folder / "text.npz", "not a readable npz"),
        "missing": (folder / "none.safetensors", "no such file"),
        "long header": (raw(folder / "long.safetensors", {}, length=1 << 40), "a header of at most"),
        "header past the end": (raw(folder / "past.safetensors", {}, length=5000), "not a readable safetensors"),
        "overlap": (raw(folder / "overlap.safetensors", overlap, bytes(24)), "not a readable safetensors"),
        "outside": (raw(folder / "out.safetensors", {"a": entry(0, 400)}, bytes(16)), "not a readable safetensors"),
        "kind": (raw(folder / "kind.safetensors", {"a": entry(0, 16, "X9")}, bytes(16)), "not a readable safetensors"),
        "nested": (raw(folder / "deep.safetensors", 0, length=8), "not a readable safetensors"),
    }


def test_hostile_files_are_refused_in_words(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for what, (file, message) in hostile(tmp_path).items():
        with pytest.raises(CheckpointError, match=message) as error:
            tensor_file.read(file)
        assert file.name in str(error.value) and "\n" not in str(error.value), what
    assert not (tmp_path / "canary").exists()


def test_half_precision_and_npz_are_read_as_float32(tmp_path):
    numbers = np.array([[1.5, -2.0], [0.25, 3.0]])
    kinds = {str(np.dtype(kind)): numbers.astype(kind) for kind in (np.float32, np.float16, np.float64)}
    save_file(kinds | {"bfloat16": numbers.astype(ml_dtypes.bfloat16)}, tmp_path / "a.safetensors")
    np.savez(tmp_path / "a.npz", **kinds, **{"bn.num_batches_tracked": np.array(3)})
    for name, count in (("a.safetensors", 4), ("a.npz", 3)):
        found = tensor_file.read(tmp_path / name)
        assert len(found) == count
        for array in found.values():
            assert array.dtype == np.float32
            np.testing.assert_array_equal(array, numbers)


def drawn(model, seed=3):
    return jax.device_get(model.init(jax.random.key(seed), 32))


def own_file(path, config, classes, *, knobs=None, seed=3):
    """Weights of a network in emojax's own form; returns {path: array}."""
    params, stats = drawn(models.build(config, classes), seed)
    arrays = paths.flatten({"params": params, "model_state": stats})
    about = {"name": config.name, "stem": config.stem, "classes": classes, "knobs": knobs or {}}
    tensor_file.write(path, arrays, tensor_file.as_metadata("emojax", about))
    return arrays


def test_everything_that_differs_is_listed(tmp_path):
    config = ModelConfig(name="resnet18", **SMALL)
    model = models.build(config, 3)
    arrays = own_file(tmp_path / "w.safetensors", config, 3)
    like = pretrained.shapes_of(model)
    assert pretrained.fitted(arrays, like, reinit="", where="w").keys() == arrays.keys()
    wrong = dict(arrays)
    del wrong["model_state/stem/norm/mean"]
    wrong["params/stage9/x"] = np.zeros(2)
    wrong["params/stem/norm/scale"] = np.zeros(7)
    with pytest.raises(CheckpointError) as error:
        pretrained.fitted(wrong, like, reinit="^head/dense/", where="w")
    for part in (
        "1 missing: model_state/stem/norm/mean",
        "1 unexpected: stage9/x",
        "stem/norm/scale [7] instead of [8]",
    ):
        assert part in str(error.value)
    assert pretrained.fitted(wrong, like, reinit="norm/(mean|scale)$|^stage9|^head", where="w")
    other = pretrained.shapes_of(models.build(config, 5))
    with pytest.raises(CheckpointError, match=r"2 of another shape: head/dense/bias \[3\] instead of \[5\]"):
        pretrained.fitted(arrays, other, reinit="", where="w")
    taken = pretrained.fitted(arrays, other, reinit="^head/dense/", where="w")
    assert arrays.keys() - taken.keys() == {"params/head/dense/bias", "params/head/dense/kernel"}
    for pattern, message in (("^heap", "no parameter"), (".", "every parameter")):
        with pytest.raises(ConfigError, match=message):
            pretrained.fitted(arrays, like, reinit=pattern, where="w")


def test_grey_weights_see_grey_pictures_as_before():
    config = ModelConfig(name="resnet18", **SMALL)
    grey = np.random.default_rng(0).normal(size=(3, 3, 1, 8)).astype(np.float32)
    wide = pretrained._stem("params/stem/conv/kernel", grey, (3, 3, 3, 8))
    picture = np.random.default_rng(1).normal(size=(1, 9, 9, 1)).astype(np.float32)
    how = {"window_strides": (1, 1), "padding": "VALID", "dimension_numbers": ("NHWC", "HWIO", "NHWC")}
    want = lax.conv_general_dilated(picture, grey, **how)
    np.testing.assert_allclose(lax.conv_general_dilated(np.repeat(picture, 3, 3), wide, **how), want, atol=1e-5)
    # A ResNet for two channels is none for three.
    arrays = paths.flatten(dict(zip(("params", "model_state"), drawn(models.build(config, 3)), strict=True)))
    arrays["params/stem/conv/kernel"] = np.zeros((3, 3, 2, 8), np.float32)
    with pytest.raises(CheckpointError, match="stem/conv/kernel"):
        pretrained.fitted(arrays, pretrained.shapes_of(models.build(config, 3)), reinit="", where="w")


def test_same_padding_is_tensorflows():
    x = np.random.default_rng(0).normal(size=(1, 9, 12, 4)).astype(np.float32)
    for size in (3, 5):
        conv = layers.ConvNorm(6, size, 2, same=True)
        variables = conv.init(jax.random.key(0), x, False)
        kernel = np.random.default_rng(1).normal(size=(size, size, 4, 6)).astype(np.float32)
        variables["params"]["conv"]["kernel"] = kernel
        want = lax.conv_general_dilated(x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        np.testing.assert_allclose(conv.apply(variables, x, False), want / np.sqrt(1 + 1e-5), atol=1e-4)


def test_shortcuts_of_cifar_networks_have_no_parameters():
    """Convolutions of zeros leave what comes in: every second pixel, between new channels of zeros."""
    block = resnet.Block("cifar", 8, 2, 0.0, jnp.float32)
    x = np.abs(np.random.default_rng(0).normal(size=(1, 6, 6, 4))).astype(np.float32)
    variables = block.init(jax.random.key(0), x, False)
    assert set(variables["params"]) == {"conv1", "conv2"}
    y = np.asarray(block.apply(variables, x, False))  # kernels start as zeros
    np.testing.assert_array_equal(y[..., 2:6], x[:, ::2, ::2])
    assert not y[..., :2].any() and not y[..., 6:].any()


def test_weights_fill_the_knobs_that_are_left_open(tmp_path):
    file = tmp_path / "w.safetensors"
    knobs = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2], "interpolation": "bilinear"}
    own_file(file, ModelConfig(name="resnet18", **SMALL), 3, knobs=knobs)
    config = Config(model=ModelConfig(name="resnet18", weights=str(file), **SMALL))
    found = pretrained.resolved(config)
    assert (found.model.mean, found.model.std) == ((0.5, 0.4, 0.3), (0.2, 0.2, 0.2))
    assert found.eval.interpolation == "bilinear" and len(found.model.weights_sha256) == 64
    assert pretrained.resolved(found) == found and validate(found)
    given = dataclasses.replace(config, model=dataclasses.replace(config.model, mean=(0.1, 0.1, 0.1)))
    assert pretrained.resolved(given).model.mean == (0.1, 0.1, 0.1)
    assert config.model.mean == (), "the caller's config stays"
    pinned = dataclasses.replace(config, model=dataclasses.replace(config.model, weights_sha256="0" * 64))
    with pytest.raises(CheckpointError, match="another file"):
        pretrained.resolved(pinned)
    file.unlink()
    assert pretrained.resolved(config, found) == found, "a run that has begun does not need the file"
    with pytest.raises(CheckpointError, match="no such file"):
        pretrained.resolved(config)


def test_a_recipe_that_waits_for_its_weights_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="starts from pretrained weights: give them with --config"):
        pretrained.open_source("FILE")


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"mean": (0.5,)}, "model.mean"),
        ({"std": (0.0, 0.1, 0.1)}, "model.std"),
        ({"weights_sha256": "00"}, "model.weights_sha256"),
        ({"reinit": "("}, "model.reinit"),
        ({"padding": "same"}, "model.padding"),
        ({"norm_epsilon": 1e-3}, "model.norm_epsilon"),
    ],
)
def test_knobs_that_make_no_sense_are_refused(knobs, message):
    with pytest.raises(ConfigError, match=message):
        models.build(ModelConfig(name="resnet18", **knobs), 3)


def test_mean_and_deviation_are_those_of_the_network():
    image = jnp.arange(2 * 2 * 3, dtype=jnp.uint8).reshape(1, 2, 2, 3) * 20
    model = models.build(ModelConfig(name="resnet18", mean=(127 / 255,) * 3, std=(128 / 255,) * 3, **SMALL), 3)
    np.testing.assert_allclose(model.normalised(image), (image - 127.0) / 128, atol=1e-6)
    np.testing.assert_array_equal(models.build(ModelConfig(**SMALL), 3).normalised(image), normalise(image))


def test_config_json_of_timm():
    published = {"mean": [0.5], "std": [0.5, 0.5, 0.5], "interpolation": "bilinear", "crop_pct": 0.9}
    found = layouts.of_timm({"architecture": "tf_efficientnet_b0", "pretrained_cfg": published})
    want = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "interpolation": "bilinear", "padding": "same", "norm_epsilon": 1e-3}
    assert found == want
    assert layouts.of_timm({"pretrained_cfg": {"mean": "x", "std": [1, 2], "interpolation": "random"}}) == {}


def start(config, workdir):
    """The state with which a run starts or goes on."""
    with pytest.MonkeyPatch.context() as patch:
        kept = []
        patch.setattr(train, "_train", lambda run, state, loop: kept.append(jax.device_get(state)) or 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train.run(config, workdir)
    return kept[0]


def test_a_run_starts_from_weights_and_goes_on_without_them(tmp_path):
    folder, file = tiny.make_folder(tmp_path / "data"), tmp_path / "w.safetensors"
    config = tiny.config(folder, stages=(StageConfig(epochs=1),))
    knobs = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4], "interpolation": "bilinear"}
    arrays = own_file(file, config.model, 1000, knobs=knobs)
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, weights=str(file)))
    state = start(config, tmp_path / "first")
    assert state.step == 0
    found = paths.flatten({"params": state.params, "model_state": state.model_state})
    for path, array in found.items():
        if "/head/dense/" in path:
            assert array.shape[-1] == 3
        else:
            np.testing.assert_array_equal(array, arrays[path], err_msg=path)
    average = paths.flatten(state.average["ema"]["params"])
    np.testing.assert_array_equal(average["stem/conv/kernel"], arrays["params/stem/conv/kernel"])
    train.run(config, tmp_path / "run")
    file.unlink()
    (tmp_path / "run/finished.json").unlink()
    assert start(config, tmp_path / "run").step == 3
    _, meta, _ = checkpoint.load_weights(tmp_path / "run", which="best")
    assert meta.config.model.mean == (0.5, 0.4, 0.3) and meta.config.eval.interpolation == "bilinear"
    assert len(meta.config.model.weights_sha256) == 64
    assert predict.load(tmp_path / "run")._model.mean == (0.5, 0.4, 0.3)
    assert "SHA-256 " + meta.config.model.weights_sha256[:12] in (tmp_path / "run/log.txt").read_text()


def test_weights_that_do_not_fit_end_the_run_in_words(tmp_path):
    folder, file = tiny.make_folder(tmp_path / "data"), tmp_path / "w.safetensors"
    config = tiny.config(folder, stages=(StageConfig(epochs=1),))
    own_file(file, dataclasses.replace(config.model, widths=(8, 24)), 3)
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, weights=str(file)))
    with pytest.raises(CheckpointError, match=r"of another shape: .*stage2/block1/conv1/conv/kernel \[3, 3, 8, 24\]"):
        train.run(config, tmp_path / "run")


def test_inspect_and_import(tmp_path, capsys):
    """A CIFAR network under its authors' names, in npz, becomes a file of emojax's."""
    state = foreign_state()
    np.savez(tmp_path / "w.npz", **state)
    assert cli.main(["weights", "inspect", str(tmp_path / "w.npz")]) == 0
    told = capsys.readouterr().out
    assert told.startswith("layout: pytorch_resnet_cifar10\nnetwork: resnet20, stem small, 10 classes\n")
    assert f"{len(state)} arrays, 271,098 numbers; --arrays lists them" in told and "linear.bias" not in told
    assert cli.main(["weights", "inspect", str(tmp_path / "w.npz"), "--arrays"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("layout") and "linear.bias  float32 [10]" in lines[-len(state) :]
    out = tmp_path / "own.safetensors"
    assert cli.main(["weights", "import", str(tmp_path / "w.npz"), str(out), "--mean", "0.5", "0.5", "0.5"]) == 0
    source = pretrained.open_source(str(out))
    assert source.own["source"] == "w.npz" and source.knobs["mean"] == (0.5, 0.5, 0.5)
    kernel = tensor_file.read(out)["params/stage2/block1/conv1/conv/kernel"]
    np.testing.assert_array_equal(kernel.transpose(3, 2, 0, 1), state["layer2.0.conv1.weight"])
    assert pretrained.nearest(source) == (pretrained.Match("resnet20", "small", 10), "")
    capsys.readouterr()
    new = str(tmp_path / "new.safetensors")
    assert cli.main(["weights", "import", str(tmp_path / "w.npz"), new, "--model", "resnet18"]) == 3
    assert "has not the shapes of resnet18" in capsys.readouterr().err
    (tmp_path / "bad.safetensors").write_bytes(b"\x05" + bytes(20))
    assert cli.main(["weights", "inspect", str(tmp_path / "bad.safetensors")]) == 3


def foreign_state():
    """{name: array} of a ResNet-20 of CIFAR-10 as its authors write it."""
    rng, state = np.random.default_rng(0), {}
    params, stats = drawn(models.build(ModelConfig(name="resnet20", stem="small"), 10))
    for path, array in paths.flatten({"p": params, "s": stats}).items():
        state[_foreign(path)] = rng.normal(size=_torch(array).shape).astype(np.float32)
    return state


DIFFERENT = {
    "missing": ({"layer2.1.conv1.weight": None}, "1 missing: stage2/block2/conv1/conv/kernel"),
    "unexpected": ({"layer9.0.conv1.weight": (3, 3, 3, 3)}, "1 unexpected: stage9/block1/conv1/conv/kernel"),
    "of another shape": (
        {"layer2.1.conv1.weight": (32, 16, 3, 3)},
        "1 of another shape: stage2/block2/conv1/conv/kernel [3, 3, 16, 32] instead of [3, 3, 32, 32]",
    ),
    "no classes": ({"linear.bias": None}, "1 missing: head/dense/bias"),
}


@pytest.mark.parametrize("case", DIFFERENT)
def test_what_keeps_weights_from_fitting_is_listed(case, tmp_path, capsys):
    change, message = DIFFERENT[case]
    file, out = different(tmp_path, change), tmp_path / "own.safetensors"
    assert cli.main(["weights", "import", str(file), str(out), "--model=resnet20", "--stem=small"]) == 3
    told = capsys.readouterr().err
    assert "has not the shapes of resnet20, stem small, " in told and f" classes: {message}\n" in told
    assert not out.exists()


def test_the_nearest_network_is_named(tmp_path, capsys):
    change, message = DIFFERENT["missing"]
    file = different(tmp_path, change)
    assert cli.main(["weights", "import", str(file), str(tmp_path / "own.safetensors")]) == 3
    assert f"resnet20, stem small, 10 classes, the nearest: {message}\n" in capsys.readouterr().err
    assert cli.main(["weights", "inspect", str(file)]) == 0
    told = capsys.readouterr().out
    assert "network: none that emojax knows has these shapes; the nearest: resnet20, stem small" in told
    assert message in told and "to start from them" not in told


def different(folder, change):
    """A file of a ResNet-20 with other arrays: {name: shape, or None for none}."""
    state = foreign_state() | {name: shape and np.zeros(shape, np.float32) for name, shape in change.items()}
    file = folder / "w.safetensors"
    save_file({name: np.ascontiguousarray(array) for name, array in state.items() if array is not None}, file)
    return file


def test_names_of_no_network_are_told(tmp_path, capsys):
    file = tmp_path / "w.safetensors"
    save_file(foreign_state() | {"odd.thing": np.zeros(3, np.float32)}, file)
    assert cli.main(["weights", "import", str(file), str(tmp_path / "o.safetensors"), "--model=resnet20"]) == 3
    assert "w.safetensors: the weights hold 'odd.thing'" in capsys.readouterr().err
    assert cli.main(["weights", "import", str(file), str(tmp_path / "o.safetensors"), "--stem=large"]) == 3
    assert "stem" in capsys.readouterr().err
    save_file({"odd.thing": np.zeros(3, np.float32)}, file)
    assert cli.main(["weights", "inspect", str(file)]) == 0
    assert "network: none: " in (told := capsys.readouterr().out) and "names of no network" in told


def test_an_import_does_not_replace_what_it_reads(tmp_path, capsys, monkeypatch):
    file = tmp_path / "w.safetensors"
    save_file(foreign_state(), file)
    before = file.read_bytes()
    monkeypatch.chdir(tmp_path)
    assert cli.main(["weights", "import", str(file), "w.safetensors"]) == 2
    assert "is the file that is read" in capsys.readouterr().err and file.read_bytes() == before
    Path("mine.safetensors").write_bytes(b"mine")
    assert cli.main(["weights", "import", str(file), "mine.safetensors"]) == 2
    assert "is there already" in capsys.readouterr().err and Path("mine.safetensors").read_bytes() == b"mine"
    assert cli.main(["weights", "import", str(file), "none/own.safetensors"]) == 2
    assert "its folder none does not exist" in capsys.readouterr().err and not Path("none").exists()


def test_what_names_do_not_tell_is_told(tmp_path, capsys):
    """timm's tf_ networks have the names of the others, and another arithmetic."""
    file = tmp_path / "w.safetensors"
    names = ("blocks.0.0.conv_dw.weight", "conv_stem.weight")
    save_file({name: np.zeros((8, 1, 3, 3), np.float32) for name in names}, file)
    assert cli.main(["weights", "inspect", str(file)]) == 0
    assert "note: padding and norm_epsilon cannot be told from timm's names" in capsys.readouterr().out
    config = {"architecture": "tf_efficientnet_b0", "pretrained_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert cli.main(["weights", "inspect", str(file)]) == 0
    told = capsys.readouterr().out
    assert "note: " not in told and "padding: same" in told and "norm_epsilon: 0.001" in told


def test_weights_that_are_no_numbers_are_not_called_fine(tmp_path, capsys):
    file = tmp_path / "w.safetensors"
    save_file(foreign_state() | {"linear.bias": np.full(10, np.nan, np.float32)}, file)
    assert cli.main(["weights", "inspect", str(file)]) == 3
    told = capsys.readouterr().out
    assert told.startswith("cannot be used: ") and "linear.bias hold numbers that are not finite" in told
    assert "network: resnet20, stem small, 10 classes\n" in told and "to start from them" not in told


def _foreign(path):
    """The name that pytorch_resnet_cifar10 gives a parameter."""
    _, *parts, leaf = path.split("/")
    leaf = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}.get(leaf, leaf)
    if parts[0] == "stem":
        return f"{ {'conv': 'conv1', 'norm': 'bn1'}[parts[1]] }.{leaf}"
    if parts[0] == "head":
        return f"linear.{leaf}"
    number = parts[2][-1]
    module = {"conv": f"conv{number}", "norm": f"bn{number}"}[parts[3]]
    return f"layer{parts[0][-1]}.{int(parts[1][5:]) - 1}.{module}.{leaf}"


def _torch(array):
    return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T


def test_the_hub_is_asked_only_for_what_is_named(tmp_path, monkeypatch):
    asked = []
    hub = types.ModuleType("huggingface_hub")
    hub.hf_hub_download = lambda repository, file: asked.append((repository, file)) or str(tmp_path / file)
    hub.list_repo_files = lambda repository: ["model.safetensors", "config.json"]
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    assert pretrained.locate("hf:timm/x.y") == tmp_path / "model.safetensors"
    assert asked == [("timm/x.y", "model.safetensors"), ("timm/x.y", "config.json")]
    for again in range(2):
        assert pretrained.locate("hf:timm/x.y") == tmp_path / "model.safetensors", again
    assert len(asked) == 2, "what is known is not asked for again"
    for name in ("hf:timm", "hf:timm/x.y/../../z.npz", "hf:timm/x.y/a b.npz"):
        with pytest.raises(ConfigError, match="expected hf:ORG/NAME"):
            pretrained.locate(name)
    for file in (
        "pytorch_model.bin",
        "model.pth",
        "config.json",
        "a/model.pkl",
        "model",
        "model.safetensors.index.json",
    ):
        with pytest.raises(ConfigError, match=r"expected a file that ends in \.safetensors or \.npz"):
            pretrained.locate(f"hf:timm/x.y/{file}")
    assert len(asked) == 2, "nor is a file of another kind"
    assert pretrained.locate("hf:timm/x.y/w/a.npz") == tmp_path / "w/a.npz" and asked[2:] == [("timm/x.y", "w/a.npz")]
    hub.hf_hub_download = lambda *_: (_ for _ in ()).throw(OSError("no network\nat all"))
    with pytest.raises(CheckpointError, match="cannot be fetched: no network"):
        pretrained.locate("hf:timm/x.y/other.safetensors")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ConfigError, match=r"emojax\[hub\]"):
        pretrained.locate("hf:timm/x.y")


def ready(name, file, classes, **knobs):
    """uint8 images -> probabilities, of real weights."""
    folder = shared_data()
    if folder is None or not (folder / "pretrained" / file).is_file():
        pytest.skip("no real weights here")
    config = Config(model=ModelConfig(name=name, weights=str(folder / "pretrained" / file), reinit="", **knobs))
    config = pretrained.resolved(config)
    model = models.build(config.model, classes)
    like = pretrained.shapes_of(model)
    weights = pretrained.merged(*like, pretrained.load(model, config.model, like))
    infer = jax.jit(predict.inference_function(model, views=(lambda x: x,), average="probs"))
    return config, lambda images: np.asarray(infer(*weights, images))


@pytest.mark.parametrize(
    ("name", "accuracy"), [("resnet20", 0.804), pytest.param("resnet56", 0.825, marks=pytest.mark.slow)]
)
def test_cifar_networks_on_real_pictures(name, accuracy):
    """The accuracies are those of PyTorch with the same weights and pictures, which were encoded as JPEG once more."""
    _, infer = ready(name, f"{name}_cifar10.safetensors", 10, stem="small")
    with zipfile.ZipFile(shared_data() / "cifar10-mini.zip") as archive:
        files = [name for name in archive.namelist() if "/test/" in name and name.endswith(".jpg")]
        images = np.stack([transforms.eval_image(archive.read(name), size=32, crop=1.0) for name in files])
    classes = sorted({name.split("/")[-2] for name in files})
    right = infer(images).argmax(1) == [classes.index(name.split("/")[-2]) for name in files]
    assert len(right) == 1000 and abs(right.mean() - accuracy) < 0.002


CATS, ROCKETS, CUPS, MOTORS = {281, 282, 283, 285}, {657, 744, 812}, {504, 967, 968}, {665, 670}
BUILDINGS = {442, 538, 663, 668, 698, 832}
"""ImageNet's numbers of what is to be seen: cats; missiles and shuttles; cups of coffee; motorcycles; palaces."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "file", "size"),
    [
        ("efficientnet_lite0", "efficientnet_lite0_imagenet.safetensors", 224),
        ("squeezenet1_1", "squeezenet11_imagenet.safetensors", 227),
    ],
)
def test_imagenet_networks_see_what_there_is(name, file, size):
    pictures = _photographs()
    config, infer = ready(name, file, 1000)
    views = [
        transforms.eval_image(path.read_bytes(), size=size, crop=0.875, interpolation=config.eval.interpolation)
        for path, _ in pictures
    ]
    probs = infer(np.stack(views))
    for (path, wanted), row in zip(pictures, probs, strict=True):
        assert row[list(wanted)].sum() > 0.3, path.name  # chance: below 0.006
    upside_down = infer(np.stack(views)[..., ::-1].copy())  # blue for red
    total, other = (sum(p[i, list(w)].sum() for i, (_, w) in enumerate(pictures)) for p in (probs, upside_down))
    assert total > other


def _photographs():
    """[(file, ImageNet's numbers of what it shows)] out of packages that are installed."""
    skimage, sklearn = pytest.importorskip("skimage"), pytest.importorskip("sklearn")
    images, other = Path(skimage.__file__).parent / "data", Path(sklearn.__file__).parent / "datasets/images"
    found = [
        (images / "chelsea.png", CATS),
        (images / "coffee.png", CUPS),
        (images / "rocket.jpg", ROCKETS),
        (images / "motorcycle_left.png", MOTORS),
        (other / "china.jpg", BUILDINGS),
    ]
    return [pair for pair in found if pair[0].is_file()]
