"""What a file of audio was made from, as one digest that a later run compares.

Digests stand in the journals of users: whatever changes one has all of their files made again. They tell apart what is
heard, and know nothing of folders; read next: `voxtral.jobs.run`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from voxtral.disk import ABSENT, UnfitFileError, open_regular
from voxtral.errors import CheckpointError, DictionaryError, RequestError, VoiceError
from voxtral.options import EMOJI, KEEP_TO_TEXT
from voxtral.text.clean import clean_unless_off, is_dressed
from voxtral.text.dictionary import load_dictionary, user_dictionary
from voxtral.text.guess import guess_language
from voxtral.text.ssml import is_ssml
from voxtral.types import SpeechRequest, VoiceBlend
from voxtral.voices.blend import find_blend

# The weights are told apart by samples: reading all of a large model would take longer than a short batch.
_NUM_SAMPLES, _SAMPLE_BYTES = 64, 2**16


# What came after version 0.1.0, and counts where it is not at its default.
_NEWER = ("timestamps", "verify", "max_attempts", "keep_to_text", "ssml", "dictionary", "emoji")


class Digests:
    """Digests of everything that a file of audio is made from.

    Args:
        model_folder: the checkpoint.
        presets: names of its voices.
        format: of the files.

    Raises:
        DictionaryError: the user's own dictionary cannot be read.
    """

    def __init__(self, model_folder: Path, presets: Iterable[str], format: str) -> None:
        self._dictionary = user_dictionary()
        self._fingerprint = fingerprint(model_folder)
        self._presets = frozenset(presets)
        self._format = format
        self._files: dict[str, str] = {}
        self._clips: dict[int, tuple[Any, str]] = {}

    def of(self, request: SpeechRequest) -> str:
        """Digest a request; what it holds of a wrong kind is digested somehow, and refused when it is checked.

        Device, dtype and deadline do not count: a batch may go on elsewhere. Nor does what changes no sample: times, a
        mere report, and whether a text was given in plain characters or is cleaned. What came after version 0.1.0
        counts where it is not at its default.
        """
        text, level = request.text, request.normalize
        if not isinstance(cast(Any, text), str):
            return self._digest(request, None, {})
        written = clean_unless_off(text, level).text
        # A joiner, which cleaning takes away, makes one emoji of several.
        if level == "clean" and request.emoji == EMOJI.default:
            return self._digest(replace(request, text=written, normalize="off"), written, {})
        return self._digest(request, written, {"letters": "plain"} if level == "auto" and is_dressed(text) else {})

    def before_cleaning(self, request: SpeechRequest) -> str:
        """Digest a request as it was done before texts were cleaned, when "off" was the default."""
        level = "off" if request.normalize == "clean" else request.normalize
        return self._digest(replace(request, normalize=level), request.text, {})

    def _digest(self, request: SpeechRequest, written: str | None, more: dict[str, str]) -> str:
        voice, clip = request.voice, request.reference_audio
        values = asdict(replace(request, voice=None, reference_audio=None, deadline_s=None, dictionary=None))
        newer = {name: values.pop(name) for name in _NEWER}
        if newer["ssml"] or (written is not None and is_ssml(request.text)):
            values |= {"ssml": True}
        if dictionaries := self._of_dictionaries(request):
            values |= {"dictionary": dictionaries}
        if newer["verify"] not in ("off", "report"):
            values |= {"verify": newer["verify"], "max_attempts": newer["max_attempts"]}
        if newer["emoji"] != EMOJI.default:
            values |= {"emoji": newer["emoji"]}
        if newer["keep_to_text"] != KEEP_TO_TEXT.default:
            values |= {"keep_to_text": newer["keep_to_text"]}
        values["voice"] = self._of_voice(voice)
        values["reference_audio"] = self._of_clip(clip)
        if request.language is None and voice is None and clip is None and written is not None:
            # It chooses the voice. English is what stands where nothing is sure.
            guess = guess_language(written)
            values |= {"guess": guess} if guess not in (None, "en") else {}
        values |= {**more, "model": self._fingerprint, "format": self._format}
        return hashlib.sha256(json.dumps(values, sort_keys=True, default=_plain).encode()).hexdigest()

    def _of_dictionaries(self, request: SpeechRequest) -> list[str]:
        found = [] if self._dictionary is None else [self._dictionary.digest]
        # What is none is refused when the request is checked.
        with suppress(DictionaryError):
            if request.dictionary is not None:
                found.insert(0, load_dictionary(request.dictionary).digest)
        return found

    def _of_voice(self, voice: Any) -> Any:
        if voice is None or (isinstance(voice, str) and voice in self._presets):
            return voice
        # What is no blend, but looks like one, is refused when the request is checked.
        with suppress(VoiceError):
            blend = voice if isinstance(voice, VoiceBlend) else find_blend(voice, self._presets)
            if blend is not None:
                return [[self._of_voice(part), weight] for part, weight in blend.parts]
        if isinstance(voice, str | os.PathLike):
            return self._of_file(cast("str | os.PathLike[str]", voice))
        from voxtral.voices.prompt import VoicePrompt  # it brings torch, which a program that passes one has loaded

        # Its language chooses how a text is read.
        return f"{voice.key} {voice.metadata.get('language', '')}" if isinstance(voice, VoicePrompt) else repr(voice)

    def _of_clip(self, clip: Any) -> str | None:
        if clip is None:
            return None
        if isinstance(clip, str | os.PathLike):
            return self._of_file(cast("str | os.PathLike[str]", clip))
        if id(clip) not in self._clips:
            is_file = isinstance(clip, bytes | bytearray | memoryview)
            data = bytes(cast(bytes, clip)) if is_file else _samples(clip)
            # With the clip, so that an address that serves as a key is not given to another.
            self._clips[id(clip)] = (clip, hashlib.sha256(data).hexdigest())
        return self._clips[id(clip)][1]

    def _of_file(self, path: str | os.PathLike[str]) -> str:
        name = os.fspath(path)
        if name not in self._files:
            try:
                with open_regular(name) as file:
                    self._files[name] = hashlib.file_digest(file, "sha256").hexdigest()
            # What is no file is refused when the request is checked.
            except (*ABSENT, UnfitFileError, ValueError):
                self._files[name] = hashlib.sha256().hexdigest()
            except OSError as error:
                raise RequestError(
                    f"{name} cannot be read ({error.strerror or error}), so that it is not known whether it has "
                    "changed; check its permissions and the disk, or try again"
                ) from error
        return self._files[name]


def fingerprint(folder: Path) -> str:
    """Digest a checkpoint folder: names and sizes of its files, small ones whole, large ones in samples.

    Raises:
        CheckpointError: a file cannot be read, or is none.
    """
    try:
        return _fingerprint(folder)
    except UnfitFileError as error:
        raise CheckpointError(f"{folder} holds something that {error}; move it away") from error
    except OSError as error:
        raise CheckpointError(
            f"{error.filename or folder} cannot be read ({error.strerror or error}); check its permissions and the disk"
        ) from error


def _fingerprint(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.suffix in (".json", ".safetensors", ".pt")):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder).as_posix()} {size}\n".encode())
        with open_regular(path) as file:
            if size <= _NUM_SAMPLES * _SAMPLE_BYTES:
                digest.update(file.read())
                continue
            for sample in range(_NUM_SAMPLES):
                file.seek(sample * (size - _SAMPLE_BYTES) // (_NUM_SAMPLES - 1))
                digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()


def _samples(clip: Any) -> bytes:
    """Write (samples, rate) as bytes."""
    try:
        samples, rate = clip
        array = np.ascontiguousarray(samples)
    except (TypeError, ValueError):
        return b""
    return f"{array.dtype} {array.shape} {rate}\n".encode() + array.tobytes()


def _plain(value: Any) -> Any:
    """Turn what JSON does not know into what it does: numbers of numpy, and anything else as its text."""
    return cast(Any, value).item() if isinstance(value, np.generic) else repr(value)
