"""The inference function, test-time views, predictions over a split, and `load`: all that answers "which class?"."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, UInt8

from emojax import models, parallel, stored as stored_lib, views as views_lib
from emojax.config import Config
from emojax.data import pipeline
from emojax.data.given import Given
from emojax.decision import Decision
from emojax.errors import ConfigError
from emojax.scaling import Scaling
from emojax.types import Batch, Predictions, Split, Tree

Infer = Callable[[Tree, Tree, UInt8[Array, "B H W 3"]], Float[Array, "B K"]]
"""(params, model_state, uint8 images) → probabilities. Preprocessing is inside."""
MAX_PIXELS = 1 << 24
"""Most pixels in a batch of evaluation: 334 pictures of 224 px, for which a ResNet-50 takes about 5 GB."""
Explain = Callable[[Tree, Tree, Any, Any], Float[Array, "B Y X"]]
"""(params, model_state, uint8 images [B, H, W, 3], classes int32 [B]) → evidence in [0, 1]."""


def inference_function(
    model: models.Model, *, views: Sequence[views_lib.View], average: str, scaling: Scaling | None = None
) -> Infer:
    """The one function that turns images into probabilities; evaluation, `predict` and exports all use it.

    Args:
      model: from `models.build`.
      views: functions uint8 [B, H, W, 3] → uint8 [B, H, W, 3], an entry of `views.VIEWS`.
      average: what is averaged over the views, "probs" or "logits".
      scaling: of the averaged probabilities, as `scaling.apply` does on the host; None = as the model gives them.

    Returns:
      A pure function: params, model_state, uint8 [B, H, W, 3] → float32 [B, K], rows sum to 1. The caller jits it.
    """

    def infer(params: Tree, model_state: Tree, image: UInt8[Array, "B H W 3"]) -> Float[Array, "B K"]:
        def see(image: UInt8[Array, "B H W 3"]) -> Float[Array, "B K"]:
            output, _ = model.apply(params, model_state, model.normalised(image), train=False)
            return output.logits if average == "logits" else jax.nn.softmax(output.logits, axis=-1)

        if len(views) > 2:  # the network once in the program, not sixteen times
            found = jax.lax.map(see, jnp.stack([view(image) for view in views])).mean(axis=0)
        else:
            each = [see(view(image)) for view in views]
            found = sum(each[1:], start=each[0]) / len(each)
        probs = jax.nn.softmax(found, axis=-1) if average == "logits" else found
        if scaling is None:
            return probs
        log_probs = jnp.log(jnp.maximum(probs, jnp.finfo(jnp.float32).tiny))
        return jax.nn.softmax(log_probs * jnp.asarray(scaling.scale) + jnp.asarray(scaling.bias), axis=-1)

    return infer


@functools.lru_cache(maxsize=8)  # one compiled program per model and batch size, however often it is asked for
def explain_function(model: models.Model, views: str) -> Explain:
    """Where in an image the evidence for a class lies, see `models.class_activation`. Preprocessing is inside.

    Of the image itself and, where the test-time `views` hold mirror images, of that too, turned back: the mean of both.
    """
    mirrored = any("mirror" in name for name in views_lib.NAMES[views])

    def explain(params: Tree, model_state: Tree, image: Any, classes: Any) -> Any:
        def found(image: Any) -> Any:
            return models.class_activation(model, params, model_state, model.normalised(image), classes)

        one = found(image)
        return models.scaled_evidence(one + found(image[:, :, ::-1])[:, :, ::-1]) if mirrored else one

    return jax.jit(explain)


def compiled(infer: Infer) -> Infer:
    """The inference function as one program."""
    return jax.jit(infer, compiler_options=parallel.compiler_options())


def over(
    infer: Infer,
    params: Tree,
    model_state: Tree,
    batches: Iterable[Batch],
    split: Split,
    *,
    mesh: Mesh,
    poll: Callable[[], None] = lambda: None,
) -> Predictions:
    """Runs a jitted inference function over all batches of a split.

    Records whose image could not be read come back with weight 0. `poll` is called before every batch; what it raises
    ends the work.
    """
    probs = np.full(split.label.shape, 1 / split.label.shape[1], np.float32)
    weight = np.zeros(len(split), np.float32)
    waiting: list[tuple[jax.Array, Batch]] = []

    def collect(result: tuple[jax.Array, Batch]) -> None:
        found, batch = (parallel.to_host(x) for x in (result[0], result[1].index))
        real = batch >= 0
        probs[batch[real]] = found[real]
        weight[batch[real]] = parallel.to_host(result[1].weight)[real]

    for host in batches:
        poll()
        batch = parallel.shard(mesh, host)
        waiting.append((infer(params, model_state, batch.image), batch))
        if len(waiting) > 1:  # fetch a result only after the next batch is on its way
            collect(waiting.pop(0))
    for result in waiting:
        collect(result)
    return Predictions(probs=probs, label=split.label, weight=weight, id=split.id, slices=split.slices)


BUCKETS = (1, 2, 4, 8, 16, 32)


def bucket(count: int) -> int:
    """The batch size for `count` pictures, the least of `BUCKETS` that holds them or the largest: calls with any number
    of pictures compile six programs and no more."""
    return next((size for size in BUCKETS if size >= count), BUCKETS[-1])


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A trained model, ready to predict.

    Attributes:
      class_names: in the order of the probability columns; they come from the checkpoint.
      config: of the training run.
      image_size: side to which pictures are resized, pixels.
      step: update from which the weights are.
      views: name of the test-time views that are averaged.
      decision: what `emojax calibrate` has stored for these weights and views; its scaling is part of every
        probability, `decision.decided` gives abstentions and sets. None = probabilities are as the model gives them.
      note: why a stored decision is left out; "" = it is not.
    """

    class_names: tuple[str, ...]
    config: Config
    image_size: int
    step: int
    views: str
    decision: Decision | None
    note: str
    _model: models.Model
    _infer: Infer
    _weights: dict[str, Tree]

    def predict(self, images: Any, *, batch_size: int = 0) -> Predictions:
        """Class probabilities of pictures.

        Args:
          images: one or many paths, encoded bytes, uint8 arrays [H, W], [H, W, 3] or [H, W, 4] (transparent parts
            become white), or Pillow images, in any mixture and of any size; see `data.given.Given.of`.
          batch_size: pictures at once; 0 = 32, and the `bucket` of what is left for the rest.

        Returns:
          Predictions in the order of `images`. A picture that could not be read has weight 0 and NaN for probabilities.
          `label` is uniform, for nothing is known of it.

        Raises:
          DataError: something given is no picture, for instance an array of floats.
        """
        given = Given.of(images)
        names, count = given.names(), len(given)
        uniform = np.full((count, len(self.class_names)), 1 / len(self.class_names), np.float32)
        split = Split(name="predict", images=given, label=uniform, weight=np.ones(count, np.float32), id=names)
        rest = count % BUCKETS[-1]
        if batch_size or not rest or rest == count:
            parts = [self.predict_split(split, batch_size=batch_size or bucket(count))]
        else:
            cut = count - rest
            parts = [
                self.predict_split(split.take(np.arange(start, stop)), batch_size=bucket(stop - start))
                for start, stop in ((0, cut), (cut, count))
            ]
        probs, weight = (np.concatenate([getattr(part, name) for part in parts]) for name in ("probs", "weight"))
        probs[weight == 0] = np.nan
        return dataclasses.replace(parts[0], probs=probs, weight=weight, label=uniform, id=names)

    def digest(self) -> str:
        """SHA-256 over all weights and statistics, in hexadecimal: the same for the same classifier, wherever it is."""
        total = hashlib.sha256()
        for leaf in jax.tree.leaves(self._weights):
            total.update(np.ascontiguousarray(leaf).tobytes())
        return total.hexdigest()

    @property
    def weights(self) -> dict[str, Tree]:
        """{"params": ..., "model_state": ...} as the inference function takes them."""
        return self._weights

    def per_view(self) -> dict[str, Classifier]:
        """{view: a classifier that sees this one of the test-time views alone}, without the decision, which was fitted
        for all of them."""
        average, names = self.config.eval.view_average, views_lib.NAMES[self.views]
        return {
            name: dataclasses.replace(
                self,
                decision=None,
                _infer=compiled(inference_function(self._model, views=(view,), average=average)),
            )
            for name, view in zip(names, views_lib.VIEWS[self.views], strict=True)
        }

    def probabilities(self, images: UInt8[np.ndarray, "B S S 3"]) -> Float[np.ndarray, "B K"]:
        """Class probabilities of images as `predict_split` shows them to the model, on one device; each B compiles."""
        return np.asarray(self._infer(self._placed["params"], self._placed["model_state"], jnp.asarray(images)))

    def explain(self, images: UInt8[np.ndarray, "B S S 3"], classes: Int[np.ndarray, " B"]) -> Any:
        """Class-activation maps float32 [B, Y, X] in [0, 1] of images as `predict_split` shows them to the model."""
        found = explain_function(self._model, self.views)(
            self._placed["params"], self._placed["model_state"], images, classes
        )
        return np.asarray(found)

    @functools.cached_property
    def _placed(self) -> dict[str, Tree]:
        """The weights on the first device: they do not travel with every call."""
        return jax.device_put(self._weights, jax.local_devices()[0])

    def predict_split(self, split: Split, *, batch_size: int = 0) -> Predictions:
        """Predictions for a split of a data set, as in training's evaluation but for the size of the batches.

        `batch_size` 0 = that of the recipe, which may be a stranger's: at most `MAX_PIXELS` at once.
        """
        recipe = self.config.eval.batch_size or self.config.batch_size
        batch_size = batch_size or min(recipe, max(1, MAX_PIXELS // self.image_size**2))
        with parallel.mesh() as mesh:
            # A whole number of images per device; padding has weight 0.
            batch_size += -batch_size % jax.device_count()
            weights = parallel.replicate(mesh, self._weights)
            with pipeline.eval_batches(
                split,
                size=self.image_size,
                crop=self.config.eval.crop,
                fit=self.config.fit,
                interpolation=self.config.eval.interpolation,
                batch_size=batch_size,
                process=parallel.process(),
            ) as batches:
                return over(self._infer, weights["params"], weights["model_state"], batches, split, mesh=mesh)


def load(path: str | Path, *, which: str = "best", views: str = "", decision: str = "stored") -> Classifier:
    """Opens a trained model for prediction. Nothing in a bundle is executed.

    Args:
      path: the --workdir of a training run, or a bundle of `emojax export`, a folder or a .zip.
      which: "best" (by the run's `eval.metric` on val), "last", or a step; of a bundle "best".
      views: a name in `views.VIEWS`; "" = as in the run's config.
      decision: "stored", that of `emojax calibrate` where it is for these weights and views, or "none".

    Raises:
      CheckpointError: there is no usable checkpoint, or the bundle is damaged or of a newer version.
      ConfigError: there are no such views, or `decision` is neither.
      DataError: the stored decision has been changed, or is for other classes.
    """
    if views and views not in views_lib.VIEWS:
        raise ConfigError(f"views: expected one of {', '.join(views_lib.VIEWS)}, found {views!r}")
    if decision not in ("stored", "none"):
        raise ConfigError(f"decision: expected stored or none, found {decision!r}")
    parallel.prepare()
    stored = stored_lib.read(path, which=which)
    meta, model = stored.meta, stored.model
    views = views or meta.config.eval.views
    if views not in views_lib.VIEWS:
        raise ConfigError(f"{path}: has the test-time views {views!r}, which this emojax does not know")
    weights = dict(stored.weights)
    weights["params"] = model.rounded(weights["params"], meta.image_size)
    found, note = stored.decision(views) if decision == "stored" else (None, "")
    infer = inference_function(
        model,
        views=views_lib.VIEWS[views],
        average=meta.config.eval.view_average,
        scaling=found.scaling if found else None,
    )
    return Classifier(
        class_names=meta.class_names,
        config=meta.config,
        image_size=meta.image_size,
        step=stored.step,
        views=views,
        decision=found,
        note=note,
        _model=model,
        _infer=compiled(infer),
        _weights=weights,
    )
