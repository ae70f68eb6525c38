"""What is judged: the codec alone, nano, clones, and controls that must fail.

A system is a function from a case to what it says.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.quality.acoustics import SAMPLE_RATE
from benchmarks.quality.cases import Case
from benchmarks.random_checkpoint import random_tensor
from voxtral.errors import GenerationError
from voxtral.loading.checkpoint import open_checkpoint
from voxtral.loading.files import PARAMS_FILE, TOKENIZER_FILE, VOICE_FOLDER, WEIGHTS_FILE
from voxtral.tts import VoxtralTTS
from voxtral.voices.prompt import VoicePrompt

CONTROLS_OF_SOUND = ("swapped codes", "reference echoed")
"""Controls that are made of the teacher's own speech."""

_ACOUSTIC = slice(1, None)  # rows of codes [K, T]


@dataclass(frozen=True, eq=False)
class Spoken:
    """What a system said.

    Attributes:
        samples: [S] float32 at 24 kHz; empty if there is nothing.
        num_retries: segments that were made again because the first attempt failed.
        has_failed: it failed even so.
        compute_s: seconds of work, where they are known.
    """

    samples: np.ndarray
    num_retries: int = 0
    has_failed: bool = False
    compute_s: float = 0.0


System = Callable[[Case], Spoken]


@dataclass(eq=False)
class Narrator:
    """A model with its settings; remembers the semantic codes that it has seen.

    Attributes:
        tts: the model.
        sampling: guidance_scale, noise_scale, num_euler_steps where they differ from the checkpoint's.
        seed: of the run; every sentence gets its own from it.
    """

    tts: VoxtralTTS
    sampling: dict[str, Any] = field(default_factory=dict)
    seed: int = 1
    used_codes: set[int] = field(default_factory=set)

    def codec_copy(self, case: Case) -> Spoken:
        """Encode and decode the teacher's utterance."""
        codes = self._encode(case)
        self.used_codes.update(codes[0].tolist())
        return self._decode(codes, case)

    def semantic_copy(self, case: Case) -> Spoken:
        """The same with every acoustic code at its middle level: what the semantic code carries alone."""
        codes = self._encode(case).clone()
        codes[_ACOUSTIC] = self.tts.config.codebooks.acoustic_size // 2
        return self._decode(codes, case)

    def swapped_copy(self, case: Case) -> Spoken:
        """The same with the frames in another order; a control."""
        codes = self._encode(case)
        order = np.random.default_rng(self.seed + case.number).permutation(codes.shape[1])
        return self._decode(codes[:, torch.from_numpy(order)], case)

    def speak(
        self, case: Case, *, text: str | None = None, voice: VoicePrompt | None = None, max_frames: int | None = None
    ) -> Spoken:
        """Speak the text of a case in its preset, or another text, or in another voice."""
        options = {"voice": voice or case.voice, "seed": self.seed + case.number, "max_frames": max_frames}
        return self.say(case.text if text is None else text, case.language, **options)

    def say(self, text: str, language: str, **options: Any) -> Spoken:
        """Speak; a failure is a result, with what was made of it."""
        try:
            audio = self.tts.synthesize(text, language, **options, **self.sampling)
        except GenerationError as error:
            made = error.audio if error.audio is not None else np.zeros(0, np.float32)
            return Spoken(made, num_retries=1, has_failed=True)
        stats = audio.stats
        return Spoken(
            audio.samples,
            num_retries=stats.num_retries if stats else 0,
            compute_s=stats.compute_s if stats else 0.0,
        )

    def _encode(self, case: Case) -> Tensor:
        return self.tts.encode((case.sound, SAMPLE_RATE))

    def _decode(self, codes: Tensor, case: Case) -> Spoken:
        # Frames are whole: what goes beyond the original is padding.
        return Spoken(self.tts.decode(codes).samples[: len(case.sound)])


def clone_system(narrator: Narrator, reference: Callable[[str, str], np.ndarray]) -> System:
    """Speak in voices that are cloned from a clip; each is cloned once.

    Args:
        narrator: speaks.
        reference: (language, voice) to [S] float32 at 24 kHz.
    """
    voices: dict[tuple[str, str], VoicePrompt] = {}

    def speak(case: Case) -> Spoken:
        key = (case.language, case.voice)
        if key not in voices:
            voices[key] = narrator.tts.create_voice((reference(*key), SAMPLE_RATE), name=case.voice)
        return narrator.speak(case, voice=voices[key])

    return speak


def shuffle_words(sentences: Sequence[str], seed: int) -> list[str]:
    """Deal the words of all sentences anew; every sentence keeps its number of words."""
    split = [sentence.split() for sentence in sentences]
    pool = [word for words in split for word in words]
    random.Random(seed).shuffle(pool)
    dealt = iter(pool)
    return [" ".join(next(dealt) for _ in words) for words in split]


def control_systems(
    narrator: Narrator,
    random_narrator: Narrator,
    cases: Sequence[Case],
    reference: Callable[[str, str], np.ndarray],
    *,
    has_sound: bool = True,
) -> dict[str, System]:
    """Make the systems that must not pass.

    Args:
        narrator: the model that is judged.
        random_narrator: the same sizes with random weights.
        cases: the cases that the controls will get.
        reference: (language, voice) to a clip of the voice, to be echoed.
        has_sound: whether the teacher can be heard; two of the controls are made of its speech.
    """
    shuffled: dict[tuple[str, int], str] = {}
    constant: dict[str, str] = {}
    for language in {case.language for case in cases}:
        of_language = [case for case in cases if case.language == language]
        texts = shuffle_words([case.text for case in of_language], narrator.seed)
        shuffled |= {(language, case.number): text for case, text in zip(of_language, texts, strict=True)}
        # A sentence that none of the cases has, so that no case gets its own text.
        constant[language] = of_language[-1].wrong_text

    def say_shuffled(case: Case) -> Spoken:
        return narrator.speak(case, text=shuffled[case.language, case.number])

    def say_constant(case: Case) -> Spoken:
        return narrator.speak(case, text=constant[case.language])

    def say_random(case: Case) -> Spoken:
        # Noise never ends by itself; twice the right length is failure enough.
        frame_rate = random_narrator.tts.config.frame_rate
        return random_narrator.speak(case, max_frames=round(2 * case.seconds * frame_rate))

    def echo(case: Case) -> Spoken:
        return Spoken(reference(case.language, case.voice))

    systems: dict[str, System] = {
        "shuffled text": say_shuffled,
        "swapped codes": narrator.swapped_copy,
        "constant text": say_constant,
        "random weights": say_random,
        "reference echoed": echo,
    }
    return {name: system for name, system in systems.items() if has_sound or name not in CONTROLS_OF_SOUND}


def write_random_copy(source: Path, target: Path, seed: int) -> None:
    """Copy a checkpoint folder with every tensor drawn anew, in the same shapes."""
    tensors = open_checkpoint(source).tensors
    target.mkdir(parents=True, exist_ok=True)
    for name in (PARAMS_FILE, TOKENIZER_FILE):
        shutil.copyfile(source / name, target / name)
    shutil.copytree(source / VOICE_FOLDER, target / VOICE_FOLDER, dirs_exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    drawn = {name: random_tensor(name, tuple(entry.shape), generator) for name, entry in tensors.items()}
    save_file(drawn, target / WEIGHTS_FILE)
