"""Ways to make the same frames: the engine, and the plain loops that it is compared with.

    engine     what everybody uses, through `submit`
    eager      our own modules in a plain loop: SDPA, one contiguous cache, all rows in step, the host waits for the
               device once a chunk; no graph, no scheduler, no queue
    stand-in   the shape of the official server's loop, see `benchmarks.stand_in`; not the official server

Each makes streams of one length for one voice and says when each chunk was in the host's memory.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from benchmarks.contiguous import ContiguousCache
from benchmarks.subjects import Subject
from voxtral.bench import StreamTiming, forced_request, run_streams, text_tokens_for
from voxtral.config import NUM_SPECIAL_CODES
from voxtral.engine.engine import Engine
from voxtral.engine.options import EngineOptions
from voxtral.model.codec import CodecState
from voxtral.voices.prompt import VoicePrompt

# One frame first, then growth: the engine's own schedule.
CHUNK_FRAMES = EngineOptions().chunk_frames

# As the official server sends them.
OFFICIAL_CHUNK_FRAMES = (5, 25)


@dataclass(frozen=True)
class Round:
    """Streams that are made together, once.

    Attributes:
        num_streams: how many.
        num_frames: of each.
        chunk_frames: frames of the 1st, 2nd, ... chunk; the last number repeats.
        is_voice_known: whether the voice has spoken before; if not, each stream has a voice of its own.
        offsets_s: when each is due, seconds from the start; None means all at once.
        num_threads: for one operation on a CPU; None means what the product would use.
    """

    num_streams: int
    num_frames: int
    chunk_frames: tuple[int, ...] = CHUNK_FRAMES
    is_voice_known: bool = True
    offsets_s: tuple[float, ...] | None = None
    num_threads: int | None = None


class Loop(Protocol):
    """One way to make frames."""

    def run(self, round_: Round) -> list[StreamTiming]:
        """Make the streams of a round."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


class EngineLoop:
    """The engine; opened anew when a round needs other options.

    Args:
        subject: what speaks.
        options: of EngineOptions, as far as this version has them; None as a value means its default.
    """

    def __init__(self, subject: Subject, options: dict[str, Any]) -> None:
        self._subject = subject
        self._fixed = {name: value for name, value in options.items() if value is not None}
        self._options: EngineOptions | None = None
        self._engine: Engine | None = None
        self._num_voices = 0

    def run(self, round_: Round) -> list[StreamTiming]:
        """Make the streams of a round."""
        engine = self._engine_for(round_)
        config = self._subject.config
        requests = [
            forced_request(
                config,
                self._subject.voice if round_.is_voice_known else self._new_voice(),
                num_frames=round_.num_frames,
                text_tokens=text_tokens_for(config),
                seed=seed,
            )
            for seed in range(round_.num_streams)
        ]
        return run_streams(engine, requests, round_.offsets_s)

    def close(self) -> None:
        """Close the engine."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def _engine_for(self, round_: Round) -> Engine:
        num_threads = round_.num_threads or self._subject.num_threads
        options = EngineOptions(chunk_frames=round_.chunk_frames, num_threads=num_threads, **self._fixed)
        if self._engine is None or options != self._options:
            self.close()
            self._engine, self._options = Engine(self._subject.model, options), options
        return self._engine

    def _new_voice(self) -> VoicePrompt:
        """Make a voice that has never spoken: the known one with its reference frames in another order."""
        self._num_voices += 1
        rows = self._subject.voice.rows
        order = torch.randperm(len(rows) - 1, generator=torch.Generator().manual_seed(self._num_voices))
        return VoicePrompt("new", torch.cat((rows[:-1][order], rows[-1:])))


class PlainLoop(ABC):
    """A loop without an engine: all rows start together and have one length."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._model = subject.model

    @torch.inference_mode()
    def run(self, round_: Round) -> list[StreamTiming]:
        """Make the streams of a round.

        Raises:
            ValueError: streams are due at different times.
        """
        if round_.offsets_s is not None:
            raise ValueError("got times for the streams; a plain loop starts all together; use the engine")
        with threads(round_.num_threads or self._subject.num_threads):
            return self._run(round_)

    @abstractmethod
    def _run(self, round_: Round) -> list[StreamTiming]: ...


class EagerLoop(PlainLoop):
    """Our own modules in a plain loop.

    The voice is part of every prompt: this loop has no cache for it.
    """

    def close(self) -> None:
        """Do nothing: nothing is held between rounds."""

    def _run(self, round_: Round) -> list[StreamTiming]:
        model, config, num_rows = self._model, self._model.config, round_.num_streams
        started = time.perf_counter()
        prompts = read_prompts(self._subject, round_)
        cache = ContiguousCache(model, prompts.embeds.shape[1] + round_.num_frames, num_rows)
        schedule = model.acoustic_transformer.make_schedule(config.generation.num_euler_steps)
        guidance = torch.full((num_rows,), config.generation.guidance_scale, device=model.device)
        codec = CodecState.fresh(model.codec)
        hidden = cache.extend(prompts.embeds)[:, -1]
        pending: list[Tensor] = []
        arrivals: list[tuple[float, int]] = []
        for frame in range(round_.num_frames):
            step = model.generate_frame(hidden, prompts.noise[frame], guidance, schedule, may_end=False)
            pending.append(step.audio_tokens)
            is_last = frame + 1 == round_.num_frames
            if is_last or len(pending) == frames_in_chunk(round_.chunk_frames, len(arrivals)):
                codes = torch.stack(pending, dim=-1) - NUM_SPECIAL_CODES  # [B, K, T]
                samples = model.codec(codes, codec, is_last=is_last).cpu()
                arrivals.append((time.perf_counter(), samples.shape[1]))
                pending = []
            if not is_last:
                hidden = cache.extend(model.embed_frames(step.audio_tokens)[:, None])[:, 0]
        return [StreamTiming(started, tuple(arrivals))] * num_rows


@dataclass(frozen=True, eq=False)
class Prompts:
    """What a plain loop starts from, on the device."""

    embeds: Tensor  # [B, P, D]
    noise: Tensor  # [T, B, A], scaled; uploaded at once, so that no step waits for it


def read_prompts(subject: Subject, round_: Round) -> Prompts:
    """Make the same requests as the engine gets, for a loop whose rows are all of one length."""
    model, config = subject.model, subject.config
    requests = [
        forced_request(
            config,
            subject.voice,
            num_frames=round_.num_frames,
            text_tokens=text_tokens_for(config),
            seed=seed,
        )
        for seed in range(round_.num_streams)
    ]
    embeds = [model.embed_prompt(torch.tensor(one.prompt.token_ids), one.voice_rows) for one in requests]
    noise = np.array([[one.noise(frame) for one in requests] for frame in range(round_.num_frames)])
    scaled = torch.from_numpy(noise * np.float32(config.generation.noise_scale))
    return Prompts(torch.stack(embeds), scaled.to(model.device))


@contextmanager
def threads(num_threads: int | None) -> Iterator[None]:
    """Set torch's number of threads within a block; None leaves it."""
    before = torch.get_num_threads()
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def frames_in_chunk(chunk_frames: tuple[int, ...], index: int) -> int:
    """Return the frames of chunk `index`; the last number repeats."""
    return chunk_frames[min(index, len(chunk_frames) - 1)]


def make_loop(name: str, subject: Subject, options: dict[str, Any]) -> Loop:
    """Build a loop by name: engine, eager or stand-in.

    Args:
        name: of the loop.
        subject: what speaks.
        options: for the engine; see EngineLoop.

    Raises:
        ValueError: there is no such loop.
    """
    if name == "engine":
        return EngineLoop(subject, options)
    if name == "eager":
        return EagerLoop(subject)
    if name == "stand-in":
        from benchmarks.stand_in import StandInLoop

        return StandInLoop(subject)
    raise ValueError(f"loop {name!r} is unknown; it must be engine, eager or stand-in")
