"""Long texts to segments: where sentences end, where they do not, and what is done in need."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable

import pytest

from voxtral.errors import OptionError
from voxtral.text.normalize import normalize
from voxtral.text.segment import Origin, TextSegment, split_rewritten, split_text


def _cut(text: str, min_chars: int, max_chars: int) -> list[str]:
    segments = list(split_text(text, min_chars=min_chars, max_chars=max_chars))
    assert all(text[segment.start : segment.end] == segment.text for segment in segments)
    return [segment.text for segment in segments]


def _sentences(text: str) -> list[str]:
    """Cut at every sentence end, by a minimum of one and a maximum that the text just exceeds."""
    return _cut(text, 1, len(text) - 1)


def test_the_signature_stays_because_tools_outside_use_it() -> None:
    parameters = inspect.signature(split_text).parameters
    assert list(parameters) == ["text", "min_chars", "max_chars"]
    assert parameters["text"].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    assert [segment.text for segment in split_text("One. Two.", min_chars=1, max_chars=5)] == ["One.", "Two."]


# Whole texts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["Hello. World.", " \n a \n\n b ", "   ", "***", "x" * 400])
def test_a_text_that_fits_is_one_segment_verbatim(text: str) -> None:
    assert list(split_text(text)) == [TextSegment(text, 0, len(text))]


def test_an_empty_text_and_long_whitespace_have_no_segment() -> None:
    assert _cut("", 1, 5) == []
    assert _cut(" \n" * 10, 1, 5) == []


def test_whitespace_around_a_long_text_is_left_out() -> None:
    text = "  One two.\n\n Three four.  "
    assert list(split_text(text, min_chars=1, max_chars=12)) == [
        TextSegment("One two.", 2, 10),
        TextSegment("Three four.", 13, 24),
    ]


@pytest.mark.parametrize(("min_chars", "max_chars"), [(0, 10), (-1, 10), (11, 10), (0, 0)])
def test_limits_that_contradict_are_refused_at_once(min_chars: int, max_chars: int) -> None:
    with pytest.raises(OptionError, match=f"min_chars={min_chars} .*change"):
        split_text("text", min_chars=min_chars, max_chars=max_chars)


@pytest.mark.parametrize(
    ("language", "sentences"),
    [
        ("en", ["Mr. Smith left at 5 p.m. yesterday.", "“Where is he?”", "No one knows!", "Perhaps (see p. 5)…"]),
        ("fr", ["M. Dupont est là.", "« Comment allez-vous ? »", "Mme. Durand, p. ex., va bien !", "Voilà."]),
        ("es", ["El Sr. García vive aquí.", "¿Qué hora es?", "¡No lo sé!", "Ud. debe venir con la Sra. López."]),
        (
            "de",
            ["Am 3. Mai kam Dr. Müller, z. B. allein.", "„Kommen Sie herein!“", "Er lachte.", "Nr. 5 lebt, d.h. fast."],
        ),
        ("it", ["Il sig. Rossi è qui.", "La dott.ssa Bianchi no.", "«Davvero?»", "Mele, pere, ecc. sono finite."]),
        ("pt", ["O Sr. Silva chegou.", "A Sra. Souza não.", "“Tudo bem?”", "Custa R$ 1.234,56, p. ex. hoje."]),
        ("nl", ["Dhr. Jansen is er.", "Mevr. De Vries komt bijv. morgen.", "Echt waar?", "Appels, enz. zijn op."]),
        ("ar", ["وصل د. أحمد اليوم.", "هل أنت بخير؟", "نعم، أنا بخير؛ شكراً!", "انتهى."]),
        ("hi", ["डॉ. शर्मा यहाँ हैं।", "क्या आप ठीक हैं?", "हाँ, मैं ठीक हूँ!", "समाप्त॥"]),
        ("ja", ["吾輩は猫である。", "本当ですか？", "「はい。」", "価格は1.5円です！"]),
    ],
)
def test_sentences_of_each_language(language: str, sentences: list[str]) -> None:
    joint = "" if language == "ja" else " "
    assert _sentences(joint.join(sentences)) == sentences


# What is no end --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "whole",
    [
        "It is 3.14 or 1.000.000 or 1,234.56 today",
        "Am 12.3.2024 und am 3. Mai und am 24. 12. war Ruhe",
        "Das ist das 1. Kapitel und der 2. Band im 3. Jahr",
        "1. Kapitel im Buch",
        "II. Kapitel im Buch",
        "He met Mr. Jones, Mrs. Hall, Dr. Who, Prof. Sam, St. Paul vs. Rome",
        "See e.g. Paris, i.e. France, etc. and No. 5 at p. 12 in vol. 3",
        "Siehe z.B. Köln, d.h. Rhein, u.a. Bonn, z. B. Kiel, bzw. Ulm, usw. und Nr. 7",
        "Voir M. Roux, Mme. Blanc, p.ex. Lyon, p. ex. Nice",
        "El Sr. Paz, la Sra. Luz, Ud. mismo, EE.UU. y EE. UU. o p.ej. Lima",
        "Il sig. Neri, il dott. Verdi, ecc. e altri",
        "De dhr. Bos, mevr. Smit, bijv. Piet, enz. en zo",
        "By J. R. R. Tolkien, J.-P. Sartre and C.S. Lewis",
        "In the U.S.A. Today Show",
        "Go to www.example.com/a.b or a.b@c.de or file.tar.gz v1.2.3 now",
        "Well... perhaps… not",
        "“Really?” she said, “No!” and went",
        "« Non ! » dit-il, « Oui. » dit-elle",
        "On Oct. 5 and Jan. 7 at 10 a.m. sharp",
        "أ. سالم و د. أحمد",
        "श्री. वर्मा और डॉ. शर्मा",
    ],
)
def test_no_sentence_ends_inside(whole: str) -> None:
    assert _sentences(f"{whole}. Then it ended. Yes.") == [f"{whole}.", "Then it ended.", "Yes."]


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("It was 1984. The year", "It was 1984."),
        ("He is 42. She", "He is 42."),
        ("Apples, pears, etc. The end", "Apples, pears, etc."),
        ("At 5 p.m. The end", "At 5 p.m."),
        ("In the U.S.A. They", "In the U.S.A."),
        ("This is plan B. Then", "This is plan B."),
        ("Give it to me. On", "Give it to me."),
        ("He said no. Then", "He said no."),
        ("Come on. Ich weiß es. Quiero ir. Then", "Come on."),
        ("See x.com. Then", "See x.com."),
        ("Use v1.2.3. Then", "Use v1.2.3."),
        ("Er hat Äpfel usw. Danach", "Er hat Äpfel usw."),
        ('He said "Stop." Then', 'He said "Stop."'),
        ("(It was late.) Then", "(It was late.)"),
        ("It was *late.* Then", "It was *late.*"),
        ("What?! Then", "What?!"),
        ("Wait... Then", "Wait..."),
        ("Title\n\nthen", "Title"),
        ("Title\r\n \t\r\nthen", "Title"),
        ("„Ja.“ Dann", "„Ja.“"),
        ("»Ja.« Dann", "»Ja.«"),
        ("« Oui. » Puis", "« Oui. »"),
    ],
)
def test_a_sentence_ends(text: str, first: str) -> None:
    assert _sentences(text + " it goes on.")[0] == first


# Lengths ---------------------------------------------------------------------------------------------


def test_sentences_are_joined_until_the_minimum() -> None:
    assert _cut("One two. Three four. Five six. Seven eight. Nine ten.", 16, 30) == [
        "One two. Three four.",
        "Five six. Seven eight.",
        "Nine ten.",
    ]


def test_a_short_rest_joins_the_segment_before_it() -> None:
    assert _cut("This is a long sentence. And one more of them. End.", 20, 30) == [
        "This is a long sentence.",
        "And one more of them. End.",
    ]


def test_a_short_last_paragraph_joins_the_segment_before_it() -> None:
    assert _cut("This is a long sentence.\n\nAnd one more of them.\n\nEnd.", 20, 30)[-1].endswith("End.")


def test_a_rest_that_is_too_short_and_does_not_fit_is_balanced() -> None:
    text = "Some of these words come first, and others, which are no worse, come only later. Bye bye."
    assert _cut(text, 30, 82) == [
        "Some of these words come first, and others,",
        "which are no worse, come only later. Bye bye.",
    ]


def test_a_short_sentence_joins_back_where_it_does_not_fit_ahead() -> None:
    assert _cut("This is a long sentence. Yes. " + "Word " * 7 + "word. End of all of this.", 20, 40) == [
        "This is a long sentence. Yes.",
        "Word Word Word Word Word Word Word word.",
        "End of all of this.",
    ]


def test_a_paragraph_ends_a_segment_even_after_the_minimum() -> None:
    assert _cut("This is a long sentence. Short.\n\nThe next paragraph is here. It goes on and on.", 20, 60) == [
        "This is a long sentence. Short.",
        "The next paragraph is here. It goes on and on.",
    ]


def test_a_heading_goes_with_its_text() -> None:
    assert _cut("Chapter 1\n\nIt was a bright cold day. The clocks struck.", 20, 40)[0] == (
        "Chapter 1\n\nIt was a bright cold day."
    )


# In need ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "segments"),
    [
        (
            "first the words here; then, some other words there",
            ["first the words here;", "then, some other words there"],
        ),
        (
            "first the words here — then, some other words there",
            ["first the words here —", "then, some other words there"],
        ),
        (
            "first the words here—then, some other words there",
            ["first the words here—", "then, some other words there"],
        ),
        ("first the words here, then some other words there", ["first the words here,", "then some other words there"]),
        ("erst diese Worte hier: dann, noch andere Worte da", ["erst diese Worte hier:", "dann, noch andere Worte da"]),
        ("هذه الكلمات أولا هنا؛ ثم، كلمات أخرى هناك أيضا", ["هذه الكلمات أولا هنا؛", "ثم، كلمات أخرى هناك أيضا"]),
        ("هذه الكلمات أولا هنا، ثم كلمات أخرى هناك أيضا", ["هذه الكلمات أولا هنا،", "ثم كلمات أخرى هناك أيضا"]),
        (
            "一つ目の言葉はここにあり、二つ目の言葉はそこにあります",
            ["一つ目の言葉はここにあり、", "二つ目の言葉はそこにあります"],
        ),
        ("hello there. how are you today, my friend. bye", ["hello there.", "how are you today, my friend. bye"]),
    ],
)
def test_a_long_sentence_is_cut_at_the_best_weaker_place(text: str, segments: list[str]) -> None:
    longest = max(map(len, segments))
    assert _cut(text, min(map(len, segments)), longest if longest < len(text) else len(text) - 1) == segments


def test_without_punctuation_whitespace_is_a_place() -> None:
    assert _cut("aaa bbb ccc ddd eee fff", 4, 12) == ["aaa bbb ccc", "ddd eee fff"]


def test_lines_are_better_places_than_spaces_unless_prose_goes_on() -> None:
    assert _cut("Aaa bbb ccc\nDdd eee fff ggg", 4, 18) == ["Aaa bbb ccc", "Ddd eee fff ggg"]
    assert _cut("aaa bbb ccc\nddd, eee fff ggg", 4, 18) == ["aaa bbb ccc\nddd,", "eee fff ggg"]


def test_without_whitespace_graphemes_are_places() -> None:
    assert _cut("abcdefghij", 1, 4) == ["abcd", "efgh", "ij"]
    assert _cut("e\u0301" * 5, 1, 3) == ["e\u0301"] * 5
    assert _cut("👨‍👩‍👧x👨‍👩‍👧x", 1, 7) == ["👨‍👩‍👧x", "👨‍👩‍👧x"]
    assert _cut("👍🏽" * 3, 1, 3) == ["👍🏽"] * 3
    assert _cut("❤️" * 3, 1, 3) == ["❤️"] * 3
    assert _cut("🇩🇪🇫🇷🇮🇹", 1, 3) == ["🇩🇪", "🇫🇷", "🇮🇹"]
    assert _cut("a🇩🇪🇫🇷🇮🇹", 1, 4) == ["a🇩🇪", "🇫🇷🇮🇹"]
    assert _cut("क्षक्षक्ष", 1, 4) == ["क्ष"] * 3
    assert _cut("स्त्रीस्त्री", 1, 7) == ["स्त्री"] * 2
    assert _cut("\u1112\u1161\u11ab" * 3, 1, 4) == ["\u1112\u1161\u11ab"] * 3
    assert _cut("น้ำน้ำ", 1, 4) == ["น้ำ"] * 2
    assert _cut("ab \u0301cd", 1, 3) == ["a", "b \u0301", "cd"]
    assert _cut("นี้นี้นี้", 1, 4) == ["นี้"] * 3


def test_a_grapheme_longer_than_the_limit_is_cut() -> None:
    assert _cut("e" + "\u0301" * 9, 1, 4) == ["e\u0301\u0301\u0301", "\u0301" * 4, "\u0301" * 2]


def test_a_number_is_not_cut_unless_it_is_longer_than_the_limit() -> None:
    assert _cut("abcdef1234567890xyz", 1, 10) == ["abcdef", "1234567890", "xyz"]
    assert _cut("abcdef12,345.67xyz", 1, 10) == ["abcdef", "12,345.67x", "yz"]
    assert _cut("Es sind 10 000 000 Leute da", 1, 16) == ["Es sind", "10 000 000", "Leute da"]
    assert _cut("1" * 10, 1, 4) == ["1111", "1111", "11"]


def test_names_and_no_break_spaces_hold_together() -> None:
    assert _cut("word word Mr. Smith word", 1, 13) == ["word word", "Mr. Smith", "word"]
    assert _cut("word word\u00a0word word", 1, 13) == ["word", "word\u00a0word", "word"]


def test_french_marks_stay_with_their_word() -> None:
    assert _cut("Alors tu viens ? Oui ! Bon", 1, 16) == ["Alors tu viens ?", "Oui !", "Bon"]
    assert _cut("abcde fghij ! klmno", 1, 12) == ["abcde", "fghij !", "klmno"]


# Quotations ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("left", "right"), ['""', "“”", "„“", "«»", "»«", "()", "[]", "‹›"])
def test_a_quotation_that_fits_is_not_cut(left: str, right: str) -> None:
    quotation = f"{left}Stop here. Do not go. Stay.{right}"
    assert _cut(f"He came in and said: {quotation} Then he left.", 5, 32) == [
        "He came in and said:",
        quotation,
        "Then he left.",
    ]


def test_quotations_in_quotations_are_one() -> None:
    assert _cut("Now: “One. ‘Two.’ “Three. Four.” Five. Six.” Then he left.", 3, 42) == [
        "Now:",
        "“One. ‘Two.’ “Three. Four.” Five. Six.”",
        "Then he left.",
    ]


def test_a_quotation_that_does_not_fit_is_cut_at_its_sentences() -> None:
    assert _cut("“Stop here now. Do not go there. Stay with us.” Then.", 10, 30) == [
        "“Stop here now.",
        "Do not go there.",
        "Stay with us.” Then.",
    ]


def test_a_quotation_that_never_ends_does_not_reach_beyond_its_paragraph() -> None:
    assert _cut("“Stop here now. Do not go.\n\nThen he left. She” stayed here.", 5, 20) == [
        "“Stop here now.",
        "Do not go.",
        "Then he left.",
        "She” stayed here.",
    ]


def test_inches_open_no_quotation() -> None:
    assert _sentences('It is 5" long. It is 7" wide. Yes.') == ['It is 5" long.', 'It is 7" wide.', "Yes."]


# Symbols ---------------------------------------------------------------------------------------------


def test_symbols_go_with_a_neighbour() -> None:
    assert _cut("First words here.\n\n***\n\nOther words here.\n\n* * *", 5, 25) == [
        "First words here.\n\n***",
        "Other words here.\n\n* * *",
    ]
    assert _cut("***\n\nFirst words here.\n\nOther words here.", 1, 25) == [
        "***\n\nFirst words here.",
        "Other words here.",
    ]


def test_symbols_that_fit_nowhere_stay_alone() -> None:
    assert _cut("***\n\nFirst words here, now.\n\nOther words here, too.", 1, 22) == [
        "***",
        "First words here, now.",
        "Other words here, too.",
    ]
    assert _cut("*" * 10, 1, 4) == ["****", "****", "**"]


# Time ------------------------------------------------------------------------------------------------


def test_the_first_segment_comes_without_reading_the_text() -> None:
    text = "The quick brown fox jumps. " * 400_000
    start = time.process_time()
    first = next(iter(split_text(text)))
    assert time.process_time() - start < 0.1
    assert first.end < 200


def _cpu_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


@pytest.mark.parametrize("limits", [(100, 400), (1, 4_000)])
@pytest.mark.parametrize(
    "unit",
    [
        "a ",
        "A. ",
        ". ",
        "!",
        "(",
        ")",
        "( ",
        '" ',
        "“a. ",
        "(a) ",
        "» ",
        "\n",
        "\n\n",
        "1",
        "1 ",
        "🇩🇪",
        "\u0301",
        "。",
        "。」",
        "— ",
        ", ",
        "*** ",
        "*\n\n",
        "a\u00a0",
        "\u200d",
        "word word. (word. word) ",
    ],
)
def test_time_grows_with_the_length_and_not_with_its_square(unit: str, limits: tuple[int, int]) -> None:
    def work(size: int) -> Callable[[], object]:
        text = unit * (size // len(unit))
        return lambda: sum(1 for _ in split_text(text, min_chars=limits[0], max_chars=limits[1]))

    base = max(min(_cpu_seconds(work(3_000)) for _ in range(2)), 0.002)
    # Sixteen times the text: 16 times the time if linear, 256 times if quadratic. A second look only after a slow one.
    assert any(_cpu_seconds(work(48_000)) < 64 * base for _ in range(2))


# Rewritten texts -------------------------------------------------------------------------------------

_AMOUNT = "Der Anteil der erneuerbaren Energien am Strommix lag im vergangenen Jahr bei 59,4 % und stieg dann weiter."


def _written(text: str, language: str, max_chars: int) -> list[str]:
    """Cut a normalised text, and give the segments as they were written."""
    spoken = normalize(text, language)
    origin = Origin(spoken.may_part, spoken.num_written)
    segments = split_rewritten(spoken.text, origin, min_chars=max(1, max_chars // 4), max_chars=max_chars)
    return [text[slice(*spoken.source_span(segment.start, segment.end))] for segment in segments]


def test_no_amount_is_cut() -> None:
    for max_chars in range(13, 128):
        segments = _written(_AMOUNT, "de", max_chars)
        assert " ".join(segments) == _AMOUNT
        assert any("59,4 %" in segment for segment in segments)


def test_a_sentence_that_fits_as_written_stays_whole() -> None:
    assert len(normalize(_AMOUNT, "de").text) > 110
    assert _written(f"{_AMOUNT} Und so ging es fort.", "de", 110) == [_AMOUNT, "Und so ging es fort."]
    # Not at any price: as words, these would be several times as long as what fits.
    prices = "So viel zahlten sie: " + ", ".join(["1.234,56 €"] * 6) + "."
    assert len(prices) <= 110
    assert len(_written(prices, "de", 110)) > 2


def test_digits_that_are_spelled_may_be_parted_between_them() -> None:
    for text in ("1" * 60, "0." + "31" * 30, "+0." + "12" * 40 + " %", ",".join(map(str, range(20, 50)))):
        segments = _written(text, "en", 40)
        assert "".join(segments).replace(" ", "") == text.replace(" ", "")
        assert len(segments) > 4


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("• 9. The first item • 10. The second", ["• 9. The first item", "• 10. The second"]),
        ("1.) The first 2.) The second", ["1.) The first", "2.) The second"]),
        ("\n• Käse \n• rohes Fleisch", ["• Käse", "• rohes Fleisch"]),
        ("The result. (See below.) Then", ["The result. (See below.)", "Then"]),
        ("Het was raak. ...en toen", ["Het was raak.", "...en toen"]),
        ("《引用です。》次の文", ["《引用です。》", "次の文"]),
        ("see items 1) and 2) there", ["see items 1) and 2) there"]),
    ],
)
def test_lists_brackets_and_ellipses_are_cut_where_a_reader_stops(text: str, sentences: list[str]) -> None:
    filler = "\n\n" + "goes on " * 100
    found = split_text(text + filler, min_chars=1, max_chars=500)
    assert [segment.text.strip() for segment in found if segment.start < len(text)] == sentences
