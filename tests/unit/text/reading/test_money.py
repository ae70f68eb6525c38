"""Money: which currencies and hundredths are heard, and what is no price."""

from __future__ import annotations

import pytest

from voxtral.text.edits import Draft
from voxtral.text.reading.reader import read_aloud


def _said(text: str, language: str) -> str:
    return read_aloud(Draft.of(text), language).text


@pytest.mark.parametrize(
    ("language", "written", "spoken"),
    [
        (
            "en",
            "$3.50, $1, $0.05, $.02, $20.5",
            ("three dollars and fifty cents, one dollar, five cents, two cents, twenty dollars and fifty cents"),
        ),
        ("en", "$5M and $1.2bn; ¥30B", "five million dollars and one point two billion dollars; thirty billion yen"),
        (
            "en",
            "£3.99/kg, $1/d, €5/month",
            "three pounds and ninety-nine pence per kilogram, one dollar per day, five euros per month",
        ),
        (
            "en",
            "$250-$300, $5-10, 5-10 USD",
            ("two hundred and fifty dollars to three hundred dollars, five to ten dollars, five to ten US dollars"),
        ),
        (
            "en",
            "US$ 10, C$5, MX$48.41, PLN18.09",
            (
                "ten US dollars, five Canadian dollars, forty-eight Mexican pesos and forty-one "
                "centavos, eighteen zlotys and nine groszy"
            ),
        ),
        ("en", "₩5,000, ₺6, 5₽", "five thousand won, six Lira, five rubles"),
        ("en", "5 eur, 5 AUD", "five euros, five Australian dollars"),
        (
            "de",
            "1 €, 21 €, 1,50 €, 5 CHF",
            "ein Euro, einundzwanzig Euro, ein Euro und fünfzig Cent, fünf Franken",
        ),
        (
            "de",
            "5 Mio. €, €2,21 millionen, 1 Kr.",
            "fünf Millionen Euro, zwei Komma zwei eins millionen Euro, eine Krone",
        ),
        ("de", "5 €/Monat, 3 €/kg", "fünf Euro pro Monat, drei Euro pro Kilogramm"),
        (
            "fr",
            "1 €, 744 981,56 $US, 12,10 £GB",
            (
                "un euro, sept cent quarante-quatre mille neuf cent quatre-vingt-un dollars des "
                "États-Unis et cinquante-six cents, douze livres et dix pence"
            ),
        ),
        (
            "fr",
            "5 M€, 2 Md€, 1 million €",
            "cinq millions d'euros, deux milliards d'euros, un million d'euros",
        ),
        (
            "es",
            "1 r$, 1 ₩, 1 rs, 200.000.001 £",
            "un real, un won, una rupia, doscientos millones una libras",
        ),
        (
            "es",
            "5 us$, 3 M€, q50,10",
            "cinco dólares estadounidenses, tres millones de euros, cincuenta quetzales con diez centavos",
        ),
        ("it", "4,2 £, 1 eur, 3 mln €", "quattro sterline e venti penny, un euro, tre milioni di euro"),
        (
            "pt",
            "R$ 2,5 bi, R$ 1,50, 2 £",
            "dois vírgula cinco bilhões de reais, um real e cinquenta centavos, duas libras",
        ),
        (
            "nl",
            "€ 5,50, € 3 mln, 5 USD",
            "vijf euro en vijftig cent, drie miljoen euro, vijf Amerikaanse dollar",
        ),
        (
            "hi",
            "₹5 करोड़, ₹1.50, ¥100.48, ₺12",
            "पाँच करोड़ रुपये, एक रुपया और पचास पैसे, एक सौ येन और अड़तालीस सेन, बारह लीरा",
        ),
        ("ar", "$1، $2، $3، $11، 5د.ك", "دولار واحد، دولاران، ثلاثة دولارات، أحد عشر دولار، خمسة دينار كويتي"),
        ("nl", "€ 10,- en 10,- €", "tien euro en tien euro"),
        ("de", "10,– € und CHF 5'000.–", "zehn Euro und fünftausend Franken"),
        ("ja", "$5と¥100と₩500", "5ドルと100円と500ウォン"),
    ],
)
def test_an_amount_of_money_is_said_with_its_currency(language: str, written: str, spoken: str) -> None:
    assert _said(written, language) == spoken


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "ABC$5"),
    ],
)
def test_what_is_none_stays(language: str, text: str) -> None:
    assert _said(text, language) == text
