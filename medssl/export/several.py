"""One run in several formats: a stage folder each, and a row each, also where it does not fit."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from medssl.config.choice import available
from medssl.errors import ConfigError, InputError, MedSSLError
from medssl.export.export import FORMATS, ExportConfig, export
from medssl.export.formats.base import Format
from medssl.export.origin import PROVENANCE
from medssl.runs.folder import read_json

ALL = "all"


@dataclass(frozen=True, kw_only=True)
class Row:
    """What became of one format."""

    format: str
    result: str
    """``exported``, ``already done``, ``does not fit`` or ``failed``."""
    why: str = ""
    """Why there is no artefact."""
    verified: str = ""
    """Through what it was reloaded."""
    folder: Path | None = None
    files: int = 0
    size_bytes: int = 0

    @property
    def failed(self) -> bool:
        """Whether something is to be corrected."""
        return self.result == "failed"


def formats_named(words: str) -> list[str]:
    """Return the formats of ``a,b``, or of ``all``.

    Raises:
        ConfigError: There is none of that name.
    """
    known = available(FORMATS)
    names = [word.strip() for word in words.split(",") if word.strip()]
    if names == [ALL]:
        return known
    unknown = [name for name in names if name not in known and "." not in name]
    if unknown or not names:
        raise ConfigError(
            f"there is no format {', '.join(unknown) or 'named'}",
            hint=f"formats: {', '.join(known)}, or {ALL}",
        )
    return list(dict.fromkeys(names))


def export_several(configs: Iterable[ExportConfig], *, overwrite: bool = False) -> list[Row]:
    """Export in every format; what one of them meets does not keep the others from theirs."""
    return [_export_one(config, overwrite=overwrite) for config in configs]


def check_any(rows: Sequence[Row]) -> None:
    """Raise InputError unless there is an artefact, and no format failed."""
    failed = [row.format for row in rows if row.failed]
    if failed:
        raise InputError(f"not exported: {', '.join(failed)}", hint="the table says why")
    if not any(row.folder for row in rows):
        raise InputError(
            "the run fits none of these formats",
            hint="give the folder of a finished pretraining, or of one model of a finetuning",
        )


def _export_one(config: ExportConfig, *, overwrite: bool) -> Row:
    name = config.format.name
    form: Format = config.format.build()
    try:
        form.digests(config.run)
    except InputError as error:
        return Row(format=name, result="does not fit", why=error.problem)
    try:
        result = export(config, overwrite=overwrite)
    except MedSSLError as error:
        return Row(format=name, result="failed", why=error.problem)
    files = [path for path in config.artefact.rglob("*") if path.is_file()]
    verified = read_json(config.artefact / PROVENANCE)["verified"]
    return Row(
        format=name,
        result="already done" if result.skipped else "exported",
        verified=str(verified.get("opened_by", "")),
        folder=config.artefact,
        files=len(files),
        size_bytes=sum(path.stat().st_size for path in files),
    )
