"""``medssl doctor``: is this machine fit, and if not, what to do about it."""

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from rich.console import Console
from rich.table import Table

from medssl.runs.destination import TrackingConfig, destination

_LEAST_PYTHON = (3, 11)
_LEAST_FREE_GIB = 10
_LEAST_MEMORY_GIB = 8
_GIB = 2**30

Verdict = Literal["ok", "warning", "problem"]
_STYLES = {"ok": "green", "warning": "yellow", "problem": "red"}


class Finding(NamedTuple):
    """One line of the examination."""

    subject: str
    verdict: Verdict
    found: str
    advice: str = ""


def examine() -> int:
    """Print every finding; return 1 when one is a problem, 0 otherwise."""
    console = Console(highlight=False)
    findings: list[Finding] = []
    table = Table.grid(padding=(0, 2, 0, 0))
    for check in CHECKS:
        for finding in check():
            findings.append(finding)
            style = _STYLES[finding.verdict]
            table.add_row(f"[{style}]{finding.verdict}[/{style}]", finding.subject, finding.found)
            if finding.advice:
                table.add_row("", "", f"-> {finding.advice}")
    console.print(table)
    problems = sum(finding.verdict == "problem" for finding in findings)
    console.print(f"\n{problems} problem(s)." if problems else "\nThis machine is fit.")
    return 1 if problems else 0


def send(folder: Path) -> int:
    """Send what runs below ``folder`` could not send to MLflow; return 1 if some is left."""
    from medssl.cli.console import say
    from medssl.errors import InputError
    from medssl.runs.tracking import send_spools

    if not folder.is_dir():
        raise InputError(
            f"there is no folder {folder}", hint="give the folder of a run or above it"
        )
    sent, unsent = send_spools(folder)
    say(f"{sent} run(s) sent, {unsent} still to be sent.")
    if unsent:
        say("Check MLFLOW_TRACKING_URI and the server, then run this again.")
    return 1 if unsent else 0


def python() -> Iterator[Finding]:
    """Check the interpreter."""
    from medssl import __version__

    yield Finding("medssl", "ok", __version__)
    found = platform.python_version()
    if sys.version_info >= _LEAST_PYTHON:
        yield Finding("Python", "ok", found)
    else:
        yield Finding("Python", "problem", found, "install Python 3.11 or newer")


def devices() -> Iterator[Finding]:
    """Check PyTorch and what it can compute on."""
    try:
        import torch
    except (ImportError, OSError) as error:
        advice = "run `make install` again; on Linux without a GPU the CPU wheel is enough"
        yield Finding("PyTorch", "problem", f"cannot be imported ({error})", advice)
        return
    yield Finding("PyTorch", "ok", torch.__version__)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding("CPU", "ok", f"{cores} cores, {torch.get_num_threads()} threads used")
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            gpu = torch.cuda.get_device_properties(index)
            found = f"{gpu.name}, {gpu.total_memory / _GIB:.0f} GiB"
            yield Finding(f"GPU {index}", "ok", found)
    elif torch.version.cuda is None and shutil.which("nvidia-smi"):
        advice = "install a CUDA build of PyTorch to use it: https://pytorch.org/get-started"
        yield Finding("GPU", "warning", "there is one, but PyTorch is a CPU build", advice)
    elif torch.version.cuda is not None:
        advice = "install a driver for this CUDA version, or set engine.accelerator=cpu"
        yield Finding("GPU", "warning", f"none usable (CUDA {torch.version.cuda})", advice)
    else:
        yield Finding("GPU", "ok", "none; everything also runs on the CPU, slower")


def decoders() -> Iterator[Finding]:
    """Check every compression of DICOM for which there is a decoder, and say which are here."""
    from medssl.io.dicom.decoders import PACKAGES, installed

    for syntax, packages in PACKAGES.items():
        subject = f"DICOM {syntax.keyword}"
        if found := installed(syntax):
            yield Finding(subject, "ok", f"read by {' or '.join(found)}")
        else:
            yield Finding(subject, "problem", "cannot be read", f"install {' or '.join(packages)}")


def storage() -> Iterator[Finding]:
    """Check memory, and the disk that the working folder is on."""
    free_gib = shutil.disk_usage(Path.cwd()).free / _GIB
    found = f"{free_gib:.0f} GiB free where you are"
    if free_gib >= _LEAST_FREE_GIB:
        yield Finding("disk", "ok", found)
    else:
        advice = "a library takes about as much as the scans themselves; use another disk"
        yield Finding("disk", "warning", found, advice)
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory_gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / _GIB
        enough = memory_gib >= _LEAST_MEMORY_GIB
        advice = "" if enough else "use smaller batches and workers=1"
        yield Finding("memory", "ok" if enough else "warning", f"{memory_gib:.0f} GiB", advice)


def tracking() -> Iterator[Finding]:
    """Check the MLflow store that runs started here would be recorded in."""
    from medssl.runs.tracking import store_problem

    to = destination(TrackingConfig(), Path.cwd() / "run")
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        yield Finding("MLflow", "ok", "a SQLite file beside each run (MLFLOW_TRACKING_URI not set)")
        return
    problem = store_problem(to)
    if problem is None:
        yield Finding("MLflow", "ok", to.shown)
        return
    advice = (
        "start the server or correct MLFLOW_TRACKING_URI; until then runs go on, and their "
        "record is kept in their folders (medssl doctor --send-spool DIR sends it)"
    )
    yield Finding("MLflow", "problem", f"{to.shown}: {problem}", advice)


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    python,
    devices,
    decoders,
    storage,
    tracking,
)
