"""Say every mistake in a configuration in one plain line each."""

import difflib
import re
import types
from collections.abc import Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from medssl.config.base import Config
from medssl.config.choice import Choice, find

Location = tuple[int | str, ...]

_LONGEST_VALUE = 80

_EXPECTED = {
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "string_type": "text",
    "path_type": "a path",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a section (key: value)",
    "model_type": "a section (key: value)",
    "model_attributes_type": "a section (key: value)",
    "none_required": "empty",
}


@dataclass(frozen=True)
class Found:
    """What a place in a config tree is declared as."""

    model: type[BaseModel] | None = None
    """Its section's class, if it is a section."""
    package: str = ""
    """Where its component is chosen from, if it is a component."""


def problems(cls: type[Config], error: ValidationError, tree: Mapping[str, Any]) -> list[str]:
    """Return one line per mistake, in the order of the keys; alternatives share a line."""
    lines: dict[str, list[str]] = {}
    for place, line in _flatten(cls, error, tree, ()):
        said = lines.setdefault(place, [])
        if line not in said:
            said.append(line)
    return [_join(place, said) for place, said in lines.items()]


def _join(place: str, said: Sequence[str]) -> str:
    """Merge what a union's arms said: ``should be a or b, found x``."""
    wants = [line.partition(", found ") for line in said]
    if len(said) > 1 and all(want.startswith("should be ") for want, _, _ in wants):
        either = " or ".join(want.removeprefix("should be ") for want, _, _ in wants)
        said = [f"should be {either}, found {wants[0][2]}"]
    text = "; ".join(said)
    return f"{place}: {text}" if place else text


def _flatten(
    cls: type[Config], error: ValidationError, tree: Any, above: Location
) -> Iterator[tuple[str, str]]:
    for detail in error.errors(include_url=False):
        cause = detail.get("ctx", {}).get("error")
        place, value = _locate(detail, tree)
        if isinstance(cause, ValidationError):  # raised inside choice(): the component's own
            inner = type_at(cls, detail["loc"], tree).model
            if inner is not None and issubclass(inner, Config):
                yield from _flatten(inner, cause, value, (*above, *place))
                continue
        where = ".".join(map(str, (*above, *place)))
        if detail["type"] == "missing" and place and isinstance(place[-1], int):
            where = ".".join(map(str, (*above, *place[:-1])))
        yield where, _say(cls, detail, tree)


def _locate(detail: ErrorDetails, tree: Any) -> tuple[Location, Any]:
    """Return the error's place in ``tree``, without pydantic's labels of a union's arms."""
    place: list[int | str] = []
    for index, key in enumerate(detail["loc"]):
        if _holds(tree, key):
            tree = tree[key]
        elif detail["type"] != "missing" or index < len(detail["loc"]) - 1:
            continue
        place.append(key)
    return tuple(place), tree


def _holds(tree: Any, key: int | str) -> bool:
    if isinstance(tree, Mapping):
        return key in tree
    return isinstance(tree, list | tuple) and isinstance(key, int) and key < len(tree)


def _say(cls: type[Config], detail: ErrorDetails, tree: Any) -> str:
    last, context = (detail["loc"] or ("",))[-1], detail.get("ctx", {})
    match detail["type"]:
        case "extra_forbidden":
            model = type_at(cls, detail["loc"][:-1], tree).model
            said = f"unknown key. {_suggest(str(last), list(model.model_fields) if model else [])}"
        case "missing" if isinstance(last, int):
            said = f"should have more items, item {last + 1} is missing"
        case "missing":
            said = "required, but not set"
        case "value_error" | "assertion_error":
            said = str(context["error"])
        case "too_short":
            said = f"should have at least {context['min_length']} items"
            said += f", found {context['actual_length']}"
        case "too_long":
            said = f"should have at most {context['max_length']} items"
            said += f", found {_count(detail['input'], context['actual_length'])}"
        case kind:
            said = _expected(kind, detail)
    return said


def _expected(kind: str, detail: ErrorDetails) -> str:
    """Return ``should be <what>, found <value>`` and a guess at what was meant."""
    message = detail["msg"].removeprefix("Input ")
    said = (
        f"should be {_EXPECTED[kind]}" if kind in _EXPECTED else message[:1].lower() + message[1:]
    )
    value = detail["input"]
    said += f", found {_show(value)}"
    if isinstance(value, str) and kind in {"model_type", "model_attributes_type"}:
        return f"{said}; a component is chosen with {{name: {value}}}"
    if isinstance(value, str) and kind in {"literal_error", "enum"}:
        guess = difflib.get_close_matches(value, re.findall(r"'([^']*)'", message), n=1)
        return f"{said}. Did you mean {guess[0]!r}?" if guess else said
    return said


def _count(value: Any, otherwise: Any) -> Any:
    return len(value) if isinstance(value, Sized) else otherwise


def _suggest(word: str, valid: list[str]) -> str:
    close = difflib.get_close_matches(word, valid, n=1)
    if close:
        return f"Did you mean {close[0]!r}?"
    return f"Valid here: {', '.join(valid)}" if valid else "No key is valid here"


def _show(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def type_at(kind: Any, loc: Sequence[int | str], tree: Any) -> Found:
    """Return what the place ``loc`` below the annotation ``kind`` is declared as.

    ``tree`` holds the values given by the user: they say which component a section is.
    """
    package = ""
    while get_origin(kind) is Annotated:
        kind, *marks = get_args(kind)
        package = next((mark.package for mark in marks if isinstance(mark, Choice)), package)
    if package and isinstance(tree, Mapping):
        kind = _component(package, tree, kind)
    if get_origin(kind) in {Union, types.UnionType}:
        return _in_union(get_args(kind), loc, tree)
    is_section = isinstance(kind, type) and issubclass(kind, BaseModel)
    if not loc:
        return Found(kind if is_section else None, package)
    below = tree[loc[0]] if _holds(tree, loc[0]) else None
    if is_section:
        field = kind.model_fields.get(str(loc[0]))
        if field is None:
            return Found()
        declared = field.annotation
        for mark in field.metadata:
            declared = Annotated[declared, mark]
        return type_at(declared, loc[1:], below)
    arguments = [item for item in get_args(kind) if item is not Ellipsis]
    return type_at(arguments[-1], loc[1:], below) if arguments else Found()


def _in_union(arms: tuple[Any, ...], loc: Sequence[int | str], tree: Any) -> Found:
    real = [arm for arm in arms if arm is not type(None)]
    for steps in (loc, loc[1:]):  # pydantic puts the arm's label first when there are several
        for arm in real:
            found = type_at(arm, steps, tree)
            if found != Found():
                return found
    return Found()


def _component(package: str, tree: Mapping[str, Any], default: Any) -> Any:
    name = tree.get("name")
    try:
        return find(package, name).Config if isinstance(name, str) else default
    except (ImportError, ValueError):
        return default
