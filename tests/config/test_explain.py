"""Mistakes in components and nested sections, with a toy package of components on disk."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field, SerializeAsAny, model_validator

from medssl.config.base import Config
from medssl.config.choice import Configurable, choice
from medssl.config.load import load, validate
from medssl.errors import ConfigError

CIRCLE = """
from typing import Annotated
from pydantic import Field
from medssl.config.choice import Configurable
class Circle(Configurable):
    class Config(Configurable.Config):
        radius_mm: Annotated[float, Field(gt=0)] = 1.0
        colour: str = "red"
"""


@pytest.fixture
def whole(tmp_path, monkeypatch):
    package = tmp_path / "toy_shapes"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "circle.py").write_text(CIRCLE)
    (package / "square.py").write_text(
        CIRCLE.replace("radius_mm", "edge_mm").replace("Circle", "Square")
    )
    (package / "base.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    yield make_whole()
    for name in [name for name in sys.modules if name.startswith("toy_shapes")]:
        del sys.modules[name]


def make_whole():
    Shape = Annotated[SerializeAsAny[Configurable.Config], choice("toy_shapes")]

    class Inner(Config):
        mode: Literal["row", "feature", "none"] = "row"
        shape: Shape | None = None

    class Whole(Config):
        shape: Shape | None = None
        shapes: tuple[Shape, ...] = ()
        inner: Inner | None = None
        by_name: Annotated[dict[str, Inner], Field(default_factory=dict)]
        spacing_mm: tuple[float, float, float] = (1, 1, 1)
        path: Path | None = None
        flag: bool = False
        size: Annotated[int, Field(gt=0, le=8)] | Literal["auto"] = "auto"
        names: Annotated[tuple[str, ...], Field(min_length=0, max_length=2)] = ()
        low: int = 0
        high: int = 1

        @model_validator(mode="after")
        def _ordered(self):
            if self.low > self.high:
                raise ValueError(f"low ({self.low}) should not be above high ({self.high})")
            return self

    return Whole


def lines(cls, tree, *overrides):
    with pytest.raises(ConfigError) as caught:
        validate(cls, tree, where="here", overrides=overrides)
    head, *rest = str(caught.value).splitlines()
    assert head.startswith("here: ")
    return [line.strip() for line in rest]


def test_a_component_is_found_and_its_options_checked(whole):
    config = validate(whole, {"shape": {"name": "circle", "radius_mm": 2}}, where="here")
    assert config.shape.radius_mm == 2
    assert config.model_dump()["shape"] == {
        "name": "toy_shapes.circle",
        "radius_mm": 2.0,
        "colour": "red",
    }


@pytest.mark.parametrize(
    ("tree", "line"),
    [
        (
            {"shape": {"name": "circel"}},
            "shape: unknown name 'circel'. Did you mean 'circle'? Available: circle, square",
        ),
        (
            {"shape": {"name": "circle", "radius": 1}},
            "shape.radius: unknown key. Did you mean 'radius_mm'?",
        ),
        (
            {"shape": {"name": "circle", "zzz": 1}},
            "shape.zzz: unknown key. Valid here: radius_mm, colour",
        ),
        (
            {"shape": {"name": "circle", "radius_mm": -1}},
            "shape.radius_mm: should be greater than 0, found -1",
        ),
        (
            {"shapes": [{"name": "circle"}, {"name": "square", "edge_mm": "x"}]},
            "shapes.1.edge_mm: should be a number, found 'x'",
        ),
        (
            {"shapes": [{"name": "circle", "colou": "x"}]},
            "shapes.0.colou: unknown key. Did you mean 'colour'?",
        ),
        (
            {"inner": {"shape": {"name": "square", "radius_mm": 1}}},
            "inner.shape.radius_mm: unknown key. Valid here: edge_mm, colour",
        ),
        (
            {"by_name": {"a": {"mod": "row"}}},
            "by_name.a.mod: unknown key. Did you mean 'mode'?",
        ),
        (
            {"shape": "circle"},
            "shape: should be a section (key: value), found 'circle'; "  # noqa: ISC004 - one line
            "a component is chosen with {name: circle}",
        ),
        (
            {"inner": {"mode": "rows"}},
            "inner.mode: should be 'row', 'feature' or 'none', found 'rows'. Did you mean 'row'?",
        ),
        ({"inner": [1]}, "inner: should be a section (key: value), found [1]"),
        ({"spacing_mm": [1, 2]}, "spacing_mm: should have more items, item 3 is missing"),
        ({"spacing_mm": [1, 2, 3, 4]}, "spacing_mm: should have at most 3 items, found 4"),
        ({"spacing_mm": 3}, "spacing_mm: should be a list, found 3"),
        ({"spacing_mm": [1, "b", 3]}, "spacing_mm.1: should be a number, found 'b'"),
        ({"names": ["a", "b", "c"]}, "names: should have at most 2 items, found 3"),
        ({"names": [1]}, "names.0: should be text, found 1"),
        ({"path": 3}, "path: should be a path, found 3"),
        ({"flag": "perhaps"}, "flag: should be true or false, found 'perhaps'"),
        ({"flag": None}, "flag: should be true or false, found nothing"),
        ({"size": "large"}, "size: should be a whole number or 'auto', found 'large'"),
        ({"low": 1.5}, "low: should be a whole number, found 1.5"),
        ({"low": True, "high": "y"}, "high: should be a whole number, found 'y'"),
        ({"low": 3}, "low (3) should not be above high (1)"),
        ({"names": "x" * 200}, f"names: should be a list, found {repr('x' * 200)[:80]}..."),
    ],
)
def test_a_mistake_is_one_plain_line(whole, tree, line):
    assert lines(whole, tree) == [line]


def test_all_mistakes_of_all_sections_come_at_once(whole):
    tree = {
        "shape": {"name": "circle", "radius_mm": "x", "colr": 1},
        "flag": 3,
        "inner": {"mode": 1},
    }
    assert lines(whole, tree, "shapes=[{name: oval}]", "lwo=2") == [
        "shape.radius_mm: should be a number, found 'x'",
        "shape.colr: unknown key. Did you mean 'colour'?",
        "shapes.0: unknown name 'oval'. Available: circle, square",
        "inner.mode: should be 'row', 'feature' or 'none', found 1",
        "flag: should be true or false, found 3",
        "lwo: unknown key. Did you mean 'low'?",
    ]


def test_an_override_can_choose_and_set_up_a_component(whole):
    config = validate(
        whole, {}, where="here", overrides=["inner.shape.name=circle", "inner.shape.radius_mm=4"]
    )
    assert config.inner.shape.radius_mm == 4


def test_extends_replaces_another_component_and_merges_the_same(whole, tmp_path):
    (tmp_path / "base.yaml").write_text("shape: {name: circle, radius_mm: 5}\n")
    same, other = tmp_path / "same.yaml", tmp_path / "other.yaml"
    same.write_text("extends: base.yaml\nshape: {colour: blue}\n")
    other.write_text("extends: base.yaml\nshape: {name: square, edge_mm: 2}\n")
    assert load(whole, same).shape.model_dump() == {
        "name": "toy_shapes.circle",
        "radius_mm": 5.0,
        "colour": "blue",
    }
    assert load(whole, other).shape.edge_mm == 2


def test_a_third_partys_module_that_cannot_be_imported(whole):
    (line,) = lines(whole, {"shape": {"name": "no_such_lab.shape"}})
    assert line.startswith("shape: cannot import 'no_such_lab.shape'")
