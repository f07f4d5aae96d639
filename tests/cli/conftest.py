"""Commands that are called in this process leave its logging as it was."""

import logging

import pytest

from medssl.runs import progress


@pytest.fixture(autouse=True)
def logging_as_before():
    loggers = [logging.getLogger(), logging.getLogger("medssl")]
    before = [(logger.level, list(logger.handlers)) for logger in loggers]
    yield
    for logger, (level, handlers) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.handlers[:] = handlers
    progress.install(None)
