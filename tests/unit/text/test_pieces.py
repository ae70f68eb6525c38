"""A text in pieces: stretches do not depend on the pieces, lose nothing, wait for what matters, and not for long."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxtral.errors import OptionError, TextError
from voxtral.text.cut_places import MAX_AHEAD
from voxtral.text.normalize import normalize
from voxtral.text.pieces import Stretch, TextStream

# What ends, opens and closes something, and what does so only together with its neighbours.
PARTS = st.sampled_from(
    [
        *"ab 1.,:!?\n\"'()«»“”„*_`#<>-…。、と「」।؟\u0301\u200d😀",
        "Dr. ",
        "z. B. ",
        "3. ",
        "3. Mai ",
        "1,000",
        "14:30",
        "U.S. ",
        "e.g. ",
        "Hello there. ",
        "How are you? ",
        "Ja. Nein. ",
        "<b>",
        "</b>",
        "**",
        "```\n",
        "\n\n",
        "\r\n",
        "1. ",
        "\n2. ",
        "... ",
        "http://a.b/c. ",
        " " * 30,
        "x" * 40,
        "はい。次。",
    ]
)
TEXTS = st.lists(PARTS, max_size=60).map("".join)


def stretches_of(pieces: Iterable[str], **options: object) -> list[Stretch]:
    stream = TextStream(**options)  # type: ignore[arg-type]
    return [stretch for piece in pieces for stretch in stream.feed(piece)] + stream.flush()


def cut(text: str, places: Iterable[int]) -> list[str]:
    ends = sorted({place % (len(text) + 1) for place in places})
    return [text[start:end] for start, end in pairwise([0, *ends, len(text)])]


@given(TEXTS, st.lists(st.integers(0, 10_000), max_size=40), st.sampled_from([1, 40]), st.sampled_from([60, 400]))
def test_stretches_are_the_text_however_it_was_cut(text: str, places: list[int], low: int, high: int) -> None:
    options = {"min_chars": low, "max_chars": high}
    whole = stretches_of([text], **options)
    assert "".join(stretch.text for stretch in whole) == text
    assert all(stretch.text == text[stretch.start : stretch.end] for stretch in whole)
    assert all(0 < len(stretch.text) <= high for stretch in whole)
    assert stretches_of(cut(text, places), **options) == whole
    assert stretches_of(text, **options) == whole


@given(TEXTS, st.integers(0, 10_000))
def test_a_flush_lets_all_go_and_the_rest_goes_on_alike(text: str, place: int) -> None:
    first, rest = cut(text, [place])

    def spoken(pieces: Iterable[Iterable[str]]) -> list[Stretch]:
        stream = TextStream()
        found: list[Stretch] = []
        for part in pieces:
            found += [stretch for piece in part for stretch in stream.feed(piece)]
            found += stream.flush()
        assert stream.num_waiting == 0
        return found

    whole = spoken([[first], [rest]])
    assert "".join(stretch.text for stretch in whole) == text
    assert spoken([first, rest]) == whole


@given(TEXTS)
def test_no_more_waits_than_a_stretch_and_what_may_matter_for_its_end(text: str) -> None:
    stream = TextStream(max_chars=60)
    for char in text:
        stream.feed(char)
        assert stream.num_waiting < 60 + MAX_AHEAD


@pytest.mark.parametrize(
    ("piece", "following"),
    [
        ("Ask Dr.", " Lee."),
        ("Ask Dr. ", "Lee."),
        ("It is 3.", "5 m."),
        ("Am 3. ", "Mai ist es so."),
        ("Call at 14:", "30 sharp."),
        ("It is 1,", "000 m."),
        ("See www.a.", "com/b now."),
        ("The U.S. ", "economy grew."),
        ("It ends", ". Not"),
        ("It ends. ", "No"),
        ('He said: "Go. ', "He went."),
        ("It is **so. ", "Yes"),
        ("It is <b>so. ", "Yes"),
        ("See (p. 3. ", "and on"),
        ("```\na. b\n\nC. ", "D"),
        ("e.g. ", "this"),
        ("はい", "。"),
    ],
)
def test_what_may_still_change_waits(piece: str, following: str) -> None:
    stream = TextStream()
    assert stream.feed(piece) == []
    assert stream.feed(following) == []
    assert [stretch.text for stretch in stream.flush()] != []


@pytest.mark.parametrize(
    ("pieces", "said"),
    [
        (["Hello there.", " ", "How ", "are"], ["Hello there. "]),
        (["Stop! ", "Go now"], ["Stop! "]),
        (["A title\n\n", "T"], ["A title\n\n"]),
        (["はい。", "次"], ["はい。"]),
        (["हाँ। ", "फिर से"], ["हाँ। "]),
        (['He said: "Go. Now." ', "He went"], ['He said: "Go. Now." ']),
        (["It is **so. Yes.** ", "And then"], ["It is **so. Yes.** "]),
        (["```\na. b\n```\n", "That was it. And then"], ["```\na. b\n```\nThat was it. "]),
        (["She is 3. ", "You are 4"], ["She is 3. "]),
    ],
)
def test_a_sentence_goes_as_soon_as_it_is_known_to_end(pieces: list[str], said: list[str]) -> None:
    stream = TextStream()
    assert [stretch.text for piece in pieces for stretch in stream.feed(piece)] == said


def test_items_of_a_list_stay_together_where_a_number_alone_is_an_ordinal() -> None:
    text = "1. Tee kochen. Gut.\n2. Tee trinken.\nDas war es. Und nun"
    assert [stretch.text for stretch in stretches_of(text, language="de")] == [
        "1. Tee kochen. Gut.\n2. Tee trinken.\n",
        "Das war es. ",
        "Und nun",
    ]
    in_english = stretches_of("1. Make tea. Good.\n2. Drink.", language="en")
    assert in_english[0].text == "1. Make tea. "


@pytest.mark.parametrize(
    ("language", "text"),
    [
        (
            "en",
            "Dr. Lee paid $5.50 on 3 May 2024 at 14:30. It was **very. good**. See [here](http://a.b/c. d) now. Ok.",
        ),
        (
            "de",
            "Am 3. Mai um 14.30 Uhr. Dann:\n\n1. Tee kochen.\n2. Trinken.\n\nDas kostet 3,50 €. Prof. Dr. Mai.",
        ),
        ("fr", "L'art. 5 dit « Oui. Non. » et M. Dupont part à 14h30. C'est 3,5 km. Fini !"),
        ("es", "El Sr. López pagó 3,50 €. ¿Cuándo? El 1 de mayo. EE. UU. no vino."),
        ("it", "L'avv. Rossi è qui. Sono le 14:30. Costa 3,50 €."),
        ("pt", "O Sr. Silva pagou R$ 3,50. São 14h30. Fim."),
        ("nl", "Dhr. De Vries kwam om 14.30 uur. Het kost € 3,50. Klaar."),
        ("hi", "डॉ. शर्मा 3 मई को आए। दाम ₹50 है। ठीक है।"),
        ("ar", "جاء د. أحمد في 3 مايو. الثمن 50 دولارا؟ نعم."),
        ("ja", "5月3日です。彼は「はい。いいえ。」と言った。14時30分。"),
    ],
)
def test_a_text_is_read_as_if_it_had_come_whole(language: str, text: str) -> None:
    found = stretches_of([text], language=language)
    assert len(found) > 1
    said = " ".join(normalize(stretch.text, language).text for stretch in found)
    assert "".join(said.split()) == "".join(normalize(text, language).text.split())


def test_half_a_character_waits_for_its_other_half() -> None:
    stream = TextStream()
    assert stream.feed("Hi \ud83d") == []
    assert stream.num_waiting == 4
    assert stream.feed("\ude00 there. Now go") == [Stretch("Hi 😀 there. ", 0, 12)]
    stream.feed("\ud83d")
    assert [stretch.text for stretch in stream.flush()] == ["Now go\ud83d"]


def test_what_is_no_piece_or_no_limit_is_refused() -> None:
    with pytest.raises(TextError, match="must be a str"):
        TextStream().feed(b"bytes")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="1 <= min_chars <= max_chars"):
        TextStream(min_chars=9, max_chars=8)
