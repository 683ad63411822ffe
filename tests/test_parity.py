"""Logits against torchvision and timm: kept numbers (tests/golden) everywhere, the libraries where they install."""

import importlib.util
import json
from pathlib import Path

import jax
import numpy as np
import pytest

from emojax import models, paths
from emojax.config import ModelConfig
from emojax.errors import CheckpointError

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = json.loads((ROOT / "tests" / "golden" / "logits.json").read_text())
SCRIPT = importlib.util.spec_from_file_location("make_golden_logits", ROOT / "scripts" / "make_golden_logits.py")
golden = importlib.util.module_from_spec(SCRIPT)
SCRIPT.loader.exec_module(golden)


def ours(config, state, image):
    classes = next(len(v) for k, v in state.items() if k in ("fc.bias", "head.fc.bias"))
    model = models.build(config, classes)
    params, model_state = model.from_torch(state)
    want = jax.eval_shape(lambda key: model.init(key, 64), jax.random.key(0))
    for got, expected in zip((params, model_state), want, strict=True):
        assert {p: a.shape for p, a in paths.flatten(got).items()} == {
            p: a.shape for p, a in paths.flatten(expected).items()
        }
    output, _ = jax.jit(lambda p, s, x: model.apply(p, s, x, train=False))(params, model_state, image)
    return np.asarray(output.logits)


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_logits_of_torch(name):
    entry = GOLDEN[name]
    got = ours(ModelConfig(name=name), golden.weights(entry["shapes"]), golden.images(entry["size"]))
    expected = np.array(entry["logits"])
    assert np.abs(expected).max() > 0.5, "the weights must make logits that could be wrong"
    assert np.abs(got - expected).max() < 1e-4


@pytest.mark.peers
@pytest.mark.parametrize(
    "name", ["resnet18", "resnet34", "resnet50", "convnext_atto", "convnext_femto", "convnext_pico"]
)
def test_small_networks_agree_with_torch(name):
    against_torch(name, 64)


@pytest.mark.peers
@pytest.mark.slow
@pytest.mark.parametrize("size", [65, 96])
@pytest.mark.parametrize(
    "name", ["resnet50", "resnet101", "resnet152", "convnext_nano", "convnext_tiny", "convnext_small", "convnext_base"]
)
def test_networks_agree_with_torch(name, size):
    against_torch(name, size)


def against_torch(name, size):
    torch = pytest.importorskip("torch")
    if name.startswith("resnet"):
        net = pytest.importorskip("torchvision").models.get_model(name, num_classes=7)
    else:
        net = pytest.importorskip("timm").create_model(name, num_classes=7)
    state = golden.weights({k: v.shape for k, v in net.state_dict().items() if v.ndim})
    net.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()}, strict=False)
    image = golden.images(size)
    with torch.no_grad():
        expected = net.eval()(torch.from_numpy(image).permute(0, 3, 1, 2)).numpy()
    got = ours(ModelConfig(name=name), state, image)
    assert np.abs(got - expected).max() < 1e-4


@pytest.mark.peers
def test_training_step_moves_statistics_as_torch_does():
    """One forward pass in train mode: logits and every running mean and variance."""
    torch = pytest.importorskip("torch")
    net = pytest.importorskip("torchvision").models.resnet18(num_classes=7)
    state = golden.weights({k: v.shape for k, v in net.state_dict().items() if v.ndim})
    net.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()}, strict=False)
    image = np.random.default_rng(0).standard_normal((8, 64, 64, 3)).astype(np.float32)
    with torch.no_grad():
        expected = net.train()(torch.from_numpy(image).permute(0, 3, 1, 2)).numpy()
    model = models.build(ModelConfig(name="resnet18"), 7)
    output, moved = model.apply(*model.from_torch(state), image, train=True)
    assert np.abs(np.asarray(output.logits) - expected).max() < 1e-3
    _, want = model.from_torch({k: v.numpy() for k, v in net.state_dict().items() if v.ndim})
    for path, array in paths.flatten(moved).items():
        np.testing.assert_allclose(array, paths.flatten(want)[path], rtol=1e-4, atol=1e-5, err_msg=path)


def test_foreign_names_are_refused():
    model = models.build(ModelConfig(name="resnet18"), 7)
    with pytest.raises(CheckpointError, match=r"'blocks\.0\.attn\.weight'"):
        model.from_torch({"blocks.0.attn.weight": np.zeros((2, 2), np.float32)})
