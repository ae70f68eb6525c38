"""Japanese in kana: what is read, what stays, and what is refused.

Tests that need the extra `ja` are skipped without it; the others run without it on purpose.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from voxtral.errors import JapaneseReaderMissingError, TextError
from voxtral.text import kana
from voxtral.text.clean import clean
from voxtral.text.kana import LETTERS_PER_KANA, has_kanji
from voxtral.text.normalize import normalize, write_in_kana
from voxtral.text.segment import split_text

needs_dictionary = pytest.mark.skipif(
    importlib.util.find_spec("sudachipy") is None or importlib.util.find_spec("sudachidict_core") is None,
    reason='kanji needs sudachipy and sudachidict_core: pip install "voxtral-tts[ja]"',
)


@pytest.fixture
def no_dictionary(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installation without the extra, whatever is installed here."""
    monkeypatch.setitem(sys.modules, "sudachipy", None)
    kana._open_dictionary.cache_clear()
    yield
    kana._open_dictionary.cache_clear()


@pytest.mark.usefixtures("no_dictionary")
@pytest.mark.parametrize(
    "text",
    [
        "こんにちは。",
        "わたしは とうきょうへ いきます。",  # the writer's particles and spaces are his own
        "わたしはとうきょうへいきます",
        "ニューヨークで「ラーメン」を たべた！ ほんとう？ ええ…",
        "ゔァヴぁヵヶゐゑヰヱゝゞヽヾー・〜",
        "いち\n\nに\tさん　よん",
        "voxtral is Café, ÉTÉ",  # words of other languages
        "",
    ],
)
def test_kana_stays_without_the_extra(text: str) -> None:
    written = write_in_kana(text)
    assert written.text == text
    assert all(written.source_span(place, place + 1) == (place, place + 1) for place in range(len(text)))


@pytest.mark.parametrize("gap", ["\n\n\n", "  ", "\r\n", "\u200b"], ids=["lines", "spaces", "line end", "unseen"])
def test_what_was_cleaned_first_leads_back_to_the_text_as_given(gap: str) -> None:
    source = f"した。{gap}だれも{gap}つかい"
    cleaned = clean(source)
    written = write_in_kana(cleaned.text).through(cleaned)
    assert written.text == cleaned.text != source
    for place, char in enumerate(written.text):
        if char.isalpha():
            assert source[slice(*written.source_span(place, place + 1))] == char


@pytest.mark.usefixtures("no_dictionary")
@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("ﾊﾟｰﾃｨｰ､ﾀﾞﾒ｡", "パーティー、ダメ。"),
        ("か\u3099く\u309a", "がく\u309a"),
        ("１２３と 3.5、３．５", "ひゃくにじゅうさんと さんてんご、さんてんご"),
        ("３，０００", "さんぜん"),
        ("りんごを 3つ", "りんごを みっつ"),
        ("USBと ＴＶ", "ユーエスビーと ティーブイ"),
        ("100%で ¥1,000、-5", "ひゃくパーセントで せんえん、まいなすご"),
        ("-3", "まいなすさん"),
        ("きおんは-3、GPT-4、7-3", "きおんはまいなすさん、ジーピーティー-よん、なな-さん"),
        ("3〜5", "さんからご"),
        ("②です", "にです"),
        ("٣と३", "さんとさん"),
    ],
)
def test_numbers_and_letters_need_no_extra(written: str, spoken: str) -> None:
    assert write_in_kana(written).text == spoken


@pytest.mark.usefixtures("no_dictionary")
@pytest.mark.parametrize(
    ("text", "kanji", "offset"),
    [("ああ日本です", "日本", 2), ("ﾊﾟﾊﾟと私", "私", 5), ("あ㍿", "株式会社", 1), ("ひと々", "々", 2), ("あ⼀", "一", 1)],
)
def test_kanji_without_the_extra_is_refused_with_the_way_out(text: str, kanji: str, offset: int) -> None:
    assert has_kanji(text)
    with pytest.raises(JapaneseReaderMissingError) as caught:
        write_in_kana(text)
    message = str(caught.value)
    for part in (
        repr(kanji),
        f"at offset {offset};",
        "kana alone",
        'pip install "voxtral-tts[ja]"',
        "write the text in",
    ):
        assert part in message
    assert isinstance(caught.value, TextError)
    assert caught.value.code == "japanese_reader_missing"


def test_the_library_is_imported_for_kanji_alone() -> None:
    code = (
        "import sys\n"
        "from voxtral.text.normalize import normalize, write_in_kana\n"
        "write_in_kana('こんにちは、3つ USB。'); normalize('日本へ', 'ja')\n"
        "assert not {name.split('.')[0] for name in sys.modules} & {'sudachipy', 'sudachidict_core', 'torch'}\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@needs_dictionary
@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("今日は良い天気ですね。", "きょうわよいてんきですね。"),
        ("私は東京へ行く", "わたしわとうきょうえいく"),
        ("母は花へ行く、はは、へや", "ははわはなえいく、はは、へや"),
        ("こんにちは、または犬", "こんにちわ、またわいぬ"),
        ("お母さんと お父さん", "おかあさんと おとうさん"),
        ("何を見る、何ですか", "なにをみる、なんですか"),
        ("髙橋さんと𠮷田さん", "たかはしさんとよしださん"),
        ("GoogleでUSBを使うAさん", "グーグルでユーエスビーをつかうエーさん"),
        ("〇〇さん、二〇二四年", "まるまるさん、にせんにじゅうよねん"),
        ("㍿を　作った\n人々", "かぶしきがいしゃを　つくった\nひとびと"),
    ],
)
def test_kanji_is_read(written: str, spoken: str) -> None:
    assert write_in_kana(written).text == spoken


@needs_dictionary
@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("三本と四本、千本", "さんぼんとよんほん、せんぼん"),
        ("1本 6匹 8杯 10分 3分", "いっぽん ろっぴき はっぱい じゅっぷん さんぷん"),
        ("一人、2人、3人、14人", "ひとり、ふたり、さんにん、じゅうよにん"),
        ("2024年1月1日、4月9日", "にせんにじゅうよねんいちがつついたち、しがつここのか"),
        ("20日に 3日間", "はつかに みっかかん"),
        ("3分の1、10分の1、3分後", "さんぶんのいち、じゅうぶんのいち、さんぷんご"),
        ("3時5分の1分前", "さんじごふんのいっぷんまえ"),
        ("三千年の火、2時頃、その頃", "さんぜんねんのひ、にじごろ、そのころ"),
        ("4時7分、9時間、0時", "よじななふん、くじかん、れいじ"),
        (
            "1億2,000万円、3万5千円、千円、一千万円",
            "いちおくにせんまんえん、さんまんごせんえん、せんえん、いっせんまんえん",
        ),
        ("三百円と三百", "さんびゃくえんとさんびゃく"),
        ("1.5倍、0.5点、3.5万人", "いってんごばい、れいてんごてん、さんてんごまんにん"),
        ("10人〜20人", "じゅうにんからにじゅうにん"),
        ("千葉県と三重県は十分一番", "ちばけんとみえけんわじゅうぶんいちばん"),
        ("部屋007", "へやぜろぜろなな"),
    ],
)
def test_what_is_counted_takes_its_sound(written: str, spoken: str) -> None:
    assert write_in_kana(written).text == spoken


@needs_dictionary
def test_unknown_kanji_is_refused_by_name_and_place() -> None:
    with pytest.raises(TextError, match=r"'鱻' at offset 2, '鱻' at offset 4; .*write these in kana") as caught:
        write_in_kana("魚と鱻と鱻")
    assert not isinstance(caught.value, JapaneseReaderMissingError)
    with pytest.raises(TextError, match="and 15 more"):
        write_in_kana("鱻" * 20)


@needs_dictionary
def test_spans_lead_back_to_the_source() -> None:
    source = "**私は** 2人で行く 😀"
    normalized = normalize(source, "ja", in_kana=True)
    assert normalized.text == "わたしわ ふたりでいく"
    for word, original in [("わたし", "私"), ("わ ", "は** "), ("ふたり", "2人"), ("いく", "行く")]:
        start = normalized.text.index(word)
        begin, end = normalized.source_span(start, start + len(word))
        assert source[begin:end] == original


@needs_dictionary
def test_long_texts_are_read_in_parts() -> None:
    sentence = "今日は良い天気です。"
    assert write_in_kana(sentence * 2_000).text == "きょうわよいてんきです。" * 2_000
    assert write_in_kana("字" * 5_000 + "\ufdfa" * 5_000).text.startswith("じじじ")
    assert write_in_kana("犬\ud800").text == "いぬ\ud800"


@needs_dictionary
def test_many_threads_read_at_once() -> None:
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda _: write_in_kana("東京の天気" * 50).text, range(40)))
    assert set(read) == {"とうきょうのてんき" * 50}


def test_without_kana_japanese_keeps_its_kanji_and_digits() -> None:
    assert normalize("**3月**は日本です。😀", "ja").text == "3月は日本です。"


def test_kana_is_cut_at_its_own_punctuation_and_limits() -> None:
    limits = {"min_chars": 100 // LETTERS_PER_KANA, "max_chars": 400 // LETTERS_PER_KANA}
    sentence = "きょうは、いい てんきですから、こうえんへ いきます。"
    for mark in "。？！":
        text = (sentence[:-1] + mark) * 40
        segments = list(split_text(text, **limits))
        assert "".join(segment.text for segment in segments) == text
        assert all(segment.text.endswith(mark) for segment in segments)
        assert all(50 <= len(segment.text) <= 200 for segment in segments)
    clauses = list(split_text("とても ながい ぶんです、" * 40, **limits))
    assert len(clauses) > 1
    assert all(segment.text.endswith("、") for segment in clauses)
