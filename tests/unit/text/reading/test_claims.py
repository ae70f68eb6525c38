"""Claims: which of them stand, and what is said for them."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from voxtral.text.edits import Edit
from voxtral.text.reading.claims import Claim, Strength, claim, edits_of, keep, settle

TEXT = "abcdefghijklmnopqrst"


@st.composite
def claims(draw: st.DrawFn) -> list[Claim]:
    found: list[Claim] = []
    for _ in range(draw(st.integers(0, 12))):
        start = draw(st.integers(0, len(TEXT) - 1))
        end = draw(st.integers(start + 1, len(TEXT)))
        found.append(claim(start, end, "X", "x", draw(st.sampled_from(Strength))))
    return found


@given(claims())
def test_what_stands_does_not_overlap_and_whatever_fell_met_something_stronger(found: list[Claim]) -> None:
    standing = settle(found, len(TEXT))
    assert all(one.end <= two.start for one, two in pairwise(standing))
    for fallen in found:
        if fallen not in standing:
            rivals = [each for each in standing if each.start < fallen.end and fallen.start < each.end]
            assert any(
                (each.strength, each.start - each.end) <= (fallen.strength, fallen.start - fallen.end)
                for each in rivals
            )


def test_the_stronger_then_the_longer_then_the_earlier_stands() -> None:
    number = claim(2, 4, "two", "number", Strength.NUMBER)
    date = claim(0, 4, "a date", "date")
    longer = claim(0, 6, "longer", "date")
    word = claim(4, 8, "word", "word", Strength.DICTIONARY)
    assert settle([number, date], 20) == [date]
    assert settle([number, date, longer], 20) == [longer]
    assert settle([number, date, longer, word], 20) == [date, word]


def test_what_is_kept_is_said_as_written_and_no_weaker_rule_touches_it() -> None:
    kept = keep(0, 3, "path", Strength.WHOLE)
    assert settle([claim(1, 2, "X", "x"), kept], 20) == [kept]
    assert kept.spoken(TEXT) == "abc"
    assert list(edits_of([kept])) == []


def test_a_claim_of_several_edits_is_written_out_with_what_is_between() -> None:
    found = Claim(1, 7, (Edit(1, 2, "B"), Edit(4, 5, "E!")), "x")
    assert found.spoken(TEXT) == "BcdE!fg"
