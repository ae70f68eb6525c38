"""The voices that a checkpoint brings: their files, languages, descriptions, and which speaks unless one is named.

No tensor is read here. Read next: `voxtral.voices.prompt`, which loads them.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from voxtral.disk import is_file, is_folder
from voxtral.errors import VoiceError, VoiceUnreadableError
from voxtral.loading.files import VOICE_FOLDER

_LANGUAGE_PREFIX = re.compile(r"([a-z]{2})_")


@dataclass(frozen=True)
class VoiceInfo:
    """A preset voice as it is listed."""

    name: str
    language: str
    is_default: bool
    description: str = ""


def list_presets(folder: Path) -> dict[str, Path]:
    """Find the presets of a checkpoint folder, sorted by name.

    Raises:
        VoiceUnreadableError: it cannot be told which there are.
    """
    voices = folder / VOICE_FOLDER
    try:
        names = os.listdir(voices) if is_folder(voices) else []
        paths = sorted(voices / name for name in names if name.endswith((".pt", ".safetensors")))
        return {path.stem: path for path in paths if is_file(path)}
    except OSError as error:
        raise VoiceUnreadableError(
            f"{voices} cannot be read ({error.strerror or error}), which holds the voices of the checkpoint; check its "
            "permissions and the disk, or try again"
        ) from error


def describe_preset(path: Path) -> str:
    """Read the description that a preset in .safetensors carries, else "". No tensor is read.

    A file that is damaged or cannot be read has none either: it is refused when it is chosen, and must not keep others
    from being listed.
    """
    if path.suffix != ".safetensors":
        return ""
    from safetensors import SafetensorError, safe_open

    try:
        with cast(Any, safe_open(path, framework="pt")) as file:  # its stubs have no types
            header: dict[str, str] = file.metadata() or {}
        description = json.loads(header.get("metadata", "{}")).get("description")
    except (SafetensorError, OSError, ValueError, AttributeError, RecursionError):
        return ""
    return description if isinstance(description, str) else ""


def voice_language(name: str, languages: tuple[str, ...]) -> str:
    """Tell the language of a preset by its name: `fr_male` is French, names without a prefix English.

    >>> voice_language("fr_male", ("en", "fr")), voice_language("casual_male", ("en", "fr"))
    ('fr', 'en')
    """
    match = _LANGUAGE_PREFIX.match(name)
    return match.group(1) if match and match.group(1) in languages else "en"


def default_voice(presets: Mapping[str, Path], languages: tuple[str, ...], language: str) -> str:
    """Choose the preset that speaks a language when no voice is named.

    A checkpoint without a preset of that language gives its first English one, or its first.

    Raises:
        VoiceError: the checkpoint has no presets at all.
    """
    if not presets:
        raise VoiceError("this checkpoint has no preset voices; name a saved voice file or give reference audio")
    fitting = [name for name in presets if voice_language(name, languages) == language]
    fitting = fitting or [name for name in presets if voice_language(name, languages) == "en"] or list(presets)
    preferred = [name for name in fitting if name in ("neutral_female", f"{language}_female")]
    return (preferred or fitting)[0]


def describe_presets(presets: Mapping[str, Path], languages: tuple[str, ...]) -> tuple[VoiceInfo, ...]:
    """List the presets of a checkpoint.

    Args:
        presets: as `list_presets` finds them.
        languages: of the checkpoint.
    """
    defaults = {default_voice(presets, languages, code) for code in languages} if presets else set[str]()
    return tuple(
        VoiceInfo(name, voice_language(name, languages), name in defaults, describe_preset(path))
        for name, path in presets.items()
    )
