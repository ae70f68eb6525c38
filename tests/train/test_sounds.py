"""Sounds: what is written in two ways is one, what tells words apart stays two, and times never go back."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.phonemes import SYMBOLS, is_sound
from train.sounds import SOUNDS, Sounds, name_sounds
from train.texts import LANGUAGES

PHONEMES = Sounds(SOUNDS, {})
NAMES = {number: name for name, number in SOUNDS.items()}


def sounds_of(symbols: str, language: str) -> str:
    """Spell symbols without times."""
    return " ".join(NAMES[number] for number in PHONEMES.spell([(0.0, symbol) for symbol in symbols], language))


@pytest.mark.parametrize(
    ("language", "one", "other"),
    [
        ("en", "bˈɜɹdz", "bɜːdz"),
        ("en", "fˈɔɹ ɡˌOɪŋ", "foːɹɡoʊɪŋ"),
        ("en", "lˈɪTᵊl, ˈʌðəɹ wˈɑntᵻd!", "lɪɾəlʌðɚwɑːntᵻd"),
        ("pt", "deˈɪʃeˈɪ", "dAʃA"),
        ("ja", "ɡʲɨːɲɨː", "ɡjɯᵝɯᵝnjɯᵝɯᵝ"),
        ("ja", "kʲita ɲiwa", "kitaniβa"),
        ("ja", "joʔʦɨ", "joʦɯ"),
        ("it", "opːˈure", "oppure"),
        ("nl", "ɣˈɪʦ", "xɪts"),
    ],
)
def test_what_teachers_write_in_two_ways_is_the_same(language: str, one: str, other: str) -> None:
    assert sounds_of(one, language) == sounds_of(other, language) != ""


@pytest.mark.parametrize(
    ("language", "one", "other"),
    [
        ("ja", "obasaɴ", "obaːsaɴ"),
        ("fr", "bɔ̃", "bo"),
        ("hi", "kʰaːnaː", "kaːnaː"),
        ("hi", "mẽː", "meː"),
        ("de", "ʃtat", "ʃtɑːt"),
        ("es", "pˈeɾo", "pˈero"),
        ("ja", "kʲaku", "kaku"),
        ("en", "bˈæd", "bˈɛd"),
    ],
)
def test_what_tells_words_apart_is_told_apart(language: str, one: str, other: str) -> None:
    assert sounds_of(one, language) != sounds_of(other, language)


@pytest.mark.parametrize("language", LANGUAGES)
def test_stress_marks_spaces_and_punctuation_are_no_sounds(language: str) -> None:
    assert sounds_of("ˈm,ˌ i? “s”… a.", language) == "m i s a"


@given(st.text(alphabet=sorted(SYMBOLS), max_size=30), st.sampled_from(LANGUAGES))
def test_any_symbols_are_sounds_in_order_and_within_their_time(symbols: str, language: str) -> None:
    timed = [(place / 10, symbol) for place, symbol in enumerate(symbols)]
    assert PHONEMES.spell(timed, language) == PHONEMES.spell([(0.0, symbol) for symbol in symbols], language)
    timed.append((len(symbols) / 10, "_"))
    found = PHONEMES.time(timed, language)
    starts = [start for start, _ in found]
    assert starts == sorted(starts)
    assert all(0 <= start <= len(symbols) / 10 for start in starts)
    assert {name for _, name in found} <= {*SOUNDS, "_"}
    spelled = PHONEMES.spell(timed, language)
    assert all(one != other for one, other in pairwise(spelled))
    assert PHONEMES.labels(timed, 48 * 50 * len(symbols), language).max(initial=0) <= max(SOUNDS.values())


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_symbol_that_sounds_has_a_sound(language: str) -> None:
    silent = {"pt": {"ə", "ᵊ"}, "ja": {"ʔ", "ə", "ᵊ"}}.get(language, set())
    marks = set("ːʰʲ\u0303ᵝ↓→↗↘")
    for symbol in SYMBOLS:
        if is_sound(symbol) and symbol not in marks:
            assert bool(name_sounds(symbol, "", "_", language)) == (symbol not in silent), symbol


def test_numbers_fit_a_byte_and_zero_is_silence() -> None:
    assert sorted(SOUNDS.values()) == list(range(1, len(SOUNDS) + 1))
    assert max(SOUNDS.values()) < 256
