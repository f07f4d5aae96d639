"""Which findings each of many sentences says are there."""

from collections.abc import Sequence

from medssl.reports.context import Meaning
from medssl.reports.labels import LABELLED_SECTIONS, Labeller
from medssl.reports.ontology import Ontology
from medssl.reports.pairs import Section


def sentence_findings(sentences: Sequence[str], ontology: Ontology) -> list[tuple[int, ...]]:
    """Return the findings that each sentence says are present, by their places in the ontology.

    What a sentence denies, doubts, or says was there once is none of them.

    Args:
        sentences: Each is read for itself.
        ontology: What is looked for.
    """
    labeller, number = Labeller(ontology), {name: n for n, name in enumerate(ontology.names)}
    found = list[tuple[int, ...]]()
    for sentence in sentences:
        reading = labeller.read([Section(name=LABELLED_SECTIONS[0], text=sentence)])
        present = {e.finding for e in reading.evidence if e.meaning is Meaning.PRESENT}
        found.append(tuple(sorted(number[name] for name in present)))
    return found
