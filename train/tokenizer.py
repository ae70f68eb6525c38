"""The tokenizer of nano: bytes, and one token for each letter of its languages that has several bytes.

Spelling is learned letter by letter, so nothing longer is merged. The special tokens have the ids of the
published tokenizer. Read next: `train.export`.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from train.shape import NUM_SPECIAL_TOKENS
from train.texts import LANGUAGES, load_texts

# Names of the published tokenizer by id (docs/MODEL.md, "Prompt"); mistral-common refuses a file without them.
# The rest are fillers, as there.
_SPECIAL = {
    0: "<unk>",
    1: "<s>",
    2: "</s>",
    3: "[INST]",
    4: "[/INST]",
    5: "[AVAILABLE_TOOLS]",
    6: "[/AVAILABLE_TOOLS]",
    7: "[TOOL_RESULTS]",
    8: "[/TOOL_RESULTS]",
    9: "[TOOL_CALLS]",
    10: "[IMG]",
    11: "<pad>",
    12: "[IMG_BREAK]",
    13: "[IMG_END]",
    14: "[PREFIX]",
    15: "[MIDDLE]",
    16: "[SUFFIX]",
    17: "[SYSTEM_PROMPT]",
    18: "[/SYSTEM_PROMPT]",
    19: "[TOOL_CONTENT]",
    24: "[AUDIO]",
    25: "[BEGIN_AUDIO]",
    26: "[OUTPUT_AUDIO]",
    34: "[TRANSCRIBE]",
    35: "[REPEAT_AUDIO_TEXT]",
    36: "[NEXT_AUDIO_TEXT]",
}

# Text is split into letters before merging, since no token is longer than one.
_PATTERN = r"[\s\S]"

# Whole alphabets, whether or not a text uses each letter.
_ALPHABETS = (
    "".join(chr(code) for code in range(0xC0, 0x100)),  # Latin with diacritics
    "œŒ¿¡–—‘’“”…«»",
    "".join(chr(code) for code in (*range(0x621, 0x63B), *range(0x641, 0x653))) + "،؛؟",
    "".join(chr(code) for code in (*range(0x901, 0x93A), *range(0x93C, 0x94E), *range(0x958, 0x966))),
    "".join(chr(code) for code in (*range(0x3041, 0x3097), *range(0x30A1, 0x30FB), 0x30FC)) + "。、？！「」・",
)


def build_vocabulary() -> list[bytes]:
    """List the tokens in the order of their ranks: 256 bytes, then letters, each after its own beginning."""
    letters = {letter for alphabet in _ALPHABETS for letter in alphabet}
    for language in LANGUAGES:
        source = load_texts(language)
        for text in (*source.common, *source.names, *source.frames, *source.sentences):
            letters.update(text)
    tokens = [bytes([byte]) for byte in range(256)]
    known = set(tokens)
    for letter in sorted(letters):
        data = letter.encode()
        # Merging works on pairs, so a letter of three bytes needs its first two as a token.
        for length in range(2, len(data) + 1):
            if data[:length] not in known:
                known.add(data[:length])
                tokens.append(data[:length])
    return tokens


def make_tekken(vocabulary: list[bytes], voice_rows: dict[str, int]) -> dict[str, Any]:
    """Write tekken.json.

    Args:
        vocabulary: from `build_vocabulary`.
        voice_rows: rows of each preset.
    """
    return {
        "config": {
            "pattern": _PATTERN,
            "num_vocab_tokens": len(vocabulary),
            "default_vocab_size": len(vocabulary) + NUM_SPECIAL_TOKENS,
            "default_num_special_tokens": NUM_SPECIAL_TOKENS,
            "version": "v7",
        },
        "vocab": [
            {"rank": rank, "token_bytes": base64.b64encode(token).decode(), "token_str": _printable(token)}
            for rank, token in enumerate(vocabulary)
        ],
        "special_tokens": [
            {"rank": rank, "token_str": _SPECIAL.get(rank, f"<SPECIAL_{rank}>"), "is_control": True}
            for rank in range(NUM_SPECIAL_TOKENS)
        ],
        "audio": {
            "sampling_rate": 24000,
            "frame_rate": 12.5,
            "audio_encoding_config": {"num_mel_bins": 128, "hop_length": 160, "window_size": 400},
            "chunk_length_s": 30.0,
            "voice_num_audio_tokens": voice_rows,
        },
    }


def _printable(token: bytes) -> str | None:
    try:
        return token.decode()
    except UnicodeDecodeError:
        return None


def write_tekken(path: Path, vocabulary: list[bytes], voice_rows: dict[str, int]) -> None:
    """Write the file."""
    path.write_text(json.dumps(make_tekken(vocabulary, voice_rows), ensure_ascii=False, indent=0), encoding="utf-8")


class LetterTokenizer:
    """The same ids without mistral-common, and where each letter's tokens begin.

    Raises:
        KeyError: never; every byte is a token.
    """

    def __init__(self, vocabulary: list[bytes]) -> None:
        self._ids = {token: rank + NUM_SPECIAL_TOKENS for rank, token in enumerate(vocabulary)}

    def encode(self, text: str) -> tuple[list[int], list[int]]:
        """Return the ids of a text, and for each letter the index of its first token."""
        ids: list[int] = []
        starts: list[int] = []
        for letter in text:
            starts.append(len(ids))
            ids += self._letter(letter.encode())
        return ids, starts

    def _letter(self, data: bytes) -> list[int]:
        if data in self._ids:
            return [self._ids[data]]
        # The longest beginning that is a token, as merging would find it, then the rest byte by byte.
        for length in range(len(data) - 1, 1, -1):
            if data[:length] in self._ids:
                return [self._ids[data[:length]], *(self._ids[bytes([byte])] for byte in data[length:])]
        return [self._ids[bytes([byte])] for byte in data]
