"""What ingest costs beside dcm2niix and SimpleITK, on the same files in one run.

    python -m pipelines.benchmarks.ingest_speed --out runs/ingest_speed.json

Each reading is a process of its own, in turns, so that a busy machine slows all of them alike. In
it a tool reads the files three times, and the median counts, since a virtual machine may have to
fetch the memory of the first from its host. The Python tools are warm: they have read a tiny series
before. dcm2niix is a program, and its time holds its start, which is measured (``dcm2niix, start``)
and stated; -z y may pack with pigz on several cores where that is installed. Peak memory is that of
the process, imports included. The page cache is warm throughout.

- memory: 300 x 512^2 uncompressed to a volume, on one core. dcm2niix -z n also writes it (to the
  page cache).
- library: the same into a library: headers, checks, compressed store, fingerprints, picture,
  tables, the whole ``ingest()``; dcm2niix -z y writes .nii.gz. In this process, with a thread per
  core or on one core; ``isolated`` starts a worker process, as the command does, so that a decoder
  that dies harms no other series; ``tracked`` also makes a new MLflow database and records the run
  in it. A run pays these two once, however many series it reads.
- compressed: JPEG-LS, JPEG 2000, RLE and, where dcmtk's dcmcjpeg is there, JPEG lossless, to
  memory. All tools run on one core; ``two threads`` is ours as ingest runs it where cores are idle.
- archive: 20 series with 1 and with 2 workers, and a run over the finished library.
"""

import argparse
import json
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless
from rich.console import Console
from rich.table import Table

from medssl.runs.environment import describe
from pipelines.benchmarks.ct_series import realistic_ct, write_series

SYNTAXES = {"JPEG-LS": JPEGLSLossless, "JPEG 2000": JPEG2000Lossless, "RLE": RLELossless}
Reading = dict[str, float]
Tool = Callable[[Path, Path], None]


def read_medssl(source: Path, _: Path, *, threads: int = 1) -> None:
    """Read a folder to a volume in memory."""
    from medssl.io.dicom.read import read_dicom_folder

    (_one,) = read_dicom_folder(source, threads=threads)  # one volume, or this raises


def read_simpleitk(source: Path, _: Path) -> None:
    """Read a folder with ITK's series reader."""
    import SimpleITK

    sitk: Any = SimpleITK
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(source)))
    reader.Execute()


def run_dcm2niix(source: Path, target: Path, *, packed: str) -> None:
    """Convert a folder; -z y packs with pigz where that is installed, else within the program."""
    _dcm2niix("-z", packed, "-b", "n", "-o", str(target), str(source))
    if not any(target.iterdir()):
        raise RuntimeError(f"dcm2niix wrote nothing for {source}")


def start_dcm2niix(_: Path, __: Path) -> None:
    """Start the program and let it end."""
    _dcm2niix("-h")


def run_ingest(
    source: Path, target: Path, *, workers: int | str = "inline", tracked: bool = False
) -> None:
    """Fill the library ``target / "library"``, or find that there is nothing to do."""
    from medssl.ingest.ingest import IngestConfig, ingest
    from medssl.runs.tracking import TrackingConfig

    ingest(
        IngestConfig(
            sources=(source,),
            library=target / "library",
            key_file=target / "key",
            create_key=True,
            workers=workers,
            tracking=TrackingConfig(enabled=tracked),
        )
    )


READERS: dict[str, tuple[Tool, int | None]] = {
    "medssl": (read_medssl, 1),
    "dcm2niix -z n": (partial(run_dcm2niix, packed="n"), 1),
    "SimpleITK": (read_simpleitk, 1),
}
"""What reads to memory, and on how many cores; None for all there are."""

LIBRARIES: dict[str, tuple[Tool, int | None]] = {
    "medssl": (run_ingest, None),
    "medssl, one core": (run_ingest, 1),
    "medssl, isolated": (partial(run_ingest, workers=2), None),
    "medssl, isolated, tracked": (partial(run_ingest, workers=2, tracked=True), None),
    "dcm2niix -z y": (partial(run_dcm2niix, packed="y"), None),
}
PARTS = ("memory", "library", "compressed", "archive")
_READS = 3
"""How often a process reads the files; its median counts."""


def measure(tool: Tool, source: Path, targets: Sequence[Path], cores: int | None = None) -> Reading:
    """Return the median seconds and the peak MB of ``tool`` in a fresh process of its own cores.

    It reads ``source`` once for each of ``targets``, which are folders.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(tool, source, targets, cores, sender))
    child.start()
    sender.close()
    try:
        reading: Reading = receiver.recv()
    except EOFError:
        raise SystemExit(f"{tool} failed on {source}") from None
    child.join()
    return reading


def in_turns(
    tools: dict[str, tuple[Tool, int | None]], source: Path, scratch: Path, rounds: int
) -> dict[str, Reading]:
    """Return each tool's median seconds, its most MB and what it wrote; tools come with cores."""
    readings: dict[str, list[Reading]] = {name: [] for name in tools}
    for _ in range(rounds):
        for name, (tool, cores) in tools.items():
            targets = _empty_folders(scratch / "out")
            reading = measure(tool, source, targets, cores)
            readings[name].append(reading | {"written_mb": _stored_mb(targets[0])})
    return {
        name: {
            "s": median(r["s"] for r in many),
            "least_s": min(r["s"] for r in many),
            "peak_mb": max(r["peak_mb"] for r in many),
            "written_mb": many[-1]["written_mb"],
        }
        for name, many in readings.items()
    }


def archive(folder: Path, scratch: Path, rounds: int) -> dict[str, float]:
    """Return the seconds of 1 and of 2 workers, and of a second run over what they made."""
    times: dict[str, list[float]] = {"1 worker": [], "2 workers": [], "again": []}
    for _ in range(rounds):
        for name, workers in (("2 workers", 2), ("1 worker", 1)):
            targets = _empty_folders(scratch / "out")
            times[name].append(measure(partial(run_ingest, workers=workers), folder, targets)["s"])
        times["again"].append(measure(run_ingest, folder, targets)["s"])
    return {name: median(values) for name, values in times.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables, write JSON; 1 if a claim does not hold."""
    options = _options(arguments)
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as name:
        result = _measure_all(Path(name), options)
    result["environment"] = describe()
    show(result)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if all(claim["holds"] for claim in result["claims"]) else 1


def _measure_all(scratch: Path, options: argparse.Namespace) -> dict[str, Any]:
    array_IJK = realistic_ct((512, 512, options.slices))
    plain = scratch / "plain"
    write_series(plain, array_IJK)
    parts: dict[str, dict[str, Reading]] = {}
    if "memory" in options.parts:
        tools = READERS | {"dcm2niix, start": (start_dcm2niix, 1)}
        parts["memory"] = in_turns(tools, plain, scratch, options.rounds)
    if "library" in options.parts:
        parts["library"] = in_turns(LIBRARIES, plain, scratch, options.rounds)
    if "compressed" in options.parts:
        few_IJK = array_IJK[:, :, : options.compressed_slices]
        for label, syntax in SYNTAXES.items():
            write_series(scratch / label, few_IJK, syntax)
        if shutil.which("dcmcjpeg"):
            _pack_lossless_jpeg(plain, scratch / "JPEG lossless", options.compressed_slices)
        threaded = READERS | {"medssl, two threads": (partial(read_medssl, threads=2), None)}
        for label in [*SYNTAXES, "JPEG lossless"]:
            if (scratch / label).exists():
                parts[label] = in_turns(threaded, scratch / label, scratch, options.rounds)
    times: dict[str, float] = {}
    if "archive" in options.parts:
        for number in range(20):
            folder = scratch / "archive" / f"{number}"
            write_series(folder, array_IJK[:, :, : options.archive_slices])
        times = archive(scratch / "archive", scratch, options.rounds)
    volume_mb = array_IJK.nbytes / 1e6
    return {"parts": parts, "archive": times, "claims": _claims(parts, times, volume_mb)}


def _claims(
    parts: dict[str, dict[str, Reading]], times: dict[str, float], volume_mb: float
) -> list[dict[str, Any]]:
    claims: list[dict[str, Any]] = []

    def most(what: str, found: float, bound: float) -> None:
        claims.append({"what": what, "found": found, "most": bound, "holds": found <= bound})

    if memory := parts.get("memory"):
        ours = memory["medssl"]
        most("memory: s / dcm2niix -z n", ours["s"] / memory["dcm2niix -z n"]["s"], 0.6)
        most("memory: s / SimpleITK", ours["s"] / memory["SimpleITK"]["s"], 0.3)
        most("memory: peak MB", ours["peak_mb"], 1.5 * volume_mb + 100)
    if library := parts.get("library"):
        ours, theirs = library["medssl"], library["dcm2niix -z y"]
        most("library: s / dcm2niix -z y", ours["s"] / theirs["s"], 0.25)
        most("library: bytes / .nii.gz", ours["written_mb"] / theirs["written_mb"], 1.0)
    for label in [label for label in parts if label not in ("memory", "library")]:
        for other in ("dcm2niix -z n", "SimpleITK"):
            ratio = parts[label]["medssl"]["s"] / parts[label][other]["s"]
            most(f"{label}: s / {other}", ratio, 1.0)
    if times:
        most("archive: 2 workers / 1 worker", times["2 workers"] / times["1 worker"], 1 / 1.7)
        most("archive: again / first run", times["again"] / times["1 worker"], 1 / 50)
    return claims


def show(result: dict[str, Any]) -> None:
    """Print the tables."""
    console = Console(width=100)
    table = Table(title="medians; dcm2niix includes its start and, but for -h, its writing")
    for column in ("files", "tool", "s", "least s", "peak MB", "written MB"):
        table.add_column(column, justify="left" if column in ("files", "tool") else "right")
    for part, tools in result["parts"].items():
        for name, row in tools.items():
            numbers = (f"{row[key]:.3f}" for key in ("s", "least_s"))
            sizes = (f"{row[key]:.0f}" for key in ("peak_mb", "written_mb"))
            table.add_row(part, name, *numbers, *sizes)
    console.print(table)
    if times := result["archive"]:
        console.print("20 series: " + ", ".join(f"{k} {v:.3f} s" for k, v in times.items()))
    claims = Table(title="claims")
    for column in ("what", "found", "at most", "holds"):
        claims.add_column(column)
    for claim in result["claims"]:
        found = f"{claim['found']:.3f}", f"{claim['most']:.3f}"
        claims.add_row(claim["what"], *found, "yes" if claim["holds"] else "NO")
    console.print(claims)


def _child(
    tool: Tool, source: Path, targets: Sequence[Path], cores: int | None, sender: Any
) -> None:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    program = getattr(tool, "func", tool) in (run_dcm2niix, start_dcm2niix)
    if not program:
        _warm_up(tool)
    times = []
    for target in targets:
        begin = time.perf_counter()
        tool(source, target)
        times.append(time.perf_counter() - begin)
    children_kib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    sender.send(
        {"s": median(times), "peak_mb": (children_kib if program else _peak_kib()) * 1.024e-3}
    )


def _empty_folders(parent: Path) -> list[Path]:
    """Return a folder for each reading of a process; what lay there is gone."""
    shutil.rmtree(parent, ignore_errors=True)
    folders = [parent / str(number) for number in range(_READS)]
    for folder in folders:
        folder.mkdir(parents=True)
    return folders


def _warm_up(tool: Tool) -> None:
    """Read a tiny series: what is imported only once it is needed is imported then."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_series(folder / "tiny", np.zeros((16, 16, 4), np.int16))
        if getattr(tool, "func", tool) is run_ingest:
            tool = run_ingest  # in this process
        tool(folder / "tiny", folder)


def _peak_kib() -> int:
    """Return this process's own peak: ru_maxrss would be at least that of the one it came from."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0])


def _dcm2niix(*arguments: str) -> None:
    program = Path(sys.executable).with_name("dcm2niix")
    subprocess.run([str(program), *arguments], check=False, stdout=subprocess.DEVNULL)  # noqa: S603


def _pack_lossless_jpeg(source: Path, target: Path, count: int) -> None:
    target.mkdir()
    for path in sorted(source.iterdir())[:count]:
        subprocess.run(["dcmcjpeg", str(path), str(target / path.name)], check=True)  # noqa: S603, S607


def _stored_mb(target: Path) -> float:
    """Return the MB of the volumes in ``target``: of a library, its volume files."""
    suffixes = (".b2nd", ".nii", ".nii.gz")
    return sum(p.stat().st_size for p in target.rglob("*") if p.name.endswith(suffixes)) / 1e6


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--compressed-slices", type=int, default=100)
    parser.add_argument("--archive-slices", type=int, default=150)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="where to write the numbers as JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
