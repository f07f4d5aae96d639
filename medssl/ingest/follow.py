"""A source that grows, such as a hospital's nightly feed: round after round, until a signal."""

import logging
import time
from typing import Protocol

from medssl.ingest.config import FollowConfig
from medssl.io.sources.base import SourceError
from medssl.runs.stage import StageResult

_log = logging.getLogger(__name__)


class Once(Protocol):
    """One ingest of what came to rest."""

    def __call__(self, *, overwrite: bool = False, quiet_s: float | None = None) -> StageResult:
        """Run it."""


def follow(config: FollowConfig, once: Once, *, overwrite: bool = False) -> StageResult:
    """Run ``once`` again and again; return the last result when interrupted between rounds.

    A signal during a round ends it as it ends any run: nothing is lost, and the next start goes
    on where it stopped. A source that cannot be asked for a while does not end the watch.

    Raises:
        SourceError: in the first round.
    """
    number, result = 0, None
    while True:
        number += 1
        try:
            result = once(overwrite=overwrite and number == 1, quiet_s=config.quiet_s)
        except SourceError as error:
            if result is None:  # the very first: more likely a mistake than a bad moment
                raise
            _log.warning("Round %d: %s; trying again later", number, error.problem)
        else:
            _tell(number, result)
        try:
            time.sleep(config.interval_s)
        except KeyboardInterrupt:
            return result


def _tell(number: int, result: StageResult) -> None:
    if result.skipped:
        _log.info("Round %d: nothing new", number)
        return
    counts = ("files", "converted", "skipped", "quarantined", "volumes", "parcels_failed")
    known = [f"{result.summary[name]} {name}" for name in counts if name in result.summary]
    _log.info("Round %d: the library now has %s", number, ", ".join(known))
