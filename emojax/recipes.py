"""Recipes: Python files with `get_config(variant="")`. Found by name, loaded, and told apart by variant."""

from __future__ import annotations

import inspect
import runpy
from collections.abc import Iterable
from pathlib import Path

from emojax.config import Config
from emojax.errors import ConfigError


def split(reference: str) -> tuple[str, str]:
    """`FILE.py:VARIANT` -> (FILE.py, VARIANT); without a variant, ""."""
    file, colon, variant = reference.rpartition(":")
    return (file, variant) if colon and file.endswith(".py") else (reference, "")


def find(name: str) -> str:
    """Path of a recipe: `name` itself, or the file of that name among the recipes that ship with emojax.

    A variant (`FILE.py:VARIANT`) stays at the end of the result. Raises `ConfigError` listing what there is.
    """
    file, variant = split(name)
    here = Path(__file__).resolve().parent
    choices = [Path(file), *(d / part for d in (here, here.parent) for part in (file, Path("configs", file)))]
    for path in choices:
        if path.is_file():
            return f"{path}:{variant}" if variant else str(path)
    shipped = sorted(p.name for d in (here / "configs", here.parent / "configs") for p in d.glob("*.py"))
    raise ConfigError(f"--config={name}: no such file; recipes that ship with emojax: {', '.join(shipped)}")


def load(name: str, variant: str = "") -> Config:
    """The config of a recipe, `name` as for `find`. The file is executed.

    Raises `ConfigError` when it has no `get_config`, or that returns anything but a `Config`.
    """
    file, own = split(find(name))
    try:
        get_config = runpy.run_path(file).get("get_config")
    except SyntaxError as error:
        raise ConfigError(f"--config={name}: the recipe is not valid Python: {error}") from error
    if get_config is None:
        raise ConfigError(f"--config={name}: the file has no get_config()")
    variant = variant or own
    if variant and not inspect.signature(get_config).parameters:
        raise ConfigError(f"--config={name}: the recipe has no variants, found {variant!r}")
    config = get_config(variant) if variant else get_config()
    if not isinstance(config, Config):
        raise ConfigError(f"--config={name}: get_config() must return an emojax.config.Config")
    return config


def check_variant(variant: str, known: Iterable[str]) -> None:
    """Raises `ConfigError` listing `known` unless `variant` is one of them or ""."""
    if variant and variant not in known:
        raise ConfigError(f"the recipe has no variant {variant!r}; there are {', '.join(filter(None, known))}")
