"""The inference function as an ONNX file, by jax2onnx; and the same with int8 products.

What jax2onnx writes is simplified by ONNX Runtime's basic optimisations, which keep to standard operations: constants
are computed, batch norms become part of convolutions, pairs of transpositions vanish.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from emojax.errors import ConfigError
from emojax.predict import Infer
from emojax.types import Tree

OPSET = 20
"""The oldest that has GELU as one operation."""
INPUT, OUTPUT = "image", "probs"
_CHANNELS_FIRST, _CHANNELS_LAST = (0, 3, 1, 2), (0, 2, 3, 1)


def write(path: Path, infer: Infer, weights: dict[str, Tree], image_size: int, *, metadata: Mapping[str, str]) -> None:
    """Writes uint8 [B, S, S, 3] -> float32 [B, K] for any B, with `metadata` beside it. `infer` must be traceable in
    plain form, see `models.plain`. Raises `ConfigError` without the extra `export`."""
    jax2onnx, onnx = _import("jax2onnx"), _import("onnx")
    from emojax import models

    def function(image: Any) -> Any:
        with models.plain():
            return infer(weights["params"], weights["model_state"], image)

    (batch,) = jax.export.symbolic_shape("B")
    shape = jax.ShapeDtypeStruct((batch, image_size, image_size, 3), jnp.uint8)
    with _quiet("onnx_ir.serde"):  # it warns of every shape of an inner value that it does not know
        model = jax2onnx.to_onnx(
            function,
            [shape],
            model_name="emojax",
            opset=OPSET,
            normalization_mode="prefer_native",
            input_names=[INPUT],
            output_names=[OUTPUT],
        )
    _pool_pictures(model, onnx.helper)
    _optimise(model, path)
    slim = onnx.load(path)
    _add_biases(slim, onnx)
    used = {node.domain for node in slim.graph.node}
    kept = [entry for entry in slim.opset_import if entry.domain in used | {""}]
    del slim.opset_import[:]
    slim.opset_import.extend(kept)
    onnx.helper.set_model_props(slim, dict(metadata))
    onnx.checker.check_model(slim)
    onnx.save(slim, path)


def quantise(path: Path, to: Path) -> None:
    """Writes the same with products of int8 weights and activations, whose range is measured picture by picture."""
    quantization = _import("onnxruntime.quantization")

    with _quiet(""):  # it asks for a preparation of the graph that `write` has done
        quantization.quantize_dynamic(
            path, to, op_types_to_quantize=["MatMul", "Gemm", "Conv"], weight_type=quantization.QuantType.QUInt8
        )


@contextlib.contextmanager
def _quiet(name: str) -> Iterator[None]:
    """No warnings of the logger `name`."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


class Session:
    """An ONNX file in ONNX Runtime."""

    def __init__(self, path: Path) -> None:
        runtime = _import("onnxruntime")
        options = runtime.SessionOptions()
        options.log_severity_level = 3
        self._session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Probabilities [B, K] of uint8 images [B, S, S, 3]."""
        return self._session.run([OUTPUT], {INPUT: images})[0]


def check_installed() -> None:
    """Raises `ConfigError` without the packages of the extra, before anything was worked out."""
    for name in ("jax2onnx", "onnx", "onnxruntime"):
        _import(name)


def _import(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"--format=onnx needs the extra export, which is missing ({error}): pip install -e '.[export]', in an "
            "environment of its own and without -c constraints.txt, since jax2onnx needs an older Orbax"
        ) from error


def _pool_pictures(model: Any, helper: Any) -> None:
    """jax2onnx pools over all four axes of a batch of maps, which ONNX Runtime cannot; over rows and columns it can."""
    nodes = list(model.graph.node)
    maker = {name: node for node in nodes for name in node.output}
    user = {name: node for node in nodes for name in node.input}
    found: dict[int, list[Any]] = {}
    gone: set[int] = set()
    for node in nodes:
        how = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type != "MaxPool" or len(how["kernel_shape"]) != 4:
            continue
        inner = maker[node.input[0]]
        outer, squeeze = maker[inner.input[0]], user[node.output[0]]
        gone |= {id(inner), id(outer), id(squeeze)}
        names, pads = [f"{node.name}_{part}" for part in ("in", "out")], how.get("pads", [0] * 8)
        # Less than nothing at the end: a rest too small for a window, which ONNX leaves out anyway, and cannot write.
        pads = [max(0, pad) if -pad < stride else pad for pad, stride in zip(pads, how["strides"] * 2, strict=True)]
        pool = helper.make_node(
            "MaxPool",
            [names[0]],
            [names[1]],
            kernel_shape=how["kernel_shape"][1:3],
            strides=how["strides"][1:3],
            pads=[*pads[1:3], *pads[5:7]],
        )
        before = helper.make_node("Transpose", [outer.input[0]], [names[0]], perm=_CHANNELS_FIRST)
        after = helper.make_node("Transpose", [names[1]], [squeeze.output[0]], perm=_CHANNELS_LAST)
        found[id(node)] = [before, pool, after]
    kept = [new for node in nodes if id(node) not in gone for new in found.get(id(node), [node])]
    del model.graph.node[:]
    model.graph.node.extend(kept)


def _optimise(model: Any, path: Path) -> None:
    """ONNX Runtime's basic optimisations, which are the same on every machine."""
    runtime = _import("onnxruntime")
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3
    runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _add_biases(model: Any, onnx: Any) -> None:
    """Makes `Conv -> Transpose -> Add(constant)` a convolution with a bias."""
    graph, helper = model.graph, onnx.numpy_helper
    constants = {x.name: x for x in graph.initializer}
    users: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    gone: list[Any] = []
    for conv in [node for node in graph.node if node.op_type == "Conv" and len(node.input) == 2]:
        chain = [conv]
        for kind in ("Transpose", "Add"):
            following = users.get(chain[-1].output[0], [])
            if len(following) == 1 and following[0].op_type == kind:
                chain.append(following[0])
        if len(chain) < 3:
            continue
        _, turn, add = chain
        other = next(name for name in add.input if name != turn.output[0])
        if list(turn.attribute[0].ints) != [*_CHANNELS_LAST] or other not in constants:
            continue
        bias = helper.to_array(constants[other]).reshape(-1)
        if bias.size != constants[conv.input[1]].dims[0]:
            continue
        name = f"{conv.output[0]}_bias"
        graph.initializer.append(helper.from_array(bias, name))
        conv.input.append(name)
        turn.output[0] = add.output[0]
        gone.append(add)
    for node in gone:
        graph.node.remove(node)
    _merge_constants(graph)
    used = {name for node in graph.node for name in node.input}
    for constant in [x for x in graph.initializer if x.name not in used]:
        graph.initializer.remove(constant)


def _merge_constants(graph: Any) -> None:
    """Equal constants become one: each test-time view has brought its own copy of all weights."""
    first: dict[tuple[Any, ...], str] = {}
    same: dict[str, str] = {}
    for constant in graph.initializer:
        if constant.raw_data:
            key = (constant.data_type, tuple(constant.dims), hashlib.sha256(constant.raw_data).digest())
            same[constant.name] = first.setdefault(key, constant.name)
    for node in graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = same.get(name, name)
