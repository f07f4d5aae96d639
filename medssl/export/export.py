"""The export stage: a run in, a verified artefact for another tool out."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Field, SerializeAsAny

from medssl.config.base import Config
from medssl.config.choice import available, choice, find
from medssl.errors import InputError
from medssl.export.formats.base import Format
from medssl.export.model_card import CardConfig
from medssl.export.papers import write_papers
from medssl.export.signature import fingerprint, read_private_key
from medssl.runs.digest import digest_file
from medssl.runs.folder import atomic_path, plain
from medssl.runs.manifest import Summary
from medssl.runs.stage import StageResult, open_stage
from medssl.runs.tracking import TrackingConfig

FORMATS: Final = "medssl.export.formats"


class ExportConfig(Config):
    """Everything ``medssl export`` reads."""

    run: Path
    """What to export: a pretraining, or one model of a finetuning."""
    format: Annotated[SerializeAsAny[Format.Config], choice(FORMATS)]
    """For which tool, by the name of the format's file in medssl/export/formats."""
    out: Path
    """Folder of this stage; the artefact is a folder in it."""
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_\-]*$")] | None = None
    """What the artefact's folder is called; null for the format's name. MONAI Label takes the kind
    of task from it: call a bundle that segments `..._segmentation`."""
    card: CardConfig = CardConfig()
    """What the model card says that the run does not know."""
    signing_key: Path | None = None
    """Private key that signs the artefact, from `medssl verify --new-key`; null: no signature."""
    tracking: TrackingConfig = TrackingConfig()
    """Where the run is recorded."""

    @property
    def artefact(self) -> Path:
        """The folder to hand on."""
        return self.out / (self.name or self.format.name)


def export(config: ExportConfig, *, overwrite: bool = False) -> StageResult:
    """Write an artefact, reload it through its consumer, and keep it only if it is the same model.

    Leaves the folder ``config.artefact``, whole and verified, or not at all.

    Raises:
        InputError: The run does not hold what the format exports; the hint names formats that fit.
        VerificationError: The reloaded artefact differs from the run; nothing is left.
        FolderError: ``config.out`` holds something else, and ``overwrite`` is off.
    """
    form: Format = config.format.build()
    inputs = _digests(form, config) | config.card.digests()
    if config.signing_key is not None:
        inputs["signer"] = fingerprint(read_private_key(config.signing_key).public_key())
    with open_stage(
        "export",
        config.out,
        config,
        inputs=inputs,
        tracking=config.tracking,
        overwrite=overwrite,
    ) as run:
        if run.previous:
            return run.previous
        with atomic_path(config.artefact) as folder:
            folder.mkdir()
            form.write(config.run, folder, config.card)
            found = form.verify(config.run, folder)
            write_papers(folder, form, config.run, config.card, found, config.signing_key)
        files = sorted(path for path in config.artefact.rglob("*") if path.is_file())
        return run.finish(
            summary={"format": config.format.name, **_in_words(found)},
            look_at={
                "artefact": config.artefact.name,
                "model card": f"{config.artefact.name}/{form.readme}",
            },
            outputs={str(path.relative_to(config.artefact)): digest_file(path) for path in files},
        )


def formats_for(run: Path) -> list[str]:
    """Return the formats that ``run`` fits, with their own defaults."""
    return [name for name in available(FORMATS) if _fits(run, name)]


def _fits(run: Path, name: str) -> bool:
    try:
        find(FORMATS, name).Config().build().digests(run)
    except InputError:
        return False
    return True


def _digests(form: Format, config: ExportConfig) -> dict[str, str]:
    try:
        return form.digests(config.run)
    except InputError as error:
        fitting = formats_for(config.run)
        if not fitting or config.format.name in fitting:  # the run, or an option, is the trouble
            raise
        named = f"formats that fit this run: {', '.join(fitting)}"
        hint = f"{error.hint}; {named}" if error.hint else named
        raise InputError(error.problem, hint=hint) from error


def _in_words(found: Mapping[str, Any]) -> Summary:
    """Return what was found as a summary has it: lists and sections as JSON."""
    return {
        name: value if isinstance(value, str | int | float) else json.dumps(plain(value))
        for name, value in found.items()
    }
