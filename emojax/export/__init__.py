"""`emojax export`: a trained model as files for other runtimes, each compared with the model before it is kept.

What is exported is the one inference function of `predict.py`: uint8 pictures in, preprocessing, test-time views and
calibration inside, probabilities out, for any number of pictures. Only the safetensors for timm and torchvision are
bare weights: those libraries bring the network themselves, and do the preprocessing that the manifest tells.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from emojax import bundle, combine, files, models, predict, scaling as scaling_lib, views as views_lib
from emojax.data import schemas
from emojax.errors import ConfigError, DataError, ExportError, WorkdirError
from emojax.export import bundle_file, gate, onnx_file, stablehlo, torch_file
from emojax.export.gate import Pictures
from emojax.stored import Stored, read
from emojax.types import Split

NAMES = {
    "bundle": bundle.WEIGHTS,
    "onnx": "model.onnx",
    "int8": "model-int8.onnx",
    "stablehlo": "model.stablehlo",
    "safetensors": "torch.safetensors",
}
"""format -> its file."""
_NO_FOLDERS = (".onnx", ".safetensors", ".stablehlo", ".pt", ".pth", ".gz", ".tgz", ".tar", ".7z")
"""Names that a folder should not have: who gives one means a file."""
_PACKAGES = ("jax", "jaxlib", "flax", "numpy", "safetensors", "jax2onnx", "onnx", "onnxruntime", "timm", "torch")


def run(
    source: str | Path,
    out: Path,
    formats: Sequence[str],
    *,
    val: Split | None,
    which: str = "best",
    views: str = "",
    decision: str = "stored",
    images: int = 1000,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Writes a folder, or a zip file where `out` ends in .zip, with a manifest, and returns what the comparisons found.

    Args:
      source: work directory or bundle.
      out: must not exist.
      formats: names in `NAMES`.
      val: pictures for the comparison; None = noise alone.
      which, views, decision: as in `predict.load`.
      images: how many are compared.
      say: is told every result as it comes.

    Raises:
      ExportError: an export does not say what the model says. Nothing is written then, nor after any other error.
      ConfigError: a format is unknown or needs a package that is missing, `out` has the name of another kind of file,
        or this model has none of that kind.
      WorkdirError: `out` exists, or its folder does not.
    """
    formats = list(dict.fromkeys(formats))
    if not formats or any(name not in NAMES for name in formats):
        raise ConfigError(f"--format: expected some of {', '.join(NAMES)}, found {', '.join(formats) or 'none'}")
    if images < 1:
        raise ConfigError(f"--images: expected at least 1, found {images}")
    if out.suffix.lower() in _NO_FOLDERS:
        raise ConfigError(f"{out}: what is exported is a folder, or a zip file where the name ends in .zip")
    if out.exists() or out.is_symlink():
        raise WorkdirError(f"{out} exists; exports go to a new place")
    if not out.parent.is_dir():
        raise WorkdirError(f"{out.parent} is not a folder; make it first")
    if "int8" in formats and val is None:
        raise DataError("--format=int8: its cost is measured on val, and there are no val pictures here")
    if {"onnx", "int8"} & set(formats):
        onnx_file.check_installed()
    stored = read(source, which=which)
    classifier = predict.load(source, which=which, views=views, decision=decision)
    seen = gate.pictures(classifier, val, images)
    say(f"comparing on {seen.text()}")
    with files.named(out):
        work = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        folder = work / "export"
        folder.mkdir()
        job = _Job(stored, classifier, seen, folder, val, say)
        found = {name: _WRITERS[name](job) for name in sorted(formats, key=list(NAMES).index)}
        manifest = bundle_file.manifest(stored, classifier) | {
            "exports": found,
            "input": {"name": onnx_file.INPUT, "dtype": "uint8", "shape": ["B", job.size, job.size, 3]},
            "output": {"name": onnx_file.OUTPUT, "dtype": "float32", "shape": ["B", len(classifier.class_names)]},
            "versions": _versions(),
        }
        (folder / bundle.CARD).write_text(bundle_file.card(stored, classifier, found), encoding="utf-8")
        bundle.write(folder, manifest)
        if "bundle" in formats:
            _reload(job, folder)
        if out.suffix == ".zip":
            bundle.zipped(folder, work / "export.zip")
            (work / "export.zip").rename(out)
        else:
            folder.rename(out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return found


class _Job:
    """What every writer needs; the answers of the model are computed once."""

    def __init__(
        self,
        stored: Stored,
        classifier: predict.Classifier,
        seen: Pictures,
        folder: Path,
        val: Split | None,
        say: Callable[[str], None],
    ) -> None:
        self.stored, self.classifier, self.seen = stored, classifier, seen
        self.folder, self.val, self.say = folder, val, say
        self.size = classifier.image_size
        self.own = gate.run(classifier.probabilities, seen.images)
        """What the classifier says, in the arithmetic of its config."""
        config = stored.meta.config.model
        self.is_float32 = config.compute == "float32" and not config.products
        whole = dataclasses.replace(config, compute="float32", products="")
        self.model32 = models.build(whole, len(classifier.class_names))
        self.infer32 = predict.inference_function(
            self.model32,
            views=views_lib.VIEWS[classifier.views],
            average=stored.meta.config.eval.view_average,
            scaling=classifier.decision.scaling if classifier.decision else None,
        )

    def path(self, name: str) -> Path:
        return self.folder / NAMES[name]

    def write_onnx(self) -> None:
        """With the names of the classes, so that the file can travel alone."""
        names = self.classifier.class_names
        about = {"class_names": json.dumps(names), "schema": schemas.identify(names)}
        onnx_file.write(self.path("onnx"), self.infer32, self.stored.weights, self.size, metadata=about)

    def expected32(self) -> np.ndarray:
        """What the same network says when all of its arithmetic is float32."""
        if self.is_float32:
            return self.own
        call, weights = predict.compiled(self.infer32), self.stored.weights
        return gate.run(
            lambda x: np.asarray(call(weights["params"], weights["model_state"], jnp.asarray(x))), self.seen.images
        )

    def calibrated(self, logits: np.ndarray) -> np.ndarray:
        """The probabilities of logits [N, K] of one view, with what `emojax calibrate` has stored."""
        probs = combine.softmax(logits)
        return scaling_lib.rescaled(self.classifier.decision.scaling, probs) if self.classifier.decision else probs

    def judged(self, name: str, agreement: gate.Agreement) -> dict[str, Any]:
        gate.require(NAMES[name], agreement)
        self.say(f"{NAMES[name]}: {_text(agreement)}")
        return {"file": NAMES[name], **dataclasses.asdict(agreement)}

    def rounding(self) -> dict[str, Any]:
        """How far float32 is from the classifier's own arithmetic, where that is another."""
        if self.is_float32:
            return {"arithmetic": "float32"}
        found = gate.compare(self.seen, self.own, self.expected32(), quantity="probs", runtime="emojax in float32")
        return {
            "arithmetic": "float32; the classifier rounds to bfloat16",
            "from_classifier": dataclasses.asdict(found),
        }


def _bundle(job: _Job) -> dict[str, Any]:
    bundle_file.write_weights(job.path("bundle"), job.stored)
    return {"file": NAMES["bundle"], "bit_identical": True, "runtime": "emojax.load", **job.seen.counts()}


def _reload(job: _Job, folder: Path) -> None:
    """The bundle as it will lie there must give the same bits."""
    again = predict.load(folder, views=job.classifier.views, decision="stored" if job.classifier.decision else "none")
    if not np.array_equal(gate.run(again.probabilities, job.seen.images), job.own):
        raise ExportError("the bundle does not give the bits that the model gives, so nothing was written")
    job.say(f"{NAMES['bundle']}: bit-identical through emojax.load")


def _onnx(job: _Job) -> dict[str, Any]:
    job.write_onnx()
    found = gate.run(onnx_file.Session(job.path("onnx")), job.seen.images)
    runtime = f"onnxruntime {importlib.metadata.version('onnxruntime')}"
    agreement = gate.compare(job.seen, job.expected32(), found, quantity="probs", runtime=runtime)
    return job.judged("onnx", agreement) | job.rounding()


def _int8(job: _Job) -> dict[str, Any]:
    assert job.val is not None  # `run` asks for it
    source, made = job.path("onnx"), False
    if not source.is_file():
        job.write_onnx()
        made = True
    onnx_file.quantise(source, job.path("int8"))
    functions = {"model": job.classifier.probabilities, "int8": onnx_file.Session(job.path("int8"))}
    found = gate.accuracies(job.classifier, job.val, functions)
    if made:
        source.unlink()
    lost = found["model"] - found["int8"]
    job.say(f"{NAMES['int8']}: accuracy on val {found['int8']:.4f}, the model's {found['model']:.4f}: {lost:+.4f} lost")
    return {"file": NAMES["int8"], "val_images": len(job.val), "accuracy": found, "accuracy_lost": lost}


def _stablehlo(job: _Job) -> dict[str, Any]:
    classifier = job.classifier
    infer = predict.inference_function(
        job.stored.model,
        views=views_lib.VIEWS[classifier.views],
        average=classifier.config.eval.view_average,
        scaling=classifier.decision.scaling if classifier.decision else None,
    )
    stablehlo.write(job.path("stablehlo"), infer, classifier.weights, job.size)
    found = gate.run(stablehlo.read(job.path("stablehlo")), job.seen.images)
    runtime = f"jax {importlib.metadata.version('jax')}"
    agreement = gate.compare(job.seen, job.own, found, quantity="probs", runtime=runtime)
    return job.judged("stablehlo", agreement) | {"platforms": stablehlo.PLATFORMS}


def _safetensors(job: _Job) -> dict[str, Any]:
    target = torch_file.write(job.path("safetensors"), job.stored)
    function, runtime = torch_file.read(
        job.path("safetensors"), dataclasses.replace(job.stored, model=job.model32), target
    )
    weights = job.stored.weights

    @jax.jit
    def ours(images: Any) -> Any:
        output, _ = job.model32.apply(weights["params"], weights["model_state"], images, train=False)
        return output.logits

    def normal(images: np.ndarray) -> np.ndarray:
        return np.asarray(job.model32.normalised(jnp.asarray(images)))

    expected = gate.run(lambda x: np.asarray(ours(normal(x))), job.seen.images)
    found = gate.run(lambda x: function(normal(x)), job.seen.images)
    also = {"probs": (job.calibrated(expected), job.calibrated(found))}
    agreement = gate.compare(job.seen, expected, found, quantity="logits", runtime=runtime, also=also)
    return job.judged("safetensors", agreement) | {"target": dataclasses.asdict(target), "calibrated": False}


_WRITERS: dict[str, Callable[[_Job], dict[str, Any]]] = {
    "bundle": _bundle,
    "onnx": _onnx,
    "int8": _int8,
    "stablehlo": _stablehlo,
    "safetensors": _safetensors,
}


def _text(found: gate.Agreement) -> str:
    return (
        f"{found.quantity} within {found.max_difference:.1e}, {found.decisions_differ} decisions differ "
        f"(opened by {found.runtime})"
    )


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
