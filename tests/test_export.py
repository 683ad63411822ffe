"""Exports: each says in its own runtime what the model says, or nothing is written."""

import dataclasses
import json
import re
import sys
import textwrap

import jax
import numpy as np
import pytest
from stored_models import make, pictures
from tiny import make_folder

import emojax
from emojax import cli, export, models, paths, stored
from emojax.config import ModelConfig
from emojax.errors import ConfigError, DataError, ExportError, WorkdirError
from emojax.export import gate, stablehlo, torch_file
from emojax.models import vit

FAMILIES = {
    "convnext_atto": {"depths": (1, 1), "widths": (8, 16)},
    "resnet18": {"depths": (1, 1), "widths": (8, 16)},
    "resnet50": {"depths": (1, 1), "widths": (8, 16)},
    "resnet_inspired": {"depths": (1,), "widths": (8,)},
    "mobilenet_inspired": {"depths": (1, 1), "widths": (8, 16)},
    "squeezenet1_1": {},
    "mobilenetv3_small": {},
    "efficientnet_b0": {"depths": (1, 1), "widths": (16, 24)},
    "efficientnet_lite0": {"depths": (1, 1), "widths": (16, 24)},
    "vit_small_patch16": {"depths": (1,), "widths": (64,)},
}


SPREADS = {"efficientnet_lite0": 0.01, "efficientnet_b0": 0.08, "mobilenetv3_small": 0.15, "mobilenetv3_large": 0.13}
"""Of random weights that let these networks, whole, tell noise from noise, with logits below 10."""


def test_stablehlo_is_for_three_platforms_and_any_batch(tmp_path):
    run = make(
        tmp_path / "run", model=ModelConfig(name="convnext_atto", depths=(1, 1), widths=(8, 16), products="bfloat16")
    )
    found = export.run(run, tmp_path / "out", ["stablehlo"], val=None, images=53)
    assert found["stablehlo"]["max_difference"] < 1e-6 and found["stablehlo"]["images"] == 53
    exported = jax.export.deserialize(bytearray((tmp_path / "out" / "model.stablehlo").read_bytes()))
    assert exported.platforms == ("cpu", "cuda", "tpu")
    call, image = stablehlo.read(tmp_path / "out" / "model.stablehlo"), np.stack(pictures(16, 3))
    np.testing.assert_allclose(call(image), emojax.load(run).probabilities(image), atol=1e-6)
    with pytest.raises(Exception, match=r"."):
        call(np.zeros((1, 17, 16, 3), np.uint8))


def test_an_export_that_says_something_else_is_not_written(tmp_path, monkeypatch):
    run = make(tmp_path / "run")
    true = stablehlo.read
    monkeypatch.setattr(stablehlo, "read", lambda path: lambda images: true(path)(images) + np.float32(2e-4))
    with pytest.raises(ExportError, match=r"nothing was written: on 9 pictures probs differ by up to 0\.0002"):
        export.run(run, tmp_path / "out", ["bundle", "stablehlo"], val=None, images=9)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_the_gate_counts_decisions_and_never_passes_nan():
    seen = gate.Pictures(np.zeros((2, 1, 1, 3), np.uint8), 0, 0)
    expected = np.array([[0.6, 0.4], [0.5, 0.5]], np.float32)
    turned = gate.compare(seen, expected, expected[:, ::-1].copy(), quantity="probs", runtime="x")
    assert turned.decisions_differ == 1, "the second is a tie"
    with pytest.raises(ExportError, match="1 decisions are others"):
        gate.require("file", dataclasses.replace(turned, max_difference=0.0))
    for bad in (expected * np.nan, expected[:1], expected[:, :1]):
        with pytest.raises(ExportError):
            gate.require("file", gate.compare(seen, expected, bad, quantity="probs", runtime="x"))


def test_the_gate_compares_log_probabilities_too():
    """An answer that is 1 to four digits hides logits that are wrong."""
    seen = gate.Pictures(np.zeros((1, 1, 1, 3), np.uint8), 0, 0)
    expected, found = np.array([[1, 1e-9]], np.float32), np.array([[1, 2e-9]], np.float32)
    agreement = gate.compare(seen, expected, found, quantity="probs", runtime="x")
    assert agreement.max_difference < 1e-8 and not agreement.decisions_differ
    assert agreement.also["log_probs"]["max_difference"] == pytest.approx(np.log(2), rel=1e-6)
    with pytest.raises(ExportError, match=r"log_probs differ by up to 0\.69"):
        gate.require("file", agreement)
    nothing = gate.compare(seen, expected * [[1, 0]], expected * [[1, 1e-30]], quantity="probs", runtime="x")
    gate.require("file", nothing)  # what float32 cannot tell from 0


def test_pictures_are_all_different(tmp_path):
    data = make_folder(tmp_path / "data", per_class=2)
    run = make(tmp_path / "run", data=data)
    from emojax.data import open_dataset

    classifier = emojax.load(run)
    val = open_dataset(classifier.config.data).splits["val"]
    seen = gate.pictures(classifier, val, 40)
    assert seen.images.shape == (40, 16, 16, 3) and (seen.from_val, seen.changed) == (12, 18)
    assert len({picture.tobytes() for picture in seen.images}) == 40 == seen.counts()["distinct"]
    blue = seen.images[:12].astype(float)  # a change keeps what the picture shows
    nearest = [np.abs(picture.mean((0, 1)) - blue.mean((1, 2))).mean(1).min() for picture in seen.images[12:30]]
    assert max(nearest) < 40
    np.testing.assert_array_equal(seen.images, gate.pictures(classifier, val, 40).images)
    twice = val.take(np.array([0, 0, 1, 1]))
    again = gate.pictures(classifier, twice, 40)
    assert (again.from_val, again.changed, again.counts()["distinct"]) == (2, 28, 40)
    assert (gate.pictures(classifier, val, 8).from_val, gate.pictures(classifier, val, 8).changed) == (6, 0)
    nothing = gate.pictures(classifier, None, 5)
    assert (nothing.from_val, nothing.changed, nothing.counts()["distinct"]) == (0, 0, 5)
    found = export.run(run, tmp_path / "out", ["stablehlo"], val=val, images=40)["stablehlo"]
    assert (found["images"], found["distinct"], found["from_val"], found["changed"]) == (40, 40, 12, 18)
    assert found["also"]["log_probs"]["max_difference"] < 1e-4


def test_what_cannot_be_exported_is_told(tmp_path):
    run = make(tmp_path / "run")
    for formats, error, message in (
        (["pickle"], ConfigError, "pickle"),
        ([], ConfigError, "none"),
        (["int8"], DataError, "val"),
    ):
        with pytest.raises(error, match=message):
            export.run(run, tmp_path / "out", formats, val=None)
    with pytest.raises(WorkdirError, match="exists"):
        export.run(run, run, ["bundle"], val=None)
    with pytest.raises(ConfigError, match="a folder, or a zip file"):
        export.run(run, tmp_path / "model.onnx", ["bundle"], val=None)
    with pytest.raises(WorkdirError, match="not a folder"):
        export.run(run, tmp_path / "no" / "out", ["bundle"], val=None)
    odd = make(tmp_path / "odd", model=ModelConfig(name="resnet18", stem="small2", depths=(1,), widths=(8,)))
    with pytest.raises(ConfigError, match="stem 'small2'"):
        export.run(odd, tmp_path / "out", ["safetensors"], val=None, images=3)
    assert not (tmp_path / "out").exists()


def test_the_command_and_its_manifest(tmp_path, capsys):
    four = ModelConfig(name="convnext_atto", depths=(1, 1, 1, 1), widths=(4, 4, 8, 8))
    run = make(tmp_path / "run", model=four, size=32, data=make_folder(tmp_path / "data", per_class=2))
    out = tmp_path / "out"
    assert cli.main(["export", f"--workdir={run}", str(out), "--format=bundle,safetensors", "--images=8"]) == 0
    assert "8 pictures (8 different): 6 of val, 2 of noise" in capsys.readouterr().out
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["class_names"] == ["blue", "green", "red"] and manifest["preprocessing"]["image_size"] == 32
    assert manifest["files"].keys() == {"README.md", "torch.safetensors", "weights.safetensors"}
    exported = manifest["exports"]["safetensors"]
    assert exported["target"]["name"] == "convnext_atto" and exported["distinct"] == 8
    assert exported["also"].keys() == {"probs"}
    card = (out / "README.md").read_text()
    assert 'emojax.load("THIS FOLDER OR ZIP")' in card and "emojax evaluate --workdir=BUNDLE" in card
    assert 'timm.create_model("convnext_atto", checkpoint_path="torch.safetensors", num_classes=3, depths=' in card
    assert (run / "data_check.json").is_file() and not (out / "data_check.json").exists()
    assert cli.main(["evaluate", f"--workdir={out}", f"--data={tmp_path / 'data'}"]) == 0
    assert {path.name for path in out.iterdir()} == {*manifest["files"], "manifest.json"}


def test_data_that_the_user_names_are_compared_on_or_it_ends(tmp_path, capsys):
    run = make(tmp_path / "run", data=tmp_path / "moved")
    assert cli.main(["export", f"--workdir={run}", str(tmp_path / "a"), f"--data={tmp_path / 'nope'}"]) == 2
    told = capsys.readouterr()
    assert "nope" in told.err and "noise" not in told.err + told.out and not (tmp_path / "a").exists()
    assert cli.main(["export", f"--workdir={run}", str(tmp_path / "a"), "--images=2"]) == 0
    assert "compared on noise alone, the data of the run cannot be read" in capsys.readouterr().err


def opened_as_told(out, images):
    """The variables after the Python of each block under "Use" in the model card was run beside the files."""
    _, _, use = (out / "README.md").read_text().partition("## Use\n")
    found = []
    for block in re.findall(r"(?:^    .*\n)+", use, flags=re.MULTILINE):
        variables = {"images": images}
        exec(textwrap.dedent(block), variables)
        found.append(variables)
    return found


def test_the_card_tells_how_to_open_what_was_exported(tmp_path, monkeypatch):
    run, images = make(tmp_path / "run"), np.stack(pictures(16, 3))
    export.run(run, tmp_path / "alone", ["stablehlo"], val=None, images=3)
    monkeypatch.chdir(tmp_path / "alone")
    text = (tmp_path / "alone" / "README.md").read_text()
    assert "emojax.load" not in text and "--workdir" not in text and "uint8 [B, 16, 16, 3]" in text
    (variables,) = opened_as_told(tmp_path / "alone", images)
    np.testing.assert_allclose(variables["probs"], emojax.load(run).probabilities(images), atol=1e-6)


@pytest.mark.slow
def test_onnx_files_travel_alone(tmp_path, monkeypatch):
    """They hold the names of the classes; int8 keeps them."""
    pytest.importorskip("jax2onnx")
    run = make(tmp_path / "run", data=make_folder(tmp_path / "data", per_class=2), views="center")
    from emojax.data import open_dataset

    val = open_dataset(emojax.load(run).config.data).splits["val"]
    export.run(run, tmp_path / "out", ["onnx", "int8"], val=val, images=4)
    monkeypatch.chdir(tmp_path / "out")
    images = np.stack(pictures(16, 3))
    found = opened_as_told(tmp_path / "out", images)
    assert [variables["names"] for variables in found] == [["blue", "green", "red"]] * 2
    np.testing.assert_allclose(found[0]["probs"], emojax.load(run).probabilities(images), atol=1e-4)


def exported(config):
    """(state dict of random arrays, target) as `models.to_torch` gives them."""
    network = models.build(config, 3)
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), 224))
    rng = np.random.default_rng(0)
    params, state = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape, np.float32), shapes)
    return models.to_torch(config, params, state, image_size=224)


@pytest.mark.parametrize("name", FAMILIES)
def test_torch_names_are_the_inverse_of_from_torch(name):
    sizes = {"depths": (1, 1, 1, 1), "widths": (64, 16, 24, 32)} if name.startswith(("convnext", "resnet")) else {}
    config = ModelConfig(name=name, **sizes)
    network = models.build(config, 3)
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), 224))
    rng = np.random.default_rng(0)
    params, state = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape, np.float32), shapes)
    there, _ = models.to_torch(config, params, state, image_size=224)
    back = network.from_torch(there)
    for ours, theirs in zip((params, state), back, strict=True):
        read = paths.flatten(theirs)
        assert paths.flatten(ours).keys() == read.keys()
        for path, array in paths.flatten(ours).items():
            np.testing.assert_allclose(read[path], array, atol=1e-6, err_msg=path)


@pytest.mark.peers
@pytest.mark.parametrize(
    "name", ["convnext_atto", "resnet18", "efficientnet_lite0", "mobilenetv3_small", "vit_small_patch16"]
)
def test_timm_and_torchvision_load_what_was_exported(tmp_path, name):
    pytest.importorskip("timm")
    pytest.importorskip("torchvision")
    sizes = FAMILIES[name] if name.startswith("vit") else {}
    if name.startswith(("convnext", "resnet")):
        sizes = {"depths": (1, 1, 1, 1), "widths": (64, 16, 24, 32)}
    run = make(tmp_path / "run", model=ModelConfig(name=name, **sizes), size=64)
    found = export.run(run, tmp_path / "out", ["safetensors"], val=None, images=4)["safetensors"]
    assert found["runtime"].startswith(("timm", "torchvision")) and found["max_difference"] < found["tolerance"] < 1e-2


PADDED = {
    ("efficientnet_lite0", "same", 1e-3): ("timm", "tf_efficientnet_lite0", {}),
    ("efficientnet_b0", "same", 1e-3): ("timm", "tf_efficientnet_b0", {}),
    ("efficientnet_b0", "same", 0.0): ("timm", "tf_efficientnet_b0", {"bn_eps": 1e-5}),
    ("efficientnet_b0", "equal", 1e-3): ("timm", "efficientnet_b0", {"bn_eps": 1e-3}),
    ("efficientnet_b0", "", 1e-5): ("timm", "efficientnet_b0", {}),
    ("mobilenetv3_small", "same", 0.0): ("timm", "tf_mobilenetv3_small_100", {}),
    ("mobilenetv3_large", "same", 1e-3): ("timm", "tf_mobilenetv3_large_100", {}),
    ("mobilenetv3_small", "", 1e-5): ("timm", "mobilenetv3_small_100", {}),
    ("mobilenetv3_small", "", 1e-3): ("torchvision", "mobilenet_v3_small", {}),
}
"""(network, padding, epsilon) -> who has it, under which name, with which arguments."""


@pytest.mark.parametrize("padded", PADDED, ids=str)
def test_padding_and_epsilon_choose_the_network(padded):
    name, padding, epsilon = padded
    config = ModelConfig(name=name, padding=padding, norm_epsilon=epsilon)
    there, target = exported(config)
    assert (target.library, target.name, target.arguments) == PADDED[padded]
    if name.startswith("mobilenetv3"):
        wide = there["classifier.0.weight" if target.library == "torchvision" else "conv_head.weight"]
        assert wide.ndim == (2 if target.library == "torchvision" else 4)
        assert any(key.startswith("features.") for key in there) == (target.library == "torchvision")


@pytest.mark.peers
@pytest.mark.parametrize("padded", PADDED, ids=str)
def test_timm_pads_what_was_exported_as_it_was_trained(tmp_path, padded):
    """With even sides throughout: at odd ones both ways of padding are the same."""
    pytest.importorskip(PADDED[padded][0])
    name, padding, epsilon = padded
    config = ModelConfig(name=name, padding=padding, norm_epsilon=epsilon)
    run = make(tmp_path / "run", model=config, size=64, spread=SPREADS[name])
    found = export.run(run, tmp_path / "out", ["safetensors"], val=None, images=4)["safetensors"]
    assert found["runtime"].startswith(PADDED[padded][0]) and found["target"]["name"] == PADDED[padded][1]
    assert found["max_difference"] < 1e-4 and found["tolerance"] < 1.2e-4
    weights, image = stored.read(run).weights, np.stack(pictures(64, 4))
    said = []
    for each in (padding, "equal" if padding == "same" else "same"):
        net = models.build(dataclasses.replace(config, padding=each), 3)
        call = jax.jit(lambda w, x, net=net: net.apply(w["params"], w["model_state"], net.normalised(x), train=False))
        said.append(np.asarray(call(weights, image)[0].logits))
    assert np.abs(said[0] - said[1]).max() > 0.01, "the other padding would be noticed"


def test_positions_of_the_file_are_those_that_are_compared(tmp_path, monkeypatch):
    """Without timm the file is read by ourselves: with its own positions, for a grid of 2 x 2."""
    monkeypatch.setitem(sys.modules, "torch", None)
    config = ModelConfig(name="vit_small_patch16", depths=(1,), widths=(64,))
    run = make(tmp_path / "run", model=config, size=32, views="center")
    found = export.run(run, tmp_path / "out", ["safetensors"], val=None, images=3)["safetensors"]
    assert found["runtime"] == "our own import rules" and found["max_difference"] < found["tolerance"]
    true = models.to_torch

    def wrong(*args, **kwargs):
        state, target = true(*args, **kwargs)
        return state | {"pos_embed": np.roll(state["pos_embed"], 1, axis=1)}, target

    monkeypatch.setattr(models, "to_torch", wrong)
    with pytest.raises(ExportError, match="nothing was written"):
        export.run(run, tmp_path / "bad", ["safetensors"], val=None, images=3)
    assert not (tmp_path / "bad").exists()


@pytest.mark.parametrize("side", [2, 7, 14, 16, 24])
def test_positions_of_any_grid_are_brought_back(side):
    whole = np.random.default_rng(0).normal(size=(1, 1 + vit.GRID**2, 3)).astype(np.float32)
    written = np.asarray(vit.resize_positions(whole, side, side))
    back = torch_file._whole_grid(written)
    np.testing.assert_allclose(vit.resize_positions(back, side, side), written, atol=1e-5)
    if side >= vit.GRID:  # a smaller one does not tell all of it
        np.testing.assert_allclose(back, whole, atol=1e-4)
    if side > vit.GRID:  # most larger ones are no grid of ours
        with pytest.raises(ExportError, match="comes of no grid"):
            torch_file._whole_grid(np.roll(written, 5, axis=1))


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_onnx_says_what_the_model_says(tmp_path, name):
    pytest.importorskip("jax2onnx")
    size = 64 if name.startswith("squeezenet") else 32
    spread = 0.05 if FAMILIES[name] else SPREADS.get(name, 0.05)
    model = ModelConfig(name=name, **FAMILIES[name])
    run = make(tmp_path / "run", model=model, size=size, views="center", spread=spread)
    assert export.run(run, tmp_path / "out", ["onnx"], val=None, images=53)["onnx"]["max_difference"] < 1e-4


KNOBS = {
    "padding": {"name": "efficientnet_b0", **FAMILIES["efficientnet_b0"], "padding": "same", "norm_epsilon": 1e-3},
    "padding of MobileNetV3": {"name": "mobilenetv3_small", "padding": "same"},
    "pools without edges": {"name": "squeezenet1_1", "padding": "valid"},
    "colours": {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.5, 1.0)},
    "twins": {"twins": 1},
    "mlp": {"head": "mlp", "head_hidden": (12, 8)},
    "cosine": {"head": "cosine"},
}


@pytest.mark.slow
@pytest.mark.parametrize("case", KNOBS)
def test_onnx_runtime_says_what_emojax_predicts(tmp_path, case):
    """The file alone, in a session of our own, beside `emojax.load`: knobs that change what is computed."""
    pytest.importorskip("jax2onnx")
    runtime = pytest.importorskip("onnxruntime")
    knobs = {"name": "convnext_atto", **FAMILIES["convnext_atto"]} if "name" not in KNOBS[case] else {}
    size = 64 if "padding" in KNOBS[case] else 32
    spread = SPREADS["mobilenetv3_small"] if "MobileNetV3" in case else 0.05
    run = make(tmp_path / "run", model=ModelConfig(**knobs | KNOBS[case]), size=size, views="flip", spread=spread)
    export.run(run, tmp_path / "out", ["onnx"], val=None, images=9)
    session = runtime.InferenceSession(str(tmp_path / "out" / "model.onnx"), providers=["CPUExecutionProvider"])
    image = np.stack(pictures(size, 3))
    image[1, : size // 2], image[2] = 0, np.arange(size)[:, None]  # of noise alone, deep networks say the same
    (found,) = session.run(["probs"], {"image": image})
    expected = emojax.load(run).predict(list(image)).probs
    assert np.abs(found - expected).max() < 1e-4 < np.ptp(expected, axis=0).max(), "not all the same"


@pytest.mark.slow
@pytest.mark.parametrize("views", ["flip", "six", "eight", "ten", "sixteen"])
def test_onnx_holds_the_views(tmp_path, views):
    pytest.importorskip("jax2onnx")
    run = make(tmp_path / "run", views=views)
    assert export.run(run, tmp_path / "out", ["onnx"], val=None, images=7)["onnx"]["max_difference"] < 1e-4


@pytest.mark.slow
def test_int8_is_judged_on_val(tmp_path):
    pytest.importorskip("jax2onnx")
    run = make(tmp_path / "run", data=make_folder(tmp_path / "data", per_class=2), views="center")
    from emojax.data import open_dataset

    val = open_dataset(emojax.load(run).config.data).splits["val"]
    found = export.run(run, tmp_path / "out", ["int8"], val=val, images=4)["int8"]
    assert found["val_images"] == 12 and abs(found["accuracy_lost"]) <= 0.5
    assert not (tmp_path / "out" / "model.onnx").exists()
