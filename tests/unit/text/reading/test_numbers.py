"""Numbers in texts: what is written out, in which way, and what stays."""

from __future__ import annotations

import pytest

from voxtral.text.edits import Draft
from voxtral.text.reading.reader import read_aloud


def _spell(text: str, language: str) -> str:
    code, _, region = language.partition("-")
    return read_aloud(Draft.of(text), code, region).text


@pytest.mark.parametrize(
    ("language", "written", "spoken"),
    [
        ("en", "I have 1,234 apples.", "I have one thousand two hundred and thirty-four apples."),
        ("en", "3.14 and 0.05", "three point one four and zero point zero five"),
        (
            "en",
            "1.234.567,89",
            "one million two hundred and thirty-four thousand five hundred and sixty-seven point eight nine",
        ),
        ("en", "12,34,567", "one million two hundred and thirty-four thousand five hundred and sixty-seven"),
        ("en", "In 1984, 1905 and 2024.", "In nineteen eighty-four, nineteen oh-five and twenty twenty-four."),
        ("en", "50% or 5.5 % off", "fifty percent or five point five percent off"),
        ("en", "-5 and (−3) and +2", "minus five and (minus three) and plus two"),
        ("en", "1st, 2nd, 23rd, 1,000th", "first, second, twenty-third, one thousandth"),
        (
            "en",
            "$3.50, € 20, £1, US$10, -$5",
            "three dollars and fifty cents, twenty euros, one pound, ten US dollars, minus five dollars",
        ),
        ("en", "$5 million and $1.5 billion", "five million dollars and one point five billion dollars"),
        (
            "en",
            "10-20 people, 1914–1918, $5-10",
            "ten to twenty people, nineteen fourteen to nineteen eighteen, five to ten dollars",
        ),
        (
            "en",
            "007 or 12345678901234567",
            ("zero zero seven or one two three four five six seven eight nine zero one two three four five six seven"),
        ),
        ("en", "Call 555-123-4567.", "Call five five five, one two three, four five six seven."),
        ("en", "options 1,2,3", "options one, two, three"),
        ("en", "a 5-year-old of '68", "a five-year-old of sixty-eight"),
        ("en", "It is 3. Then 4!", "It is three. Then four!"),
        ("en", "१२ and ٤٥", "twelve and forty-five"),
        (
            "fr",
            "10\u202f000 €, 1 234,5 et 3,14",
            "dix mille euros, mille deux cent trente-quatre virgule cinq et trois virgule quatorze",
        ),
        ("fr", "en 2024 100 fois", "en deux mille vingt-quatre cent fois"),
        ("fr", "10 % de 1.000", "dix pour cent de mille"),
        ("fr", "1er, 1re, 2e, 3ème, 2nde", "premier, première, deuxième, troisième, seconde"),
        ("fr", "5 millions € ou €3", "cinq millions d'euros ou trois euros"),
        ("fr", "01 23 45 67 89", "zéro un, deux trois, quatre cinq, six sept, huit neuf"),
        (
            "es",
            "1.234,5 y 3.14 y 50 %",
            "mil doscientos treinta y cuatro coma cinco y tres punto catorce y cincuenta por ciento",
        ),
        ("es", "1º, 2.ª y 15º", "primero, segunda y decimoquinto"),
        ("es", "1000000 €", "un millón de euros"),
        (
            "de",
            "1.234,56 € und 3,5 %",
            "eintausendzweihundertvierunddreißig Euro und sechsundfünfzig Cent und drei Komma fünf Prozent",
        ),
        ("de", "1 % im Jahr 1984", "ein Prozent im Jahr neunzehnhundertvierundachtzig"),
        ("de", "Am 3. Mai, der 4. Juni, 5. Juli", "Am dritten Mai, der vierte Juni, fünfter Juli"),
        (
            "de",
            "im 19. Jahrhundert, in der 2. Klasse, die 2. Wahl",
            "im neunzehnten Jahrhundert, in der zweiten Klasse, die zweite Wahl",
        ),
        ("de", "Er ist 42. Das ist viel.", "Er ist zweiundvierzig. Das ist viel."),
        ("de", "5 Millionen €", "fünf Millionen Euro"),
        ("it", "1.234,5 e 100 €", "milleduecentotrentaquattro virgola cinque e cento euro"),
        ("it", "1º, 2ª", "primo, seconda"),
        ("pt", "R$ 5,50 e 16 %", "cinco reais e cinquenta centavos e dezesseis por cento"),
        (
            "nl",
            "1e, 2de, € 5,50 in 1984",
            "eerste, tweede, vijf euro en vijftig cent in negentienhonderdvierentachtig",
        ),
        ("nl", "1.234,5", "duizendtweehonderdvierendertig komma vijf"),
        ("ar", "١٬٢٣٤ و ٣٫١٤", "ألف ومئتان وأربعة وثلاثون و ثلاثة فاصلة واحد أربعة"),
        ("ar", "50٪ و 5 $", "خمسون بالمئة و خمسة دولارات"),
        ("hi", "12,34,567 और ३.१४", "बारह लाख चौंतीस हज़ार पाँच सौ सड़सठ और तीन दशमलव एक चार"),
        ("hi", "₹500, 50% और ₹5 करोड़", "पाँच सौ रुपये, पचास प्रतिशत और पाँच करोड़ रुपये"),
        (
            "en",
            "About 10 000 people, 1'000'000 and 12,34,567",
            (
                "About ten thousand people, one million and one million two hundred and thirty-four "
                "thousand five hundred and sixty-seven"
            ),
        ),
        ("en", ".1 trillion, -.5", "point one trillion, minus point five"),
        ("en", "1428 people in 1428", "one thousand four hundred and twenty-eight people in fourteen twenty-eight"),
        (
            "de",
            "1.000.000.000 und 2.500.000.000, 1 234 567, 101.000, 601 Millionen",
            (
                "eine Milliarde und zwei Milliarden fünfhundert Millionen, eine Million "
                "zweihundertvierunddreißigtausendfünfhundertsiebenundsechzig, einhunderteintausend, "
                "sechshunderteine Millionen"
            ),
        ),
        ("de", "1 Million, 2,5 Mio. Menschen", "eine Million, zwei Komma fünf Millionen Menschen"),
        ("fr", "10 000, 1.000.000.000", "dix mille, un milliard"),
        ("fr", "1 page, 21 personnes, 1 chat", "une page, vingt et une personnes, un chat"),
        ("fr-CH", "91 et 1'000", "nonante et un et mille"),
        ("es", "1 000 000, 2.000.000.000", "un millón, dos mil millones"),
        (
            "es",
            "1 casa, 31 días, 200 casas, 21 libros",
            "una casa, treinta y un días, doscientas casas, veintiún libros",
        ),
        ("es-MX", "1,234.56", "mil doscientos treinta y cuatro punto cincuenta y seis"),
        ("it", "118, 1918, 218", "centodiciotto, millenovecentodiciotto, duecentodiciotto"),
        ("pt", "100 000, 1,2 milhões, 2 casas", "cem mil, um vírgula dois milhões, duas casas"),
        ("pt-PT", "16.000.000.000", "dezasseis mil milhões"),
        ("nl", "10 000", "tienduizend"),
        (
            "hi",
            "1000000000000000",
            "एक शून्य शून्य शून्य शून्य शून्य शून्य शून्य शून्य शून्य शून्य शून्य शून्य शून्य शून्य शून्य",
        ),
        ("ar", "600980، 7,99، ٧٫٩", "ستمائة ألف وتسعمائة وثمانون، سبعة وتسعة وتسعون من مئة، سبعة فاصلة تسعة"),
    ],
)
def test_numbers_are_written_out(language: str, written: str, spoken: str) -> None:
    assert _spell(written, language) == spoken


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "3-2 747-400"),
        ("en", "5\u0301"),
        ("de", "1. Kapitän"),
        ("ja", "2024年3月 1,234円"),
    ],
)
def test_what_is_not_clearly_a_number_stays(language: str, text: str) -> None:
    assert _spell(text, language) == text


@pytest.mark.parametrize("written", ["1" * 5000, "1." + "2" * 5000, "0" * 5000, "1,000" * 999, "9" * 16 + "%"])
@pytest.mark.parametrize("language", ["en", "de", "hi"])
def test_endless_digits_are_no_error(written: str, language: str) -> None:
    assert _spell(written, language)
