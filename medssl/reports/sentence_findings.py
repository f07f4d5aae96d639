"""What each of many sentences, read for itself, says of findings."""

from collections.abc import Sequence

from medssl.reports.labels import LABELLED_SECTIONS, Label, Labeller
from medssl.reports.ontology import Ontology
from medssl.reports.pairs import Section


def sentence_findings(sentences: Sequence[str], ontology: Ontology) -> list[dict[str, Label]]:
    """Return the findings that each sentence names: 1 present, 0 absent, -1 uncertain.

    What a sentence says was there once is none of them.

    Args:
        sentences: Each is read for itself.
        ontology: What is looked for.
    """
    labeller = Labeller(ontology)
    return [
        labeller.read([Section(name=LABELLED_SECTIONS[0], text=sentence)]).labels
        for sentence in sentences
    ]
