"""Measures: the unit in its form, and what only looks like one."""

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
            "5 km, 1 km/h, 3.5 kg, 2 lbs",
            "five kilometers, one kilometer per hour, three point five kilograms, two pounds",
        ),
        (
            "en",
            "20 °C, -5°C, 68 °F, 90°",
            ("twenty degrees Celsius, minus five degrees Celsius, sixty-eight degrees Fahrenheit, ninety degrees"),
        ),
        (
            "en",
            "2-5lb, 10 – 20 kg, 5 kg - 10 kg",
            "two to five pounds, ten to twenty kilograms, five kilograms to ten kilograms",
        ),
        (
            "en",
            "2x8 m2, 25 x 7 m, 13x13",
            "two by eight square meters, twenty-five by seven meters, thirteen by thirteen",
        ),
        ("en", 'He is 5\'10" with a 12" screen.', "He is five feet ten inches with a twelve-inch screen."),
        (
            "en",
            "3 mbps, 5 GHz, 12kg/m³, 9 l/100 km",
            (
                "three megabits per second, five gigahertz, twelve kilograms per cubic meter, nine "
                "liters per one hundred kilometers"
            ),
        ),
        ("en", "1/2 mile, 2 1/2 h, 5½ in.", "one half mile, two and one half hours, five and one half inches."),
        ("en", "an 8-bit sign, 2048 MB", "an eight-bit sign, two thousand and forty-eight megabytes"),
        (
            "de",
            "1 h, 21 h, 1,5 t, 1 mv, 2 kwh",
            "eine Stunde, einundzwanzig Stunden, eins Komma fünf Tonnen, ein Millivolt, zwei Kilowattstunden",
        ),
        (
            "de",
            "90,4 millionen g, 42259 /m²",
            ("neunzig Komma vier millionen Gramm, zweiundvierzigtausendzweihundertneunundfünfzig pro Quadratmeter"),
        ),
        ("de", "5 Euro pro kg", "fünf Euro pro Kilogramm"),
        (
            "fr",
            "1 km, 1,5 km, 2 km, 21 h, 3/4 d'heure",
            ("un kilomètre, un virgule cinq kilomètre, deux kilomètres, vingt et une heures, trois quarts d'heure"),
        ),
        (
            "fr",
            "1 1/2 h, 1/2 l, 2/3 l, 5 Go",
            "une heure et demie, un demi litre, deux tiers de litre, cinq gigaoctets",
        ),
        (
            "es",
            "1 h, 21 h, 200.045 mph, 1,01 mph",
            (
                "una hora, veintiuna horas, doscientas mil cuarenta y cinco millas por hora, una coma "
                "cero una millas por hora"
            ),
        ),
        (
            "es",
            "1 3/5 mph, 1 1/2 h, 1/2 kg, 4,51/s, 40 ° k",
            (
                "una y tres quintos de milla por hora, una hora y media, medio kilogramo, cuatro coma "
                "cincuenta y uno por segundo, cuarenta grados kelvin"
            ),
        ),
        (
            "it",
            "1 h, 2 km/h, 3 kg/m³, 15 A",
            "un'ora, due chilometri orari, tre chilogrammi per metro cubo, quindici ampere",
        ),
        ("pt", "2 h, 1 m², 1 1/2 h, -5°C", "duas horas, um metro quadrado, uma hora e meia, menos cinco graus Celsius"),
        ("nl", "1 u, 90 km/u, 2,5 GB", "één uur, negentig kilometer per uur, twee komma vijf gigabyte"),
        (
            "hi",
            "5 किमी, ८२.५ cg, २५.४ °C, १३x१३ का घर",
            ("पाँच किलोमीटर, बयासी दशमलव पाँच सेंटीग्राम, पच्चीस दशमलव चार डिग्री सेल्सियस, तेरह बाई तेरह का घर"),
        ),
        (
            "ar",
            "1 كم، 2 كم، 3 كم، 11 كم، 2 كم/س",
            "كيلومتر واحد، كيلومتران، ثلاثة كيلومترات، أحد عشر كيلومتر، اثنان كيلومتر في الساعة",
        ),
        ("ja", "5kmと時速60km/hと20℃", "5キロメートルと時速60キロメートルと20度"),
    ],
)
def test_a_quantity_is_said_with_its_unit(language: str, written: str, spoken: str) -> None:
    assert _said(written, language) == spoken


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("es", "seguido por un comando"),
        ("en", "a km and an in"),
        ("de", "das ts Salz"),
        ("pt", "feito por nós ontem"),
    ],
)
def test_what_is_none_stays(language: str, text: str) -> None:
    assert _said(text, language) == text
