"""Money with the name of its currency in words, and what regions write and call otherwise."""

from __future__ import annotations

import pytest

from voxtral.text.normalize import normalize


@pytest.mark.parametrize(
    ("language", "written", "spoken"),
    [
        ("de", "7,50 Euro, 0,99 Euro, 7,50 US-Dollar", "sieben Euro und fünfzig Cent, neunundneunzig Cent, sieben US-"),
        ("de", "7,50 Schweizer Franken, 50 ct", "sieben Schweizer Franken und fünfzig Rappen, fünfzig Cent"),
        (
            "en",
            "7.50 dollars, -7.50 Euros, 50¢",
            "seven dollars and fifty cents, minus seven euros and fifty cents",
        ),
        ("en", "7.50 US dollars", "seven US dollars and fifty cents"),
        ("fr", "7,50 euros, 1,50 dollar canadien", "sept euros et cinquante centimes, un dollar canadien et cinquante"),
        ("es", "7,50 euros, 12,50 Dólares", "siete euros con cincuenta céntimos, doce dólares con cincuenta centavos"),
        ("pt", "7,50 reais, 7,50 Dólares", "sete reais e cinquenta centavos, sete dólares e cinquenta centavos"),
        ("it", "7,50 euro, 12,50 dollari", "sette euro e cinquanta centesimi, dodici dollari e cinquanta centesimi"),
        ("nl", "7,50 euro, 12,50 dollar", "zeven euro en vijftig cent, twaalf dollar en vijftig cent"),
        ("hi", "7.50 रुपये, ₹56 लीटर", "सात रुपये और पचास पैसे, छप्पन रुपये लीटर"),
        ("ar", "7.50 دولار", "سبعة دولارات وخمسون سنت"),
        # Regions.
        ("es-MX", "$20, $1.50, US$20", "veinte pesos, un peso con cincuenta centavos, veinte dólares estadounidenses"),
        ("es", "$20", "veinte dólares"),
        ("pt-PT", "7,50 €, 7,50 euros", "sete euros e cinquenta cêntimos, sete euros e cinquenta cêntimos"),
        ("pt-BR", "7,50 €", "sete euros e cinquenta centavos"),
        ("de-CH", "50 Rp. pro Stück, 50 Rp.", "fünfzig Rappen pro Stück, fünfzig Rappen."),
        ("de", "50 Rp", "fünfzig Rupiah"),
        ("en-GB", "50p", "fifty pence"),
        # Weights and nouns made of currencies are no prices.
        ("en", "weighs 7.50 pounds", "weighs seven point five zero pounds"),
        ("de", "9,99 Pfund, 12,50 Euro-Schein", "neun Komma neun neun Pfund, zwölf Komma fünf null Euro-Schein"),
        ("fr", "7,5 euros", "sept virgule cinq euros"),
    ],
)
def test_money_in_words_is_said_as_with_a_sign(language: str, written: str, spoken: str) -> None:
    assert normalize(written, language).text.startswith(spoken)
