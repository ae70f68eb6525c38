"""Sentences, said in voices that are to be compared: each once, as it comes, so that what goes wrong is seen.

Requests go to the engine and not through the planner, which would make again what does not end.
"""

from __future__ import annotations

import math
import tomllib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from voxtral.config import NUM_SPECIAL_CODES, ModelConfig
from voxtral.engine.noise import SeededNoise
from voxtral.engine.sequence import GenerationHandle, GenerationRequest, GenerationTrace
from voxtral.errors import NumericsError
from voxtral.model.voxtral import VoxtralModel
from voxtral.text.prompt import build_prompt
from voxtral.text.tokenizer import SpeechTokenizer
from voxtral.voices.prompt import VoicePrompt

if TYPE_CHECKING:
    import numpy.typing as npt

    Samples = npt.NDArray[np.float32]

T = TypeVar("T")

# Frames that a sentence may take: generous, for what goes on longer does not end by itself.
_BASE_S, _PER_CHAR_S = 3.0, 0.25

_FALLBACK_LANGUAGE = "en"


@dataclass(frozen=True)
class Sentences:
    """What is said in a language.

    Attributes:
        language: of the sentences.
        said: twenty, to judge by.
        known: two others, by which a voice is known.
    """

    language: str
    said: tuple[str, ...]
    known: tuple[str, ...]


@cache
def _read_sentences() -> dict[str, Sentences]:
    text = files("voxtral.cloning").joinpath("data", "sentences.toml").read_text(encoding="utf-8")
    return {
        language: Sentences(language, tuple(entry["sentences"]), tuple(entry["known"]))
        for language, entry in tomllib.loads(text).items()
    }


def sentences_for(language: str) -> Sentences:
    """Give the sentences of a language; English ones where there are none."""
    known = _read_sentences()
    return known.get(language, known[_FALLBACK_LANGUAGE])


class SpeakingEngine(Protocol):
    """What is asked of `voxtral.engine.engine.Engine`."""

    @property
    def max_batch(self) -> int:
        """Sequences that make frames side by side."""
        ...

    def submit(self, request: GenerationRequest, *, trace: GenerationTrace | None = None) -> GenerationHandle:
        """Start a request."""
        ...

    def call(self, function: Callable[[VoxtralModel], T]) -> T:
        """Run a function of the model between two frames."""
        ...


@dataclass(frozen=True, eq=False)
class Line:
    """A sentence to be said.

    Attributes:
        text: of the sentence.
        voice: that says it.
        number: tells its noise; the same for the same sentence in another voice, so that voices can be compared.
    """

    text: str
    voice: VoicePrompt
    number: int


@dataclass(frozen=True, eq=False)
class Said:
    """A sentence as it was said.

    Attributes:
        samples: [S] float32.
        codes: [K, T] int64, where they were wanted; else empty.
        ended: whether it ended by itself within its budget.
    """

    samples: Samples
    codes: Tensor
    ended: bool


@dataclass(frozen=True, eq=False)
class Talker:
    """Says sentences side by side.

    Attributes:
        config: of the model.
        tokenizer: of the model.
        engine: that speaks.
        seed: of the noise.
    """

    config: ModelConfig
    tokenizer: SpeechTokenizer
    engine: SpeakingEngine
    seed: int = 0

    def say(
        self,
        lines: Sequence[Line],
        on_said: Callable[[], None] = lambda: None,
        *,
        with_codes: bool = False,
    ) -> list[Said]:
        """Say all lines, in their order.

        Args:
            lines: what is said.
            on_said: called after each.
            with_codes: whether the codes are wanted too.

        Raises:
            EngineError: the engine failed.
        """
        waiting = deque(lines)
        under_way: deque[tuple[GenerationHandle, GenerationTrace | None]] = deque()
        said: list[Said] = []
        try:
            while waiting or under_way:
                while waiting and len(under_way) < self.engine.max_batch:
                    trace = GenerationTrace(is_brief=True) if with_codes else None
                    under_way.append((self.engine.submit(self._request(waiting.popleft()), trace=trace), trace))
                handle, trace = under_way.popleft()
                said.append(self._collect(handle, trace))
                on_said()
        finally:
            for handle, _ in under_way:
                handle.cancel()
        return said

    def _request(self, line: Line) -> GenerationRequest:
        generation = self.config.generation
        budget = math.ceil((_BASE_S + _PER_CHAR_S * len(line.text)) * self.config.frame_rate)
        return GenerationRequest(
            prompt=build_prompt(self.tokenizer, line.text, line.voice.rows.shape[0]),
            voice_rows=line.voice.rows,
            noise=SeededNoise(self.seed, line.number, self.config.codebooks.num_acoustic),
            noise_key=(self.seed, line.number),
            guidance_scale=generation.guidance_scale,
            noise_scale=generation.noise_scale,
            num_euler_steps=generation.num_euler_steps,
            max_frames=budget,
            voice_key=line.voice.key,
            # Nobody listens, so that none has to wait for its reader.
            max_buffered_frames=budget,
        )

    def _collect(self, handle: GenerationHandle, trace: GenerationTrace | None) -> Said:
        parts: list[Samples] = []
        try:
            parts += [chunk.samples for chunk in handle.chunks()]
            ended = handle.stop == "end"
        except NumericsError:  # a voice that breaks the model is a finding, and not the end of all
            ended = False
        samples = np.concatenate(parts) if parts else np.zeros(0, np.float32)
        tokens = [] if trace is None else trace.audio_tokens[: -1 if ended else None]
        codes = torch.zeros(self.config.codebooks.num_codebooks, 0, dtype=torch.int64)
        if tokens:
            codes = torch.stack(tokens).T.cpu().to(torch.int64) - NUM_SPECIAL_CODES
        return Said(samples, codes, ended)
