"""Text to token ids, through mistral-common and the checkpoint's own tekken.json.

Knows the special tokens of a speech prompt and nothing of voices or tensors. Read next: `text.prompt`.
"""

# pyright: standard
# (mistral-common's classes are generic over types that it does not name)

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from voxtral.errors import CheckpointError, TokenizerMissingError


@dataclass(frozen=True)
class PromptTokens:
    """Ids of the special tokens of a speech prompt, under mistral-common's names."""

    bos: int
    audio: int
    begin_audio: int
    text_to_audio: int  # [NEXT_AUDIO_TEXT]
    audio_to_text: int  # [REPEAT_AUDIO_TEXT]


@dataclass(frozen=True)
class SpeechTokenizer:
    """The checkpoint's tokenizer, reduced to what speech needs."""

    tokens: PromptTokens
    vocab_size: int
    voice_rows: Mapping[str, int]  # rows of each preset, as the tokenizer file states them
    _encode: Callable[[str], list[int]] = field(repr=False)

    def encode(self, text: str) -> list[int]:
        """Tokenize as it stands: no stripping, no normalising; markup of special tokens is plain text."""
        return self._encode(text)


def load_tokenizer(path: Path) -> SpeechTokenizer:
    """Read tekken.json.

    Raises:
        TokenizerMissingError: mistral-common is not installed.
        CheckpointError: the file is missing, unreadable or has no audio section.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} is missing; a checkpoint folder needs it; download the checkpoint again")
    try:
        from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
    except ImportError as error:
        raise TokenizerMissingError(
            "mistral-common is not installed; it turns text into tokens; pip install mistral-common"
        ) from error
    try:
        instruct: Any = MistralTokenizer.from_file(str(path)).instruct_tokenizer
        audio: Any = instruct.audio_encoder
        if audio is None:
            raise ValueError("it has no audio section")
        ids = audio.special_ids
        if ids.text_to_audio is None or ids.audio_to_text is None:
            raise ValueError("it lacks [NEXT_AUDIO_TEXT] or [REPEAT_AUDIO_TEXT]")
        tokenizer: Any = instruct.tokenizer
        tokens = PromptTokens(
            bos=tokenizer.bos_id,
            audio=ids.audio,
            begin_audio=ids.begin_audio,
            text_to_audio=ids.text_to_audio,
            audio_to_text=ids.audio_to_text,
        )
        vocab_size = int(tokenizer.n_words)
        rows: dict[str, int] = dict(audio.audio_config.voice_num_audio_tokens or {})
    # mistral-common raises whatever its parsers raise; all of it means that this file is no good.
    except Exception as error:
        raise CheckpointError(
            f"{path} is no tokenizer for speech ({type(error).__name__}: {error}); it must be the checkpoint's own "
            "tekken.json; download the checkpoint again"
        ) from error

    def encode(text: str) -> list[int]:
        return list(tokenizer.encode(text, bos=False, eos=False))

    return SpeechTokenizer(tokens=tokens, vocab_size=vocab_size, voice_rows=rows, _encode=encode)
