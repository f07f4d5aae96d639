"""Findings and the phrases that name them: a YAML file that a radiologist can edit."""

import re
from collections.abc import Mapping
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Final

import yaml
from pydantic import AfterValidator, Field, ValidationError

from medssl.config.base import Config
from medssl.errors import InputError
from medssl.reports.phrases import compiled

FOLDER: Final = "ontologies"


def _phrases(phrases: tuple[str, ...]) -> tuple[str, ...]:
    compiled(phrases)
    return phrases


Phrases = Annotated[tuple[str, ...], AfterValidator(_phrases)]
"""Phrases as in :mod:`medssl.reports.phrases`."""
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class Finding(Config):
    """One finding, and how reports speak of it."""

    title: str
    """What people call it."""
    present: Annotated[Phrases, Field(min_length=1)]
    """Names the finding; what is meant of it follows from the words around it."""
    absent: Phrases = ()
    """Says of itself that the finding is not there: `heart size ~ normal`."""
    excluded: Annotated[Phrases, Field(alias="except")] = ()
    """Looks like it and is something else: a match that overlaps one of these does not count."""

    @cached_property
    def patterns(self) -> tuple[re.Pattern[str] | None, ...]:
        """Compiled ``present``, ``absent`` and ``except``."""
        return compiled(self.present), compiled(self.absent), compiled(self.excluded)


class Ontology(Config):
    """The findings that labels are about."""

    title: str
    """What it is for."""
    findings: Annotated[Mapping[Name, Finding], Field(min_length=1)]
    """By the name that labels have."""
    stated_normal: Phrases = ()
    """Says that the whole examination shows nothing."""
    also_abnormal: Phrases = ()
    """Makes a report not normal, though it is none of the findings."""

    @property
    def names(self) -> tuple[str, ...]:
        """The findings, in the order of the file."""
        return tuple(self.findings)


def shipped() -> list[str]:
    """Return the names of the ontologies that come with the package."""
    folder = files(__package__).joinpath(FOLDER)
    return sorted(Path(each.name).stem for each in folder.iterdir() if each.name.endswith(".yaml"))


def read_ontology(name: str) -> Ontology:
    """Return an ontology, by the name of a shipped one or the path of a YAML file.

    Raises:
        InputError: There is none, or something in it is wrong; every problem has its line.
    """
    try:
        if name in shipped():
            text = files(__package__).joinpath(FOLDER, f"{name}.yaml").read_text("utf-8")
        else:
            text = Path(name).read_text("utf-8")
        return Ontology.model_validate(yaml.safe_load(text))
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise InputError("\n".join([f"the ontology {name} cannot be used:", *lines])) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(
            f"the ontology {name} cannot be read ({type(error).__name__})",
            hint=f"give the path of a YAML file, or one of: {', '.join(shipped())}",
        ) from None
