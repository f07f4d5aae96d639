"""Pick a component by the name of the file that defines it."""

import difflib
import importlib
import pkgutil
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import BeforeValidator, computed_field

from medssl.config.base import Config


class Configurable:
    """A class with a nested ``Config``; ``SomeConfig.build(...)`` makes the instance."""

    class Config(Config):
        """The options of one component; subclass it inside the component's class."""

        owner: ClassVar[type]

        @computed_field  # type: ignore[prop-decorator]
        @property
        def name(self) -> str:
            """The file that defines the component, and so its name in YAML."""
            module = self.owner.__module__
            return module.rpartition(".")[2] if module.startswith("medssl.") else module

        def build(self, **parts: Any) -> Any:
            """Return the component, given the parts it is assembled from."""
            return self.owner(self, **parts)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "Config" in vars(cls):
            cls.Config.owner = cls


def available(package: str) -> list[str]:
    """Return the component names in ``package``, without importing any of them."""
    path = importlib.import_module(package).__path__
    names = (module.name for module in pkgutil.iter_modules(path))
    return sorted(name for name in names if name != "base" and not name.startswith("_"))


def find(package: str, name: str) -> type[Configurable]:
    """Import the component ``name`` of ``package`` and return its one configurable class.

    A dotted name is the full path of a third party's module.
    """
    module = importlib.import_module(name if "." in name else f"{package}.{name}")
    (found,) = (
        item
        for item in vars(module).values()
        if isinstance(item, type)
        and issubclass(item, Configurable)
        and item.__module__ == module.__name__
    )
    return found


@dataclass(frozen=True, slots=True)
class Choice(BeforeValidator):
    """Marks a field as a component of ``package``; the loader reads it to explain mistakes."""

    package: str = ""


def choice(package: str) -> Choice:
    """Validate a section against the Config of the component it names."""

    def resolve(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        options = available(package)
        name, rest = value.get("name"), {key: v for key, v in value.items() if key != "name"}
        if isinstance(name, str) and "." in name:
            try:
                importlib.import_module(name)
            except ImportError as error:
                raise ValueError(f"cannot import {name!r}: {error}") from None
        elif name not in options:
            close = difflib.get_close_matches(str(name), options, n=1)
            guess = f" Did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"unknown name {name!r}.{guess} Available: {', '.join(options)}")
        return find(package, name).Config.model_validate(rest)

    return Choice(resolve, package=package)
