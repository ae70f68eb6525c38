"""The teacher: espeak-ng in process, with the times of its phonemes and words.

espeak-ng (GPL-3) is a tool of the build, found on the system; nothing of it is shipped, and the
runtime never loads it. Install it with the system's packages (`espeak-ng`, or `libespeak-ng1` and
`espeak-ng-data`).
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np

from train.variants import draw_variants, link_data
from voxtral.errors import VoxtralError

_SYNCHRONOUS = 2
_PHONEME_EVENTS = 1
_IPA_NAMES = 2
_UTF8 = 1
_EVENT_END, _EVENT_WORD, _EVENT_PHONEME = 0, 1, 7
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4

# Voices of the teacher for each language of nano.
TEACHER_VOICES = {
    "en": "en-us",
    "fr": "fr",
    "de": "de",
    "es": "es",
    "it": "it",
    "pt": "pt-br",
    "nl": "nl",
    "ar": "ar",
    "hi": "hi",
    "ja": "ja",
}

# Variants that are no plain voices: whispers, croaks, robots and effects.
_UNSUITABLE = (
    "whisper", "croak", "Demonic", "klatt", "robosoft", "UniRobot", "anikaRobot", "Tweaky", "fast", "Storm", "Mr",
    "Gene2",  # Gene, which is held out, at another pitch
)  # fmt: skip


_NUM_MADE, _MADE_SEED = 100, 3


class TeacherError(VoxtralError):
    """espeak-ng is missing or refuses a voice."""

    code = "teacher_failed"


class SilentTextError(TeacherError):
    """A text makes no sound, such as punctuation alone."""

    code = "silent_text"


class _EventId(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


@dataclass(frozen=True)
class Speaker:
    """A voice of the teacher: one of its variants with a pitch (0..99), a rate (words/min) and a pitch range."""

    variant: str
    pitch: int
    rate: int
    range: int = 50


@dataclass(frozen=True, eq=False)
class Utterance:
    """What the teacher said; times in seconds from the first sample."""

    samples: np.ndarray  # [S] int16
    sample_rate: int
    phonemes: tuple[tuple[float, str], ...]  # start, mnemonic
    words: tuple[tuple[float, int, int], ...]  # start, first character, number of characters


class SpeakingTeacher(Protocol):
    """Whoever can say a text; `Teacher` is the real one, tests have another."""

    def say(self, text: str, language: str, speaker: Speaker) -> Utterance:
        """Speak a text.

        Raises:
            SilentTextError: the text makes no sound.
        """
        ...


class Teacher:
    """One espeak-ng per process: the library keeps its state in globals.

    Args:
        in_ipa: phonemes are named in IPA, not by espeak-ng's mnemonics.

    Raises:
        TeacherError: the library is not installed.
    """

    def __init__(self, *, in_ipa: bool = False) -> None:
        self._library = load_espeak()
        self._encoding = "utf-8" if in_ipa else "latin1"
        # The library reads a variant each time that it is asked for, so the folder has to stay as long.
        folder = Path(tempfile.mkdtemp(prefix="nano-teacher-"))
        weakref.finalize(self, shutil.rmtree, folder)
        link_data(_system_data(), folder / "espeak-ng-data", draw_variants(_NUM_MADE, _MADE_SEED))
        self.sample_rate = _initialise(self._library, folder, in_ipa=in_ipa)
        self._parts: list[np.ndarray] = []
        self._phonemes: list[tuple[float, str]] = []
        self._words: list[tuple[float, int, int]] = []
        # Kept in an attribute: the library calls it for as long as it lives.
        self._callback = _Callback(self._receive)
        self._library.espeak_SetSynthCallback(self._callback)

    def _receive(self, samples: ctypes._Pointer[ctypes.c_short], count: int, events: ctypes._Pointer[_Event]) -> int:
        if samples and count > 0:
            self._parts.append(np.ctypeslib.as_array(samples, shape=(count,)).copy())
        index = 0
        while events[index].type != _EVENT_END:
            event = events[index]
            start = event.sample / self.sample_rate
            if event.type == _EVENT_PHONEME:
                raw = ctypes.string_at(ctypes.addressof(event.id), 8)
                self._phonemes.append((start, raw.split(b"\0")[0].decode(self._encoding, "ignore")))
            elif event.type == _EVENT_WORD:
                self._words.append((start, event.text_position - 1, event.length))
            index += 1
        return 0

    def say(self, text: str, language: str, speaker: Speaker) -> Utterance:
        """Speak a text.

        Raises:
            TeacherError: espeak-ng does not know the voice.
            SilentTextError: the text makes no sound.
        """
        voice = f"{TEACHER_VOICES[language]}+{speaker.variant}"
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise TeacherError(f"espeak-ng refuses the voice {voice}; install a complete espeak-ng-data")
        values = ((_RATE, speaker.rate), (_VOLUME, 100), (_PITCH, speaker.pitch), (_RANGE, speaker.range))
        for parameter, value in values:
            self._library.espeak_SetParameter(parameter, value, 0)
        self._parts, self._phonemes, self._words = [], [], []
        data = text.encode() + b"\0"
        self._library.espeak_Synth(data, len(data), 0, 1, 0, _UTF8, None, None)
        if not self._parts:
            raise SilentTextError(f"espeak-ng made no sound for {len(text)} characters in {language}; use another text")
        return Utterance(np.concatenate(self._parts), self.sample_rate, tuple(self._phonemes), tuple(self._words))


def list_variants() -> list[str]:
    """Name the plain voice variants that are installed, sorted, and after them those that are made up.

    Raises:
        TeacherError: the folder of variants is not found.
    """
    folder = _system_data() / "voices" / "!v"
    if not folder.is_dir():
        raise TeacherError(f"{folder} is no folder; the variants must be there; install espeak-ng-data")
    installed = sorted(name for name in os.listdir(folder) if not name.startswith(_UNSUITABLE))
    return installed + list(draw_variants(_NUM_MADE, _MADE_SEED))


@cache
def load_espeak() -> ctypes.CDLL:
    """Load the library and start it on the system's data.

    Raises:
        TeacherError: espeak-ng or its data is not installed.
    """
    name = ctypes.util.find_library("espeak-ng") or "libespeak-ng.so.1"
    try:
        library = ctypes.CDLL(name)
    except OSError as error:
        raise TeacherError(
            f"{name} cannot be loaded ({error}); training needs the teacher; install espeak-ng"
        ) from error
    library.espeak_Info.restype = ctypes.c_char_p
    _initialise(library, None)
    return library


def _initialise(library: ctypes.CDLL, folder: Path | None, *, in_ipa: bool = False) -> int:
    """Start the library on the data below a folder, the system's by default; return its sample rate."""
    path = None if folder is None else os.fsencode(folder)
    rate = library.espeak_Initialize(_SYNCHRONOUS, 500, path, _PHONEME_EVENTS | (_IPA_NAMES if in_ipa else 0))
    if rate <= 0:
        raise TeacherError("espeak-ng finds no data; training needs it; install the package espeak-ng-data")
    return rate


@cache
def _system_data() -> Path:
    """Find the data that the system has; only once, since asking takes the made-up variants from a teacher."""
    library = load_espeak()
    _initialise(library, None)
    path = ctypes.c_char_p()
    library.espeak_Info(ctypes.byref(path))
    return Path((path.value or b"").decode())


@dataclass(frozen=True)
class TeacherSource:
    """Where a stage gets its teacher from, one in each process, and the variants that it has."""

    make: Callable[[], SpeakingTeacher]
    list_variants: Callable[[], list[str]]


ESPEAK = TeacherSource(Teacher, list_variants)
