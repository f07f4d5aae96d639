"""What each reader makes of the edge cases of the specification, row by row.

    python -m pipelines.benchmarks.edge_cases --out runs/edge_cases.json

Every row is a folder of files whose voxels are a known function of where they lie, or a real
series. It goes through ``medssl ingest`` and, as it is, through dcm2niix, dicom2nifti, SimpleITK,
MONAI and highdicom, each in a process of its own with 30 s for a folder. What comes out is judged
in world space:

- ok: every volume that must come out did, with the right values at the right places; or, for
  medssl, the files were refused for the right reason;
- WRONG: an image came out without an exception, and is false, or what it was made of must not
  be trusted;
- part: what came out is right, and some is missing; kept: files that medssl by default leaves
  out were converted, or padding stayed among the values; err: an exception; 0: nothing and no
  exception; -: not for this tool.

The truth of a real series is not known: the others are compared with what medssl made of it,
once that agrees with the pixels of the files, and the cell says "differs" where they are not alike.
"""

import argparse
import json
import logging
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from medssl.runs.environment import describe
from pipelines.benchmarks.cases import CASES, Case, ours
from pipelines.benchmarks.cases.judge import sampler, verdict
from pipelines.benchmarks.cases.readers import READERS, Worker

TOOLS = ("medssl", *READERS)
VERDICTS = ("ok", "WRONG", "differs", "part", "kept", "err", "0", "-")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the rows, print the table, write JSON; 1 if medssl fails one."""
    options = _options(arguments)
    cases = [case for case in CASES if not options.only or case.row in options.only]
    workers = {name: Worker(name) for name in READERS}
    try:
        rows = [run(case, workers) for case in cases if not case.absent]
    finally:
        for worker in workers.values():
            worker.close()
    result = {
        "rows": rows,
        "left out": {case.name: case.absent for case in cases if case.absent},
        "counts": {tool: Counter(row["tools"][tool] for row in rows) for tool in TOOLS},
        "environment": describe(),
    }
    show(result)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if all(row["tools"]["medssl"] == "ok" for row in rows) else 1


def run(case: Case, workers: dict[str, Worker]) -> dict[str, Any]:
    """Return what each tool makes of one case."""
    with tempfile.TemporaryDirectory() as name:
        source, scratch = Path(name, "scan"), Path(name)
        case.build(source)
        found = ours.run(case, source, scratch)
        faults = ours.faults(case, found)
        truth = case.expect.volumes
        if truth is None:
            truth = () if faults else tuple(map(sampler, found.made))
        others = {tool: worker.read(source) for tool, worker in workers.items()}
        verdicts = {tool: verdict(made, case.expect, truth) for tool, made in others.items()}
    if case.expect.volumes is None:
        verdicts = {t: word if word != "WRONG" else "differs" for t, word in verdicts.items()}
    return {
        "row": case.row,
        "case": case.title,
        "expected": str(case.expect),
        "got": str(found),
        "faults": faults,
        "tools": {"medssl": "WRONG" if faults else "ok", **verdicts},
        "stopped": {tool: made for tool, made in others.items() if isinstance(made, str)},
    }


def show(result: dict[str, Any]) -> None:
    """Print the table, then how often each tool was right."""
    console = Console(width=160)
    table = Table(title="edge cases")
    for column in ("row", "case", "expected", "got", *TOOLS):
        table.add_column(column, overflow="fold")
    for row in result["rows"]:
        cells = (row["row"], row["case"], row["expected"], row["got"])
        table.add_row(*cells, *(_coloured(row["tools"][tool]) for tool in TOOLS))
    console.print(table)
    for row in result["rows"]:
        for fault in row["faults"]:
            console.print(f"medssl fails {row['row']}: {fault}", markup=False)
    for name, reason in result["left out"].items():
        console.print(f"left out {name}: {reason}", markup=False)
    counts = Table(title=f"{len(result['rows'])} rows")
    for column in ("tool", *VERDICTS):
        counts.add_column(column, justify="left" if column == "tool" else "right")
    for tool in TOOLS:
        counts.add_row(tool, *(str(result["counts"][tool][word]) for word in VERDICTS))
    console.print(counts)


def _coloured(word: str) -> str:
    return f"[bold red]{word}[/]" if word == "WRONG" else word


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", metavar="ROW", help="rows, such as 13 or R1")
    parser.add_argument("--out", type=Path, help="where to write the table as JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    logging.disable()  # other readers say at length what the table says in a word
    sys.exit(main())
