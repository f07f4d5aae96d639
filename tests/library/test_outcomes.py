import csv
import stat

import pytest

from medssl.errors import InputError
from medssl.library.outcomes import (
    FileOutcome,
    counts_by_reason,
    read_outcomes,
    read_paths,
    read_settled,
    write_outcomes,
    write_paths,
)

GOOD = FileOutcome(
    file_key="b", outcome="converted", volume_key="v", bytes=10, source_format="dicom"
)
BAD = FileOutcome(
    file_key="a",
    outcome="quarantined",
    reason_code="no_geometry",
    reason="It does not say where it lies.",
    bytes=5,
    source_format="dicom",
)


def test_every_file_has_a_row_and_the_rejected_a_list_for_people(tmp_path):
    write_outcomes(tmp_path, [GOOD, BAD])
    assert read_outcomes(tmp_path)["file_key"].tolist() == ["a", "b"]
    assert read_settled(tmp_path) == [BAD]
    with (tmp_path / "quarantine.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["reason"] == BAD.reason
    assert "path" not in row
    assert counts_by_reason([GOOD, BAD, BAD]) == {"no_geometry": 2}


def test_paths_stand_in_one_private_file(tmp_path):
    path = "/data/caf\udce9, 1.dcm"  # a comma, and bytes that are no valid text
    write_paths(tmp_path, {"a": path, "b": "/data/2.dcm"}, [BAD])
    file = tmp_path / "private" / "files.csv"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert read_paths(tmp_path) == {"a": path, "b": "/data/2.dcm"}
    assert BAD.reason in file.read_text(errors="surrogateescape")


def test_before_the_first_ingest_there_is_nothing(tmp_path):
    assert read_paths(tmp_path) == {}
    assert read_settled(tmp_path) == []
    with pytest.raises(InputError, match="medssl ingest"):
        read_outcomes(tmp_path)
