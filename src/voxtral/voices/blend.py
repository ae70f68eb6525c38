"""What a name such as `a:0.7+b:0.3` means: voices to be blended, and their weights. No file is read, no tensor made.

Names of stored voices have neither "+" nor ":" in them (`voxtral.voices.facts`). A preset or a file whose own name
looks like a blend goes before it. Read next: `voxtral.voices.blend_rows`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Container

from voxtral.errors import VoiceError, quoted
from voxtral.types import MAX_BLENDED_VOICES, VoiceBlend

_WEIGHT = re.compile(r"[0-9]+(\.[0-9]*)?|\.[0-9]+")


def parse_blend(text: str) -> VoiceBlend | None:
    """Read a blend: names with "+" between them, each with ":" and a weight behind it or the weight 1.

    Returns:
        None if it is a plain name.

    Raises:
        VoiceError: a name is missing, a weight is no number, all are 0, or there are too many voices.

    >>> parse_blend("a:0.7+b:.3").parts
    (('a', 0.7), ('b', 0.3))
    >>> parse_blend("a") is None
    True
    """
    if "+" not in text:
        name, _, weight = text.rpartition(":")
        return VoiceBlend(((name.strip(), float(weight)),)) if name.strip() and _WEIGHT.fullmatch(weight) else None
    words = text.split("+", MAX_BLENDED_VOICES)
    if len(words) > MAX_BLENDED_VOICES:
        raise VoiceError(f"the blend names more than {MAX_BLENDED_VOICES} voices; blend {MAX_BLENDED_VOICES} at most")
    return VoiceBlend(tuple(_parse_part(word.strip(), text) for word in words))


def find_blend(voice: object, presets: Container[str]) -> VoiceBlend | None:
    """Read a blend out of what may also be a preset or a voice file of that very name; None if it is no blend.

    Raises:
        VoiceError: as `parse_blend`.
    """
    if not isinstance(voice, str) or voice in presets:
        return None
    is_file = voice.endswith(".safetensors") and os.path.lexists(voice)
    return None if is_file else parse_blend(voice)


def _parse_part(word: str, blend: str) -> tuple[str, float]:
    name, colon, weight = word.rpartition(":")
    if colon and _WEIGHT.fullmatch(weight.strip()):
        word, share = name.strip(), float(weight)
    # The colon of a drive's letter is no weight's.
    elif colon and not word.endswith(".safetensors"):
        raise VoiceError(
            f"the weight {quoted(weight)} in the blend of voices {quoted(blend)} is no number; a weight is 0 or more, "
            "such as 0.7; write a:0.7+b:0.3"
        )
    else:
        share = 1.0
    if not word:
        raise VoiceError(f"the blend of voices {quoted(blend)} lacks a name beside a '+'; write a+b or a:0.7+b:0.3")
    return word, share
