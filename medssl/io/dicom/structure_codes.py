"""Codes for the names of structures: SNOMED CT where the name is known, one's own where not."""

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Annotated, Final

import yaml
from highdicom.sr import CodedConcept
from pydantic import Field
from pydicom.sr.codedict import codes

from medssl.config.base import Config
from medssl.runs.digest import digest_bytes

OWN_SCHEME: Final = "99MEDSSL"
"""Scheme of codes that no dictionary has; 99 marks a private one (PS3.3 8.2)."""
_LONGEST_VALUE, _LONGEST_MEANING = 16, 64
_SIDES: Final = {"left": "Left", "right": "Right", "l": "Left", "r": "Right"}
_FILLERS: Final = frozenset({"the", "of", "and", "structure"})
_ABNORMAL: Final = "MorphologicallyAbnormalStructure"
_WHOLE_VALUE: Final = re.compile(rf"[A-Z0-9_]{{1,{_LONGEST_VALUE}}}")
_BEGIN: Final = 7
"""Letters of a label that a longer one's code begins with."""


class CodeConfig(Config):
    """One coded concept."""

    value: Annotated[str, Field(min_length=1, max_length=_LONGEST_VALUE)]
    """The code, such as 10200004."""
    scheme: Annotated[str, Field(min_length=1, max_length=_LONGEST_VALUE)] = "SCT"
    """Whose it is: SCT for SNOMED CT."""
    meaning: Annotated[str, Field(min_length=1, max_length=_LONGEST_MEANING)]
    """In words, such as Liver."""

    def concept(self) -> CodedConcept:
        """Return it as DICOM has it."""
        return CodedConcept(self.value, self.scheme, self.meaning)


@dataclass(frozen=True, kw_only=True)
class StructureCode:
    """What a structure is called."""

    category: CodedConcept
    kind: CodedConcept
    """Of ``OWN_SCHEME`` where no dictionary has it."""
    side: CodedConcept | None


def structure_code(label: str, given: CodeConfig | None = None) -> StructureCode:
    """Return the codes of a structure.

    Args:
        label: What the model calls it, such as ``left_kidney``.
        given: The code that the user wants for it.
    """
    words = re.findall(r"[a-z]+", label.lower())
    sides = [_SIDES[word] for word in words if word in _SIDES]
    named = " ".join(word for word in words if word not in _SIDES and word not in _FILLERS)
    structures, abnormal = _tables()
    singular = named if named in structures | abnormal else named.removesuffix("s")
    name = structures.get(singular) or abnormal.get(singular)
    known = _concept(name) if name else own_code(label)
    return StructureCode(
        category=_concept(_ABNORMAL if singular in abnormal else "AnatomicalStructure"),
        kind=given.concept() if given else known,
        side=_concept(sides[0]) if len(sides) == 1 and (name or given) else None,
    )


def own_code(label: str) -> CodedConcept:
    """Return a code of our own scheme for a label that no dictionary has.

    Labels that do not fit a code as they are get one that ends in digits of their digest, so that
    no two share a code.
    """
    value = label.upper().replace(" ", "_")
    if not _WHOLE_VALUE.fullmatch(value):
        begin = re.sub(r"[^A-Z0-9]+", "_", value).strip("_")[:_BEGIN]
        digits = digest_bytes(label.encode())[: _LONGEST_VALUE - _BEGIN - 1].upper()
        value = f"{begin}_{digits}" if begin else digits
    return CodedConcept(value, OWN_SCHEME, label[:_LONGEST_MEANING])


@cache
def _tables() -> tuple[dict[str, str], dict[str, str]]:
    text = files(__package__ or "").joinpath("structure_codes.yaml").read_text(encoding="utf-8")
    tables = yaml.safe_load(text)
    return tables["structures"], tables["abnormal"]


def _concept(name: str) -> CodedConcept:
    code = getattr(codes.SCT, name)
    return CodedConcept(code.value, code.scheme_designator, code.meaning)
