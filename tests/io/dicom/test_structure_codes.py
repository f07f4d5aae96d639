"""Names of structures get the codes of a dictionary, or say that none has them."""

import re

import pytest
from pydicom.sr.codedict import codes

from medssl.io.dicom.structure_codes import CodeConfig, _tables, own_code, structure_code


def test_every_word_of_the_table_has_a_code():
    for table in _tables():
        for words, name in table.items():
            assert words == words.lower()
            assert getattr(codes.SCT, name).scheme_designator == "SCT"
            assert structure_code(words).kind.scheme_designator == "SCT"


@pytest.mark.parametrize(
    ("label", "meaning", "side"),
    [
        ("liver", "Liver", None),
        ("left_kidney", "Kidney", "Left"),
        ("kidney-right", "Kidney", "Right"),
        ("Kidneys", "Kidney", None),
        ("left and right lung", "Lung", None),
        ("Adrenal Gland (L)", "Adrenal gland", "Left"),
    ],
)
def test_words_sides_and_plurals_are_understood(label, meaning, side):
    code = structure_code(label)
    assert code.kind.meaning.lower() == meaning.lower()
    assert (code.side.meaning if code.side else None) == side


def test_a_lesion_is_no_anatomical_structure():
    assert structure_code("tumour").category.meaning == "Morphologically Abnormal Structure"
    assert structure_code("liver").category.meaning == "Anatomical Structure"


def test_an_unknown_name_gets_a_code_of_our_own():
    assert own_code("kernel").value == "KERNEL"
    code = structure_code("Vorderhorn 2 (äußeres), very long")
    assert code.kind.scheme_designator == "99MEDSSL"
    assert code.kind.meaning == "Vorderhorn 2 (äußeres), very long"
    assert re.fullmatch("VORDERH_[0-9A-F]{8}", code.kind.value)


def test_no_two_names_share_a_code():
    names = ["left_upper_lobe_anterior", "left_upper_lobe_posterior", "a b", "a-b", "ä", "ö", "???"]
    values = [own_code(name).value for name in names]
    assert len(set(values)) == len(names)
    assert all(1 <= len(value) <= 16 for value in values)


def test_a_given_code_wins_and_a_lesion_stays_one():
    mine = CodeConfig(value="1", scheme="99X", meaning="Mine")
    code = structure_code("left tumour", mine)
    assert (code.kind.value, code.kind.scheme_designator) == ("1", "99X")
    assert code.category.meaning == "Morphologically Abnormal Structure"
    assert code.side.meaning == "Left"
