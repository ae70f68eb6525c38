"""Where numbers may begin, what stands around them, and that what a filter judges is what the rules look at."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from voxtral.text.reading import money, places, reader
from voxtral.text.reading.claims import Claim
from voxtral.text.reading.currencies import currencies_of
from voxtral.text.reading.places import END, HERE, Filter, any_digit, filter_by, find_numbers, is_bare
from voxtral.text.reading.written import Written

LANGUAGES = ("en", "de", "fr", "es", "it", "pt", "nl", "ar", "hi", "ja")


def test_digits_of_all_scripts_are_alike() -> None:
    assert any_digit("1984, ٢٠٢٤, ३.५ km2 ½") == "0000, 0000, 0.0 km0 ½"


@pytest.mark.parametrize(
    ("written", "starts"),
    [
        ("5 km, 12:30", [0, 6]),
        ("-3 and .5 and 1.5", [1, 7, 8, 14]),
        ("so...12 and v1.2", [5, 13]),
        ("https://a.b/12?c=3 4", [19]),
        ("1,234.50 €", [0]),
    ],
)
def test_numbers_begin_where_nothing_goes_before(written: str, starts: list[int]) -> None:
    assert find_numbers(any_digit(written), "en")[0] == starts


def test_what_stands_around_reaches_to_the_unit_and_no_further() -> None:
    [first, *_] = find_numbers(any_digit("pay 1 234 567 million dollars now"), "en")[1]
    assert first == f"ay {HERE}0 000 000 million dollars"
    assert find_numbers("0\n\n0", "en")[1] == [f"{HERE}0\n", f"0\n\n{HERE}0{END}"]
    # Japanese has no spaces; a long sentence is cut.
    assert find_numbers("りんご0.0kgとミルクを買いました", "ja")[1] == [f"りんご{HERE}0.0kgとミルクを買いま"]


@pytest.mark.parametrize(
    ("around", "is_one"),
    [
        (f"{HERE}0,{END}", True),
        (f"{HERE}0,a", False),
        (f"{HERE}0, ", True),
        (f"{HERE}0{END}", True),
        (f"{HERE}0 00 ", True),
        (f"{HERE}0 0/0", False),
        (f"{HERE}00/0/0000 0{END}", True),
        (f"{HERE}0 km", False),
        (f"{HERE}0-0", False),
    ],
)
def test_a_bare_number_has_nothing_behind_it(around: str, is_one: bool) -> None:
    assert is_bare(around) == is_one


def test_a_filter_remembers_what_it_judged_and_forgets_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    even = Filter(lambda around: asked.append(around) or len(around) % 2 == 0)
    assert [even["aa"], even["b"], even["aa"]] == [True, False, True]
    assert asked == ["aa", "b"]
    monkeypatch.setattr(places, "_MOST_KNOWN", 3)
    for number in range(50):
        assert even["x" * number] == (number % 2 == 0)
    assert len(even) <= 3


class _OpenFilter(Filter):
    """Lets everything through."""

    def __missing__(self, around: str) -> bool:
        return True


def _open_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every rule look at every number."""
    for name in ("starts", "joined_starts", "priced_starts"):
        narrow: Callable[[Written, Filter], list[int]] = getattr(Written, name)
        monkeypatch.setattr(Written, name, lambda written, _told, narrow=narrow: narrow(written, _OpenFilter(bool)))


_PIECES = (
    *("5", "12", "3.5", "1,5", "1 000", "2024", "1/2", "½", "10-20", "2 x 3", "12:30", "14.30", "1.2.3", "25/12/2023"),
    *("%", " %", "€", " €", "$", "km", " kg", "°C", " Mio.", " million", "th", "º", ".", " h 30", "'", '"', "s", "x"),
    *(" ", " ", " ", ", ", "\n", "\n\n", "(", ") ", " - ", "–", "/", "+", " = ", "±", "≥ ", "#", "USD ", "am ", "в "),
    *(
        "the ",
        "at ",
        "um ",
        "à ",
        "las ",
        "القرن ",
        "रु. ",
        "約",
        "時",
        "Tel. ",
        "No. ",
        "May",
        " May ",
        "BC",
        " v. Chr.",
    ),
)


@pytest.mark.parametrize("language", LANGUAGES)
def test_filters_keep_no_rule_from_what_it_would_claim(language: str, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(language)
    money_signs = tuple(currencies_of(language).known)
    texts = [
        "".join(draw.choice(draw.choice((_PIECES, _PIECES, money_signs))) for _ in range(draw.randint(2, 9)))
        for _ in range(120)
    ]
    texts += [f"{sign}5,10" for sign in money_signs] + [f"x {sign} 5" for sign in money_signs]

    def claims() -> list[list[Claim]]:
        return [reader.find_claims(Written(text, language)) for text in texts]

    narrow = claims()
    _open_all(monkeypatch)
    for text, found, wanted in zip(texts, narrow, claims(), strict=True):
        assert found == wanted, text


def test_filters_hold_patterns_for_what_stands_around() -> None:
    told = filter_by(rf"\d{HERE}|[%]")
    assert told[f"a {HERE}5 %"]
    assert not told[f"a {HERE}5 km"]
    assert filter_by(rf"\d{HERE}|[%]") is told


def test_a_price_is_looked_for_beside_currencies_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    claim = money._claim
    monkeypatch.setattr(
        money,
        "_claim",
        lambda written, amounts, known, amount: looked.append(amount.start) or claim(written, amounts, known, amount),
    )
    text = "On 12 May, 5 people paid $7.50 for 3 kg, and 20 pesos."
    assert [each.kind for each in money.money_claims(Written(text, "en"))] == ["money"]
    assert set(looked) <= {text.index("7.50"), text.index("20"), text.index("12")}
