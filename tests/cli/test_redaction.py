import logging

import pytest

from medssl.cli.redaction import Redaction

UID = "1.3.6.1.4.1.14519.5.2.1.6279.6001.100530488926682752765845212286"


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (f"cannot decode {UID}", "cannot decode <redacted>"),
        (f"series {UID}.dcm and 1.2.840.10008.1.2.4.90", "series <redacted>.dcm and <redacted>"),
        ("patient DOE^JANE^M is odd", "patient <redacted> is odd"),
        ("patient MÜLLER^ANNA", "patient <redacted>"),
        ("O'Neil^Sean=x", "<redacted>"),
        ("number PID-4711, again PID-4711", "number <redacted>, again <redacted>"),
        (
            "medssl 0.1.0 on Python 3.11.7 at 127.0.0.1",
            "medssl 0.1.0 on Python 3.11.7 at 127.0.0.1",
        ),
        ("crop 96^3", "crop 96^3"),
        ("loss 0.125 after 10 of 600 steps", "loss 0.125 after 10 of 600 steps"),
    ],
)
def test_what_looks_like_an_identifier_is_taken_out(text, clean):
    assert Redaction(["PID-4711"]).clean(text) == clean


def test_arguments_and_tracebacks_are_cleaned_too():
    try:
        raise ValueError(f"bad tag in {UID}")
    except ValueError as error:
        record = logging.LogRecord("x", logging.ERROR, "f", 1, "of %s", (UID,), None)
        record.exc_info = (ValueError, error, error.__traceback__)
    assert Redaction().filter(record)
    text = logging.Formatter().format(record)
    assert UID not in text
    assert text.count("<redacted>") == 2
    assert "Traceback" in text
