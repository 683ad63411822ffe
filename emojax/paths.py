"""Parameter paths: a parameter is `stage2/block1/dwconv/kernel`; masks and values are chosen by regex over paths."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import jax

from emojax.errors import ConfigError
from emojax.types import Tree


def name(path: tuple[Any, ...]) -> str:
    """`a/b/0` for a JAX key path."""
    return "/".join(str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", key)))) for key in path)


def flatten(tree: Tree) -> dict[str, Any]:
    """{path: leaf} in the tree's order."""
    return {name(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def map_with_path(function: Callable[[str, Any], Any], tree: Tree) -> Tree:
    """`function(path, leaf)` on every leaf."""
    return jax.tree_util.tree_map_with_path(lambda path, leaf: function(name(path), leaf), tree)


def compile_pattern(pattern: str, *, knob: str) -> re.Pattern[str]:
    """Compiles a regex given in `config.<knob>`; a broken one raises `ConfigError`."""
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"config.{knob}: {pattern!r} is not a regular expression: {error}") from error


def mask(tree: Tree, pattern: str, *, knob: str) -> Tree:
    """Tree of bools: True where `pattern` is found in the path. The empty pattern matches nothing."""
    regex = compile_pattern(pattern, knob=knob)
    return map_with_path(lambda path, _: bool(pattern) and regex.search(path) is not None, tree)


def is_stored(path: str, patterns: Iterable[str]) -> bool:
    """Whether a BatchNorm statistic belongs to a layer of which one of `patterns` is found in the path of its mean."""
    mean = f"{path.rpartition('/')[0]}/mean"
    return any(pattern and re.search(pattern, mean) for pattern in patterns)


def require_match(tree: Tree, pattern: str, *, knob: str, what: str = "parameter", every: bool = True) -> None:
    """Raises `ConfigError` when a pattern that is set matches no path (a typo would freeze nothing) or, where not
    `every` may match, all of them (then nothing would learn). `what` the paths are of."""
    found = jax.tree.leaves(mask(tree, pattern, knob=knob)) if pattern else []
    if pattern and not any(found):
        tops = sorted({path.split("/")[0] for path in flatten(tree)})
        there = f"top-level names are {', '.join(tops)}" if tops else "there are none"
        raise ConfigError(f"config.{knob}: {pattern!r} matches no {what}; {there}")
    if pattern and all(found) and not every:
        raise ConfigError(
            f"config.{knob}: {pattern!r} matches every parameter; a stage that only evaluates has train = 0"
        )


def require_apart(tree: Tree, restart: str, frozen: str, *, knob: str) -> None:
    """Raises `ConfigError` where a parameter that is to start anew is frozen too: it would stay random."""
    new, still = (flatten(mask(tree, pattern, knob=knob)) for pattern in (restart, frozen))
    if both := [path for path, found in new.items() if found and still[path]]:
        raise ConfigError(f"config.{knob}: {restart!r} matches {both[0]}, which is frozen and would stay random")
