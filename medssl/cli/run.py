"""What every command does: read the configuration, run, and say what came of it."""

import importlib
import re
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import typer
import yaml

from medssl.cli.console import say, summarise
from medssl.cli.reporters import duration
from medssl.config.base import Config
from medssl.config.load import read_tree, validate
from medssl.errors import MedSSLError
from medssl.runs.environment import rank
from medssl.runs.folder import is_disk_full
from medssl.runs.stage import StageResult

_INTERRUPTED = 130
_TERMINATED = 143

_WHERE = {
    "ingest": ("medssl.ingest.ingest", "IngestConfig"),
    "curate": ("medssl.curation.curate", "CurateConfig"),
    "prepare": ("medssl.data.prepare", "PrepareConfig"),
    "pair": ("medssl.reports.pair", "PairConfig"),
    "adapt": ("medssl.training.adapt", "AdaptConfig"),
    "train_text": ("medssl.training.text_model", "TrainTextConfig"),
    "pretrain": ("medssl.training.pretrain", "PretrainConfig"),
    "finetune": ("medssl.training.finetune", "FinetuneConfig"),
    "study": ("medssl.evaluation.study.run", "StudyConfig"),
    "evaluate": ("medssl.evaluation.evaluate", "EvaluateConfig"),
    "probe": ("medssl.evaluation.probe", "ProbeStageConfig"),
    "embed": ("medssl.evaluation.paired.embed", "EmbedConfig"),
    "zeroshot": ("medssl.evaluation.paired.zeroshot", "ZeroShotConfig"),
    "grounding": ("medssl.evaluation.paired.grounding", "GroundingConfig"),
    "trust": ("medssl.evaluation.paired.trust", "TrustConfig"),
    "export": ("medssl.export.export", "ExportConfig"),
    "predict": ("medssl.inference.predict", "PredictConfig"),
    "serve": ("medssl.serving.serve", "ServeConfig"),
    "deidentify": ("medssl.privacy.deidentify", "DeidentifyConfig"),
    "run": ("medssl.pipeline", "PipelineConfig"),
}


@dataclass(frozen=True)
class Request:
    """One command as it was typed."""

    command: str
    file: Path | None
    given: dict[str, Any]
    """What the positional arguments and options set; it counts more than the file."""
    overrides: Sequence[str]
    """``section.key=value``; they count most."""
    overwrite: bool
    dry_run: bool

    def run(self) -> None:
        """Run the command and end the process with its exit code where it did not succeed."""
        with user_errors_explained():
            started_s = time.monotonic()
            config = self.config()
            if self.dry_run:
                say(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False).rstrip())
                return
            results = self._call(config)
            if rank() == 0:
                summarise(results, extra=[f"\nTook {duration(time.monotonic() - started_s)}."])

    def config(self) -> Config:
        """Return the configuration that the file, the arguments and the overrides make."""
        module, name = _WHERE[self.command]
        cls = getattr(importlib.import_module(module), name)
        tree = read_tree(self.file, cls) if self.file else {}
        for key, value in self.given.items():
            if isinstance(value, dict) and isinstance(tree.get(key), dict):
                same = tree[key].get("name") == value.get("name")
                tree[key] = tree[key] | value if same else value
            elif value is not None:
                tree[key] = value
        where = str(self.file) if self.file else "the command line"
        config: Config = validate(cls, tree, where=where, overrides=self.overrides)
        return config

    def _call(self, config: Config) -> list[StageResult]:
        module = importlib.import_module(_WHERE[self.command][0])
        if self.command == "run":
            return list(module.run_pipeline(config, overwrite=self.overwrite))
        return [getattr(module, self.command)(config, overwrite=self.overwrite)]


def split_overrides(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return (paths, overrides); ``key=value`` is a path only where such a file exists."""
    overrides = [
        word for word in words if re.match(r"[A-Za-z_][\w.]*=", word) and not Path(word).exists()
    ]
    return [word for word in words if word not in overrides], overrides


@contextmanager
def user_errors_explained() -> Iterator[None]:
    """Turn what a user can mend into a message and exit code, an interruption into 130 or 143."""
    signals: list[int] = []

    def interrupt(number: int, _frame: FrameType | None) -> None:
        signals.append(number)
        raise KeyboardInterrupt

    before = {
        number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    except MedSSLError as error:
        if error.exit_code:
            _tell(f"medssl: {error}")
        raise SystemExit(error.exit_code) from None
    except OSError as error:
        if not is_disk_full(error):
            raise
        _tell(
            f"medssl: {error.filename or 'the disk'}: {error.strerror}\n"
            "  hint: make room and run the same command again: it goes on where it stopped"
        )
        raise SystemExit(MedSSLError.exit_code) from None
    except (KeyboardInterrupt, SystemExit) as error:
        if isinstance(error, SystemExit) and not signals:
            raise
        _tell("\nInterrupted. To continue where it stopped, run the same command again.")
        terminated = signal.SIGTERM in signals
        raise SystemExit(_TERMINATED if terminated else _INTERRUPTED) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tell(text: str) -> None:
    sys.stdout.flush()
    typer.echo(text, err=True)


def explain_file(path: str, library: Path | None, key_file: Path | None) -> None:
    """Print what became of one file of a library."""
    if library is None or key_file is None:
        raise typer.BadParameter("--explain also needs --library and --key-file")
    with user_errors_explained():
        from medssl.ingest.explain import explain

        say(explain(library, path, key_file))
