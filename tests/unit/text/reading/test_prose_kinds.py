"""What prose showed to be said wrong, by kind: each with what must stay beside it."""

from __future__ import annotations

import pytest

from voxtral.text.normalize import normalize
from voxtral.text.spelling import Speller


@pytest.mark.parametrize(
    ("language", "written", "spoken"),
    [
        # Numbers of sections are no addresses and no dates, and go up to ten.
        ("en", "12.3.2.1. See the host 10.1.1.1", "twelve point three point two point one. See the host one zero dot"),
        ("de", "14.3. Ich gehe", "14.3. Ich gehe"),
        ("de", "Am 14.3. Ich gehe", "Am vierzehnten März Ich gehe"),
        ("en", "Section 6.10, 6.10 m", "Section six point ten, six point one zero meters"),
        ("fr", "version 2.100, 2.100 pages", "version deux point cent, deux mille cent pages"),
        # Two numbers that are no fraction.
        ("es", "40/128, 3/4, 1/250", "cuarenta/ciento veintiocho, tres cuartos, uno"),
        ("en", "20/20, 5/5, 4/5", "twenty/twenty, five/five, four fifths"),
        ("it", "[4/9] parte 10/13, 4/9", "[4/9] parte 10/13, quattro noni"),
        ("fr", "1/25 000", "1/25 000"),
        ("fr", "1,2 ou 3, et 1,2 ou 5", "un, deux ou trois, et un virgule deux ou cinq"),
        # Words with digits in them.
        ("it", "23esimo, 29enne, 14mila, il 75^ anno", "ventitreesimo, ventinovenne, quattordicimila, il settantacinq"),
        ("nl", "een A4tje", "een A viertje"),
        ("en", "N-1, F-16, n**2, 501(c)(3)", "N minus one, F sixteen, n**2, five zero one C three"),
        ("hi", "CO2", "सी ओ दो"),
        ("en", "4.2 BSD, 5 USD", "four point two BSD, five US dollars"),
        # Nouns and their numbers.
        (
            "ar",
            "5 سنوات، 5 كتب، 15 سنة، 2 بوصة، 360 يومًا",
            "خمس سنوات، خمسة كتب، خمس عشرة سنة، بوصتان، ثلاثمائة وستون يومًا",
        ),
        ("ar", "و3 أقلام وب5", "وثلاثة أقلام وب5"),
        ("ar", "من 1 إلى 31 بالنسبة", "من واحد إلى واحد وثلاثون بالنسبة"),
        (
            "de",
            "1 Apfel, 1 Birne, mit 1 Frau, Formel 1 Rennen",
            "ein Apfel, eine Birne, mit einer Frau, Formel eins Rennen",
        ),
        ("de", "1/2 l, 1/2 Zitrone, 1/2 Std.", "ein halber Liter, eine halbe Zitrone, eine halbe Stunde"),
        (
            "de",
            "1. Kapitel, in 2. Auflage, den ganzen 17. April",
            "erstes Kapitel, in zweiter Auflage, den ganzen siebzehn",
        ),
        ("de", "15. bis 17. März", "fünfzehnter bis siebzehnter März"),
        (
            "pt",
            "2 casas, PPTP 1723 precisa, 1.2 vezes",
            "duas casas, PPTP mil setecentos e vinte e três precisa, um ponto dois",
        ),
        # Lives, years and times.
        (
            "es",
            "(-1994) (384-322 A.C.)",
            "(-1994) (trescientos ochenta y cuatro a trescientos veintidós antes de Cristo",
        ),
        ("hi", "1857, (1809) 1500 लोग", "अठारह सौ सत्तावन, (अठारह सौ नौ) एक हज़ार पाँच सौ लोग"),
        ("it", "tra le 8 e le 8.30", "tra le otto e le otto e trenta"),
        ("en", "2h30m, 1 h 5 min 3 s", "two hours and thirty minutes, one hour five minutes and three seconds"),
        ("de", "2 h 30 min", "zwei Stunden dreißig Minuten"),
        ("en", "Sat 10-4", "Sat 10-4"),
        # Program text and drawings.
        ("it", "o <o <o x > y", "o <o <o x maggiore di y"),
        ("nl", "802.1x, 2x", "802.1x, twee maal"),
        ("ja", "Pin-Priority が 990、暗証番号は1234", "Pin-Priority が 990、暗証番号は1 2 3 4"),
    ],
)
def test_kinds_that_prose_showed(language: str, written: str, spoken: str) -> None:
    assert normalize(written, language).text.startswith(spoken)


@pytest.mark.parametrize("language", ["en", "de", "fr", "es", "nl"])
def test_large_numbers_are_those_of_the_library(language: str, monkeypatch: pytest.MonkeyPatch) -> None:
    values = [
        count * 10**size + rest
        for count in (1, 2, 21, 80, 101, 999)
        for size in (3, 6, 9)
        for rest in (0, 1, 80, 201, 21_000)
    ]
    composed = [Speller(language).cardinal(value) for value in values]
    monkeypatch.setattr(Speller, "_composed", lambda *_: None)
    assert composed == [Speller(language).cardinal(value) for value in values]
