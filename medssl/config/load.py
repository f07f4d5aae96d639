"""Read a YAML file, apply dotted overrides, and return a validated config."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from medssl.config.base import Config
from medssl.config.explain import problems, type_at
from medssl.errors import ConfigError

C = TypeVar("C", bound=Config)


def load(cls: type[C], path: Path, overrides: Sequence[str] = ()) -> C:
    """Return the ``cls`` that the YAML file ``path`` describes.

    The file may name one other file, relative to itself, in ``extends:``; its own keys win.
    ``overrides`` are ``section.key=value`` strings whose values are read as YAML.

    Raises:
        ConfigError: the file cannot be read, or something in it is wrong; every problem is
            listed, one line each.
    """
    path = Path(path)
    tree = read_tree(path, cls)
    return validate(cls, tree, where=str(path), overrides=overrides)


def validate(
    cls: type[C], tree: Mapping[str, Any], *, where: str, overrides: Sequence[str] = ()
) -> C:
    """Return the ``cls`` that ``tree`` describes, after ``overrides``; ``where`` names its origin.

    Raises:
        ConfigError: something is wrong; every problem is listed, one line each.
    """
    full = _copy(tree)
    lines = [line for item in overrides if (line := _override(full, item))]
    try:
        config = cls.model_validate(full)
    except ValidationError as error:
        lines += problems(cls, error, full)
    if lines:
        count = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
        raise ConfigError("\n".join([f"{where}: {count}", *(f"  {line}" for line in lines)]))
    return config


def read_tree(path: Path, cls: type[Config]) -> dict[str, Any]:
    """Return the mapping in ``path``, merged over the one that its ``extends:`` names.

    Raises:
        ConfigError: a file is missing, is not YAML, or holds no mapping.
    """
    tree = _read_yaml(path)
    base = tree.pop("extends", None)
    if base is None:
        return tree
    if not isinstance(base, str):
        raise ConfigError(f"{path}: extends: should be the name of one file, found {base!r}")
    below = _read_yaml(path.parent / base)
    if "extends" in below:
        raise ConfigError(
            f"{path}: extends {base}, which extends {below['extends']}; one level is allowed",
            hint="extend the last file directly and repeat the few keys in between",
        )
    return merge(below, tree, cls)


def merge(
    below: Mapping[str, Any],
    above: Mapping[str, Any],
    cls: type[Config],
    at: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Return ``above`` over ``below``, section by section; another component replaces one whole.

    Args:
        below: Settings of a ``cls``, not validated.
        above: Those that count more.
        cls: Says which sections are components.
        at: Where in ``cls`` both lie.
    """
    merged = dict(below)
    for key, value in above.items():
        old, here = below.get(key), (*at, key)
        if isinstance(old, dict) and isinstance(value, dict):
            swapped = "name" in value and value["name"] != old.get("name")
            if not (swapped and type_at(cls, here, {}).package):
                merged[key] = merge(old, value, cls, here)
                continue
        merged[key] = value
    return merged


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        tree = yaml.safe_load(text)
        repeated = list(_repeated_keys(yaml.compose(text, Loader=yaml.SafeLoader)))
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as text ({type(error).__name__})") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: {_syntax(error)}") from None
    if repeated:
        raise ConfigError("\n".join([f"{path}: a key is given twice", *repeated]))
    if tree is None:
        return {}
    if not isinstance(tree, dict) or not all(isinstance(key, str) for key in tree):
        raise ConfigError(
            f"{path}: should hold sections and keys, found a {type(tree).__name__}",
            hint="write lines of the form  key: value",
        )
    return tree


def _syntax(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    what = getattr(error, "problem", None) or "it cannot be parsed"
    at = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    return f"this is not valid YAML{at}: {what}"


def _repeated_keys(node: yaml.Node | None) -> Iterator[str]:
    """Yield a line per repeated key; YAML itself would silently keep the last."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                yield f"  line {key.start_mark.line + 1}: {key.value}"
            seen.add(key.value)
            yield from _repeated_keys(value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _repeated_keys(item)


def _override(tree: dict[str, Any], item: str) -> str | None:
    """Set one ``section.key=value`` in place, or return the line that says why it cannot be."""
    key, equals, text = item.partition("=")
    *parents, leaf = key.strip().split(".")
    if not equals or not leaf or not all(parents):
        return f"cannot read the override {item!r}; write section.key=value"
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return f"{key}: the value {text!r} is not valid YAML"
    place: Any = tree
    for depth, parent in enumerate(parents):
        if isinstance(place, dict) and place.get(parent) is None:
            place[parent] = {}
        place = _step(place, parent)
        if not isinstance(place, dict | list):
            found = "nothing there" if place is None else repr(place)
            path = ".".join(parents[: depth + 1])
            return f"{key}: {path} is not a section that can be overridden, found {found}"
    if isinstance(place, dict):
        place[leaf] = value
    elif leaf.isdecimal() and int(leaf) < len(place):
        place[int(leaf)] = value
    else:
        return f"{key}: there is no item {leaf}; the list has {len(place)}, counted from 0"
    return None


def _step(place: Any, key: str) -> Any:
    if isinstance(place, dict):
        return place[key]
    return place[int(key)] if key.isdecimal() and int(key) < len(place) else None


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value
