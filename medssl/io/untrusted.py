"""Run a parser on bytes of unknown origin without repeating a word it says."""

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from pydicom.config import disable_value_validation

from medssl.errors import RejectedFileError
from medssl.io.reasons import reject

_RUST_PANIC = "pyo3_runtime"
"""A decoder written in Rust that runs past an array raises what is no Exception."""

_TALKATIVE = ("pydicom", "nibabel", "pylibjpeg", "openjpeg", "libjpeg")


@contextmanager
def untrusted(code: str) -> Iterator[None]:
    """Turn any failure inside into the rejection ``code``, and keep the parsers silent.

    The parsers' exceptions, warnings and log lines quote the values they stumble over, a
    patient's name included, so none of their text may pass.

    Raises:
        RejectedFileError: ``code``; ``unreadable_file`` when the operating system failed,
            ``out_of_memory`` when there was too little of it.
    """
    with silenced():
        try:
            yield
        except RejectedFileError:
            raise
        except MemoryError:
            raise reject("out_of_memory") from None
        except OSError as error:
            raise reject("unreadable_file" if error.errno is not None else code) from None
        except BaseException as error:  # a damaged file makes a parser raise anything at all
            if isinstance(error, Exception) or type(error).__module__ == _RUST_PANIC:
                raise reject(code) from None
            raise


@contextmanager
def silenced() -> Iterator[None]:
    """Keep the parsers silent, in every thread, until the last that asked for it has left.

    To be held around a loop over many files: entering again is then next to free.
    """
    _silence.enter()
    try:
        yield
    finally:
        _silence.leave()


class _Silence:
    """What is switched off is of the whole process, so threads share one silence."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders = 0
        self._undo = ExitStack()

    def enter(self) -> None:
        with self._lock:
            if self._holders == 0:
                self._undo.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")
                self._undo.enter_context(disable_value_validation())
                self._undo.enter_context(_muted())
            self._holders += 1

    def leave(self) -> None:
        with self._lock:
            self._holders -= 1
            if self._holders == 0:
                self._undo.close()


_silence = _Silence()


@contextmanager
def _muted() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    before = [(logger.propagate, logger.handlers) for logger in loggers]
    for logger in loggers:
        logger.propagate, logger.handlers = False, [logging.NullHandler()]
    try:
        yield
    finally:
        for logger, (propagate, handlers) in zip(loggers, before, strict=True):
            logger.propagate, logger.handlers = propagate, handlers
