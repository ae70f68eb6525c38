"""Numbers before nouns: no digit is left, and one and two have the form that the noun or the label asks for."""

from __future__ import annotations

import re

import pytest

from voxtral.text.normalize import normalize


@pytest.mark.parametrize(
    ("language", "written", "spoken"),
    [
        ("de", "101 Jahre, 1 Bett, 1 Hund.", "einhunderteins Jahre, ein Bett, ein Hund."),
        ("de", "nach 1 Woche, in 1 Stunde, vor 1 Jahr", "nach einer Woche, in einer Stunde, vor einem Jahr"),
        ("de", "nach 1 km, für 1 Monat", "nach einem Kilometer, für einen Monat"),
        ("de", "1 großer Hund, mit 1 großen Hund", "ein großer Hund, mit einem großen Hund"),
        ("de", "1 neue Nachricht. Täglich 1 Tablette.", "eine neue Nachricht. Täglich eine Tablette."),
        ("de", "Formel 1 Rennen, Gleis 1 fährt", "Formel eins Rennen, Gleis eins fährt"),
        ("de", "1 Ei, 1 Zwiebel, 1 Papagei", "ein Ei, eine Zwiebel, ein Papagei"),
        ("pt", "2 limões, 2 mães, 22 estudantes", "dois limões, duas mães, vinte e dois estudantes"),
        (
            "pt",
            "O quarto 204 fica, quarto 202 apenas",
            "O quarto duzentos e quatro fica, quarto duzentos e dois apenas",
        ),
        ("pt", "202 pessoas; visitou a casa 2 vezes", "duzentas e duas pessoas; visitou a casa duas vezes"),
        ("fr", "1 comprimé, 1 sœur, 101 dalmatiens", "un comprimé, une sœur, cent un dalmatiens"),
        ("fr", "la page 1 montre, 21 gens", "la page un montre, vingt et un gens"),
        ("it", "1 ora, 1 amica, 1 zaino, 1 studente, 1 cane", "un'ora, un'amica, uno zaino, uno studente, un cane"),
        ("it", "Il gruppo 1 vince", "Il gruppo uno vince"),
        ("es", "1 reloj, 1 leche, 21 estudiantes", "un reloj, una leche, veintiún estudiantes"),
        ("es", "La opción 1 permite; la comida 1 vez", "La opción uno permite; la comida una vez"),
        ("es", "la habitación 201, 201 camas", "la habitación doscientos uno, doscientas una camas"),
        ("nl", "1 hond, 101 kinderen", "één hond, honderdéén kinderen"),
        ("en", "1 room, 101 dogs", "one room, one hundred and one dogs"),
        ("hi", "1 लड़का, 5 किताबें", "एक लड़का, पाँच किताबें"),
        ("ar", "و120 شخصا، و1995", "ومائة وعشرون شخصا، وألف وتسعمائة وخمسة وتسعون"),
    ],
)
def test_a_number_agrees_with_its_noun(language: str, written: str, spoken: str) -> None:
    assert normalize(written, language).text == spoken


@pytest.mark.parametrize(
    ("language", "noun"),
    [("en", "qorb"), ("de", "Qorb"), ("fr", "qorb"), ("es", "qorb"), ("it", "qorb"), ("pt", "qorb"), ("nl", "qorb")],
)
def test_no_digit_is_left_beside_a_noun_that_nobody_knows(language: str, noun: str) -> None:
    said = normalize(", ".join(f"{number} {noun}" for number in (1, 2, 21, 31, 101, 1001, 2002)), language).text
    assert re.search(r"\d", said) is None
