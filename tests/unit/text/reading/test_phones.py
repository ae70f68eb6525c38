"""Telephone numbers and codes: digit by digit, with a comma between groups; nothing that counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxtral.text.edits import Draft
from voxtral.text.language import LANGUAGES
from voxtral.text.reading.phones import phone_claims
from voxtral.text.reading.reader import read_aloud
from voxtral.text.reading.written import Written


@pytest.mark.parametrize(
    ("language", "written", "spoken"),
    [
        ("en", "Call 555-123-4567.", "Call five five five, one two three, four five six seven."),
        ("en", "+49 30 1234567", "plus four nine, three zero, one two three four five six seven"),
        ("en", "(555) 123-4567 ext. 12", "five five five, one two three, four five six seven, extension one two"),
        ("en", "1-800-GO-U-HAUL", "one, eight hundred, GO U HAUL"),
        ("en", "my SSN is 111-11-1111", "my SSN is one one one, one one, one one one one"),
        ("en", "Call 911 now.", "Call nine one one now."),
        ("en", "My PIN is 1234.", "My PIN is one two three four."),
        ("en", "card 4111 1111 1111 1111", "card four one one one, one one one one, one one one one, one one one one"),
        ("en", "ISBN 0-8044-2957-X", "ISBN zero, eight zero four four, two nine five seven X"),
        ("en", "+91 98765 43210", "plus nine one, nine eight seven six five, four three two one zero"),
        (
            "en",
            "In Australia ring 1300 123 456.",
            "In Australia ring one three zero zero, one two three, four five six.",
        ),
        ("de", "Rufen Sie +49 (0)30 1234 an.", "Rufen Sie plus vier neun, null, drei null, eins zwei drei vier an."),
        ("de", "Tel.: 030/123456-78", "Telefon: null drei null, eins zwei drei vier fünf sechs, sieben acht"),
        ("de", "PLZ 10115", "PLZ eins null eins eins fünf"),
        ("de", "Notruf 112", "Notruf eins eins zwei"),
        ("fr", "Appelez le 01 23 45 67 89.", "Appelez le zéro un, deux trois, quatre cinq, six sept, huit neuf."),
        ("fr", "06.12.34.56.78", "zéro six, un deux, trois quatre, cinq six, sept huit"),
        ("es", "Llame al 800 123 456 ya.", "Llame al ocho cero cero, uno dos tres, cuatro cinco seis ya."),
        ("es", "Mi móvil: 612 34 56 78", "Mi móvil: seis uno dos, tres cuatro, cinco seis, siete ocho"),
        ("es", "91 123 45 67", "nueve uno, uno dos tres, cuatro cinco, seis siete"),
        ("it", "Chiami 312 345 6789 ora.", "Chiami tre uno due, tre quattro cinque, sei sette otto nove ora."),
        ("pt", "(11) 99999-8888", "um um, nove nove nove nove nove, oito oito oito oito"),
        ("pt", "CEP 01310-100", "CEP zero um três um zero, um zero zero"),
        ("nl", "Bel 06 12345678 nu.", "Bel nul zes, één twee drie vier vijf zes zeven acht nu."),
        ("hi", "फ़ोन 98765 43210", "फ़ोन नौ आठ सात छह पाँच, चार तीन दो एक शून्य"),
        ("hi", "मेरा पिन कोड 110023 है", "मेरा पिन कोड एक एक शून्य शून्य दो तीन है"),
        ("ar", "اتصل ٠٥٠ ١٢٣ ٤٥٦٧ الآن", "اتصل صفر خمسة صفر، واحد اثنان ثلاثة، أربعة خمسة ستة سبعة الآن"),
        ("ja", "電話は03-1234-5678です。", "電話は0 3、1 2 3 4、5 6 7 8です。"),
        ("ja", "〒100-0001", "〒1 0 0、0 0 0 1"),
    ],
)
def test_what_is_said(language: str, written: str, spoken: str) -> None:
    assert read_aloud(Draft.of(written), language).text == spoken


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "From 2019-2020, 1914-1918 and 2024-01-15."),
        ("en", "01/02/2024 and 1,234,567"),
        ("en", "We call 1 234 567 people"),
        ("en", "The phone costs $1234567"),
        ("en", "the numbers 1 2 3 4 5 6 7 8"),
        ("de", "Am 01.02.2003 und 01-02-2003"),
        ("de", "Auf dem Konto 500 Euro"),
        ("de", "1.234.567 Menschen"),
        ("fr", "en 2019 100 000 personnes"),
        ("es", "1 000 000 de personas"),
        ("it", "nel 1918-1920"),
        ("pt", "entre 1914-1918"),
        ("nl", "van 2019 tot 2020"),
        ("hi", "2019 में 1000 लोग"),
        ("ar", "عام 2020"),
        ("ja", "2024年に1234円"),
    ],
)
def test_what_is_something_else_is_not_claimed(language: str, text: str) -> None:
    assert list(phone_claims(Written(text, language))) == []


@given(st.text("0123456789 +()-./,:x計Tel", max_size=40), st.sampled_from([*LANGUAGES]))
def test_claims_lie_in_the_text_and_saying_them_twice_changes_nothing(text: str, language: str) -> None:
    for claim in phone_claims(Written(text, language)):
        assert 0 <= claim.start < claim.end <= len(text)
        places = [claim.start, *(place for edit in claim.edits for place in (edit.start, edit.end)), claim.end]
        assert places == sorted(places)
        assert claim.edits
