"""A `Config` as JSON text and back, and the difference of two configs."""

from __future__ import annotations

import dataclasses
import json
import typing
from typing import Any

from emojax.config import MAY_CHANGE, Config, items
from emojax.errors import ConfigError
from emojax.files import parse_json


def to_json(config: Config) -> str:
    """The resolved config as JSON text, read back by `from_json`."""
    return json.dumps(dataclasses.asdict(config), indent=2)


def from_json(text: str, *, where: str = "config") -> Config:
    """Rebuilds a `Config` from `to_json` text; unknown keys and wrong types raise `ConfigError` naming `where`."""
    try:
        return _build(Config, parse_json(text), where)
    except ValueError as error:
        raise ConfigError(f"{where} is not valid JSON: {error}") from error


def _build(cls: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: expected an object, found {type(value).__name__}")
    hints = typing.get_type_hints(cls)
    if unknown := sorted(set(value) - set(hints)):
        raise ConfigError(f"{where}: unknown keys {unknown}; it was written by another version of emojax")
    built = {key: _value(hints[key], item, f"{where}.{key}") for key, item in value.items()}
    return cls(**built)


def _value(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, where)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise ConfigError(f"{where}: expected a list, found {value!r}")
        part = typing.get_args(hint)[0]
        return tuple(_value(part, v, f"{where}[{i}]") for i, v in enumerate(value))
    if hint in _SCALARS and type(value) not in _SCALARS[hint]:
        raise ConfigError(f"{where}: expected {hint.__name__}, found {value!r}")
    return value


_SCALARS: dict[Any, tuple[type, ...]] = {int: (int,), float: (float, int), str: (str,)}


def differences(old: Config, new: Config) -> list[str]:
    """One line per knob that differs, leaving out those a resumed run may change."""
    a, b = dict(items(old)), dict(items(new))
    return [
        f"{key}: {a.get(key, 'absent')!r} -> {b.get(key, 'absent')!r}"
        for key in dict.fromkeys([*a, *b])
        if a.get(key, "absent") != b.get(key, "absent") and not key.startswith(MAY_CHANGE)
    ]
