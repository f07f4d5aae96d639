"""Findings read out of reports by rules, beside labels that people gave them; and how fast.

python -m pipelines.benchmarks.report_labels ../shared/data/reports-ct/reports.csv

The table has a column ``report_text`` and one column of 0 and 1 per finding, by its title. Doubt
counts as present, a finding that is not spoken of as absent. The phrases of ``chest_ct`` were
written with these reports in sight, so the F1 is of a set that was seen, not of one held aside.
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
from sklearn.metrics import f1_score, precision_score, recall_score

from medssl.reports.labels import Labeller
from medssl.reports.ontology import read_ontology
from medssl.reports.pairs import Section
from medssl.reports.reading import Reader, ReadingConfig
from medssl.reports.sources import RawReport

TEXT = "report_text"


@dataclass(frozen=True)
class Measured:
    """How well and how fast reports were labelled."""

    f1: dict[str, float]
    precision: dict[str, float]
    recall: dict[str, float]
    ms_per_report: float
    """Labels alone, processor time."""
    whole_ms_per_report: float
    """With identifiers removed, looked for again, and sections found."""

    @property
    def macro_f1(self) -> float:
        """The mean over findings."""
        return sum(self.f1.values()) / len(self.f1)


def read_labelled(path: Path) -> tuple[list[str], dict[str, list[int]]]:
    """Return texts, and per finding of ``chest_ct`` a label of each."""
    table = pd.read_csv(path)
    findings = read_ontology("chest_ct").findings
    labels = {name: table[finding.title].astype(int).tolist() for name, finding in findings.items()}
    return table[TEXT].astype(str).tolist(), labels


def measure(texts: Sequence[str], labels: Mapping[str, Sequence[int]]) -> Measured:
    """Return what the rules make of ``texts``."""
    labeller = Labeller(read_ontology("chest_ct"))
    started_s = time.process_time()
    found = [labeller.read([Section(name="body", text=text)]).labels for text in texts]
    label_s = time.process_time() - started_s
    reader = Reader(ReadingConfig())
    started_s = time.process_time()
    for text in texts:
        reader.read(RawReport("", "", "study_uid", (("", text),)))
    whole_s = time.process_time() - started_s
    said = {name: [int(each.get(name, 0) != 0) for each in found] for name in labels}
    return Measured(
        {name: float(f1_score(labels[name], said[name])) for name in labels},
        {name: float(precision_score(labels[name], said[name])) for name in labels},
        {name: float(recall_score(labels[name], said[name])) for name in labels},
        1000 * label_s / len(texts),
        1000 * whole_s / len(texts),
    )


def main() -> None:
    """Print a table, and write it as JSON where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    texts, labels = read_labelled(arguments.table)
    result = measure(texts, labels)
    print(f"{'finding':<36} {'n':>4} {'precision':>9} {'recall':>7} {'F1':>6}")
    for name, f1 in result.f1.items():
        precision, recall = result.precision[name], result.recall[name]
        print(f"{name:<36} {sum(labels[name]):>4} {precision:>9.3f} {recall:>7.3f} {f1:>6.3f}")
    print(f"macro-F1 {result.macro_f1:.3f} over {len(labels)} findings, {len(texts)} reports")
    for what, ms in (("labels", result.ms_per_report), ("whole", result.whole_ms_per_report)):
        print(f"{what}: {ms:.2f} ms per report, {1000 / ms:.0f} reports/s")
    if arguments.out is not None:
        tree = {**asdict(result), "macro_f1": result.macro_f1, "reports": len(texts)}
        arguments.out.write_text(json.dumps(tree, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
