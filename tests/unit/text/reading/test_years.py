"""Years and decades, their eras, and the quantities that look like years."""

from __future__ import annotations

import pytest

from voxtral.text.edits import Draft
from voxtral.text.reading.reader import read_aloud
from voxtral.text.reading.written import Written
from voxtral.text.reading.years import year_claims


@pytest.mark.parametrize(
    ("language", "written", "spoken"),
    [
        ("en", "2100", "twenty-one hundred"),
        ("en", "pre-1984", "pre-nineteen eighty-four"),
        ("en", "1980s, 1910s, 1900s, 2000s", "nineteen eighties, nineteen tens, nineteen hundreds, two thousands"),
        ("en", "the '80s, mid-80s, in his 80s", "the eighties, mid-eighties, in his eighties"),
        ("en", "1960s-1980s", "nineteen sixties to nineteen eighties"),
        ("en", "1960-80, 1914–1918", "nineteen sixty to eighty, nineteen fourteen to nineteen eighteen"),
        ("en", "the class of '05", "the class of oh five"),
        (
            "en",
            "384–322 BC, 1200 B.C.",
            "three hundred and eighty-four to three hundred and twenty-two BC, twelve hundred BC.",
        ),
        ("en", "the 2023/24 season", "the twenty twenty-three twenty-four season"),
        (
            "en",
            "sold 1999 copies in 1999",
            "sold one thousand nine hundred and ninety-nine copies in nineteen ninety-nine",
        ),
        ("en", "1428 people", "one thousand four hundred and twenty-eight people"),
        ("en", "the 1984 elections", "the nineteen eighty-four elections"),
        ("de", "die 1990er Jahre, 80er-Jahre", "die neunzehnhundertneunziger Jahre, achtziger-Jahre"),
        ("de", "500 v. Chr. und 79 n.Chr.", "fünfhundert vor Christus und neunundsiebzig nach Christus."),
        (
            "de",
            "1428 Menschen im Jahr 1428",
            "eintausendvierhundertachtundzwanzig Menschen im Jahr vierzehnhundertachtundzwanzig",
        ),
        ("fr", "en 2021 elle, 44 av. J.-C.", "en deux mille vingt et un elle, quarante-quatre avant Jésus-Christ."),
        ("es", "2021 fue, los años 80", "dos mil veintiuno fue, los años ochenta"),
        ("es", "10.000 a. C., siglo X d. C.", "diez mil antes de Cristo, siglo diez después de Cristo."),
        ("it", "gli anni '80, nel '68, nel '22", "gli anni ottanta, nel sessantotto, nel ventidue"),
        ("it", "79 d.C.", "settantanove dopo Cristo."),
        ("pt", "em 2021 houve, 44 a.C.", "em dois mil e vinte e um houve, quarenta e quatro antes de Cristo."),
        ("nl", "in 1988, 1905, jaren '20", "in negentienhonderdachtentachtig, negentienhonderdvijf, jaren twintig"),
        ("hi", "1999 में, सन् 1857", "उन्नीस सौ निन्यानवे में, सन् अठारह सौ सत्तावन"),
        ("hi", "326 ई.पू.", "तीन सौ छब्बीस ईसा पूर्व."),
        ("ar", "44 ق.م", "أربعة وأربعون قبل الميلاد"),
    ],
)
def test_years_are_written_out(language: str, written: str, spoken: str) -> None:
    assert read_aloud(Draft.of(written), language).text == spoken


@pytest.mark.parametrize(
    ("language", "written"),
    [
        ("en", "room 1201, ICE 5, 10s and 30s"),
        ("en", "'22 people were there'"),
        ("en", "1939/45, 1984-70, £1984, 1984%, F-1984, 1984:5"),
        ("de", "1999 €, 1984,50"),
        ("fr", "de 2021 personnes"),
        ("es", "de 2021 casas, Stanislaw Lec"),
    ],
)
def test_other_numbers_are_no_years(language: str, written: str) -> None:
    assert not list(year_claims(Written(written, language)))
