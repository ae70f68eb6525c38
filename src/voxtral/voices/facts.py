"""What is kept of a voice that a user made, besides its rows, and what such a voice may be called.

No file is read here. Read next: `voxtral.voices.folder`, which finds the files.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from voxtral.errors import VoiceError
from voxtral.text.graphemes import find_invisible

VOICE_ID = re.compile(r"voice_[0-9a-f]{16}")

MAX_NAME_CHARS = 64


@dataclass(frozen=True, kw_only=True)
class VoiceFacts:
    """What is kept of a voice besides its rows; texts are empty where nothing was said.

    Attributes:
        name: how it is called.
        consent: the speaker's, as it was given.
        language: code of the language that it speaks.
        description: for people.
        ref_text: what is said in the clip.
        mime_type: of the clip.
        file_size: of the clip, in bytes.
        duration_s: of the clip, in seconds.
    """

    name: str
    consent: str
    language: str = ""
    description: str = ""
    ref_text: str = ""
    mime_type: str = ""
    file_size: int = 0
    duration_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class StoredVoice(VoiceFacts):
    """A voice in the store.

    Attributes:
        id: made here; the file is called by it.
        created_at: in seconds since 1970.
    """

    id: str
    created_at: int

    def to_metadata(self) -> dict[str, str]:
        """Write the facts as the metadata of a file, which has a place of its own for the name."""
        return {field: str(value) for field, value in asdict(self).items() if field not in ("id", "name")}


def read_metadata(voice_id: str, name: str, metadata: Mapping[str, str]) -> StoredVoice:
    """Read the facts of a voice back.

    Raises:
        KeyError: one is missing.
        ValueError: one is no number, or a text is no text.
        VoiceError: the name breaks a rule.
    """
    "".join((name, *metadata.values())).encode()  # half a character could not be sent to anybody
    duration_s = float(metadata["duration_s"])
    if not math.isfinite(duration_s):
        raise ValueError("the duration is not finite")
    return StoredVoice(
        id=voice_id,
        name=check_name(name),
        consent=metadata["consent"],
        language=metadata["language"],
        description=metadata["description"],
        ref_text=metadata["ref_text"],
        mime_type=metadata["mime_type"],
        file_size=int(metadata["file_size"]),
        duration_s=duration_s,
        created_at=int(metadata["created_at"]),
    )


def check_name(name: str) -> str:
    """Check what a voice may be called, and return it in composed form (NFC) without spaces around it.

    Letters and digits of any script, with their marks, space, dot, underscore and hyphen; 1 to 64 characters, the first
    a letter or digit, and none that nobody sees. Nothing with the form of an id.

    Raises:
        VoiceError: it breaks the rule.

    >>> check_name(" Zoe\u0308 2.0 ")
    'Zoë 2.0'
    """
    kept = unicodedata.normalize("NFC", name).strip()
    if not 1 <= len(kept) <= MAX_NAME_CHARS:
        raise VoiceError(f"the name has {len(kept)} characters; it must have 1 to {MAX_NAME_CHARS}; choose another")
    bad = [char for char in kept if char not in " ._-" and unicodedata.category(char)[0] not in "LNM"]
    if bad or unicodedata.category(kept[0])[0] not in "LN":
        raise VoiceError(
            f"the name has {(bad or kept)[0]!a} in it, or at its start; it must be of letters, digits, spaces and "
            "'._-', and start with a letter or digit; choose another"
        )
    if invisible := find_invisible(kept):
        raise VoiceError(f"the name has {invisible!a} in it, which nobody sees; choose another")
    if VOICE_ID.fullmatch(kept.lower()):
        raise VoiceError("the name has the form of an id; choose another")
    return kept


def fold_name(name: str) -> str:
    """Write a name so that names which differ in case or composition alone are equal."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name.strip()).casefold())
