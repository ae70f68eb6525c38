"""Whose voices are copied when ways to make codes are compared: people in clips of a user, or the model's presets.

A preset is an easy voice: it is one that the model knows, and its clip was made by the very decoder. People are the
test.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from torch import Tensor

from voxtral.audio.read import read_audio
from voxtral.audio.reference import read_reference
from voxtral.cloning.codes import codes_of_rows
from voxtral.cloning.options import MAX_SEARCHED_S
from voxtral.cloning.search import Call
from voxtral.cloning.talk import Line, Talker, sentences_for
from voxtral.disk import why
from voxtral.errors import OptionError, ReferenceAudioError
from voxtral.types import Voice
from voxtral.voices.presets import VoiceInfo
from voxtral.voices.prompt import VoicePrompt

if TYPE_CHECKING:
    import numpy.typing as npt

    Samples = npt.NDArray[np.float32]

LEAST_PEOPLE, LEAST_CLIPS = 4, 2
_SUFFIXES = frozenset({".wav", ".flac"})
# Of a person: the first is copied, and by so many others the voice is known.
_MOST_KNOWN = 8

# Of the frames of a preset, those that must come apart; presets of another layout have none that do.
_LEAST_SHARE = 0.9

# Noise of the sentences by which voices are known, apart from that of those that are judged.
_KNOWN_NUMBER = 10_000


@dataclass(frozen=True, eq=False)
class Subject:
    """A voice that is copied.

    Attributes:
        name: of the preset; of a person a number, for a name says who it is.
        language: that is spoken.
        reference: [S] float32, the clip that the codes are to sound like, at the model's rate.
        known: [S] float32 each, other speech of the voice.
        codes: [K, T] int64, of which the clip was made; None for people.
        voice: the preset's own rows; None for people.
    """

    name: str
    language: str
    reference: Samples
    known: tuple[Samples, ...]
    codes: Tensor | None = field(default=None, repr=False)
    voice: VoicePrompt | None = field(default=None, repr=False)


@dataclass(frozen=True, eq=False)
class Preset:
    """A preset of the model.

    Attributes:
        name: of the preset.
        language: that it speaks.
        voice: its rows.
        codes: [K, T] int64, those that its rows are made of, or of a sentence of its, where they do not come apart.
        is_true: whether they are those of the rows.
        sound: [S] float32, what they decode to.
    """

    name: str
    language: str
    voice: VoicePrompt = field(repr=False)
    codes: Tensor = field(repr=False)
    is_true: bool
    sound: Samples = field(repr=False)


class Voices(Protocol):
    """What is asked of `voxtral.voices.library.VoiceLibrary`."""

    def describe(self) -> tuple[VoiceInfo, ...]:
        """List the presets."""
        ...

    def load(self, voice: Voice) -> VoicePrompt:
        """Find a preset by name."""
        ...


@dataclass(frozen=True)
class PersonFiles:
    """The clips of a person: the one that is copied, and those by which the voice is known."""

    reference: Path
    known: tuple[Path, ...]


def find_people(folder: Path) -> list[PersonFiles]:
    """List the clips of a folder of folders, one for each person.

    Raises:
        OptionError: it cannot be listed, or has fewer than four people with two clips.
    """
    try:
        folders = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        clips = {
            person: sorted(path for path in person.iterdir() if path.suffix.lower() in _SUFFIXES and path.is_file())
            for person in folders
        }
    except (OSError, ValueError) as error:
        raise OptionError(
            f"--clips: {folder} cannot be listed ({why(error)}); it must be a folder with one folder for each person; "
            "name another"
        ) from error
    people = [
        PersonFiles(paths[0], tuple(paths[1 : 1 + _MOST_KNOWN]))
        for paths in clips.values()
        if len(paths) >= LEAST_CLIPS
    ]
    if len(people) < LEAST_PEOPLE:
        raise OptionError(
            f"--clips: {folder} has {len(people)} folders with {LEAST_CLIPS} clips or more (.wav or .flac), of "
            f"{len(folders)} folders; it must have {LEAST_PEOPLE} people or more: add some"
        )
    return people


def read_people(people: Sequence[PersonFiles], sample_rate: int, language: str) -> list[Subject]:
    """Read clips: the first as a voice is made of it, the others as they are.

    Raises:
        ReferenceAudioError: one cannot be read, or holds no voice; the message names it.
    """
    subjects: list[Subject] = []
    for number, person in enumerate(people, 1):
        path = person.reference
        try:
            reference = read_reference(path, sample_rate=sample_rate, max_s=MAX_SEARCHED_S).samples
            known: list[Samples] = []
            for path in person.known:
                known.append(np.asarray(read_audio(path, sample_rate=sample_rate), np.float32))
        except ReferenceAudioError as error:
            raise ReferenceAudioError(f"--clips: {path}: {error}") from error
        subjects.append(Subject(f"person {number}", language, reference, tuple(known)))
    return subjects


def read_presets(talker: Talker, voices: Voices, seed: int = 0) -> list[Preset]:
    """Take all presets apart into codes, and decode these; what does not come apart says a sentence instead.

    Raises:
        EngineError: the engine failed.
    """
    found: list[Preset] = []
    for info in voices.describe():
        voice = voices.load(info.name)
        codes, share = take_apart(voice, talker.engine.call, seed)
        is_true = share >= _LEAST_SHARE
        if not is_true:
            (text, *_) = sentences_for(info.language).known
            (said,) = talker.say([Line(text, voice, _KNOWN_NUMBER)], with_codes=True)
            codes = said.codes
        if codes.shape[1] < LEAST_CLIPS:
            continue
        sound = decode(codes, talker.engine.call)
        found.append(Preset(info.name, info.language, voice, codes, is_true, sound))
    return found


def take_apart(voice: VoicePrompt, call: Call, seed: int = 0) -> tuple[Tensor, float]:
    """Find the codes that a voice is made of.

    Returns:
        Codes [K, T] of the frames that came apart, and the share of those.
    """
    codes, came_out = call(lambda model: codes_of_rows(voice.rows[:-1], model, seed=seed))
    if not codes.shape[1]:
        return codes.cpu().clone(), 0.0
    return codes[:, came_out].cpu().clone(), float(came_out.float().mean())


def decode(codes: Tensor, call: Call) -> Samples:
    """Decode codes [K, T] to [S] float32."""
    return call(lambda model: model.decode_codes(codes).float().cpu().numpy())


def make_subjects(
    presets: Sequence[Preset], talker: Talker, lateness: int, on_said: Callable[[], None] = lambda: None
) -> list[Subject]:
    """Make presets voices to be copied; each is known by two sentences that it says.

    Args:
        presets: that are copied.
        talker: says the sentences.
        lateness: samples by which the decoder is late; cut off, for an encoder hears people in time.
        on_said: called after each sentence.

    Raises:
        EngineError: the engine failed.
    """
    lines = [
        Line(text, preset.voice, _KNOWN_NUMBER + number)
        for preset in presets
        for number, text in enumerate(sentences_for(preset.language).known)
    ]
    said = iter(talker.say(lines, on_said))
    subjects: list[Subject] = []
    for preset in presets:
        known = [next(said).samples for _ in sentences_for(preset.language).known]
        reference = np.pad(preset.sound[lateness:], (0, min(lateness, len(preset.sound))))
        subjects.append(
            Subject(
                preset.name,
                preset.language,
                reference,
                tuple(samples for samples in known if len(samples)),
                preset.codes,
                preset.voice,
            )
        )
    return subjects


def spread(count: int, total: int) -> list[int]:
    """Choose so many of a list's places, evenly over it.

    >>> spread(4, 20), spread(4, 3)
    ([0, 5, 10, 15], [0, 1, 2])
    """
    return list(range(total)) if count >= total else [place * total // count for place in range(count)]
