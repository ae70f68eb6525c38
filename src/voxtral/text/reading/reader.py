"""All rules together: what is said for a text, claim by claim."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from voxtral.text.edits import Draft
from voxtral.text.reading.addresses import address_claims
from voxtral.text.reading.claims import Claim, Strength, edits_of, settle
from voxtral.text.reading.codes import code_claims
from voxtral.text.reading.dates import date_claims
from voxtral.text.reading.electronic import electronic_claims
from voxtral.text.reading.fractions import fraction_claims
from voxtral.text.reading.japanese_dates import japanese_date_claims
from voxtral.text.reading.maths import maths_claims
from voxtral.text.reading.measures import measure_claims
from voxtral.text.reading.money import money_claims
from voxtral.text.reading.numbers import number_claims
from voxtral.text.reading.numeric_dates import numeric_date_claims
from voxtral.text.reading.ordinals import ordinal_claims
from voxtral.text.reading.percent import percent_claims
from voxtral.text.reading.phones import phone_claims
from voxtral.text.reading.ranges import range_claims
from voxtral.text.reading.roman import roman_claims
from voxtral.text.reading.shorthand import shorthand_claims
from voxtral.text.reading.signs import sign_claims
from voxtral.text.reading.times import time_claims
from voxtral.text.reading.written import Written
from voxtral.text.reading.years import year_claims

Rule = Callable[[Written], Iterator[Claim]]

RULES: tuple[Rule, ...] = (
    electronic_claims,
    date_claims,
    numeric_date_claims,
    time_claims,
    year_claims,
    japanese_date_claims,
    phone_claims,
    code_claims,
    address_claims,
    money_claims,
    ordinal_claims,
    measure_claims,
    percent_claims,
    fraction_claims,
    maths_claims,
    roman_claims,
    range_claims,
    shorthand_claims,
    sign_claims,
)

# Those that claim nothing where there is no digit.
NUMBER_RULES: frozenset[Rule] = frozenset(
    (
        numeric_date_claims,
        time_claims,
        phone_claims,
        address_claims,
        money_claims,
        ordinal_claims,
        percent_claims,
        fraction_claims,
        range_claims,
    )
)

# Those that claim something where there is neither a digit nor a sign: "XIV a. C.", "5 Euro pro kg", "Dr. Who".
WORD_RULES: tuple[Rule, ...] = (year_claims, measure_claims, roman_claims, shorthand_claims)


def find_word_claims(written: Written) -> list[Claim]:
    """List what is to be said otherwise in a text without digits and signs."""
    claims: list[Claim] = []
    for rule in WORD_RULES:
        claims += rule(written)
    return settle(claims, len(written.text))


def find_claims(written: Written, given: Iterable[Claim] = ()) -> list[Claim]:
    """List what is to be said otherwise than it is written, in the order of the text and without overlap.

    Args:
        written: the text.
        given: claims from elsewhere, such as those of a dictionary; they are settled with the others.
    """
    claims = [*given]
    for rule in RULES:
        if written.has_digits or rule not in NUMBER_RULES:
            claims += rule(written)
    strong = [each for each in claims if each.strength <= Strength.COMPOSED]
    standing = settle(strong, len(written.text), written.taken)
    # Numbers are the most frequent of all, and those inside of something else need no words.
    weak = [each for each in claims if each.strength > Strength.COMPOSED]
    if written.has_digits:
        weak += number_claims(written)
    standing += settle(weak, len(written.text), written.taken)
    standing.sort(key=lambda each: each.start)
    return standing


def read_aloud(draft: Draft, language: str, region: str = "") -> Draft:
    """Write a text as it is said, by the rules alone.

    Args:
        draft: the text, without markup.
        language: a code of `LANGUAGES`.
        region: of the language, such as GB; "" where none is said.
    """
    return draft.apply(edits_of(find_claims(Written(draft.text, language, region))))
