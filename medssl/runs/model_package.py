"""What MLflow must know of a model's folder to open it: plain data, so that it can be spooled."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class ModelPackage:
    """How a folder becomes a model with ``predict``."""

    digest: str
    """SHA-256 of the weights."""
    loader: str
    """Module with ``_load_pyfunc(path)``, which gets a copy of the folder."""
    files: list[str]
    """The folder's files that are the model."""
    example: list[Any]
    """An input that shows no patient, as nested lists."""
    input: tuple[str, list[int]]
    """Type and shape of the input; -1 is any length."""
    output: tuple[str, list[int]]
    """Type and shape of the output."""
    params: dict[str, list[float]] = field(default_factory=dict)
    """What ``predict`` takes besides, and its default."""
    requirements: list[str] = field(default_factory=list)
    """Packages to install, as pip reads them."""
    tags: dict[str, str] = field(default_factory=dict)
    """Short facts to find the model by."""

    @classmethod
    def read(cls, facts: Mapping[str, Any]) -> "ModelPackage | None":
        """Return the package that ``dataclasses.asdict`` made ``facts`` of; None if of no such."""
        try:
            return cls(**facts)
        except TypeError:
            return None
