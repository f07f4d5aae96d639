"""The main job on real scans, from ingest to predict, in one go.

    python pipelines/quickstart.py                         # or: make quickstart
    python pipelines/quickstart.py pretrain.schedule.steps=100
    python pipelines/quickstart.py --overwrite             # replace what was made otherwise

It calls the stage functions that ``medssl ingest``, ``medssl curate`` and so on call, in one
MLflow run, and writes to the ``work`` folder of its configuration. Run again, it continues what
was interrupted and skips what is done.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from medssl.cli.console import log_to, near, say, set_up, summarise
from medssl.cli.reporters import duration
from medssl.cli.run import user_errors_explained
from medssl.config.load import load
from medssl.pipeline import PipelineConfig, run_pipeline

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "pipelines" / "quickstart.yaml"


def main(arguments: Sequence[str]) -> None:
    """Run the pipeline and say where to look."""
    set_up()
    started_s = time.monotonic()
    with user_errors_explained():
        overrides = [word for word in arguments if word != "--overwrite"]
        config = load(PipelineConfig, CONFIG, overrides)
        log_to(config.work / "log.jsonl")
        say(f"Quickstart: {len(config.stages())} stages, everything goes to {near(config.work)}/")
        results = run_pipeline(config, overwrite="--overwrite" in arguments)
        summarise(results)
        say(
            "",
            f"Took {duration(time.monotonic() - started_s)}. The same command continues or skips.",
        )
        if config.tracking.enabled:
            medssl = near(Path(sys.executable).with_name("medssl"))
            say("", "All runs, with their settings, curves and figures:")
            say(f"  {medssl} board {near(config.work)}")


if __name__ == "__main__":
    main(sys.argv[1:])
