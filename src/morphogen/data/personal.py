"""Personal data in texts: e-mail addresses, phone numbers, accounts, cards, IP and state numbers.

The recognisers are Presidio's, which knows the formats and check digits; what decides is how much
a match says by itself. One with a check digit or a form of its own counts wherever it stands; a
mere number counts beside a word that says what it is ("call", "PESEL"), since captions are full of
serial numbers. Names of persons and postal addresses need a language model and are not
looked for. `benchmarks/personal.py` measures what is found.
"""

from __future__ import annotations

import functools
import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from morphogen.core.codec import Problem, Text
from morphogen.core.errors import DataError
from morphogen.core.extras import extra

INSTALL = "pip install 'morphogen[privacy]'"
KINDS = {
    "EMAIL_ADDRESS": "e-mail address",
    "PHONE_NUMBER": "phone number",
    "IBAN_CODE": "bank account (IBAN)",
    "CREDIT_CARD": "payment card",
    "IP_ADDRESS": "IP address",
    "US_SSN": "social security number (US)",
    "UK_NINO": "national insurance number (UK)",
    "DE_SOCIAL_SECURITY": "social insurance number (DE)",
    "ES_NIF": "tax number (ES)",
    "ES_NIE": "foreigner's number (ES)",
    "IT_FISCAL_CODE": "tax code (IT)",
    "PL_PESEL": "PESEL (PL)",
    "SE_PERSONNUMMER": "personal number (SE)",
}
SCOPE = (
    "looked for: e-mail and IP addresses, numbers of phones, accounts, cards and states; "
    "not looked for: names of persons, postal addresses"
)
REGIONS = [
    "US", "CA", "MX", "BR", "GB", "IE", "FR", "BE", "NL", "DE", "AT",
    "CH", "ES", "PT", "IT", "PL", "SE", "NO", "IL", "IN", "JP", "AU",
]  # fmt: skip
PHONE_FORMS = {  # Presidio's phone recogniser, three times: how much each asks, what it says
    "PHONE_AFTER_PLUS": 0.6,
    "PHONE_AS_WRITTEN": 0.6,  # in groups, as one of REGIONS writes it
    "PHONE_NEAR_WORD": 0.4,  # the word adds 0.35
}
PHONE_WORDS = [
    "phone", "telephone", "tel", "mobile", "cell", "cellphone", "call", "fax", "whatsapp", "sms",
    "telefon", "handy", "mobil", "anrufen", "rufen",
    "téléphone", "tél", "portable", "appelez", "appeler",
    "teléfono", "móvil", "llame", "llamar", "celular",
    "telefono", "cellulare", "chiama", "chiamare", "komórka", "dzwoń", "zadzwoń",
]  # fmt: skip
THRESHOLD = 0.5  # what a match scores that has a form of its own, or a word beside it
FEWEST_DIGITS, FEWEST_OF_PHONE = 4, 7  # 4: of everything here that has no "@" or ":"
WINDOW, OVERLAP = 20_000, 200  # characters analysed at once
NUMBER = re.compile(r"\d+([.,]\d+)?|[1-9]\d*[-–]\d+")  # a number or a range is no phone number
VERSION = re.compile(r"\d{1,2}(\.\d{1,2}){3}")  # 2 in 100 IP addresses look like one
COLONS = re.compile(r":[\da-fA-F]{0,4}:")  # as in every IP address without four digits
AROUND = 24  # characters shown on each side of what is found


@dataclass(frozen=True)
class Finding:
    """Personal data at `start` to `end` of a text."""

    kind: str  # one of KINDS
    start: int
    end: int
    score: float


class Finder:
    """Looks for the KINDS in texts. Raises `DataError` where Presidio is not installed."""

    def __init__(self) -> None:
        self._engine = _engine()

    @functools.lru_cache(maxsize=4096)  # noqa: B019  captions and folder names come again
    def find(self, text: str, is_name: bool = False) -> tuple[Finding, ...]:
        """What is in `text`, in order, none overlapping another. In the name of a file or folder
        underscores part words, and no mere number counts without a word."""
        entities = _worth_a_look(text, is_name)
        if not entities:
            return ()
        plain = text.replace("_", " ") if is_name else text
        plain = re.sub("[\ud800-\udfff]", "?", plain)  # bytes of a file's name that are no text
        plain = re.sub(r"(?<!:):(?=\s|$)", ";", plain)  # else part of the IP address before it
        found: list[Finding] = []
        for start in range(0, len(plain), WINDOW):
            piece = plain[start : start + WINDOW + OVERLAP]
            found += (
                Finding(_kind(match), start + match.start, start + match.end, match.score)
                for match in self._engine.analyze(
                    piece, "en", entities, return_decision_process=True
                )
                if _counts(match, piece, is_name)
            )
        kept: list[Finding] = []
        for each in sorted(found, key=lambda f: (-f.score, f.start - f.end, f.start)):
            if all(each.end <= other.start or other.end <= each.start for other in kept):
                kept.append(each)
        return tuple(sorted(kept, key=lambda finding: finding.start))

    def redact(self, text: str, is_name: bool = False) -> str:
        """`text` with `[e-mail address]` in place of an e-mail address, and so on."""
        return _replaced(text, self.find(text, is_name))

    def problems(self, texts: Iterable[Text], counts: Counter[str]) -> Iterator[Problem]:
        """One problem per text that holds personal data, which it does not repeat.

        `counts` is told of every text, and of every text with a finding by its field.
        """
        for each in texts:
            counts[""] += 1
            found = self.find(each.text, each.is_name)
            if not found:
                continue
            counts[each.field] += 1
            listed = " and ".join(
                f"{number:,} times {KINDS[kind]}" if number > 1 else KINDS[kind]
                for kind, number in Counter(finding.kind for finding in found).items()
            )
            shown = excerpt(each.text, found)
            reason = f"personal data in the {each.field} ({listed}): {shown!r}"
            if each.is_name:
                name, fix = self._starred(each.name), "rename it"
            else:
                name, fix = each.name, "remove it; of a .csv: morphogen data redact TABLE --out NEW"
            yield Problem(name, reason, fix, field=each.field)

    def _starred(self, path: str) -> str:
        """A path with `*` for personal data in it: a pattern that finds the file."""
        parts = []
        for part in path.split("/"):
            stem, dot, suffix = part.rpartition(".")
            found = self.find(stem, True) if dot else ()
            if not found:
                stem, dot, suffix, found = part, "", "", self.find(part, True)
            parts.append(_replaced(stem, found, "*") + dot + suffix)
        return "/".join(parts)


def excerpt(text: str, found: Sequence[Finding]) -> str:
    """The surroundings of the first finding: every finding, what touches it, and every digit is
    covered, so that nothing of a number that was recognised in part is shown."""
    whole = []
    for each in found:
        start, end = each.start, each.end
        while start and not text[start - 1].isspace():
            start -= 1
        while end < len(text) and not text[end].isspace():
            end += 1
        whole.append(Finding(each.kind, start, end, each.score))
    first = whole[0]
    left, right = max(0, first.start - AROUND), min(len(text), first.end + AROUND)
    cut = [each for each in whole if each.start < right]
    right = max(right, cut[-1].end)
    shown = [Finding(e.kind, e.start - left, e.end - left, e.score) for e in cut]
    covered = _replaced(text[left:right], shown, digits="#")
    return "..." * (left > 0) + covered + "..." * (right < len(text))


def _replaced(
    text: str, found: Sequence[Finding], by: str | None = None, digits: str | None = None
) -> str:
    """`text` with each finding replaced by its kind, or by `by`; `digits` covers other digits."""
    parts, last = [], 0
    for each in found:
        between = text[last : max(each.start, last)]
        parts += [between if digits is None else re.sub(r"\d", digits, between)]
        parts += [f"[{KINDS[each.kind]}]" if by is None else by] if each.start >= last else []
        last = max(each.end, last)
    rest = text[last:]
    return "".join([*parts, rest if digits is None else re.sub(r"\d", digits, rest)])


def worth_a_look(text: str) -> bool:
    """Whether a text can hold any personal data at all: what loads no recogniser otherwise."""
    return bool(_worth_a_look(text, is_name=False))


def _worth_a_look(text: str, is_name: bool) -> list[str]:
    """What to look for in a text: nothing in most captions, which have no number. Phone numbers in
    a name must begin with a "+" or have a word: what cameras number files by looks like them."""
    digits = sum(map(str.isdecimal, text))
    few = digits < FEWEST_DIGITS and "@" not in text and not COLONS.search(text)
    if few or (is_name and digits == len(text)):
        return []
    entities = [kind for kind in KINDS if kind != "PHONE_NUMBER"]
    if digits >= FEWEST_OF_PHONE:
        words = {*re.findall(r"[^\W\d_]+", text.lower())}
        asked = {"PHONE_AS_WRITTEN": not is_name, "PHONE_NEAR_WORD": bool(words & {*PHONE_WORDS})}
        entities += [form for form in PHONE_FORMS if asked.get(form, True)]
    return entities


def _kind(match: Any) -> str:
    return "PHONE_NUMBER" if match.entity_type in PHONE_FORMS else str(match.entity_type)


def _counts(match: Any, text: str, is_name: bool) -> bool:
    """Whether a match says enough."""
    if match.score < THRESHOLD:
        return False
    if match.analysis_explanation.supportive_context_word:
        return True
    value = text[match.start : match.end]
    if _kind(match) == "PHONE_NUMBER":  # 1645x1302 is a size, not a number with an extension
        digits = sum(map(str.isdecimal, re.split(r"[^\W\d_]", value)[0]))
        return not NUMBER.fullmatch(value.strip("()")) and digits >= FEWEST_OF_PHONE
    if match.entity_type == "IP_ADDRESS":
        return not VERSION.fullmatch(value)
    # Cards have an issuer's prefix and a check digit: 3 in 100 long numbers do by chance. Files are
    # named by long numbers too often for that.
    return not value.isdecimal() or (match.entity_type == "CREDIT_CARD" and not is_name)


@functools.cache
def _engine() -> Any:
    """Presidio's analyser with the recognisers of KINDS and without a language model."""
    what = "personal data is looked for"
    presidio = extra("presidio_analyzer", "privacy", what, raises=DataError)
    import spacy
    from presidio_analyzer.context_aware_enhancers import LemmaContextAwareEnhancer
    from presidio_analyzer.nlp_engine import NlpArtifacts, SpacyNlpEngine

    # It writes what it could not validate, in full, into the log.
    logging.getLogger("presidio-analyzer").setLevel(logging.CRITICAL + 1)

    class Words(SpacyNlpEngine):  # type: ignore[misc]
        """Words in place of lemmas, which take a model: without them no context is seen."""

        def load(self) -> None:
            self.nlp = {"en": spacy.blank("en")}

        def is_stopword(self, word: str, language: str) -> bool:
            return False  # "call" is one

        def process_text(self, text: str, language: str) -> Any:
            doc = self.nlp[language](text)
            places, words = [token.idx for token in doc], [token.lower_ for token in doc]
            return NlpArtifacts([], doc, places, words, self, language)

    registry = presidio.RecognizerRegistry(_recognisers(), supported_languages=["en"])
    nearby = LemmaContextAwareEnhancer(context_suffix_count=3, context_matching_mode="whole_word")
    return presidio.AnalyzerEngine(registry, Words(), context_aware_enhancer=nearby)


def _recognisers() -> list[Any]:
    """Presidio's recognisers; "en" is but a label that all must share."""
    import tldextract
    from presidio_analyzer import Pattern
    from presidio_analyzer import predefined_recognizers as known

    top_level = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)  # without the network

    class Email(known.EmailRecognizer):  # type: ignore[misc]
        """With the list of top-level domains that comes with the package."""

        def validate_result(self, pattern_text: str) -> bool:
            return bool(top_level(pattern_text).fqdn)

    class Phone(known.PhoneRecognizer):  # type: ignore[misc]
        """With a score and a name of its own."""

        def __init__(self, form: str, leniency: int, regions: Sequence[str]) -> None:
            self.SCORE = PHONE_FORMS[form]
            super().__init__(PHONE_WORDS, "en", form, regions, leniency)

    # Presidio's pattern lacks Mastercard's second series and the groups of Amex and Diners, and
    # takes barcodes of 13 digits. All have to pass the check digit.
    cards = [
        r"\b(?:4\d{3}|5[0-5]\d\d|2[2-7]\d\d|6\d{3}|35\d\d)([ -]?)\d{4}\1\d{4}\1\d{4}(?:\1\d{3})?\b",
        r"\b3[47]\d\d([ -]?)\d{6}\1\d{5}\b",
        r"\b3[0689]\d\d([ -]?)\d{6}\1\d{4}\b",
    ]
    languages = [
        known.IbanRecognizer, known.IpRecognizer, known.UsSsnRecognizer, known.UkNinoRecognizer,
        known.DeSocialSecurityRecognizer, known.EsNifRecognizer, known.EsNieRecognizer,
        known.ItFiscalCodeRecognizer, known.PlPeselRecognizer, known.SePersonnummerRecognizer,
    ]  # fmt: skip
    return [
        Email(),
        known.CreditCardRecognizer([Pattern("card", pattern, 0.3) for pattern in cards]),
        Phone("PHONE_AFTER_PLUS", 1, ["ZZ"]),  # 1: it exists; ZZ: in any country
        Phone("PHONE_AS_WRITTEN", 3, REGIONS),
        Phone("PHONE_NEAR_WORD", 1, REGIONS),
        *(recogniser(supported_language="en") for recogniser in languages),
    ]
