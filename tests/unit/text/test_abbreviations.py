"""Which points belong to the word before them, without asking for the language."""

from __future__ import annotations

import pytest

from voxtral.text.abbreviations import is_abbreviation


def _is_abbreviation(text: str) -> bool:
    """Ask for the last point of a text, as a word follows it after a space."""
    head, _, following = text.rpartition(". ")
    return is_abbreviation(text, len(head), following, 0)


@pytest.mark.parametrize(
    "text",
    [
        *("So Mr. Smith", "So Frau Dr. Weiß", "So la Sra. Paz", "So il sig. Rossi", "So dhr. Bos", "So Mme. Blanc"),
        *("وصل د. أحمد", "और डॉ. शर्मा"),
        *("pears, etc. and", "Äpfel usw. und", "pere, ecc. e", "peren, enz. en"),
        *("So no. 5", "So Nr. 7", "So pág. 9", "So Oct. 5", "So okt. 5", "So नं. 5"),
        *("È l'Avv. Cassioni", "Selon l’art. 5", "Sono l'Ing. Mengozzi"),
        *("So EE.UU. y", "So J. Sartre", "So z.B. Köln", "So U.S.A. Today"),
        *(
            "Ist l'Avv. Rossi",
            "Selon l’art. 5",
            "nell'art. 12",
            "Dans l'av. Foch",
            "Dr. med. Meyer",
            "der kath. Priester",
        ),
        *("el Lic. Paz", "Ext. 1010", "los párrf. 5", "la N°. 12", "lo psicol. Serenti", "aus dem 1. -3 Jahre"),
        *("am 3. Mai", "am 3. Okt", "so jeder 3. Mann", "so der 2. Band", "so 24. 12", "II. Kapitel"),
    ],
)
def test_a_point_that_belongs_to_its_word(text: str) -> None:
    assert _is_abbreviation(text)


@pytest.mark.parametrize(
    "text",
    [
        *("So it ended. Then", "Come on. Then", "Give it to me. On", "Es ist so. Dann"),
        *("pears, etc. The", "Äpfel usw. Danach", "peren, enz. Dan"),
        *("He said no. Then", "In the U.S.A. They", "In EE.UU. They", "It was 1984. The", "He is 42. She"),
        *("In the U.S. How", "Was macht Phil. Er", "mit dir. Dann", "it led. Then", "a rag. Then", "the vet. Then"),
    ],
)
def test_a_point_that_ends_a_sentence(text: str) -> None:
    assert not _is_abbreviation(text)
