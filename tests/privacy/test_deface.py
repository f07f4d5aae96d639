"""Faces removed by a command that is not ours, and believed only so far."""

import sys

import pydicom
import pytest

from medssl.config.load import validate
from medssl.errors import ConfigError
from medssl.privacy import writing
from medssl.privacy.deidentify import DeidentifyConfig
from tests.privacy.scans import COUNT, head

DEFACE = """
import sys, pathlib, pydicom
given, made = map(pathlib.Path, sys.argv[1:])
for number, path in enumerate(sorted(given.iterdir())):
    ds = pydicom.dcmread(path)
    assert "Quillfeather" not in str(ds)
    pixels = ds.pixel_array.copy()
    pixels[:5] = {value}
    ds.PixelData = pixels.tobytes()
    ds.save_as(made / path.name)
"""


def deface_command(tmp_path, value):
    script = tmp_path / "deface.py"
    script.write_text(DEFACE.format(value=value))
    return f"{sys.executable} {script} {{input}} {{output}}"


def test_a_deface_command_takes_the_face_and_only_pixels_come_from_it(tmp_path, clean):
    head(tmp_path / "in")
    _, files = clean(tmp_path / "in", deface_command=deface_command(tmp_path, 24))
    assert len(files) == COUNT
    for path in files:
        ds = pydicom.dcmread(path)
        assert (ds.pixel_array[:5] == 24).all()
        assert ds.pixel_array[5:].std() > 0
        assert "113102" in [i.CodeValue for i in ds.DeidentificationMethodCodeSequence]
        assert ds.RecognizableVisualFeatures == "NO"


def test_a_deface_command_that_does_nothing_lets_nothing_out(tmp_path, clean):
    head(tmp_path / "in")
    for command in (deface_command(tmp_path, "pixels[:5]"), "true {input} {output}"):
        result, files = clean(tmp_path / "in", deface_command=command)
        assert files == []
        assert result.summary["reason.deface_failed"] == COUNT


def test_a_deface_command_that_fails_lets_nothing_out(tmp_path, clean):
    head(tmp_path / "in")
    half = deface_command(tmp_path, 24)
    script = tmp_path / "deface.py"
    script.write_text(script.read_text() + "    if number == 2: raise SystemExit(1)\n")
    result, files = clean(tmp_path / "in", deface_command=half)
    assert files == []
    assert result.summary["reason.deface_failed"] == COUNT


def test_a_killed_run_defaces_the_whole_series_again(tmp_path, clean, monkeypatch):
    """Of half a head, a program may not know that it is one."""
    head(tmp_path / "in")
    command = deface_command(tmp_path, 24)
    script = tmp_path / "deface.py"
    script.write_text(f"{script.read_text()}\nassert number == {COUNT} - 1\n")
    noted = []

    def dies(writer, result):
        noted.append(result)
        if len(noted) == 4:
            raise KeyboardInterrupt
        note(writer, result)

    note = writing.Writer._note
    monkeypatch.setattr(writing.Writer, "_note", dies)
    with pytest.raises(KeyboardInterrupt):
        clean(tmp_path / "in", deface_command=command)
    monkeypatch.undo()
    _, files = clean(tmp_path / "in", deface_command=command)
    assert len(files) == COUNT
    assert all((pydicom.dcmread(path).pixel_array[:5] == 24).all() for path in files)


def test_a_deface_command_without_places_is_refused():
    tree = {"sources": ["a"], "out": "b", "key_file": "c", "deface_command": "deface it"}
    with pytest.raises(ConfigError, match="input"):
        validate(DeidentifyConfig, tree, where="here")
