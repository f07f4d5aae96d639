"""Identifiers out of reports: by rules, and by what else is known of whom a report is about.

Rules miss names that nothing announces. A table of identifying values, or the header of a DICOM
report, is the strongest help: every word of them is removed.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from medssl.privacy.common_words import says_something
from medssl.reports.plain import plain

_MONTHS: Final = (
    r"jan(?:uary|uar|vier|uari)?|feb(?:ruary|ruar|rero|braio|ruari)?|f[ée]vr(?:ier)?|enero|gennaio"
    r"|febrero|febbraio|m[äa]r(?:ch|z|s|zo)?|mrt|maart|apr(?:il|ile)?|avr(?:il)?|abril|ma[iy]|mayo"
    r"|maggio|mei|jun[ei]?|juin|junio|giugno|jul[iy]?|juillet|julio|luglio|aug(?:ust|ustus)?"
    r"|ao[uû]t|agosto|sep(?:t|tember|tembre|tiembre)?|settembre|o[kc]t(?:ober|obre|ubre)?|ottobre"
    r"|nov(?:ember|embre|iembre)?|de[czck](?:ember|embre)?|d[ée]cembre|diciembre|dicembre"
)
_NAME: Final = r"[A-ZÄÖÜÉÈÁÓÍÑŠŽ][\w'\u2019\-]+"
_PARTICLES: Final = r"van|von|de|der|den|di|da|del|della|la|le|ten|ter|zu|bin|al|el"
_BEFORE_NAME: Final = rf"(?:[A-Z]\.[ \t]*|(?:{_PARTICLES})[ \t]+){{0,3}}"
_NAMES: Final = rf"{_BEFORE_NAME}{_NAME}(?:,?[ \t]+{_BEFORE_NAME}{_NAME}){{0,3}}"
_TITLES: Final = (
    r"Dr|Drs|Prof|Mr|Mrs|Ms|Miss|Herrn?|Frau|Mme|Mlle|Monsieur|Madame|Sra?|Doña|"
    r"Dott(?:\.ssa)?|Sig(?:\.ra|nora|nore)?|Dhr|Mevr|Mw|Doctor|Professor|Priv\.-Doz"
)
_SIGNED: Final = (
    r"(?:dictated|signed|reported|read|reviewed|verified|interpreted|transcribed|approved|"
    r"authenticated|referred|performed|diktiert|befundet|validiert|gezeichnet|freigegeben|"
    r"dict[ée]|valid[ée]|sign[ée]|firmado|dictado|informado|firmato|refertato|gedicteerd|"
    r"ondertekend)(?:[ \t]+electronically)?[ \t]*+(?:by|von|durch|par|por|da|door|:)(?:[ \t]*+:)?"
)
_LABELS: Final = (
    r"(?:mrn|accession|acc|case|patient|pat|fall|study|record|file|insurance|nhs|ssn|nss|dossier|"
    r"caso|historia|cartella|dossiernummer|patientennummer|fallnummer|auftragsnummer)"
    r"(?:[ \t]*+(?:[.\-][ \t]*+)?(?:id|nr|no|num|number|nummer|numéro|número|numero|#))*"
    r"[ \t]*+(?:[.:#]++[ \t]*+)?"
)
_CLOSINGS: Final = (
    r"electronically signed|sincerely|(?:best|kind|warm) regards|yours (?:truly|sincerely|"
    r"faithfully)|mit freundlichen|mit kollegialen|gez\.|cordialement|bien confraternellement|"
    r"atentamente|cordiali saluti|met vriendelijke"
)
_NAMED: Final = (
    r"patient(?:in|e|'s)?(?:[ \t]+name)?|name|nom|nombre|nome|naam|paciente|paziente|pati[eë]nt|"
    r"(?:referring|attending|ordering)[ \t]+\w+|radiologist|physician"
)
_DAY, _MONTH, _YEAR = r"(?:0?[1-9]|[12]\d|3[01])", r"(?:0?[1-9]|1[0-2])", r"(?:18|19|20)\d\d"
_DAY_OF: Final = r"\d{1,2}(?:st|nd|rd|th|er|\.|º)?[ \t]+(?:of[ \t]+|de[ \t]+)?"
_OF_YEAR: Final = rf"(?:[ \t]+(?:de[ \t]+)?|,[ \t]*){_YEAR}"
_DATES: Final = (
    rf"{_YEAR}[-/.]{_MONTH}[-/.]{_DAY}",
    rf"{_DAY}[-/.]{_DAY}[-/.](?:{_YEAR}|\d\d)",
    rf"{_YEAR}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])",
    rf"(?:{_DAY_OF})?(?:{_MONTHS})\.?(?:[ \t]+\d{{1,2}}(?:st|nd|rd|th)?,?)?{_OF_YEAR}",
    rf"(?!\d+\.[ \t]+may\b){_DAY_OF}(?:{_MONTHS})",  # "... of 6. May be old."
    rf"{_MONTH}/(?:19|20)\d\d",
)
_PHONE_LABEL: Final = (
    r"(?:tel(?:ephone|efon)?|t[ée]l[ée]phone|tel[ée]fono|phone|fax|pager|ext(?:ension)?|mobile)"
)
_PHONE_LABELLED: Final = rf"{_PHONE_LABEL}\b\.?[ \t]*+(?:n[or]\.?[ \t]*+)?(?::[ \t]*+)?"
_PHONES: Final = (
    r"\+\d{1,3}[ \t.\-/]?(?:\(0\))?[ \t]?(?:\(?\d{1,5}\)?[ \t.\-/]?){2,6}\d{1,4}",
    r"\(?\d{3}\)?[ \t.\-]\d{3}[ .\-]\d{4}",
    rf"(?P<keep>{_PHONE_LABELLED})[\d(][\d \t().\-/]{{2,}}\d",
)
_AGES: Final = (
    r"(?:9\d|1[0-2]\d)(?=[ \t-]*(?:years?|yrs?|y/o|yo\b|jährig|jahre|ans\b|años\b|anni\b|jaar\b))",
    r"(?P<keep>(?:aged|age|alter|âge|edad|età|leeftijd)[ \t]*+(?::[ \t]*+)?)(?:9\d|1[0-2]\d)",
)
_STREET: Final = r"(?:street|st\.|road|rd\.|avenue|ave\.|boulevard|blvd\.?|lane|drive|square|court)"
_STRASSE: Final = r"(?:straße|strasse|str\.|weg|platz|allee|gasse|straat|laan|plein)"
_NAME_OF_STREET: Final = _NAME.removesuffix("+") + "{1,60}"  # no run of hyphens takes for ever
_RUE: Final = (
    r"(?:[Rr]ue|[Aa]venue|[Cc]alle|[Vv]ia|[Pp]iazza|[Pp]laza)[ \t]+"
    r"(?:de[ \t]+(?:la[ \t]+)?|des[ \t]+|du[ \t]+)?"
)
_ADDRESSES: Final = (
    rf"\d{{1,5}}[ \t]+(?:{_NAME}[ \t]+){{1,3}}(?i:{_STREET})",
    rf"{_NAME_OF_STREET}(?:[ \t]|-)?(?i:{_STRASSE})[ \t]+\d{{1,4}}[a-z]?",
    rf"(?:\d{{1,4}}[ \t,]+)?{_RUE}{_NAME}(?:,?[ \t]+\d{{1,4}})?",
)
_NUMBERS: Final = (r"[A-Z]{0,4}-?\d{6,}[A-Z]?", r"\d+(?:\.\d+){4,}", r"\d{3}-\d{2}-\d{4}")
_SHORTEST_NUMBER: Final = 5
_I: Final = re.IGNORECASE
_LINES: Final = re.IGNORECASE | re.MULTILINE


def _any_of(expressions: Sequence[str], flags: re.RegexFlag = re.NOFLAG) -> re.Pattern[str]:
    """Return what finds one of ``expressions`` where no letter or digit stands beside it."""
    return re.compile(rf"(?<![\w./])(?:{'|'.join(expressions)})(?!\w)", flags)


@dataclass(frozen=True)
class _Rule:
    name: str
    placeholder: str
    pattern: re.Pattern[str]
    """What its group ``keep`` holds stays in front of the placeholder."""

    def replacement(self, found: re.Match[str]) -> str:
        """Return what stands for a match."""
        return (found.groupdict().get("keep") or "") + self.placeholder


RULES: Final = (
    _Rule("email", "[EMAIL]", re.compile(r"(?<![\w.+\-])[\w.+\-]++@[\w\-]+(?:\.[\w\-]+)+")),
    _Rule("url", "[URL]", re.compile(r"(?:https?://|ftp://|www\.)[^\s<>\"]+", _I)),
    _Rule("signature", "[SIGNATURE]", re.compile(rf"^[ \t]*(?:{_CLOSINGS})[\s\S]*\Z", _LINES)),
    _Rule(
        "named_line",
        "[NAME]",
        re.compile(rf"(?P<keep>^[ \t]*(?:{_NAMED})[ \t]*:[ \t]*+)(?!\[)[^\n]+", _LINES),
    ),
    _Rule(
        "signed_by",
        "[NAME]",
        re.compile(rf"(?P<keep>(?i:\b{_SIGNED})[ \t]*(?:(?:{_TITLES})\.?[ \t]+)*){_NAMES}"),
    ),
    _Rule(
        "title_name",
        "[NAME]",
        re.compile(rf"(?P<keep>\b(?:(?:{_TITLES})\.?[ \t]+)+(?:med\.[ \t]+)?){_NAMES}"),
    ),
    _Rule("date", "[DATE]", _any_of(_DATES, _I)),
    _Rule(
        "time",
        "[TIME]",
        _any_of([r"(?:[01]?\d|2[0-3]):[0-5]\d(?::[0-5]\d)?(?:[ \t]*[ap]\.?m\b)?(?!:)"], _I),
    ),
    _Rule("phone", "[PHONE]", _any_of(_PHONES, _I)),
    _Rule(
        "number",
        "[NUMBER]",
        re.compile(rf"(?P<keep>\b{_LABELS})(?=[\w\-/]*\d)\w[\w\-/]{{3,}}(?!\w)", _I),
    ),
    _Rule("long_number", "[NUMBER]", _any_of(_NUMBERS)),
    _Rule("age_over_89", "[AGE]", _any_of(_AGES, _I)),
    _Rule("address", "[ADDRESS]", _any_of(_ADDRESSES)),
)
"""In the order in which they are applied."""

REMAINING: Final = {
    "at_sign": re.compile(r"\S@\S"),
    "digits": re.compile(r"(?<![\w.])(?:\d[ \-/.]?){7,}(?!\w)"),
    "letters_and_digits": re.compile(r"(?<!\w)(?=\w*\d{4})[A-Z]{1,4}\w{4,}(?!\w)"),
    "year_with_day": _any_of([rf"{_DAY}\s*[-/.]\s*(?:{_MONTHS}|\d\d?)\s*[-/.]\s*{_YEAR}"], _I),
    "titled_word": re.compile(rf"\b(?:{_TITLES})\.?[ \t]+(?!\[)[^\W\d_]{{2,}}"),
    "initial_and_name": re.compile(r"(?<![\w.])[A-Z]\.[ \t]?(?:[A-Z]\.[ \t]?)?[A-Z][a-z]{2,}\b"),
    "birth": re.compile(
        r"\b(?:date of birth|dob|born on|geboren|geb\.|n[ée]e? le|fecha de nacimiento|nat[oa] il)"
        r"[^\n\[]{0,12}\d",
        _I,
    ),
}
"""Wider than the rules: what still looks like an identifier when they have run."""


@dataclass(frozen=True)
class Redacted:
    """A text without identifiers."""

    text: str
    removed: Counter[str] = field(default_factory=Counter)
    """Rule to how often it removed something; never what."""


def redact(text: str, known: Iterable[str] = ()) -> Redacted:
    """Return ``text`` with placeholders in place of identifiers.

    Args:
        text: A report.
        known: Values of whom it is about and who wrote it: names, numbers, institutions.
    """
    removed = Counter[str]()
    pattern = _of_known(frozenset(known))
    if pattern is not None:
        pieces, last = list[str](), 0
        for match in pattern.finditer(plain(text)):
            pieces += [text[last : match.start()], "[KNOWN]"]
            last = match.end()
            removed["known_value"] += 1
        text = "".join([*pieces, text[last:]])
    for rule in RULES:
        text, count = rule.pattern.subn(rule.replacement, text)
        removed[rule.name] += count
    return Redacted(text, +removed)


def remaining(text: str) -> Counter[str]:
    """Return which patterns a redacted text still shows, and how often; never where."""
    found = {name: len(pattern.findall(text)) for name, pattern in REMAINING.items()}
    return +Counter(found)


@lru_cache(maxsize=64)
def _of_known(values: frozenset[str]) -> re.Pattern[str] | None:
    """Return what finds values in plain letters: each as a whole, and each word that is telling.

    A word of a value that is short or of every day ("Young", "Li") is removed only beside another
    word of the same value: alone it is too often just a word.
    """
    expressions = {each for value in values for each in _expressions(plain(value))}
    if not expressions:
        return None
    longest_first = "|".join(sorted(expressions, key=lambda each: (-len(each), each)))
    return re.compile(rf"(?<!\w)(?:{longest_first})(?!\w)")


def _expressions(value: str) -> Iterator[str]:
    words = re.findall(r"\w+", value)
    escaped = [re.escape(word) for word in dict.fromkeys(words)]
    if len(escaped) > 1:
        word = f"(?:{'|'.join(escaped)})"
        yield rf"{word}(?:[\s,.^\-]+{word})+"
    yield from (re.escape(word) for word in words if says_something(word) or _is_number(word))


def _is_number(word: str) -> bool:
    return len(word) >= _SHORTEST_NUMBER and any(map(str.isdigit, word))
