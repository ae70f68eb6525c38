"""Long tests, run by `make soak`; what they print is kept under benchmarks/results."""

from __future__ import annotations

import random
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from voxtral import VoxtralTTS
from voxtral.errors import CancelledError

pytestmark = pytest.mark.slow

SENTENCE = "It was a dark and stormy night, and the wind that blew from the sea carried the smell of salt. "


def anonymous_bytes() -> int:
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("RssAnon"))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("extension", ["wav", "flac", "mp3"])
def test_hours_of_text_are_written_in_constant_memory(tts: VoxtralTTS, tmp_path: Path, extension: str) -> None:
    """At 12.5 characters a second of real speech, 150,000 characters are more than three hours."""
    path = tmp_path / f"book.{extension}"
    text = SENTENCE * 1600
    samples: list[tuple[float, int]] = []
    stop = threading.Event()

    def watch() -> None:
        started = time.monotonic()
        while not stop.wait(0.5):
            samples.append((time.monotonic() - started, anonymous_bytes()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    handle = tts.synthesize_to_file(path, text, seed=1)
    stop.set()
    watcher.join()
    assert soundfile.info(str(path)).duration == pytest.approx(handle.stats.duration_s, abs=0.1)
    assert handle.segments[-1].text_end == len(text.rstrip())
    settled = [size for at, size in samples if at > samples[-1][0] / 4]
    grown = max(settled) - settled[0]
    print(
        f"\n{extension}: {len(text)} characters, {len(handle.segments)} segments, "
        f"{handle.stats.duration_s:.0f} s of audio, {handle.stats.num_retries} retries, RTF {handle.stats.rtf:.3f}, "
        f"memory grew {grown / 1e6:.1f} MB over 3/4 of it"
    )
    assert grown < 16e6


def test_a_crowd_of_readers_good_slow_and_gone(tts: VoxtralTTS) -> None:  # noqa: C901
    """Two minutes of random readers; whoever reads to the end gets what a lone reader gets."""
    texts = [SENTENCE * count for count in (1, 3, 6)]
    alone = {(n, seed): tts.synthesize(text, seed=seed).numpy() for n, text in enumerate(texts) for seed in range(4)}
    counts = {"read": 0, "left": 0, "cancelled": 0}
    wrong: list[tuple[int, int]] = []
    lock = threading.Lock()
    deadline = time.monotonic() + 120

    def read(number: int) -> None:
        rng = random.Random(number)
        while time.monotonic() < deadline:
            key = (rng.randrange(len(texts)), rng.randrange(4))
            stream = tts.synthesize_stream(texts[key[0]], seed=key[1])
            behaviour = rng.choice(["read", "read", "slow", "left", "cancelled"])
            got: list[np.ndarray] = []
            try:
                for position, chunk in enumerate(stream):
                    got.append(chunk.samples)
                    if behaviour == "slow":
                        time.sleep(rng.random() * 0.02)
                    if position == 2 and behaviour == "left":
                        break
                    if position == 2 and behaviour == "cancelled":
                        stream.cancel()
            except CancelledError:
                pass
            # Retries may make a stream differ from the held result; compare the seeds that were heard.
            name = behaviour if behaviour in ("left", "cancelled") else "read"
            retried = stream.handle.stats.num_retries > 0
            with lock:
                counts[name] += 1
                if name == "read" and not retried and not np.array_equal(np.concatenate(got), alone[key]):
                    wrong.append(key)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(f"\n12 readers, 120 s: {counts}, wrong {len(wrong)}, unfinished {tts.engine.num_unfinished}")
    assert not wrong
    assert min(counts.values()) > 10
    for _ in range(500):
        if tts.engine.num_unfinished == 0:
            break
        time.sleep(0.01)
    assert tts.engine.num_unfinished == 0
