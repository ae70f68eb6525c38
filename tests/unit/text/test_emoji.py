"""Emoji by name: in each language, alone and in sequences, set off from the words around them."""

from __future__ import annotations

from importlib.resources import files
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from voxtral.text.dictionary import dictionary_of
from voxtral.text.edits import rewrite
from voxtral.text.emoji import naming_edits
from voxtral.text.language import LANGUAGES
from voxtral.text.normalize import prepare
from voxtral.text.preview import normalize_text
from voxtral.text.ssml import read_ssml

# Parts of sequences in every order, and what stands around them.
ODD = st.text("😀❤🏽👩🚀🏳🇩🇪🏴\U000e0067\U000e007f\u200d\ufe0e\ufe0f\u20e31# .\n!a*", max_size=30)


def named(text: str, language: str = "en") -> str:
    return rewrite(text, naming_edits(text, language)).text


@pytest.mark.parametrize(
    ("language", "name"),
    [
        ("en", "grinning face"),
        ("de", "grinsendes Gesicht"),
        ("fr", "visage rieur"),
        ("es", "cara sonriendo"),
        ("it", "faccina con un gran sorriso"),
        ("pt", "rosto risonho"),
        ("nl", "grijnzend gezicht"),
        ("ar", "وجه بابتسامة عريضة"),
        ("hi", "दाँत दिखाता चेहरा"),
        ("ja", "にっこり笑う"),
    ],
)
def test_every_language_has_names(language: str, name: str) -> None:
    assert named("😀", language) == name


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("I ❤️ pizza.", "I, red heart, pizza."),
        ("Great! 😀 Next one.", "Great! grinning face. Next one."),
        ("Hi😀there", "Hi, grinning face, there"),
        ("Ok 😀", "Ok, grinning face"),
        ("Well, 😀!", "Well, grinning face!"),
        ("(😀)", "(grinning face)"),
        ("✅ Done\n✅ Next", "check mark button, Done\ncheck mark button, Next"),
        ("🍕🍕🍕", "pizza"),
        ("👍🏽👍🏿", "thumbs up"),
        ("🇩🇪🇫🇷", "flag: Germany, flag: France"),
        ("\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", "flag: England"),
        ("👨\u200d👩\u200d👧", "family: man, woman, girl"),
        ("👩🏽\u200d🚀", "woman astronaut"),
        ("🏃\u200d♀️", "woman running"),
        ("🐈\u200d🔥", "cat, fire"),  # a sequence that has no name of its own
        ("🥇", "first place medal"),
        ("1️⃣ first", "1️⃣ first"),  # a key, which keeps its digit
        ("♪ la", "♪ la"),
        ("A © B", "A © B"),
    ],
)
def test_names_are_set_off_from_the_words_around_them(written: str, said: str) -> None:
    assert named(written) == said


def test_marks_of_the_language_part_names() -> None:
    assert named("いいね😀次", "ja") == "いいね、にっこり笑う、次"
    assert named("अच्छा 😀।", "hi") == "अच्छा, दाँत दिखाता चेहरा।"
    assert "،" in named("جميل 😀 ثم", "ar")


@pytest.mark.parametrize("level", ["off", "clean", "auto"])
def test_names_are_said_at_every_level_and_only_if_asked_for(level: Any) -> None:
    said = prepare("Hi 😀", "en", level, emoji="name").normalized
    assert said.text == "Hi, grinning face"
    assert said.source_span(4, 12) == (2, 4)
    usual = prepare("Hi 😀", "en", level).normalized.text
    assert usual == ("Hi" if level == "auto" else "Hi 😀")


def test_names_are_said_in_ssml_too_and_after_the_words_of_a_dictionary() -> None:
    document = read_ssml("<speak>Yes 😀 <sub alias='no'>x</sub></speak>")
    said = prepare("<speak>Yes 😀 <sub alias='no'>x</sub></speak>", "en", "auto", ssml=document, emoji="name")
    assert said.normalized.text == "Yes, grinning face, no"
    words = dictionary_of({"grinning face": "smile"})
    assert prepare("Yes 😀", "en", "auto", dictionary=words, emoji="name").normalized.text == "Yes, smile"


@pytest.mark.parametrize("level", ["off", "clean", "auto"])
def test_the_words_of_a_dictionary_for_an_emoji_are_said_and_final_at_every_level(level: Any) -> None:
    words = dictionary_of({"😀": "B2B", "I ❤️ NY": "I love New York", "love": "hate"})
    said = prepare("Hi 😀. I ❤️ NY, 😀🎉", "en", level, dictionary=words, emoji="name")
    assert said.normalized.text == "Hi B2B. I love New York, B2B, party popper"
    assert [each.kind for each in said.claimed] == ["dictionary"] * 3 + ["emoji"]
    assert prepare("Hi 😀.", "en", level, dictionary=words).normalized.text == "Hi B2B."


def test_a_preview_tells_of_names() -> None:
    found = normalize_text("At 14:30 🥇 wins", "en", emoji="name")
    assert [(edit.kind, edit.spoken) for edit in found.edits] == [
        ("time", "fourteen thirty"),
        ("emoji", ", first place medal, "),
    ]


@given(ODD, st.sampled_from(list(LANGUAGES)))
@example("1*\u20e3", "ja")
def test_naming_never_fails_and_only_once(text: str, language: str) -> None:
    once = named(text, language)
    assert named(once, language) == once
    edits = list(naming_edits(text, language))
    assert all(0 <= edit.start < edit.end <= len(text) for edit in edits)
    assert all(first.end <= second.start for first, second in pairwise(edits))


def test_all_names_together_are_small_and_have_no_digits_left_in_latin_script() -> None:
    folder = files("voxtral.text") / "data" / "cldr" / "emoji"
    assert sum(len((folder / f"{language}.txt.gz").read_bytes()) for language in LANGUAGES) < 300_000
    from voxtral.text.emoji import _load_names  # pyright: ignore[reportPrivateUsage]

    for language in LANGUAGES:
        names = _load_names(language)
        assert len(names) > 1800
        assert all(name.strip() == name and name for name in names.values())
        digits = sum(any(char.isdigit() for char in name) for name in names.values())
        assert digits == 0 or language == "ja"
