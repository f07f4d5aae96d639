"""What a layout makes of a folder or file: a list of what is said to be there, not yet checked."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from medssl.config.choice import Configurable


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One case as the set lists it; ``problems`` say why it is none."""

    image: Path | None = None
    files: tuple[Path, ...] = ()
    label: Path | None = None
    segments: Mapping[int, int] = field(default_factory=dict)
    name: str = ""
    """What the folds call it."""
    patient: str = ""
    """Whose it is, as the set says it: to group cases, never to be shown. "" where it does not."""
    part: str = ""
    """As it is written there; "" where none is declared."""
    annotated: tuple[str, ...] | None = None
    """Names of the classes that are annotated; None for all."""
    targets: Mapping[str, str] = field(default_factory=dict)
    about: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Listing:
    """A set as it describes itself."""

    name: str
    modality: str = ""
    """``CT``, ``MR`` or ``unknown``; "" where the images themselves say it, if they do."""
    licence: str = ""
    labels: tuple[str, ...] | None
    """Names of the classes; None where only the label maps tell which there are."""
    regions: tuple[tuple[str, tuple[int, ...]], ...] = ()
    ignore_label: int | None = None
    entries: tuple[Entry, ...]
    folds: tuple[Mapping[str, tuple[str, ...]], ...] = ()
    """``train`` and ``val`` of every fold, as names of entries."""
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class Layout(Configurable):
    """One way in which people keep labelled sets."""

    looks_for: ClassVar[str]
    """What a folder or file of this layout has, in words."""

    @abstractmethod
    def mismatch(self, path: Path) -> str:
        """Return why what lies at ``path`` is not laid out like this; "" where it is.

        It looks, and never fails; ``path`` may not exist.
        """

    @abstractmethod
    def read(self, path: Path) -> Listing:
        """Return what the set at ``path``, which is laid out like this, says of itself.

        No pixel is read. What is wrong is a problem of the listing or of an entry, not an error.
        """
