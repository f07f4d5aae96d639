from medssl.reports.reading import Reader, ReadingConfig
from medssl.reports.sources import RawReport, Refused

READER = Reader(ReadingConfig(long_words=20))


def read(*parts, known=()):
    return READER.read(RawReport("row 1", "key", "study_uid", parts, known))


def test_sections_of_one_name_become_one_and_evidence_points_into_it():
    report = read(("findings", "Emphysema."), ("", "FINDINGS: Effusion.\nIMPRESSION: Both."))
    assert [(part.name, part.text) for part in report.sections] == [
        ("findings", "Emphysema.\nEffusion."),
        ("impression", "Both."),
    ]
    words = {report.sections[0].text[each.start : each.end] for each in report.reading.evidence}
    assert words == {"Emphysema", "Effusion"}


def test_nothing_said_is_refused():
    for nothing in ("", " \n", "Not given.", "N/A", "INDICATION: cough", "..."):
        found = read(("", nothing))
        assert isinstance(found, Refused)
        assert found.code == "empty"


def test_equal_words_have_one_digest_and_long_ones_are_noted():
    one, other = read(("", "No  Effusion.")), read(("", "no effusion"))
    assert one.digest == other.digest
    assert not one.is_long
    assert read(("", "No effusion. " * 20)).is_long


def test_what_names_a_person_does_not_show_in_a_raw_report():
    raw = RawReport("row 1", "UID", "study_uid", (("", "text of it"),), ("Quandt",), "2020")
    assert not {"UID", "text", "Quandt", "2020"} & set(repr(raw).replace("'", " ").split())
