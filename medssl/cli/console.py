"""The edge of the program: what a person sees of progress, logs and results."""

import json
import logging
import resource
import sys
import warnings
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.logging import RichHandler

from medssl.cli.redaction import Redaction
from medssl.cli.reporters import PlainReporter, RichReporter
from medssl.runs import progress
from medssl.runs.environment import rank
from medssl.runs.stage import StageResult

_CHATTY = (
    "PIL",
    "alembic",
    "fsspec",
    "git",
    "ignite",
    "lightning",
    "lightning.pytorch",
    "lightning_utilities",
    "matplotlib",
    "mlflow",
    "monai",
    "nibabel",
    "numexpr",
    "pydicom",
    "pynetdicom",
    "urllib3",
)


def set_up(*, verbose: bool = False, log_file: Path | None = None) -> None:
    """Show progress and logs of this process on standard error; once, at the start of a command.

    On a terminal they are Rich's, elsewhere plain lines; ``log_file`` gets every record as a
    line of JSON. Only rank 0 speaks. Libraries' chatter is silenced, and so is telemetry.
    """
    # The memory of a process that crashes, a worker's too, holds headers: it is not left on disk.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
        handler.close()
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    root.setLevel(logging.WARNING)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)
    if rank() > 0:
        root.addHandler(logging.NullHandler())
        progress.install(None)
        return
    logging.getLogger("medssl").setLevel(logging.DEBUG if verbose else logging.INFO)
    console = Console(stderr=True)
    if console.is_terminal:
        handler = RichHandler(console=console, show_path=False, log_time_format="%X")
        progress.install(RichReporter(console))
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
        progress.install(PlainReporter(lambda line: print(line, file=sys.stderr, flush=True)))  # noqa: T201
    _add(handler)
    if log_file is not None:
        log_to(log_file)


def log_to(path: Path) -> None:
    """Also append every log record to ``path``, one JSON object a line, redacted."""
    if rank() == 0:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(path, encoding="utf-8")
        handler.setFormatter(_JsonLines())
        _add(handler)


def _add(handler: logging.Handler) -> None:
    handler.addFilter(Redaction())
    logging.getLogger().addHandler(handler)


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_text:
            line["traceback"] = record.exc_text
        return json.dumps(line, ensure_ascii=False)


def say(*lines: str) -> None:
    """Print plain lines on standard output."""
    for line in lines:
        print(line)  # noqa: T201 - this is where medssl speaks


def summarise(results: Sequence[StageResult], *, extra: Iterable[str] = ()) -> None:
    """Print what was done, in numbers, and where to look."""
    for result in results:
        done = "already done, nothing to do" if result.skipped else "done"
        say("", f"{result.stage}: {done}")
        say(*_aligned((name, _in_words(value)) for name, value in result.summary.items()))
    several = len(results) > 1
    rows = [
        (f"{result.stage}: {label}" if several else label, near(result.folder / path))
        for result in results
        for label, path in result.look_at.items()
    ]
    if rows:
        say("", "Look at", *_aligned(rows))
    say(*extra)


def _aligned(rows: Iterable[tuple[str, str]]) -> list[str]:
    """Return indented lines whose second column starts at one place; nothing is ever cut off."""
    rows = list(rows)
    width = max((len(label) for label, _ in rows), default=0)
    return [f"  {label:<{width}}  {value}" for label, value in rows]


def near(path: Path) -> str:
    """Return ``path`` relative to the working folder where it lies below it."""
    absolute, here = Path.cwd() / path, Path.cwd()
    return str(absolute.relative_to(here) if absolute.is_relative_to(here) else absolute)


def _in_words(value: str | int | float | bool) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
