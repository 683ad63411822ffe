"""What a bundle is made of: weights, the part of the manifest that tells what they are, and the model card."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from emojax import checkpoint_meta, decision as decision_lib, files, metrics, paths, preprocess
from emojax.config import ModelConfig
from emojax.data import schemas
from emojax.errors import DamagedError
from emojax.predict import Classifier
from emojax.stored import Stored

_UNCHECKED = "not leak-checked"
"""As reports say it."""


def write_weights(path: Path, stored: Stored) -> None:
    """All arrays under emojax's own paths, float32."""
    from safetensors import numpy as safetensors

    path.write_bytes(safetensors.save(_arrays(stored)))


def manifest(stored: Stored, classifier: Classifier) -> dict[str, Any]:
    """What the manifest tells of the model: config, classes, preprocessing, calibration, numbers."""
    digests, meta = checkpoint_meta.digests(_arrays(stored)), stored.meta
    shapes = {name: list(array.shape) for name, array in _arrays(stored).items()}
    config = dataclasses.replace(meta.config, eval=dataclasses.replace(meta.config.eval, views=classifier.views))
    kept = dataclasses.replace(
        meta, config=config, judged="weights", digests=digests, shapes=shapes, loop={}, rank=None
    )
    calibration = None
    if classifier.decision:
        calibration = decision_lib.for_weights(stored.calibration, decision_lib.weights_digest(digests))
    return {
        "step": stored.step,
        "meta": kept.to_json(),
        "class_names": list(meta.class_names),
        "schema": schemas.identify(meta.class_names),
        "preprocessing": {
            "image_size": meta.image_size,
            "crop": config.eval.crop,
            "fit": config.fit,
            "resampling": f"{config.eval.interpolation or 'bicubic'}, antialiased (Pillow)",
            "channels": "RGB",
            "mean": config.model.mean or preprocess.MEAN,
            "std": config.model.std or preprocess.STD,
            "scale": "pixels / 255",
        },
        "views": classifier.views,
        "calibration": calibration,
        "numbers": _numbers(stored),
    }


def card(stored: Stored, classifier: Classifier, exports: Mapping[str, Mapping[str, Any]]) -> str:
    """The model card, Markdown: what the model is, what was measured of it and of its files, and what it is not for.

    `exports` is what the comparisons found. Raises `DamagedError` for numbers of a bundle that are none.
    """
    meta, config = stored.meta, stored.meta.config
    parameters = sum(a.size for name, a in _arrays(stored).items() if name.startswith("params/"))
    schema = schemas.identify(meta.class_names)
    rows = [
        ("network", f"{config.model.name}, head {config.model.head}, {parameters:,} parameters"),
        ("input", f"RGB, {meta.image_size} px, uint8; preprocessing is part of the model"),
        ("classes", ", ".join(meta.class_names) + (f" (those of {schema})" if schema else "")),
        ("trained on", _cell(config.data.path)),
        ("started from", _start(config.model)),
        ("weights", f"after update {stored.step}" if any(s.train for s in config.stages) else "without an update"),
        ("test-time views", classifier.views),
        ("calibration", classifier.decision.text() if classifier.decision else "none: probabilities as trained"),
    ]
    lines = [f"# {config.model.name} for {len(meta.class_names)} classes", "", "| | |", "| --- | --- |"]
    lines += [f"| {name} | {_cell(value)} |" for name, value in rows]
    try:
        lines += ["", "## Measured", "", *_measured(_numbers(stored))]
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise DamagedError(f"{stored.path}: the numbers that it tells are unusable: {error!r}") from error
    lines += ["", "## Files", "", "| file | compared with the model |", "| --- | --- |"]
    lines += [f"| {found['file']} | {_cell(_compared(found))} |" for found in exports.values()]
    lines += ["", "## Use", ""]
    for name, found in exports.items():
        lines += [*(f"    {line}" for line in _use(name, found, len(meta.class_names))), ""]
    if set(exports) - {"bundle"}:
        lines += [
            f"`images`: uint8 [B, {meta.image_size}, {meta.image_size}, 3], RGB, cut and resized as `preprocessing` in",
            "manifest.json tells; the order of the probabilities is that of the classes above.",
            "",
        ]
    lines += [
        "The classes are what annotators saw in pictures like those it was trained on, not what a person feels.",
        "Numbers hold for such pictures."
        + (" On your own: `emojax evaluate --workdir=BUNDLE --data=FOLDER`." if "bundle" in exports else ""),
        "",
    ]
    return "\n".join(lines)


def _use(name: str, found: Mapping[str, Any], classes: int) -> list[str]:
    """Python that opens the file of a format."""
    file = found["file"]
    if name == "bundle":
        return ["import emojax", 'emojax.load("THIS FOLDER OR ZIP").predict(["picture.jpg"])']
    if name in ("onnx", "int8"):
        return [
            "import json, onnxruntime",
            f'session = onnxruntime.InferenceSession("{file}")',
            'probs = session.run(["probs"], {"image": images})[0]',
            'names = json.loads(session.get_modelmeta().custom_metadata_map["class_names"])',
        ]
    if name == "stablehlo":
        return [
            "from jax import export",
            f'probs = export.deserialize(bytearray(open("{file}", "rb").read())).call(images)',
        ]
    target = found["target"]
    normal = "# of (images / 255 - mean) / std, float32, channels first; without the calibration"
    more = "".join(f", {key}={value!r}" for key, value in target["arguments"].items())
    if target["library"] == "timm":
        made = f'timm.create_model("{target["name"]}", checkpoint_path="{file}", num_classes={classes}{more})'
        return ["import timm", f"net = {made}.train(False)", f"logits = net(normal)  {normal}"]
    return [
        "import torchvision",
        "from safetensors.torch import load_file",
        f'net = torchvision.models.get_model("{target["name"]}", num_classes={classes}{more}).train(False)',
        f'net.load_state_dict(load_file("{file}"))',
        f"logits = net(normal)  {normal}",
    ]


def _start(config: ModelConfig) -> str:
    """What the training began with."""
    if not config.weights:
        return "random weights"
    name = config.weights if config.weights.startswith("hf:") else Path(config.weights).name
    return f"{name}, SHA-256 {config.weights_sha256 or 'not recorded'}"


def _compared(found: Mapping[str, Any]) -> str:
    if "accuracy" in found:
        model, own = found["accuracy"]["model"], found["accuracy"]["int8"]
        return f"accuracy on {found['val_images']:,} val pictures {own:.4f}, the model's {model:.4f}"
    on = f"on {found['images']:,} pictures, {found['distinct']:,} of them different, by {found['runtime']}"
    if found.get("bit_identical"):
        return f"the same bits {on}"
    return f"{found['quantity']} within {found['max_difference']:.1e} and the same decisions {on}"


def _measured(numbers: dict[str, Any]) -> list[str]:
    if not numbers:
        return ["Nothing: the run had no report yet when this was exported."]
    names = [name for name in metrics.NUMBERS if all(name in values for values in numbers.values())]
    lines = [
        "| split | images | views | " + " | ".join(metrics.text(name) for name in names) + " |",
        "| --- | --- | --- |" + " --- |" * len(names),
    ]
    for split, values in numbers.items():
        cells = []
        for name in names:
            low, high = values["intervals"].get(name, (None, None))
            within = f" [{low:.4f}, {high:.4f}]" if low is not None and high is not None else ""
            cells.append(f"{values[name]:.4f}{within}")
        lines.append(f"| {_cell(split)} | {_cell(values['n'])} | {_cell(values['views'])} | {' | '.join(cells)} |")
    lines += ["", "In brackets: 95 % intervals. As the run judged itself, before any calibration."]
    lines += [f"{_cell(split)}: {_cell(values.get('leak_check') or _UNCHECKED)}." for split, values in numbers.items()]
    return [*lines, "Leaked are pictures of which an earlier split (train; of test also val) has a copy."]


def _numbers(stored: Stored) -> dict[str, Any]:
    """split -> numbers of the run's report; of a bundle, those that it was given."""
    if stored.manifest:
        return stored.manifest.get("numbers", {})
    found = {}
    for split in ("val", "test"):
        path = stored.path / "report" / f"{split}.json"
        if path.is_file():
            values = files.parse_json(path.read_text(encoding="utf-8"))
            if values.get("step") == stored.step:  # of the same weights
                kept = ("n", "views", "dataset", "per_class", "confusion")
                found[split] = {name: values[name] for name in metrics.NUMBERS if values.get(name) is not None}
                found[split] |= {name: values.get(name) for name in kept}
                found[split]["intervals"] = values.get("intervals") or {}
                found[split]["leak_check"] = (values.get("leak_check") or {}).get("text", _UNCHECKED)
    return found


def _arrays(stored: Stored) -> dict[str, np.ndarray]:
    return {name: np.asarray(leaf, np.float32) for name, leaf in paths.flatten(stored.weights).items()}


def _cell(text: Any) -> str:
    """Text in a cell of a Markdown table."""
    return " ".join(str(text).replace("|", "\\|").replace("<", "&lt;").split())
