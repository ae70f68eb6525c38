"""The bytes of tokens are those of the text, whatever tokens there are."""

from __future__ import annotations

from importlib.resources import files

import pytest
from mistral_common.tokens.tokenizers.tekken import Tekkenizer

from checkpoints import TINY
from voxtral.align.words import spoken_words, verbatim_sources
from voxtral.loading.locate import locate_model
from voxtral.text.tokenizer import load_tokenizer

TEXT = "Hello there, my friend: 12 Bäume, नमस्ते, 日本語、ok \U0001f600!"


@pytest.mark.parametrize("folder", [TINY, locate_model("nano", allow_download=False)], ids=["tiny", "nano"])
def test_pieces_are_the_text(folder: object) -> None:
    tokenizer = load_tokenizer(folder / "tekken.json")  # type: ignore[operator]
    pieces = tokenizer.pieces(tokenizer.encode(TEXT))
    assert b"".join(pieces) == TEXT.encode()
    assert len(pieces) == len(tokenizer.encode(TEXT))


@pytest.mark.slow  # the file is large; tests/unit/align/test_words.py has tokens of its own
def test_words_are_found_among_the_tokens_of_the_published_kind() -> None:
    tokenizer = Tekkenizer.from_file(str(files("mistral_common").joinpath("data", "tekken_240911.json")))
    pieces = [tokenizer.id_to_byte_piece(token) for token in tokenizer.encode(TEXT, bos=False, eos=False)]
    assert b"".join(pieces) == TEXT.encode()
    words = spoken_words(TEXT, TEXT, verbatim_sources(0, len(TEXT)), pieces)
    assert words.num_tokens < 0.8 * len(TEXT)
    names = [TEXT[word.text_start : word.text_end] for word in words.words]
    assert names[:8] == ["Hello", "there,", "my", "friend:", "12", "Bäume,", "नमस्ते,", "日本"]
    assert "".join(names) == "".join(TEXT.split())
    latest = 0.0
    for word in words.words:
        if word.is_sounding:
            assert latest <= word.first < word.last <= words.num_tokens
            latest = word.last
