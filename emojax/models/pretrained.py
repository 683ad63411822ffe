"""Pretrained weights: from a file with another library's names to the parameters of a network, strictly.

What the weights want of their input and of the arithmetic (mean, deviation, interpolation, padding, epsilon) becomes
the value of knobs that the config leaves open, so that it is saved with every checkpoint, and training, evaluation and
prediction do the same.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from emojax import files, paths, tensor_file
from emojax.config import Config, ModelConfig
from emojax.errors import CheckpointError, ConfigError
from emojax.models import layouts
from emojax.models.families import FAMILIES
from emojax.models.model import Model
from emojax.types import Tree
from emojax.visible import one_line

HUB = "hf:"
OWN = "emojax"
"""Key of the metadata under which emojax's own files tell what they are."""
KNOBS = ("mean", "std", "padding", "norm_epsilon")
"""Knobs of `ModelConfig` that weights may set; `interpolation` of `EvalConfig` too."""


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """A file of weights, known from its header.

    Attributes:
      path: on this machine.
      header: names, types and shapes.
      layout: whose names they are; None for emojax's own, and where nobody's are recognised.
      knobs: what the weights want; see `KNOBS`.
    """

    path: Path
    header: tensor_file.Header
    layout: layouts.Layout | None
    knobs: dict[str, Any]

    @property
    def own(self) -> dict[str, Any] | None:
        """What emojax has written into its own file; None for others."""
        return tensor_file.facts(self.header.metadata, OWN)


def locate(name: str) -> Path:
    """The file that `model.weights` names; one of the Hugging Face hub is fetched into the hub's own cache.

    Raises `ConfigError` for a name of the hub of another form or of another kind of file, before anything is fetched,
    and without the library; `CheckpointError` when the hub has no such file or cannot be reached.
    """
    if not name.startswith(HUB):
        return Path(name)
    repository = re.fullmatch(r"([\w.-]+/[\w.-]+)(?:/([\w./-]+))?", name[len(HUB) :])
    file = (repository and repository[2]) or "model.safetensors"
    if not repository or ".." in file.split("/"):
        raise ConfigError(f"config.model.weights: expected hf:ORG/NAME or hf:ORG/NAME/FILE, found {name!r}")
    if Path(file).suffix not in tensor_file.SUFFIXES:
        raise ConfigError(
            f"config.model.weights: expected a file that ends in {' or '.join(tensor_file.SUFFIXES)}, found {file!r}; "
            "nothing was fetched"
        )
    try:
        hub: Any = importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise ConfigError(f"config.model.weights: {name} needs an extra: pip install 'emojax[hub]'") from error
    try:
        return _fetched(hub, repository[1], file)
    except Exception as error:  # whatever the hub and the network come up with
        raise CheckpointError(f"{name} cannot be fetched: {one_line(str(error))[:300]}") from error


@functools.lru_cache(maxsize=8)  # a run asks twice: for what the weights want, and for the weights
def _fetched(hub: Any, repository: str, file: str) -> Path:
    """A file of the hub in its cache, and timm's config.json beside weights in safetensors, where there is one."""
    path = Path(hub.hf_hub_download(repository, file))
    beside = str(Path(file).with_name("config.json"))
    if path.suffix == ".safetensors" and beside in hub.list_repo_files(repository):
        hub.hf_hub_download(repository, beside)
    return path


def open_source(name: str) -> Source:
    """What `model.weights` names, by its header alone. Raises as `locate` and `tensor_file.header`."""
    path = locate(name)
    if name == "FILE" and not path.exists():  # what recipes have there
        raise ConfigError("this recipe starts from pretrained weights: give them with --config.model.weights=FILE")
    head = tensor_file.header(path)
    own = tensor_file.facts(head.metadata, OWN)
    if own is not None:
        return Source(path, head, None, _checked(own.get("knobs", {}), path))
    layout = layouts.guess(_bare(name) for name in head.entries)
    return Source(path, head, layout, (dict(layout.knobs) if layout else {}) | _beside(path))


def _checked(knobs: Any, path: Path) -> dict[str, Any]:
    """The knobs in an own file, which somebody may have written by hand."""
    if not isinstance(knobs, dict) or set(knobs) - {*KNOBS, "interpolation"}:
        raise CheckpointError(f"{one_line(str(path))}: its metadata name knobs that weights cannot set")
    return {key: tuple(value) if isinstance(value, list) else value for key, value in knobs.items()}


def _beside(path: Path) -> dict[str, Any]:
    """What timm's config.json in the same folder says."""
    config = path.with_name("config.json")
    if not config.is_file() or config.stat().st_size > 1 << 20:
        return {}
    try:
        values = files.parse_json(config.read_bytes())
    except (ValueError, OSError):
        return {}
    return layouts.of_timm(values) if isinstance(values, dict) and "architecture" in values else {}


def _bare(name: str) -> str:
    """A name without the prefix of torch's DataParallel."""
    return name.removeprefix("module.")


def resolved(config: Config, earlier: Config | None = None) -> Config:
    """The config with what its weights say in the knobs that it leaves open, and with the digest of their file.

    Args:
      config: of the run.
      earlier: resolved config of the same run when it has begun: the file is not needed then.

    Raises `ConfigError` and `CheckpointError` as `open_source` does, and when the file is not the one that
    `weights_sha256` names.
    """
    model = config.model
    if not model.weights:
        return config
    if earlier is not None and earlier.model.weights == model.weights:
        knobs = {knob: getattr(earlier.model, knob) for knob in (*KNOBS, "weights_sha256")}
        interpolation = earlier.eval.interpolation
    else:
        source = open_source(model.weights)
        digest = tensor_file.digest(source.path)
        if model.weights_sha256 and model.weights_sha256 != digest:
            raise CheckpointError(
                f"{model.weights} is another file than the recipe names: expected the SHA-256 {model.weights_sha256}, "
                f"found {digest}"
            )
        knobs = source.knobs | {"weights_sha256": digest}
        interpolation = knobs.pop("interpolation", "")
    fresh = {knob: value for knob, value in knobs.items() if not getattr(model, knob)}
    model = dataclasses.replace(model, **fresh)
    judged = dataclasses.replace(config.eval, interpolation=config.eval.interpolation or interpolation)
    return dataclasses.replace(config, model=model, eval=judged)


def load(model: Model, config: ModelConfig, like: tuple[Tree, Tree]) -> dict[str, np.ndarray]:
    """{"params/..." or "model_state/...": array} of everything that does not start anew.

    Args:
      model, config: the network.
      like: shapes of (params, model_state).

    Raises `CheckpointError` that lists what is missing in the file, what it holds besides, and what has another shape;
    `ConfigError` when `config.reinit` matches nothing or everything.
    """
    source = open_source(config.weights)
    digest = tensor_file.digest(source.path)
    if config.weights_sha256 and digest != config.weights_sha256:
        raise CheckpointError(f"{config.weights} has changed: its SHA-256 is {digest}, not {config.weights_sha256}")
    return fitted(arrays(model, source), like, reinit=config.reinit, where=config.weights)


def arrays(model: Model, source: Source) -> dict[str, np.ndarray]:
    """The arrays of a file under emojax's paths, see `load`. Raises `CheckpointError` for names of no such network."""
    found = tensor_file.read(source.path)
    if source.own is not None:
        return found
    try:
        params, model_state = model.from_torch({_bare(name): array for name, array in found.items()})
    except (ValueError, IndexError) as error:  # arrays with another number of axes than their name asks for
        raise CheckpointError(f"{source.path}: no weights of {model.name}: {error}") from error
    return paths.flatten({"params": params, "model_state": model_state})


def fitted(
    found: Mapping[str, np.ndarray], like: tuple[Tree, Tree], *, reinit: str, where: str
) -> dict[str, np.ndarray]:
    """The arrays that a network of shapes `like` takes over; raises as `load` does."""
    taken, differences = _compared(found, like, reinit=reinit)
    if differences:
        raise CheckpointError(
            f"{where} does not fit the network. {_listed(differences)}. Choose config.model.name and stem as the "
            "weights have them (emojax weights inspect tells), or let what differs start anew with config.model.reinit"
        )
    return taken


def _compared(
    found: Mapping[str, np.ndarray], like: tuple[Tree, Tree], *, reinit: str
) -> tuple[dict[str, np.ndarray], dict[str, list[str]]]:
    """(the arrays that are taken over, {how others differ from those of the network: which})."""
    shapes = {path: leaf.shape for path, leaf in paths.flatten(dict(zip(_TREES, like, strict=True))).items()}
    regex = paths.compile_pattern(reinit, knob="model.reinit")
    anew = {path for path in {*shapes, *found} if reinit and regex.search(path.split("/", 1)[1])}
    anew |= {path for path in shapes if path.startswith("params/head/importance/")}  # no library has it
    if reinit and not anew & shapes.keys():
        raise ConfigError(f"config.model.reinit: {reinit!r} matches no parameter")
    if not shapes.keys() - anew:
        raise ConfigError(f"config.model.reinit: {reinit!r} matches every parameter; then leave out model.weights")
    taken = {path: _stem(path, array, shapes.get(path)) for path, array in found.items() if path not in anew}
    missing = sorted(shapes.keys() - anew - taken.keys())
    unexpected = sorted(taken.keys() - shapes.keys())
    other = [
        f"{path} {list(taken[path].shape)} instead of {list(shapes[path])}"
        for path in sorted(shapes.keys() & taken.keys())
        if taken[path].shape != shapes[path]
    ]
    kinds = {"missing": missing, "unexpected": unexpected, "of another shape": other}
    return taken, {kind: names for kind, names in kinds.items() if names}


_TREES = ("params", "model_state")


def _stem(path: str, array: np.ndarray, shape: tuple[int, ...] | None) -> np.ndarray:
    """The first convolution of weights for C channels, for three: the inverse of timm's `adapt_input_conv`.

    One channel: a third of it in each, so that a grey image gives what it gave. A multiple of three, which timm makes
    by repeating: the sum of the repeats. Others stay as they are, and do not fit.
    """
    first = re.fullmatch(r"params/stem/(?:\w+/)?kernel", path) and array.ndim == 4 and shape and shape[2] == 3
    channels = array.shape[2] if first else 3
    if channels == 1:
        return np.repeat(array, 3, axis=2) / 3
    if channels > 3 and channels % 3 == 0:
        height, width, _, out = array.shape
        return array.reshape(height, width, channels // 3, 3, out).sum(2)
    return array


def _listed(differences: Mapping[str, list[str]]) -> str:
    def some(names: list[str]) -> str:
        shown = [name.removeprefix("params/") for name in names[:8]]
        return ", ".join(map(one_line, shown)) + (f" and {len(names) - 8} more" if names[8:] else "")

    return "; ".join(f"{len(names)} {kind}: {some(names)}" for kind, names in differences.items())


def merged(params: Tree, model_state: Tree, taken: Mapping[str, Any]) -> tuple[Tree, Tree]:
    """(params, model_state) with the arrays of `load` in their places."""
    both = paths.map_with_path(taken.get, {"params": params, "model_state": model_state})
    return both["params"], both["model_state"]


@dataclasses.dataclass(frozen=True, slots=True)
class Match:
    """The network that weights are of: `ModelConfig.name`, `stem` and the number of classes."""

    name: str
    stem: str
    classes: int


def nearest(source: Source, *, name: str = "", stem: str = "") -> tuple[Match, str]:
    """(the network with the fewest arrays that differ from a file's, of those called `name` with the stem `stem` where
    given; how they differ, "" = not at all). Raises `CheckpointError` for names that are in no network."""
    from emojax.models import build, names

    if name and name not in names():
        raise ConfigError(f"expected a network out of {', '.join(names())}, found {name!r}")
    if source.own is not None and not name:
        own = {key: source.own.get(key) for key in ("name", "stem")}
        name, stem = (str(own["name"]), stem or str(own["stem"])) if own["name"] in names() else ("", stem)
    # Only shapes count here: a broadcast zero has them, and takes no memory.
    zeros = {
        _bare(key): np.broadcast_to(np.float32(0), entry.shape)
        for key, entry in source.header.entries.items()
        if not key.endswith("num_batches_tracked")
    }
    family = source.layout.family if source.layout else ".*"
    known = [name] if name else [one for variants, _ in FAMILIES for one in variants if re.fullmatch(family, one)]
    stems = [stem] if stem else ["imagenet", "small"]
    best, fewest, reason = None, math.inf, ""
    for config in [ModelConfig(name=one, stem=each) for one in known for each in stems]:
        try:
            model = build(config, 2)
            trees = None if source.own is not None else dict(zip(_TREES, model.from_torch(zeros), strict=True))
            found = zeros if trees is None else paths.flatten(trees)
            last = found.get("params/head/dense/bias", found.get("params/head/dense/kernel", np.zeros(2)))
            _, differences = _compared(found, shapes_of(build(config, last.shape[-1])), reinit="")
            match, count = Match(config.name, config.stem, last.shape[-1]), sum(map(len, differences.values()))
        except (CheckpointError, ConfigError, KeyError, IndexError, ValueError) as error:  # of another family
            if isinstance(error, CheckpointError | ConfigError) and (name or stem or source.layout):
                reason = reason or str(error)
            continue
        if count < fewest:
            best, fewest = (match, _listed(differences)), count
        if not count:
            break
    if best is None:
        raise CheckpointError(f"{source.path}: {reason or 'its arrays have the names of no network that emojax knows'}")
    return best


def shapes_of(model: Model, image_size: int = 64) -> tuple[Tree, Tree]:
    """Shapes of (params, model_state)."""
    side = max(image_size, model.min_size)
    image = jax.ShapeDtypeStruct((1, side, side, 3), np.float32)
    tree: Any = jax.eval_shape(functools.partial(model.module.init, train=False), jax.random.key(0), image)
    return tree["params"], tree.get("batch_stats", {})
