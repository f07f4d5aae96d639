import pytest

from medssl.errors import InputError
from medssl.reports.context import Context, Meaning

CONTEXT = Context.read()
P, A, U = Meaning.PRESENT, Meaning.ABSENT, Meaning.UNCERTAIN
HISTORICAL, HYPOTHETICAL = Meaning.HISTORICAL, Meaning.HYPOTHETICAL


@pytest.mark.parametrize(
    ("sentence", "meaning"),
    [
        ("There is an X.", P),
        ("No X.", A),
        ("No evidence of X or mass.", A),
        ("X was not observed.", A),
        ("X is observed, Y was not observed.", P),
        ("No mass, but X is seen.", P),
        ("No mass was detected and X is seen.", P),
        ("Y without X.", A),
        ("No suspicious X was detected.", A),
        ("There was no finding suggestive of X.", A),
        ("No change in X.", P),
        ("X has resolved.", A),
        ("X cannot be excluded.", U),
        ("Cannot exclude X.", U),
        ("Possible X.", U),
        ("May represent X.", U),
        ("Opacity (X?).", U),
        ("X in both lungs (pneumonia?).", P),
        ("X, small airway disease?", P),
        ("X (5 mm in the previous examination).", P),
        ("No mass at this level, and there are X.", P),
        ("There is no X.", A),
        ("There is no finding of X.", A),
        ("History of X.", HISTORICAL),
        ("Status post X.", HISTORICAL),
        ("Rule out X.", HYPOTHETICAL),
        ("Kein X.", A),
        ("X nicht nachweisbar.", A),
        ("Verdacht auf X.", U),
        ("Pas de X.", A),
        ("Absence d'X.", A),
        ("No se observa X.", A),
        ("Sin X.", A),
        ("Non si osserva X.", A),
        ("Geen X.", A),
        ("Mogelijk X.", U),
    ],
)
def test_what_is_meant_of_x(sentence, meaning):
    start = sentence.index("X")
    assert CONTEXT.of(sentence).meaning(start, start + 1) is meaning


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("negations: {before: [a]}", "unknown: negations"),
        ("negation: {within: [a]}", "wanted before and after"),
        ("negation: {before: [no]}", "need quotes"),
    ],
)
def test_wrong_cues_are_explained(tmp_path, content, message):
    path = tmp_path / "own.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        Context.read(path)
