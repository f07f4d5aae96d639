"""A real picture archive (Orthanc) for tests, which are skipped where there can be none."""

from contextlib import ExitStack, contextmanager

import pytest

from pipelines.benchmarks.cases import orthanc
from pipelines.benchmarks.cases.orthanc import free_port, send

__all__ = ["free_port", "running", "send"]


@contextmanager
def running(folder, **options):
    """Yield an archive in a network of its own; nothing of it is left afterwards."""
    with ExitStack() as stack:
        try:
            archive = stack.enter_context(orthanc.running(folder, **options))
        except orthanc.NoArchiveError as error:
            pytest.skip(str(error))
        yield archive
