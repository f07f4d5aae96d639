"""What formats of one encoder share: which encoders fit, and the papers beside the weights."""

from pathlib import Path
from typing import Any, ClassVar

from medssl.errors import InputError
from medssl.export.formats._huggingface import front_matter
from medssl.export.formats.base import Format, Papers
from medssl.export.model_card import CardConfig
from medssl.models.encoders.base import Encoder
from medssl.models.weights import DESCRIPTION, EXPORTED_DESCRIPTION, WEIGHTS, load_encoder
from medssl.runs.digest import digest_file
from medssl.runs.folder import read_json


class EncoderFormat(Format):
    """A format whose artefact is the encoder of a pretraining, in a folder for Hugging Face."""

    title: ClassVar[str]
    """Heading of the model card."""
    usage: ClassVar[str]
    """How to open the artefact, as Markdown."""
    library: ClassVar[str]
    """What opens the weights."""

    @classmethod
    def refusal(cls, encoder: Encoder) -> str:
        """Return why the format cannot hold ``encoder``; empty if it can."""
        return ""

    def digests(self, run: Path) -> dict[str, str]:
        encoder, _ = load_encoder(run, trust_names=True)  # says what is wrong with it
        reason = self.refusal(encoder)
        if reason:
            raise InputError(f"{run}: {reason}")
        return {"encoder": digest_file(run / WEIGHTS), "about": digest_file(description_of(run))}

    def about(self, run: Path) -> dict[str, Any]:
        """Return what the run says about its encoder."""
        return dict(read_json(description_of(run)))

    def papers(self, run: Path, card: CardConfig) -> Papers:
        about = self.about(run)
        head = front_matter(card.licence, library=self.library, about=about)
        return Papers(title=self.title, usage=self.usage, facts=about, front_matter=head)


def description_of(run: Path) -> Path:
    """Return the file that describes the encoder of a pretraining, or of an exported folder."""
    exported = run / EXPORTED_DESCRIPTION
    return exported if not (run / DESCRIPTION).is_file() else run / DESCRIPTION
