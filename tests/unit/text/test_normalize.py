"""From a written text to one that can be read aloud, and back to its source."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable

import pytest

from voxtral.errors import LanguageError
from voxtral.text.language import LANGUAGES
from voxtral.text.normalize import normalize


def test_the_signature_stays_because_tools_outside_use_it() -> None:
    parameters = inspect.signature(normalize).parameters
    assert list(parameters) == ["text", "language", "in_kana"]
    assert all(parameters[name].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD for name in ("text", "language"))
    assert parameters["in_kana"].default is False
    assert normalize("3つ", "ja", in_kana=True).text == "みっつ"


@pytest.mark.parametrize(
    ("language", "written", "spoken"),
    [
        ("en", "# Hi\n\nIt costs **$3.50** 😀!", "Hi\n\nIt costs three dollars and fifty cents!"),
        ("fr", "Il y a *1\u202f234* pages\u00a0!", "Il y a mille deux cent trente-quatre pages !"),
        ("es", "¿Cuesta 5 €? [Sí](u).", "¿Cuesta cinco euros? Sí."),
        ("de", "Am 3. Mai\nkamen 20 Gäste.", "Am dritten Mai kamen zwanzig Gäste."),
        ("it", "Sono le `20`, 50%.", "Sono le venti, cinquanta per cento."),
        ("pt", "São R$ 10.", "São dez reais."),
        ("nl", "> In 1984 was 3,5 % weg.", "In negentienhonderdvierentachtig was drie komma vijf procent weg."),
        ("ar", "لدي ٣ كتب\u200f.", "لدي ثلاثة كتب."),
        ("hi", "मेरे पास ५ किताबें हैं। 🙏", "मेरे पास पाँच किताबें हैं।"),
        ("ja", "**3月**です。😀", "3月です。"),
    ],
)
def test_one_text_of_each_language(language: str, written: str, spoken: str) -> None:
    assert normalize(written, language).text == spoken


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("a\u200bb so\u00adft \ufeffx \u202ay\u202c \u2066z\u2069", "ab soft x y z"),
        ("a\x00b\x07c\x1b\x9f", "abc"),
        ("a\x0bb\x0cc\x85d\u2028e\x1cf\u2029g\u3164h", "a b c d e f\n\ng h"),
        ("क्\u200dष می\u200cخواهم", "क्\u200dष می\u200cخواهم"),
        ("a\u200d \u200cb 5\u200d", "a b five"),
        ("&#8203;a&nbsp;b&#7;c", "a bc"),
        ("a\ud800b", "a\ud800b"),
    ],
)
def test_invisible_characters(written: str, spoken: str) -> None:
    assert normalize(written, "en").text == spoken


@pytest.mark.parametrize(
    "emoji",
    [
        "😀",
        "👨‍👩‍👧",
        "🇩🇪",
        "#️⃣",
        "👍🏽",
        "❤️",
        "❤",
        "☎",
        "©️",
        "🏴\U000e0067\U000e0062\U000e007f",
        "🏳️‍🌈",
        "⌚",
        "🤷🏼‍♀️",
        "&#128512;",
    ],
)
def test_emoji_go_whole(emoji: str) -> None:
    assert normalize(f"Hi{emoji}there {emoji} {emoji}, ok {emoji}.", "en").text == "Hi there, ok."
    assert normalize(emoji, "en").text == ""


def test_a_digit_on_a_key_stays() -> None:
    assert normalize("Hi1️⃣there 2️⃣ 3️⃣, 🔟.", "en").text == "Hi one there two three, ten."


@pytest.mark.parametrize("text", ["© ♯ → ① ❶ + ° § ※ :-)", "No emoji: * # x"])
def test_symbols_without_emoji_look_stay(text: str) -> None:
    assert normalize(text, "en").text == text


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("  a \t b\n", "a b"),
        ("a\nb\r\nc\rd", "a b c d"),
        ("a\n\nb\r\n\r\nc\n \t\n\n\nd", "a\n\nb\n\nc\n\nd"),
        ("a\u00a0\u3000b", "a b"),
        ("", ""),
        (" \n ", ""),
    ],
)
def test_whitespace(written: str, spoken: str) -> None:
    assert normalize(written, "en").text == spoken


def test_plain_text_stays_as_it_is() -> None:
    for text in ("Nothing to do here, “really”.", "Ça va ? Oui…", "नमस्ते दुनिया।", "مرحبا، كيف حالك؟"):
        for language in LANGUAGES:
            assert normalize(text, language).text == text


def test_the_language_has_any_spelling_and_must_be_known() -> None:
    assert normalize("5", "de-AT").text == "fünf"
    with pytest.raises(LanguageError):
        normalize("5", "zh")


def test_spans_lead_back_to_the_source() -> None:
    source = "  **Pay** $3.50\n\nnow 😀 ok"
    normalized = normalize(source, "en")
    assert normalized.text == "Pay three dollars and fifty cents\n\nnow ok"
    for word, original in [
        ("Pay", "Pay"),
        ("three", "$3.50"),
        ("and fifty", "$3.50"),
        ("\n\n", "\n\n"),
        ("now ok", "now 😀 ok"),
        ("cents\n\nno", "$3.50\n\nno"),
    ]:
        start = normalized.text.index(word)
        begin, end = normalized.source_span(start, start + len(word))
        assert source[begin:end] == original
    assert normalized.source_span(0, 0) == (4, 4)
    length = len(normalized.text)
    assert normalized.source_span(length, length) == (len(source), len(source))


def test_spans_of_an_empty_text() -> None:
    assert normalize("😀", "en").source_span(0, 0) == (0, 0)


@pytest.mark.parametrize(("start", "end"), [(-1, 1), (0, 4), (2, 1), (4, 4)])
def test_a_span_outside_of_the_text_is_refused(start: int, end: int) -> None:
    with pytest.raises(IndexError, match="3 characters"):
        normalize("abc", "en").source_span(start, end)


def test_the_map_is_small_for_a_long_text() -> None:
    normalized = normalize("word " * 20_000 + "5", "en")
    assert len(normalized.runs) <= 3


def _cpu_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


@pytest.mark.parametrize(
    "unit",
    [
        "1",
        "1 ",
        "1,",
        "1.",
        "0 ",
        "+1 ",
        "-",
        "'",
        '"',
        "*",
        "**a*",
        "_",
        "`",
        "``` `` ` ",
        "~~",
        "[",
        "[a](",
        "![a](u 'x",
        "<",
        "<a",
        "<!--",
        "&",
        "&#1",
        "\\",
        "| ",
        "- a\n",
        "#",
        "> ",
        "```\n",
        "😀",
        "😀 ",
        "\u200d",
        " ",
        "\n",
        "a ",
        "$",
        "(",
        ")",
        "]",
        "[a](b ",
        "“",
        '"a',
        "1)",
        "1-",
        "e\u0301",
        "#\ufe0f",
        "😀 .",
        "|a|\n",
        "a\n=\n",
        "&#8203;",
        "http://a",
    ],
)
def test_time_grows_with_the_length_and_not_with_its_square(unit: str) -> None:
    small, large = (unit * (size // len(unit)) for size in (2_000, 32_000))
    base = max(min(_cpu_seconds(lambda: normalize(small, "fr")) for _ in range(2)), 0.002)
    # Sixteen times the text: 16 times the time if linear, 256 times if quadratic. A second look only after a slow one.
    assert any(_cpu_seconds(lambda: normalize(large, "fr")) < 64 * base for _ in range(2))


@pytest.mark.parametrize(
    ("language", "unit"), [("en", "61 % of 12 km "), ("en", "(240) 383-3503 "), ("de", "7,5\n\n"), ("ja", "3/4 ")]
)
def test_what_is_read_again_takes_time_in_proportion_too(language: str, unit: str) -> None:
    small, large = (unit * (size // len(unit)) for size in (2_000, 16_000))
    base = min(_cpu_seconds(lambda: normalize(small, language)) for _ in range(2))
    # Eight times the text: 8 times the time if linear, 64 times if quadratic.
    assert any(_cpu_seconds(lambda: normalize(large, language)) < 24 * base for _ in range(2))


@pytest.mark.parametrize(
    ("language", "case"),
    [
        ("en", "and No.5:30 ends"),
        ("en", "about 5 km and 61 % of 3"),
        ("de", "etwa 5 km und 61 % von 3"),
        ("en", "(240) 383-3503 was 1948-06"),
    ],
)
def test_what_is_left_is_read_again_wherever_it_stands(language: str, case: str) -> None:
    # Only what stands around it is read again of a long paragraph.
    prose = "so it went on and on " * 100
    assert (
        normalize(f"{prose}{case} {prose}", language).text == f"{prose}{normalize(case, language).text} {prose}".strip()
    )


def test_a_sign_may_end_the_line_before_its_number() -> None:
    assert normalize("it is $\n5 now", "en").text == "it is five dollars now"


def test_a_paragraph_is_read_without_the_words_before_it() -> None:
    assert normalize("Ezekiel\n\n4:3\n\nall", "en").text == "Ezekiel\n\nfour to three\n\nall"


@pytest.mark.parametrize("language", ["de", "fr"])
def test_the_longest_text_that_a_server_takes_is_read_in_a_moment(language: str) -> None:
    # The slowest of what 100,000 characters may be: numbers, no two alike, in the languages with the most words.
    numbers = " ".join(str(110_000_000 + 7919 * count) for count in range(10_000))
    assert len(numbers) == 99_999
    assert any(_cpu_seconds(lambda: normalize(numbers, language)) < 1.5 for _ in range(2))
