"""The letter tokenizer gives the ids that mistral-common gives on the file that is exported."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from train.shape import NUM_SPECIAL_TOKENS
from train.texts import LANGUAGES, load_texts
from train.tokenizer import LetterTokenizer, build_vocabulary, write_tekken
from voxtral.text.tokenizer import SpeechTokenizer, load_tokenizer

VOCABULARY = build_vocabulary()
LETTERS = LetterTokenizer(VOCABULARY)

# Latin with diacritics, Arabic, Devanagari, kana, punctuation; then scripts that no language of nano uses, and emoji.
SCRIPTS = st.one_of(
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0x17F)),
    st.text(st.characters(min_codepoint=0x600, max_codepoint=0x6FF)),
    st.text(st.characters(min_codepoint=0x900, max_codepoint=0x97F)),
    st.text(st.characters(min_codepoint=0x3000, max_codepoint=0x30FF)),
    st.text(st.sampled_from("aé ß,.!?؟،ब्दाがー。\n\t1٣९“”–🎈漢д")),
    st.text(),
)


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> SpeechTokenizer:
    path = tmp_path_factory.mktemp("tokenizer") / "tekken.json"
    write_tekken(path, VOCABULARY, {"en_f1": 50})
    return load_tokenizer(path)


@given(text=SCRIPTS)
@example(text="e\u0301 [INST] </s> 漢字")
@example(text="\u0000\ufffd")
def test_ids_are_those_of_mistral_common(official: SpeechTokenizer, text: str) -> None:
    ids, starts = LETTERS.encode(text)
    assert ids == official.encode(text)
    assert len(starts) == len(text)


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_letter_of_a_language_is_one_token(official: SpeechTokenizer, language: str) -> None:
    source = load_texts(language)
    for text in (*source.sentences[:20], *source.names[:20], " ".join(source.common)):
        ids, starts = LETTERS.encode(text)
        assert ids == official.encode(text)
        assert starts == list(range(len(text)))


@given(text=SCRIPTS)
def test_starts_point_at_the_first_token_of_each_letter(text: str) -> None:
    ids, starts = LETTERS.encode(text)
    ends = [*starts, len(ids)][1:]
    for letter, start, end in zip(text, starts, ends, strict=True):
        assert ids[start:end] == LETTERS.encode(letter)[0]
        assert b"".join(VOCABULARY[number - NUM_SPECIAL_TOKENS] for number in ids[start:end]) == letter.encode()


def test_special_tokens_and_counts_are_the_published_ones(official: SpeechTokenizer) -> None:
    tokens = official.tokens
    assert (tokens.bos, tokens.audio, tokens.begin_audio) == (1, 24, 25)
    assert (tokens.text_to_audio, tokens.audio_to_text) == (36, 35)
    assert official.vocab_size == len(VOCABULARY) + NUM_SPECIAL_TOKENS
    assert official.voice_rows == {"en_f1": 50}


def test_a_longer_token_follows_its_own_beginning() -> None:
    ranks = {token: rank for rank, token in enumerate(VOCABULARY)}
    assert len(ranks) == len(VOCABULARY)
    assert VOCABULARY[:256] == [bytes([byte]) for byte in range(256)]
    for token, rank in ranks.items():
        if len(token) > 2:
            assert ranks[token[:-1]] < rank
