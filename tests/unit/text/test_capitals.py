"""What is written in capitals to be loud becomes small letters, and nothing else does."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from voxtral.text.capitals import lower_capitals

# Words in capitals of all kinds, beside words that are none.
WORDS = st.sampled_from(
    ["LONGER", "WORD", "A", "I", "J.", "BBC", "XIV", "É", "L'ENTRÉE", "word", "Word", "B2B", "\u01c5", "\u0130"]
)
BETWEEN = st.sampled_from([" ", ". ", "\n\n", "-", '"'])
TEXTS = st.one_of(st.text(), st.lists(st.one_of(WORDS, BETWEEN)).map("".join))


@pytest.mark.parametrize(
    ("language", "text", "spoken"),
    [
        ("en", "PLEASE KEEP THE DOOR CLOSED. IT IS ON.", "Please keep the door closed. It is on."),
        ("fr", "TOUS DOIVENT SIGNER À L'ENTRÉE.", "Tous doivent signer à l'entrée."),
        ("de", "Er rief NICHT ÜBER DIE GLEISE, doch", "Er rief nicht über die gleise, doch"),
        ("en", "NOW I SHALL GO", "Now I shall go"),
        ("it", "LEGGI I LIBRI", "Leggi i libri"),
        ("en", "WE GO UP NOW.", "We go up now."),
        ("en", 'She said "NEVER" twice.', 'She said "never" twice.'),
        ("en", "“NEVER”, she said.", "“Never”, she said."),
        ("en", "THE CIVIL HTML OF LOUIS XIV, J. R. SMITH", "The civil HTML of louis XIV, J. R. Smith"),
    ],
)
def test_loud_words_are_small_and_begin_sentences_as_usual(language: str, text: str, spoken: str) -> None:
    assert lower_capitals(text, language) == spoken


@pytest.mark.parametrize(
    "text",
    [
        "",
        "The BBC, NASA and IBM met in the USA.",
        "F.B.I. and U.S.A.",
        "Model B2B-4000X, HTTPS, MMXIV",
        "Plain words of An Ordinary Title.",
        "قال لا. 中文 ABC",
        "Stop. NO WAY.",
    ],
)
def test_initials_numerals_and_what_is_spelled_stay(text: str) -> None:
    assert lower_capitals(text, "en") is text


def test_what_a_blank_line_or_a_word_parts_is_no_row() -> None:
    assert lower_capitals("AN OX\n\nIS IN", "en") == "AN OX\n\nIS IN"
    assert lower_capitals("AN OX is IN IT", "en") == "AN OX is IN IT"


@given(text=TEXTS, language=st.sampled_from(["en", "de"]))
@example(text="\ud800A BIGGER", language="en")
def test_letters_stay_in_their_places_and_once_is_enough(text: str, language: str) -> None:
    spoken = lower_capitals(text, language)
    assert len(spoken) == len(text)
    assert all(new in (old, old.lower()) for new, old in zip(spoken, text, strict=True))
    assert lower_capitals(spoken, language) == spoken
