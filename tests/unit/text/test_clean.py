"""Cleaning: what becomes plain, what stays, where it came from, and what it costs."""

from __future__ import annotations

import time
import unicodedata

import pytest

from voxtral.errors import TextError
from voxtral.text.clean import check_early, clean, is_dressed
from voxtral.text.edits import Edit, rewrite
from voxtral.text.normalize import normalize

# All that Unicode calls a space, besides the plain one, and what is drawn as one.
SPACES = [chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) == "Zs" and code != 32]
BLANKS = [*SPACES, "\t", "\u2800", "\u3164", "\uffa0"]
LINE_ENDS = ["\r\n", "\r", "\n", "\x0b", "\x0c", "\x85", "\u2028"]
UNSEEN = [
    *("\u00ad", "\u034f", "\u061c", "\u180b", "\u180e", "\u200b", "\u200c", "\u200d", "\u200e", "\u200f", "\u202a"),
    *("\u202e", "\u2060", "\u2063", "\u2066", "\u2069", "\u206a", "\ufe00", "\ufe0f", "\ufeff", "\ufffc"),
    *("\U000e0001", "\U000e0041", "\U000e0100"),
]
PLAIN = "Hello there. My friend, it is 5:30!"
WIDE = str.maketrans({code: code + 0xFEE0 for code in range(0x21, 0x7F)} | {0x20: 0x3000})
BOLD = {ord("A") + place: 0x1D400 + place for place in range(26)} | {
    ord("a") + place: 0x1D41A + place for place in range(26)
}
DIGITS = {ord("0") + place: 0x1D7CE + place for place in range(10)}


@pytest.mark.parametrize("blank", BLANKS, ids=ascii)
def test_every_blank_is_a_space(blank: str) -> None:
    assert len(SPACES) > 15
    for odd in (blank, blank * 2, f" {blank}", f"{blank} "):
        assert clean(PLAIN.replace(" ", odd)).text == PLAIN
        assert clean(f"{odd}{PLAIN}{odd}").text == PLAIN
        assert clean(f"One.{odd}\nTwo.").text == "One.\nTwo."


@pytest.mark.parametrize("line_end", LINE_ENDS, ids=ascii)
def test_every_line_end_is_a_line_feed_and_two_are_a_paragraph(line_end: str) -> None:
    assert clean(f"{line_end}One.{line_end}Two.{line_end}").text == "One.\nTwo."
    assert clean(f"One. {line_end}\tTwo.").text == "One.\nTwo."
    for paragraph in (line_end * 2, line_end * 4, f"{line_end} \u200b{line_end}", "\u2029"):
        assert clean(f"One.{paragraph}Two.{paragraph}").text == "One.\n\nTwo."


@pytest.mark.parametrize("unseen", UNSEEN, ids=ascii)
def test_what_nobody_sees_is_gone(unseen: str) -> None:
    assert clean(unseen.join(PLAIN)).text == PLAIN
    assert clean(f"{unseen} {PLAIN} {unseen}").text == PLAIN
    assert clean(unseen * 3).text == ""
    assert clean(f"e{unseen}\u0301").text == "é"


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        (PLAIN.translate(WIDE), PLAIN),
        (PLAIN.translate(BOLD).translate(DIGITS), PLAIN),
        ("ﬁrſt oﬀice ﬄ ﬆ ŉ ĳ ǆ", "first office ffl st ʼn ij dž"),
        ("ℌ𝓮𝔩𝕝ℴ ℕ ⅅ Å Ω K", "Hello N D Å Ω K"),
        ("Ludwig Ⅳ, Kapitel ⅻ", "Ludwig IV, Kapitel xii"),
        ("ﻣﺮﺣﺒﺎ ﻻ ﷲ", "مرحبا لا الله"),
        ("⽇本 ﬡﬠ", "日本 אע"),
        # Half-width kana in Japanese, with their marks, and the marks that are at home there.
        ("ｶﾞｷﾞ､ﾊﾟﾝ｡ｱ", "ガギ、パン。ア"),
        ("元気？ＡＩ！はい。（ＪＡＰＡＮ）", "元気？AI！はい。（JAPAN）"),
        ("日本（ＪＡＰＡＮ）は３．１４、１，０００", "日本（JAPAN）は3.14、1,000"),
        ("（ＮＨＫ）日本\n（ＢＢＣ）ﾞ︒﹐", "（NHK）日本\n(BBC)゛。,"),
        # Letters that joiners shape.
        ("क्\u200dष र्\u200d ന്\u200d.", "क्\u200dष र्\u200d ന്\u200d."),
        (
            "می\u200cخواهم می\u200c\u200b\u200dخواهم ۵\u200cم HTML\u200cها",
            "می\u200cخواهم می\u200cخواهم ۵\u200cم HTML\u200cها",
        ),
        ("of\u200cfice a\u200d \u200cb می\u200c 👩\u200d💻", "office a b می 👩💻"),
        # Composed letters.
        ("cafe\u0301 u\u0308ber n\u0303 a\u0323\u0302 \u1112\u1161\u11ab", "café über ñ ậ 한"),
        ("क\u093c \u0627\u0653", "क\u093c آ"),
    ],
)
def test_letters_are_plain(written: str, plain: str) -> None:
    assert clean(written).text == plain
    assert clean(plain).text == plain


@pytest.mark.parametrize(
    "text",
    [
        "",
        "One.\n\nTwo three.\nFour",
        "x² ½ ① ⑴ ℃ ™ № ª º µm CO₂ ⓐ ㎏ ﷼ … ‼",
        "Ça va ? Größe, naïve, Łódź “so” — ‘it’.",
        "これは、日本語の文章です！そうですか？「はい」〜。",
        "नमस्ते, ज़रूर। سلام، كيف حالك؟",
        "😀 👍🏽 1 * _a_ # b <c>",
        "a\x00b\x07\x1c \ud800",
    ],
)
def test_what_is_plain_is_the_same_object(text: str) -> None:
    assert clean(text).text is text
    assert clean(text).source_span(0, len(text)) == (0, len(text))


def test_places_lead_back_to_the_text_as_given() -> None:
    source = "\u00a0 The \u200bﬁrst  cafe\u0301\r\n\r\nＯＫ\ufeff "
    cleaned = clean(source)
    assert cleaned.text == "The first café\n\nOK"
    for word, written in (("The", "The"), ("first", "ﬁrst"), ("café", "cafe\u0301"), ("OK", "ＯＫ")):
        start = cleaned.text.index(word)
        begin, end = cleaned.source_span(start, start + len(word))
        assert source[begin:end] == written


def test_auto_makes_letters_plain_too() -> None:
    assert normalize("Ｔｈｅ ﬁrst ５０％ of\u200cfice, cafe\u0301", "en").text == "The first fifty percent office, café"
    # A mark that only looks like markup is none.
    assert normalize("＃ ＊one＊", "en").text == "# *one*"
    assert is_dressed("ﬁ") == is_dressed("e\u0301") == (not is_dressed("a\u00a0b\u00ad\r\n é"))


def test_what_is_refused_is_named_by_its_place_as_given() -> None:
    with pytest.raises(TextError, match=r"U\+0007 at offset 6"):
        check_early("\u200b \u00a0ab\u00ad\x07", "clean")
    with pytest.raises(TextError, match="only whitespace and what is not spoken"):
        check_early("\u200b\u00a0\ufeff", "clean")
    with pytest.raises(TextError, match="empty"):
        check_early("", "clean")
    check_early("a\x85b", "clean")
    with pytest.raises(TextError, match=r"U\+0085 at offset 1"):
        check_early("a\x85b", "off")
    check_early("\x07", "auto")


def test_rewriting_twice_leads_back_to_the_first_source() -> None:
    source = "aa\u00a0\u00a0bccd"
    first = rewrite(source, _edits(("\u00a0\u00a0", "__"), text=source))
    second = rewrite(first.text, _edits(("cc", "C"), ("a_", ""), text=first.text)).through(first)
    assert second.text == "a_bCd"
    assert [second.source_span(place, place + 1) for place in range(5)] == [(0, 1), (2, 4), (4, 5), (5, 7), (7, 8)]


def _edits(*pairs: tuple[str, str], text: str) -> list[Edit]:
    edits = [Edit(text.index(old), text.index(old) + len(old), new) for old, new in pairs]
    return sorted(edits, key=lambda edit: edit.start)


def _cpu_seconds(text: str) -> float:
    started = time.process_time()
    clean(text)
    return time.process_time() - started


@pytest.mark.parametrize(
    "sentence", ["Hello there, it is late.\n\n", "Ça été très, très naïf. ", "これは日本語の文章です。"]
)
def test_a_clean_text_costs_a_few_milliseconds(sentence: str) -> None:
    text = (sentence * 9000)[:100_000].strip()
    assert clean(text).text is text
    assert min(_cpu_seconds(text) for _ in range(3)) < 0.005


@pytest.mark.parametrize(
    "piece",
    [
        *(
            "\u00a0",
            "\u200b",
            "\r\n",
            " \n",
            "\u200d",
            "e\u0301",
            "\u0301",
            "\u0323\u0301",
            "！",
            "\u200b！",
            "！\u200b",
        ),
        *("a！", "ｶﾞ", "ﾞ", "\u1161", "क्\u200d", "\u094d", "\u200c ", "ﷺ", "Ａ　"),
    ],
    ids=ascii,
)
def test_no_text_takes_more_than_linear_time(piece: str) -> None:
    text = (piece * 30_000)[:30_000]
    assert any(_cpu_seconds(f"a{text}b") < 0.3 for _ in range(2))
