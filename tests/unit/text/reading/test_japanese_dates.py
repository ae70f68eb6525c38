"""Japanese dates and times in signs, with the kanji that are read."""

from __future__ import annotations

import pytest

from voxtral.text.edits import Draft
from voxtral.text.reading.japanese_dates import japanese_date_claims
from voxtral.text.reading.reader import read_aloud
from voxtral.text.reading.written import Written


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("2024/01/30", "2024年1月30日"),
        ("2024-1-30(火)9:00〜17:30", "2024年1月30日火曜日9時から17時30分"),
        ("5月30日(日)", "5月30日日曜日"),
        ("1月2日(月・祝)", "1月2日月曜日祝日"),
        ("5/3(日)", "5月3日日曜日"),
        ("13:13、午前9:05、10:30 PM", "13時13分、午前9時5分、午後10時30分"),
        ("1:02:03", "1時2分3秒"),
        ("10月中旬〜11月上旬", "10月中旬から11月上旬"),
        ("紀元前626年〜紀元75年", "紀元前626年から紀元75年"),
    ],
)
def test_signs_are_written_as_they_are_read(written: str, spoken: str) -> None:
    assert read_aloud(Draft.of(written), "ja").text == spoken


@pytest.mark.parametrize(
    "written",
    ["3:2で勝った", "スコアは10:12", "2024/13/30", "5/3", "(月)", "192.168.1.10", "v2024/01/02", "80:90", "月〜金"],
)
def test_other_signs_stay(written: str) -> None:
    assert not list(japanese_date_claims(Written(written, "ja")))
    assert not list(japanese_date_claims(Written("2024/01/30", "en")))
