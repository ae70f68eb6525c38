"""Measuring speech: streams as their readers see them, and what follows from the times of arrival.

`voxtral bench` and the scripts in benchmarks/ measure with this one file. It drives an engine through
`submit` like everybody else, forces the length of each stream, so that random weights are as good as
trained ones, and knows no text: a prompt is so many random tokens.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import torch

from voxtral.config import ModelConfig
from voxtral.engine.noise import SeededNoise
from voxtral.engine.sequence import GenerationHandle, GenerationRequest
from voxtral.text.prompt import prompt_from_text_ids
from voxtral.text.tokenizer import PromptTokens

if TYPE_CHECKING:
    from voxtral.engine.engine import Engine
    from voxtral.voices.prompt import VoicePrompt

# Characters that a second of published speech takes; published figures for 500 characters imply 12.3 to 13.5.
CHARS_PER_AUDIO_SECOND = 12.5

# 500 characters of English in the published tokenizer.
TEXT_TOKENS = 115

# Ids of the two tokens around the text in the published tokenizer; which ids they are changes no time.
_TEXT_TO_AUDIO, _AUDIO_TO_TEXT = 36, 35


@dataclass(frozen=True)
class Spread:
    """What repeated measurements of one quantity gave, in its unit."""

    median: float
    p95: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarise at least one value.

        >>> Spread.of([3.0, 1.0, 2.0]).median
        2.0
        """
        return cls(percentile(values, 50), percentile(values, 95), min(values), max(values), len(values))

    def to_dict(self, scale: float = 1.0) -> dict[str, float]:
        """Give plain values for JSON, multiplied by `scale`."""
        names = ("median", "p95", "low", "high")
        return {name: round_figure(scale * getattr(self, name)) for name in names} | {"count": self.count}


@dataclass(frozen=True)
class StreamTiming:
    """One stream as its reader saw it; all times are seconds of one clock.

    Attributes:
        due_at: when the request was due; what a late submission loses counts.
        arrivals: time and number of samples of each chunk, in order.
    """

    due_at: float
    arrivals: tuple[tuple[float, int], ...]

    @property
    def ttfa_s(self) -> float:
        """Seconds until the first chunk was in its reader's hands."""
        return self.arrivals[0][0] - self.due_at

    @property
    def finished_at(self) -> float:
        """When the last chunk came."""
        return self.arrivals[-1][0]

    @property
    def num_samples(self) -> int:
        """Samples of all chunks."""
        return sum(count for _, count in self.arrivals)

    def frame_times_s(self, samples_per_frame: int) -> list[float]:
        """Seconds per frame of each chunk but the first, which waited for the prompt."""
        return [(now - before) * samples_per_frame / count for (before, _), (now, count) in pairwise(self.arrivals)]


@dataclass(frozen=True)
class Underruns:
    """How often a player that starts with the first chunk ran dry, and for how long in all."""

    count: int
    silence_s: float


@dataclass(frozen=True)
class StreamsReport:
    """Streams that ran side by side.

    Attributes:
        num_streams: how many.
        ttfa_s: seconds to the first chunk.
        frame_s: seconds a frame, over all chunks but the first of all streams.
        rtf: seconds until the end of a stream, per second of its audio.
        audio_s_per_s: seconds of audio that all streams got in a second.
        underruns: of all streams together.
    """

    num_streams: int
    ttfa_s: Spread
    frame_s: Spread
    rtf: Spread
    audio_s_per_s: float
    underruns: Underruns

    @property
    def chars_per_s(self) -> float:
        """Characters of text that are spoken in a second."""
        return self.audio_s_per_s * CHARS_PER_AUDIO_SECOND

    def to_dict(self) -> dict[str, object]:
        """Give plain values for JSON."""
        return {
            "streams": self.num_streams,
            "ttfa_ms": self.ttfa_s.to_dict(1e3),
            "frame_ms": self.frame_s.to_dict(1e3),
            "rtf": self.rtf.to_dict(),
            "audio_s_per_s": round_figure(self.audio_s_per_s),
            "chars_per_s": round_figure(self.chars_per_s),
            "underruns": self.underruns.count,
            "underrun_silence_s": round_figure(self.underruns.silence_s),
        }


def percentile(values: Sequence[float], percent: float) -> float:
    """Interpolate between the two nearest of the sorted values, of which there is at least one.

    >>> percentile([10.0, 20.0, 30.0, 40.0, 50.0], 95)
    48.0
    """
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def round_figure(value: float) -> float:
    """Keep four significant digits.

    >>> round_figure(123456.0), round_figure(0.00123456)
    (123500.0, 0.001235)
    """
    return float(f"{value:.4g}")


def poisson_arrivals(rate_per_s: float, duration_s: float, seed: int) -> list[float]:
    """Draw the times, from 0 to the duration, of requests that come independently of each other.

    Args:
        rate_per_s: requests a second on average.
        duration_s: seconds.
        seed: the same seed gives the same times.
    """
    draw = random.Random(seed)
    times: list[float] = []
    now = draw.expovariate(rate_per_s)
    while now < duration_s:
        times.append(now)
        now += draw.expovariate(rate_per_s)
    return times


def count_underruns(timing: StreamTiming, sample_rate: int) -> Underruns:
    """Play a stream from its first chunk on; after running dry the player goes on with the next chunk.

    >>> count_underruns(StreamTiming(0.0, ((1.0, 100), (1.5, 100), (4.0, 100))), sample_rate=100)
    Underruns(count=1, silence_s=1.0)
    """
    count, silence = 0, 0.0
    plays_until = timing.arrivals[0][0]
    for arrived_at, num_samples in timing.arrivals:
        if arrived_at > plays_until:
            count += 1
            silence += arrived_at - plays_until
            plays_until = arrived_at
        plays_until += num_samples / sample_rate
    return Underruns(count, silence)


def cost_per_million_chars(price_per_hour: float, chars_per_s: float) -> float:
    """Price of a million characters on a machine that is never idle, in the currency of the price.

    >>> cost_per_million_chars(3.6, 1000.0)
    1.0
    """
    return price_per_hour / 3600 / chars_per_s * 1e6


def forced_request(
    config: ModelConfig, voice: VoicePrompt, *, num_frames: int, text_tokens: int = TEXT_TOKENS, seed: int = 0
) -> GenerationRequest:
    """Make a request of random text tokens that lasts exactly `num_frames`: END_AUDIO is never chosen.

    Args:
        config: of the model.
        voice: whoever speaks; what the engine keeps of a voice is kept for this one too.
        num_frames: frames of 1 / config.frame_rate seconds.
        text_tokens: length of the text.
        seed: of the tokens and of the noise.
    """
    tokens = PromptTokens(
        bos=config.bos_token_id,
        audio=config.audio_token_id,
        begin_audio=config.begin_audio_token_id,
        text_to_audio=_TEXT_TO_AUDIO,
        audio_to_text=_AUDIO_TO_TEXT,
    )
    draw = random.Random(seed)
    # Special tokens have the low ids.
    vocab_size = config.backbone.vocab_size
    text_ids = [draw.randrange(vocab_size // 2, vocab_size) for _ in range(text_tokens)]
    generation = config.generation
    return GenerationRequest(
        prompt=prompt_from_text_ids(tokens, text_ids, voice.rows.shape[0]),
        voice_rows=voice.rows,
        voice_key=voice.key,
        noise=SeededNoise(seed, 0, config.codebooks.num_acoustic),
        noise_key=(seed, 0),
        guidance_scale=generation.guidance_scale,
        noise_scale=generation.noise_scale,
        num_euler_steps=generation.num_euler_steps,
        max_frames=num_frames,
        min_frames=num_frames,
    )


def run_streams(
    engine: Engine, requests: Sequence[GenerationRequest], offsets_s: Sequence[float] | None = None
) -> list[StreamTiming]:
    """Submit each request when it is due and read all streams to their ends, each on a thread of its own.

    Args:
        engine: does nothing else meanwhile.
        requests: at least one.
        offsets_s: when each is due, seconds from now, in order; None means all at once.

    Raises:
        EngineError: a stream failed; the others are cancelled.
    """
    offsets = [0.0] * len(requests) if offsets_s is None else offsets_s
    handles: list[GenerationHandle] = []
    with ThreadPoolExecutor(max_workers=len(requests)) as readers, _cancelling(handles):
        started = time.perf_counter()
        futures = []
        for request, offset in zip(requests, offsets, strict=True):
            time.sleep(max(0.0, started + offset - time.perf_counter()))
            handles.append(engine.submit(request))
            futures.append(readers.submit(_read, handles[-1], started + offset))
        return [future.result() for future in futures]


@contextmanager
def _cancelling(handles: list[GenerationHandle]) -> Iterator[None]:
    """Cancel whatever is not done when the block is left, so that no reader waits for ever."""
    try:
        yield
    finally:
        for handle in handles:
            handle.cancel()


def _read(handle: GenerationHandle, due_at: float) -> StreamTiming:
    return StreamTiming(due_at, tuple((time.perf_counter(), len(chunk)) for chunk in handle.chunks()))


def summarize_rounds(rounds: Sequence[Sequence[StreamTiming]], config: ModelConfig) -> StreamsReport:
    """Report on rounds of equally many streams that ran side by side; the throughput is that of the median round.

    A round lasts from the time when its first request was due to the last chunk of its last stream.
    """
    timings = [timing for timings in rounds for timing in timings]
    rate = config.sample_rate
    underruns = [count_underruns(timing, rate) for timing in timings]
    frame_times = [value for timing in timings for value in timing.frame_times_s(config.samples_per_frame)]
    throughputs = [_audio_s_per_s(timings, rate) for timings in rounds]
    return StreamsReport(
        num_streams=len(rounds[0]),
        ttfa_s=Spread.of([timing.ttfa_s for timing in timings]),
        # A stream of one chunk has no gap between chunks; its only time is the one to the end.
        frame_s=Spread.of(frame_times or [timing.finished_at - timing.due_at for timing in timings]),
        rtf=Spread.of([(timing.finished_at - timing.due_at) * rate / timing.num_samples for timing in timings]),
        audio_s_per_s=percentile(throughputs, 50),
        underruns=Underruns(sum(one.count for one in underruns), sum(one.silence_s for one in underruns)),
    )


def _audio_s_per_s(timings: Sequence[StreamTiming], sample_rate: int) -> float:
    started = min(timing.due_at for timing in timings)
    wall_s = max(timing.finished_at for timing in timings) - started
    return sum(timing.num_samples for timing in timings) / sample_rate / wall_s


def measure_streams(
    engine: Engine,
    config: ModelConfig,
    voice: VoicePrompt,
    *,
    num_streams: int,
    num_frames: int,
    num_rounds: int,
    tell: Callable[[str], None],
) -> StreamsReport:
    """Run rounds of streams that all start at once and last equally long.

    Args:
        engine: warm; see `warm_up`.
        config: of the model.
        voice: of all streams.
        num_streams: streams in a round.
        num_frames: frames of each stream.
        num_rounds: at least 1.
        tell: gets a line after each round.
    """
    text_tokens = text_tokens_for(config)
    rounds: list[list[StreamTiming]] = []
    for number in range(num_rounds):
        requests = [
            forced_request(config, voice, num_frames=num_frames, text_tokens=text_tokens, seed=seed)
            for seed in range(num_streams)
        ]
        rounds.append(run_streams(engine, requests))
        latest = summarize_rounds(rounds[-1:], config)
        tell(f"round {number + 1} of {num_rounds}, {num_streams} streams: {latest.audio_s_per_s:.3g} times real time")
    return summarize_rounds(rounds, config)


def warm_up(engine: Engine, config: ModelConfig, voice: VoicePrompt, *, num_streams: int = 1) -> None:
    """Run streams that nobody measures, so that caches, graphs and the voice's prefix are there when it counts.

    Streams begin one after the other; these last until all run side by side, and so meet every size of a batch.
    """
    num_frames = warm_up_frames(num_streams)
    request = forced_request(config, voice, num_frames=num_frames, text_tokens=text_tokens_for(config))
    run_streams(engine, [request] * num_streams)


def warm_up_frames(num_streams: int) -> int:
    """Return a length in frames for which all streams of a round run side by side at its end."""
    return num_streams + 4


def memory_in_use(device: torch.device) -> dict[str, float]:
    """Read what this process holds, in GB of 10^9 bytes; what the system does not tell is left out.

    `anonymous` is main memory without mapped files; `resident_peak` counts them too, and is the most there has been, as
    is `gpu_reserved_peak`, what torch has taken of the GPU.
    """
    found: dict[str, float] = {}
    with suppress(OSError), open("/proc/self/status", encoding="ascii") as file:
        kilobytes = {line.split(":")[0]: line.split()[1] for line in file if line.endswith("kB\n")}
        found["anonymous"] = int(kilobytes["RssAnon"]) * 1024
        found["resident_peak"] = int(kilobytes["VmHWM"]) * 1024
    if device.type == "cuda":
        found["gpu_reserved_peak"] = torch.cuda.max_memory_reserved(device)
    return {name: round_figure(num_bytes / 1e9) for name, num_bytes in found.items()}


def text_tokens_for(config: ModelConfig) -> int:
    """Choose the length of the text: 500 characters, or what a checkpoint can speak in one go."""
    return min(TEXT_TOKENS, config.generation.max_segment_chars)
