"""Japanese numbers and what they count, in kana."""

from __future__ import annotations

import re

import pytest

from voxtral.text.kana_numbers import NUMERAL, kana_words, read_money, read_number


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("0", "ぜろ"),
        ("10", "じゅう"),
        ("300", "さんびゃく"),
        ("8,600", "はっせんろっぴゃく"),
        ("10000", "いちまん"),
        ("10000000", "いっせんまん"),
        ("110000000", "いちおくいっせんまん"),
        ("1000", "せん"),
        ("二百五十", "にひゃくごじゅう"),
        ("二〇二四", "にせんにじゅうよん"),
        ("千", "せん"),
        ("3万5千", "さんまんごせん"),
        ("1億2,000万", "いちおくにせんまん"),
        ("3.14", "さんてんいちよん"),
        ("10.5", "じゅってんご"),
        ("0.05", "れいてんぜろご"),
        ("3.5万", "さんてんごまん"),
        ("007", "ぜろぜろなな"),
        ("1.2.3", "いち.に.さん"),
        ("万", "まん"),
        ("1億億", "いちおくおく"),
        ("٣", "さん"),
    ],
)
def test_numbers(written: str, spoken: str) -> None:
    assert NUMERAL.fullmatch(written)
    assert read_number(written) == spoken


@pytest.mark.parametrize(
    ("counter", "spoken"),
    [
        ("本", "いっぽん にほん さんぼん よんほん ごほん ろっぽん ななほん はっぽん きゅうほん じゅっぽん"),
        ("分", "いっぷん にふん さんぷん よんぷん ごふん ろっぷん ななふん はっぷん きゅうふん じゅっぷん"),
        ("回", "いっかい にかい さんかい よんかい ごかい ろっかい ななかい はっかい きゅうかい じゅっかい"),
        ("冊", "いっさつ にさつ さんさつ よんさつ ごさつ ろくさつ ななさつ はっさつ きゅうさつ じゅっさつ"),
        ("人", "ひとり ふたり さんにん よにん ごにん ろくにん ななにん はちにん きゅうにん じゅうにん"),
        ("時", "いちじ にじ さんじ よじ ごじ ろくじ しちじ はちじ くじ じゅうじ"),
        ("日", "いちにち ふつか みっか よっか いつか むいか なのか ようか ここのか とおか"),
        ("月", "いちがつ にがつ さんがつ しがつ ごがつ ろくがつ しちがつ はちがつ くがつ じゅうがつ"),
        ("枚", "いちまい にまい さんまい よんまい ごまい ろくまい ななまい はちまい きゅうまい じゅうまい"),
    ],
)
def test_counters_from_one_to_ten(counter: str, spoken: str) -> None:
    assert [read_number(str(value), counter) for value in range(1, 11)] == spoken.split()


def test_the_first_of_a_month() -> None:
    assert read_number("1", "日", after_month=True) == "ついたち"
    assert read_number("21", "日", after_month=True) == "にじゅういちにち"


def test_money() -> None:
    assert read_money("4", "¥") == "よえん"
    assert read_money("2.5", "$") == "にてんごドル"


@pytest.mark.parametrize("counter", ["", *kana_words().counters])
@pytest.mark.parametrize("written", ["0", "1", "99", "100", "4,004", "1" * 15, "1" * 16, "9" * 5000, "9" * 5000 + "万"])
def test_every_number_of_every_thing_is_kana(written: str, counter: str) -> None:
    assert re.fullmatch("[\u3041-\u3096\u30a1-\u30fc]+", read_number(written, counter))
