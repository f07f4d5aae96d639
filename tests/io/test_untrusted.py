import logging
import threading
import warnings

import pytest

from medssl.errors import RejectedFileError
from medssl.io.untrusted import silenced, untrusted


def parse():
    logging.getLogger("pydicom").error("SMITH^JOHN")
    logging.getLogger("pydicom.pixels").error("SMITH^JOHN")
    warnings.warn("SMITH^JOHN", stacklevel=1)
    raise ValueError("SMITH^JOHN")


def test_nothing_a_parser_says_gets_out(caplog, capsys):
    with pytest.raises(RejectedFileError) as caught, untrusted("damaged_header"):
        parse()
    assert caught.value.code == "damaged_header"
    assert caught.value.__suppress_context__
    shown = capsys.readouterr()
    assert "SMITH" not in str(caught.value) + caplog.text + shown.out + shown.err


def test_the_system_and_the_file_are_told_apart(tmp_path):
    with pytest.raises(RejectedFileError) as caught, untrusted("damaged_header"):
        (tmp_path / "nowhere").read_bytes()
    assert caught.value.code == "unreadable_file"


def test_too_little_memory_is_no_damage():
    with pytest.raises(RejectedFileError) as caught, untrusted("damaged_header"):
        bytes(2**62)
    assert caught.value.code == "out_of_memory"
    assert not caught.value.skipped


def test_loggers_are_as_before_afterwards():
    logger = logging.getLogger("pydicom")
    before = (logger.propagate, logger.handlers)
    with untrusted("damaged_header"):
        pass
    assert (logger.propagate, logger.handlers) == before


def test_silence_lasts_until_the_last_thread_has_left(caplog):
    """Threads that come and go must not end each other's silence, nor leave it behind."""
    logger, before = logging.getLogger("pydicom"), warnings.filters[:]
    entered, leave = threading.Event(), threading.Event()

    def hold():
        with silenced():
            entered.set()
            leave.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    entered.wait()
    for _ in range(100):
        with untrusted("damaged_header"):
            logger.error("SMITH^JOHN")
        logger.error("SMITH^JOHN")
    with silenced():
        leave.set()
        thread.join()
        logger.error("SMITH^JOHN")
    assert "SMITH" not in caplog.text
    assert warnings.filters == before
    logger.error("audible again")
    assert "audible again" in caplog.text


def test_a_panic_is_a_failure_and_an_interrupt_is_not():
    class PanicException(BaseException):
        __module__ = "pyo3_runtime"

    with pytest.raises(RejectedFileError), untrusted("undecodable_pixels"):
        raise PanicException
    with pytest.raises(KeyboardInterrupt), untrusted("undecodable_pixels"):
        raise KeyboardInterrupt
