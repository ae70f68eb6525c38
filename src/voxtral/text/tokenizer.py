"""Text to token ids, through mistral-common and the checkpoint's own tekken.json.

Knows the special tokens of a speech prompt and nothing of voices or tensors. Read next: `text.prompt`.
"""

# pyright: standard
# (mistral-common's classes are generic over types that it does not name)

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from voxtral.disk import ABSENT, UnfitFileError, read_regular
from voxtral.errors import CheckpointError, TokenizerMissingError

# The published file has 15 MB, 131 072 tokens and 1000 special ones.
_MAX_FILE_BYTES = 2**26
_MAX_TOKENS, _MAX_SPECIAL_TOKENS, _MAX_PATTERN_CHARS = 2**20, 2**16, 2**14

# Must come back from its tokens, or texts would lose what the file has no rule for; the last part keeps a rule busy
# that tries everything again for each character.
_PROBE = "Hello, world! It's 3.14 \u00e9\u00df \u4f60\u597d \U0001f600\n\t" + "a" * 300 + " " * 300 + "!?"


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
    _piece: Callable[[int], bytes] = field(repr=False)

    def encode(self, text: str) -> list[int]:
        """Tokenize as it stands: no stripping, no normalising; markup of special tokens is plain text."""
        return self._encode(text)

    def pieces(self, token_ids: Iterable[int]) -> tuple[bytes, ...]:
        """Give the bytes that each token of a text stands for; together they are the text in UTF-8."""
        return tuple(self._piece(token_id) for token_id in token_ids)


def load_tokenizer(path: Path) -> SpeechTokenizer:
    """Read tekken.json.

    Raises:
        TokenizerMissingError: mistral-common is not installed.
        CheckpointError: the file is missing, unreadable, has no audio section, or does not tokenize every text.
    """
    _check_file(path)
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
        if tokenizer.decode(tokenizer.encode(_PROBE, bos=False, eos=False)) != _PROBE:
            raise ValueError("its tokens do not cover every text")
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
            f"{path} is no tokenizer for speech ({type(error).__name__}: {str(error)[:200]}); it must be the "
            "checkpoint's own tekken.json; download the checkpoint again"
        ) from error

    def encode(text: str) -> list[int]:
        try:
            return list(tokenizer.encode(text, bos=False, eos=False))
        except ValueError as error:  # a pattern that would try for ever is given up
            raise CheckpointError(
                f"tekken.json has a pattern that fails on this text ({error}); it must be the checkpoint's own file; "
                "download the checkpoint again"
            ) from error

    return SpeechTokenizer(
        tokens=tokens,
        vocab_size=vocab_size,
        voice_rows=rows,
        _encode=encode,
        _piece=lambda token_id: bytes(tokenizer.id_to_byte_piece(token_id)),
    )


def _check_file(path: Path) -> None:
    """Refuse a file whose sizes would cost more than any tokenizer does; whether it is one is for the library to say.

    Raises:
        CheckpointError: it is missing, cannot be read, or is too large in one of its parts.
    """
    try:
        content: Any = json.loads(read_regular(path, max_bytes=_MAX_FILE_BYTES))
        config: Any = content["config"]
        sizes = {
            "tokens": (max(config["default_vocab_size"], len(content["vocab"])), _MAX_TOKENS),
            "special tokens": (
                max(config["default_num_special_tokens"], len(content.get("special_tokens") or ())),
                _MAX_SPECIAL_TOKENS,
            ),
            "characters in its pattern": (len(config["pattern"]), _MAX_PATTERN_CHARS),
        }
    except UnfitFileError as error:
        raise CheckpointError(f"{path} {error}; download the checkpoint again") from error
    except ABSENT as error:
        raise CheckpointError(
            f"{path} is missing; a checkpoint folder needs it; download the checkpoint again"
        ) from error
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read ({error.strerror or error}); check its permissions and the disk, or try again"
        ) from error
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is no tokenizer for speech ({type(error).__name__}); it must be the checkpoint's own tekken.json; "
            "download the checkpoint again"
        ) from error
    for what, (number, most) in sizes.items():
        if number > most:
            raise CheckpointError(
                f"{path} is no tokenizer for speech (it has {number} {what}, and {most} are allowed); it must be the "
                "checkpoint's own tekken.json; download the checkpoint again"
            )
