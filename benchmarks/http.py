"""The server as its clients hear it: first audio over HTTP, and many streams at once.

    python -m benchmarks.http --model nano --streams 1,4,8 --json FILE

`voxtral serve` runs as a process of its own and a plain client asks it over loopback. Times count from the moment when
the request has been written, on a connection that is open already. First bytes are the first of the body; first audio
is what comes after the container's header. A player starts with the first audio: its lead is how much it still has to
play when the next piece comes.
"""

from __future__ import annotations

import asyncio
import base64
import json
import tempfile
from collections.abc import Sequence
from typing import Any

from benchmarks.loopback import Answer, ask, served
from benchmarks.options import make_parser, read_numbers, resolve
from benchmarks.report import ROOT, Report
from voxtral.bench import Spread, StreamTiming, count_underruns, percentile, round_figure

_TEXTS = ROOT / "benchmarks" / "texts" / "test" / "en.txt"
_SPEECH = "/v1/audio/speech"

# Format and stream format of the OpenAI API: what clients ask for.
_WAYS = (("wav", "audio"), ("mp3", "audio"), ("pcm", "audio"), ("mp3", "sse"))

# Bytes of a container before its first sample.
_HEADER_BYTES = {"wav": 44, "mp3": 0, "pcm": 0}

_SAMPLE_RATE = 24000
_QUANTIZED = ("int8", "int4", "int4-all")


def main(words: Sequence[str] | None = None) -> None:
    """Measure and report."""
    parser = make_parser(__doc__)
    parser.add_argument("--streams", type=read_numbers, default=(1, 4, 8))
    parser.add_argument("--rounds", type=int, default=30, help="requests in each way; a tenth of it rounds of streams")
    arguments = parser.parse_args(words)
    if arguments.short:
        arguments.streams, arguments.rounds = (1, 2), 2
    device, precision = resolve(arguments)
    report = Report("http", arguments)
    report.note(device=str(device), precision=precision)
    options = ["--quantize" if precision in _QUANTIZED else "--dtype", precision, "--device", arguments.device]
    with (
        tempfile.TemporaryDirectory() as folder,
        served("--model", arguments.model, *options, data_dir=folder, max_streams=max(arguments.streams)) as server,
    ):
        texts = _TEXTS.read_text(encoding="utf-8").splitlines()
        port = server.wait_until_ready()
        asyncio.run(measure_first_audio(report, port, texts, arguments.rounds))
        num_rounds = max(1, arguments.rounds // 10)
        max_frames = 12 if arguments.short else None
        for num_streams in arguments.streams:
            asyncio.run(measure_streams(report, port, texts, num_streams, num_rounds, max_frames))
        report.note(resident_gb=round_figure(server.resident_bytes() / 1e9))
    report.finish()


async def measure_first_audio(report: Report, port: int, texts: list[str], num_rounds: int) -> None:
    """Ask one at a time, the ways in turn; the first round does not count."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = {way: [] for way in _WAYS}
    for number in range(num_rounds + 1):
        for way in _WAYS:
            answer = await speak(port, texts[number % len(texts)], *way, seed=number, max_frames=8)
            if number > 0:
                found[way].append(first_times_s(answer, *way))
    for (audio_format, stream_format), times in found.items():
        report.add(
            what="first audio",
            format=audio_format,
            stream_format=stream_format,
            streams=1,
            first_bytes_ms=Spread.of([first for first, _ in times]).to_dict(1e3),
            first_audio_ms=Spread.of([second for _, second in times]).to_dict(1e3),
        )


async def measure_streams(
    report: Report, port: int, texts: list[str], num_streams: int, num_rounds: int, max_frames: int | None
) -> None:
    """Ask for so many at once and read all to their ends; a round before the others does not count."""
    rounds: list[list[StreamTiming]] = []
    for number in range(num_rounds + 1):
        chosen = [texts[(number * num_streams + index) % len(texts)] for index in range(num_streams)]
        answers = await asyncio.gather(
            *(speak(port, text, "pcm", "audio", seed=number, max_frames=max_frames) for text in chosen)
        )
        if number > 0:
            rounds.append([answer.as_stream() for answer in answers])
    timings = [timing for timings in rounds for timing in timings]
    underruns = [count_underruns(timing, _SAMPLE_RATE) for timing in timings]
    report.add(
        what="streams",
        streams=num_streams,
        rounds=num_rounds,
        first_audio_ms=Spread.of([timing.ttfa_s for timing in timings]).to_dict(1e3),
        audio_s_per_s=round_figure(percentile([audio_s_per_s(timings) for timings in rounds], 50)),
        ran_dry=sum(found.count > 0 for found in underruns),
        heard=len(timings),
        silence_s=round_figure(sum(found.silence_s for found in underruns)),
        lowest_lead_ms=round_figure(1e3 * min(lowest_lead_s(timing, _SAMPLE_RATE) for timing in timings)),
    )


async def speak(
    port: int, text: str, audio_format: str, stream_format: str, *, seed: int, max_frames: int | None
) -> Answer:
    """Ask for a text, and read the answer to its end.

    Raises:
        RuntimeError: the server refused, or broke off.
    """
    fields = {"input": text, "response_format": audio_format, "stream_format": stream_format, "seed": seed}
    answer = await ask(port, _SPEECH, fields if max_frames is None else {**fields, "max_frames": max_frames})
    if answer.status != 200 or not answer.is_whole:
        raise RuntimeError(f"status {answer.status}, whole: {answer.is_whole}: {answer.body[:500]!r}")
    return answer


def first_times_s(answer: Answer, audio_format: str, stream_format: str) -> tuple[float, float]:
    """Return the seconds from the request to the first bytes of the body, and to the first bytes of audio."""
    first_at = answer.arrivals[0][0]
    end = num_audio_bytes = 0
    for at, num_bytes in answer.arrivals:
        piece = answer.body[end : end + num_bytes]
        end += num_bytes
        num_audio_bytes += len(piece) if stream_format == "audio" else _audio_bytes_of_events(piece)
        if num_audio_bytes > _HEADER_BYTES[audio_format]:
            return first_at - answer.sent_at, at - answer.sent_at
    raise RuntimeError("the answer has no audio")


def _audio_bytes_of_events(piece: bytes) -> int:
    """Count the audio in whole server-sent events."""
    events: list[dict[str, Any]] = [
        json.loads(line.removeprefix(b"data: ")) for line in piece.splitlines() if line.startswith(b"data: ")
    ]
    return sum(len(base64.b64decode(event["audio"])) for event in events if event["type"] == "speech.audio.delta")


def lowest_lead_s(timing: StreamTiming, sample_rate: int) -> float:
    """Return how close a player that starts with the first piece came to running dry, in seconds; below 0 it did.

    >>> lowest_lead_s(StreamTiming(0.0, ((1.0, 100), (1.5, 100), (2.75, 100))), sample_rate=100)
    0.25
    """
    plays_until, lead = timing.arrivals[0][0], float("inf")
    for number, (at, num_samples) in enumerate(timing.arrivals):
        if number > 0:
            lead = min(lead, plays_until - at)
        plays_until = max(plays_until, at) + num_samples / sample_rate
    return lead


def audio_s_per_s(timings: Sequence[StreamTiming]) -> float:
    """Return the seconds of audio that streams which started together got in a second."""
    started = min(timing.due_at for timing in timings)
    wall_s = max(timing.finished_at for timing in timings) - started
    return sum(timing.num_samples for timing in timings) / _SAMPLE_RATE / wall_s


if __name__ == "__main__":
    main()
