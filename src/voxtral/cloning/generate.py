"""A model speaks to itself: texts in all its voices and languages, kept as codes, to learn an encoder from.

Voices are the scarce thing: besides whole presets there are mixes of two and pieces of one, texts of other languages,
and noise and guidance other than usual. What is said in a shard depends on seed and number alone, so machines that
share a folder agree without talking, and a run goes on where another stopped. Read next: `voxtral.cloning.pairs`.
"""

from __future__ import annotations

import math
import random
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from voxtral.cloning.pairs import Shard, read_shard, write_shard
from voxtral.cloning.texts import LANGUAGES, TextSource, load_texts
from voxtral.config import END_AUDIO, NUM_SPECIAL_CODES, ModelConfig
from voxtral.engine.engine import Engine
from voxtral.engine.noise import SeededNoise
from voxtral.engine.sequence import GenerationHandle, GenerationRequest, GenerationTrace
from voxtral.errors import GenerationError, NumericsError, TrainingError
from voxtral.text.prompt import build_prompt
from voxtral.text.tokenizer import SpeechTokenizer
from voxtral.voices.library import VoiceLibrary
from voxtral.voices.prompt import VoicePrompt

# Shares of the items: texts of another language than the voice's, and prompts that are no whole preset.
_CROSS_SHARE, _MIX_SHARE, _PIECE_SHARE = 0.20, 0.20, 0.15
_PIECE_S = (1.0, 3.0)
# Factors on the checkpoint's noise, and what is added to its guidance.
_NOISE_FACTORS, _GUIDANCE_STEPS = (1.0, 1.0, 1.0, 0.7, 1.3), (-0.2, 0.0, 0.2)
_LEAST_GUIDANCE = 1.0

# Frames that an item may take: what goes on longer runs away.
_BASE_S, _PER_CHAR_S = 3.0, 0.25
_MIN_FRAMES = 4
# The same frame for longer than this is a decoder that hangs.
_MAX_REPEATED_S = 1.0

# More under way than are computed side by side, so that nobody waits for the reader.
_IN_FLIGHT = 1.25
# The rest of a shard is written so often; what a killed run loses.
_SECONDS_BETWEEN_WRITES = 60.0
# A model none of whose items is of use is not listened to any longer.
_GIVE_UP_AFTER = 64


@dataclass(frozen=True)
class Item:
    """Something to be said.

    Attributes:
        voice: a preset.
        second: another, whose end follows the beginning of the first; None for one alone.
        piece_frames: only so many frames of the preset are the prompt; None for all.
        piece_place: where in the preset they are, 0 to 1.
        text: what is said.
        noise_factor: on the checkpoint's noise.
        guidance_step: added to the checkpoint's guidance.
        seed: of the noise.
    """

    voice: str
    second: str | None
    piece_frames: int | None
    piece_place: float
    text: str
    noise_factor: float
    guidance_step: float
    seed: int

    @property
    def is_whole(self) -> bool:
        """Whether the prompt is a preset as it is."""
        return self.second is None and self.piece_frames is None


class ItemSource:
    """Chooses what is said, by seed, shard and number alone.

    Args:
        voices: language of each preset.
        seed: of all choices.
        frame_rate: of the model.

    Raises:
        TrainingError: there are no presets, or no texts in any of their languages.
    """

    def __init__(self, voices: Mapping[str, str], seed: int, frame_rate: float) -> None:
        self.voices = dict(sorted(voices.items()))
        self._seed = seed
        self._frame_rate = frame_rate
        spoken = sorted(set(self.voices.values()) & set(LANGUAGES))
        if not spoken:
            raise TrainingError(
                f"the presets of the model speak {', '.join(sorted(set(voices.values()))) or 'nothing'}; there must be "
                f"one that speaks {', '.join(LANGUAGES)}; use a checkpoint with its presets"
            )
        self._texts: dict[str, TextSource] = {language: load_texts(language) for language in spoken}

    def item(self, shard: int, number: int) -> Item:
        """Choose one."""
        draw = random.Random(f"{self._seed}/{shard}/{number}")
        names = list(self.voices)
        voice = names[number % len(names)]
        own = self.voices[voice]
        languages = list(self._texts)
        language = own if own in self._texts and draw.random() >= _CROSS_SHARE else draw.choice(languages)
        text = self._texts[language].draw(draw)
        kind = draw.random()
        second, piece = None, None
        if kind < _MIX_SHARE and len(names) > 1:
            second = draw.choice([name for name in names if name != voice])
        elif kind < _MIX_SHARE + _PIECE_SHARE:
            piece = max(1, round(draw.uniform(*_PIECE_S) * self._frame_rate))
        return Item(
            voice,
            second,
            piece,
            draw.random(),
            text,
            draw.choice(_NOISE_FACTORS),
            draw.choice(_GUIDANCE_STEPS),
            draw.getrandbits(63),
        )


# An item, its number, and its codes [K, T]; None where they are of no use.
Said = tuple[int, Item, Tensor | None]


@dataclass(frozen=True, eq=False)
class SpeakingModel:
    """The parts of a loaded model that speak.

    Attributes:
        config: of the checkpoint.
        tokenizer: of the checkpoint.
        voices: of the checkpoint.
        engine: that speaks.
    """

    config: ModelConfig
    tokenizer: SpeechTokenizer
    voices: VoiceLibrary
    engine: Engine

    def submit(self, item: Item) -> tuple[GenerationHandle, GenerationTrace]:
        """Start an item."""
        config, voice = self.config, self.voices.load(item.voice)
        rows = _rows(item, voice, None if item.second is None else self.voices.load(item.second))
        prompt = build_prompt(self.tokenizer, item.text, len(rows))
        budget = math.ceil((_BASE_S + _PER_CHAR_S * len(item.text)) * config.frame_rate)
        budget = max(1, min(budget, config.backbone.max_seq_len - len(prompt.token_ids)))
        generation, trace = config.generation, GenerationTrace(is_brief=True)
        request = GenerationRequest(
            prompt=prompt,
            voice_rows=rows,
            noise=SeededNoise(item.seed, 0, config.codebooks.num_acoustic),
            noise_key=(item.seed, 0),
            guidance_scale=max(_LEAST_GUIDANCE, generation.guidance_scale + item.guidance_step),
            noise_scale=generation.noise_scale * item.noise_factor,
            num_euler_steps=generation.num_euler_steps,
            max_frames=budget,
            voice_key=voice.key if item.is_whole else None,
            is_voice_stored=item.is_whole,
            max_buffered_frames=budget,
        )
        return self.engine.submit(request, trace=trace), trace


def _rows(item: Item, voice: VoicePrompt, second: VoicePrompt | None) -> Tensor:
    """Lay out the prompt of an item: frames, and the row that closes them."""
    frames, closing = voice.rows[:-1], voice.rows[-1:]
    if second is not None:
        other = second.rows[:-1]
        return torch.cat((frames[: max(1, len(frames) // 2)], other[len(other) // 2 :], closing))
    if item.piece_frames is not None:
        start = int(item.piece_place * max(0, len(frames) - item.piece_frames + 1))
        return torch.cat((frames[start : start + item.piece_frames], closing))
    return voice.rows


@dataclass(frozen=True)
class GenerationProgress:
    """A moment of the speaking.

    Attributes:
        shard: its number.
        frames: of it, so far.
        made: frames since this process began.
        refused: items that were of no use since then.
        elapsed_s: seconds since then.
    """

    shard: int
    frames: int
    made: int
    refused: int
    elapsed_s: float


class ShardMaker:
    """Makes shards, one after the other.

    Args:
        model: that speaks.
        source: of what it says.
        folder: of the shards.
        on_progress: told of each item.
        should_stop: asked before each item; then what is there is written and no more is made.
    """

    def __init__(
        self,
        model: SpeakingModel,
        source: ItemSource,
        folder: Path,
        on_progress: Callable[[GenerationProgress], None] = lambda progress: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._model = model
        self._source = source
        self._folder = folder
        self._tell = on_progress
        self._should_stop = should_stop
        self._started = time.monotonic()
        self._made = self._refused = 0

    def make(self, number: int, num_frames: int) -> bool:
        """Bring a shard to a number of frames; False if it was told to stop before.

        Raises:
            TrainingError: a shard that is there is damaged, the disk refuses, or the model says nothing of use.
            EngineError: the engine failed.
        """
        books = self._model.config.codebooks
        voices = tuple(self._source.voices)
        shard = read_shard(self._folder, number, books) or Shard.empty(books.num_acoustic, voices)
        if shard.voices != voices:
            raise TrainingError(
                f"shard {number} in {self._folder} has other voices than the model; choose another --work"
            )
        said = self._say(number, shard.next_item)
        try:
            while shard.num_frames < num_frames and not self._should_stop():
                shard = self._add(shard, said, num_frames, number)
                write_shard(self._folder, number, shard)
        finally:
            said.close()
        return shard.num_frames >= num_frames

    def _add(
        self, shard: Shard, said: Iterator[tuple[int, Item, Tensor | None]], num_frames: int, number: int
    ) -> Shard:
        """Add items for a while."""
        codes: list[Tensor] = []
        speakers: list[int] = []
        letters: list[int] = []
        frames, next_item = shard.num_frames, shard.next_item
        stop = time.monotonic() + _SECONDS_BETWEEN_WRITES
        while frames < num_frames and time.monotonic() < stop and not self._should_stop():
            index, item, spoken = next(said)
            next_item = index + 1
            if spoken is None:
                self._refused += 1
                if not self._made and self._refused >= _GIVE_UP_AFTER:
                    raise TrainingError(
                        f"none of {self._refused} texts was said to the end; an encoder is learned from speech; see "
                        "what voxtral doctor says of the model"
                    )
                continue
            codes.append(spoken)
            speakers.append(shard.voices.index(item.voice) if item.is_whole else -1)
            letters.append(len(item.text))
            frames += spoken.shape[1]
            self._made += spoken.shape[1]
            elapsed = time.monotonic() - self._started
            self._tell(GenerationProgress(number, frames, self._made, self._refused, elapsed))
        return shard.with_items(codes, speakers, letters, next_item)

    def _say(self, shard: int, first: int) -> Generator[Said, None, None]:
        """Say items in order, many side by side; None for what is of no use."""
        limit = math.ceil(self._model.engine.max_batch * _IN_FLIGHT)
        waiting: deque[tuple[int, Item, GenerationHandle, GenerationTrace]] = deque()
        index = first
        try:
            while True:
                while len(waiting) < limit:
                    item = self._source.item(shard, index)
                    waiting.append((index, item, *self._model.submit(item)))
                    index += 1
                number, item, handle, trace = waiting.popleft()
                yield number, item, self._codes(handle, trace)
        finally:
            for _, _, handle, _ in waiting:
                handle.cancel()

    def _codes(self, handle: GenerationHandle, trace: GenerationTrace) -> Tensor | None:
        """Wait for an item; [K, T] of one that ended by itself and did not hang."""
        try:
            for _ in handle.chunks():
                pass
        except (GenerationError, NumericsError):
            return None
        if handle.stop != "end" or len(trace.audio_tokens) <= _MIN_FRAMES:
            return None
        tokens = torch.stack([frame.cpu() for frame in trace.audio_tokens[:-1]]).long()
        longest = _longest_repeat(tokens) / self._model.config.frame_rate
        if bool((tokens <= END_AUDIO).any()) or longest > _MAX_REPEATED_S:
            return None
        return (tokens - NUM_SPECIAL_CODES).T


def _longest_repeat(frames: Tensor) -> int:
    """Count the frames [T, K] of the longest run that are all the same."""
    longest = run = 1
    for is_same in (frames[1:] == frames[:-1]).all(1).tolist():
        run = run + 1 if is_same else 1
        longest = max(longest, run)
    return longest
