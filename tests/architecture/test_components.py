"""Every component can be chosen by its file's name, and every configuration file loads."""

import importlib
import types
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import pytest
from pydantic import BaseModel

from medssl.cli.run import _WHERE
from medssl.config.choice import Choice, available, find
from medssl.config.load import load, validate
from medssl.evaluation.paired.prompts import PromptSet
from medssl.runs.cluster import ClusterConfig
from tests.described import described

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "configs").rglob("*.yaml"))
FOLDERS = {"run": "pipelines", "pair": "reports"}
"""Folders of configurations that are not called as their command is."""
CLASSES = {
    FOLDERS.get(stage, stage): getattr(importlib.import_module(module), name)
    for stage, (module, name) in _WHERE.items()
} | {"cluster": ClusterConfig, "findings": PromptSet}


def choices(annotation: Any, seen: set[type]) -> set[str]:
    """Return the packages that fields below ``annotation`` choose components from."""
    if get_origin(annotation) is Annotated:
        inner, *marks = get_args(annotation)
        found = {mark.package for mark in marks if isinstance(mark, Choice)}
        return found | choices(inner, seen)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if annotation in seen:
            return set()
        seen.add(annotation)
        fields = [
            choices(Annotated[field.annotation, "", *field.metadata], seen)
            for field in annotation.model_fields.values()
        ]
        return set().union(*fields)
    if get_origin(annotation) in {Union, types.UnionType} or get_args(annotation):
        return set().union(*(choices(item, seen) for item in get_args(annotation)))
    return set()


PACKAGES = sorted(choices(CLASSES["pipelines"], set()))
COMPONENTS = [(package, name) for package in PACKAGES for name in available(package)]


def test_the_packages_of_components_are_found():
    assert set(PACKAGES) >= {
        "medssl.methods",
        "medssl.tasks",
        "medssl.models.encoders",
        "medssl.curation.rules",
        "medssl.export.formats",
    }


@pytest.mark.parametrize(("package", "name"), COMPONENTS)
def test_a_component_is_its_file(package, name):
    component = find(package, name)
    assert component.Config.owner is component
    assert component.Config.model_fields.keys().isdisjoint({"name"})
    assert component.__doc__


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_configuration_file_loads_and_survives_being_resolved(path):
    cls = CLASSES[path.relative_to(ROOT / "configs").parts[0]]
    config = load(cls, path)
    again = validate(cls, config.model_dump(mode="json"), where="the resolved configuration")
    assert again == config


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_configuration_file_says_what_it_is(path):
    assert path.read_text(encoding="utf-8").startswith("# ")


@pytest.mark.parametrize("name", available("medssl.methods"))
def test_every_method_has_a_configuration(name):
    used = [load(CLASSES["pretrain"], path) for path in (ROOT / "configs/pretrain").glob("*.yaml")]
    assert name in {config.method.name for config in used}


@pytest.mark.parametrize("stage", sorted(CLASSES))
def test_every_stage_has_an_example(stage):
    assert [path for path in FILES if path.relative_to(ROOT / "configs").parts[0] == stage]


def fields(cls: type[BaseModel], seen: set[type]):
    if cls not in seen:
        seen.add(cls)
        for name, field in cls.model_fields.items():
            yield cls, name
            for inner in nested(field.annotation):
                yield from fields(inner, seen)


def nested(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for item in get_args(annotation) for model in nested(item)]


@pytest.mark.parametrize("stage", sorted(CLASSES))
def test_every_option_is_explained_where_it_is_declared(stage):
    bare = [
        f"{cls.__qualname__}.{name}"
        for cls, name in fields(CLASSES[stage], set())
        if name not in described(cls)
    ]
    assert not bare
