"""A stand-in for VoxtralTTS where files are made: it speaks tones, and its texts say what goes wrong."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from voxtral.errors import CancelledError, EngineStoppedError, GenerationError, VoiceError
from voxtral.types import AudioChunk, SegmentInfo, SpeechRequest, SpeechStats, SpokenLanguage, Verdict
from word_times import check_of, segment_of

RATE = 8000
SAMPLES_PER_LETTER = 80


class FakeHandle:
    """The speech of a request; one that `waits` ends when it is cancelled."""

    def __init__(self, request: SpeechRequest) -> None:
        self.request = request
        self.segments: tuple[SegmentInfo, ...] = ()
        self.language = SpokenLanguage("de", "text") if "deutsch" in request.text else SpokenLanguage("en", "default")
        self._num_samples = 0
        self._may_end = threading.Event()
        self._is_cancelled = False
        if "waits" not in request.text:
            self._may_end.set()

    def cancel(self) -> None:
        self._is_cancelled = True
        self._may_end.set()

    def chunks(self) -> Iterator[AudioChunk]:
        assert self._may_end.wait(10)
        if self._is_cancelled:
            raise CancelledError("cancelled")
        if "fails" in self.request.text:
            raise GenerationError("the model made only silence", finish_reason="silent", seeds=(1,))
        samples = np.full(SAMPLES_PER_LETTER * len(self.request.text), 0.1, dtype=np.float32)
        self._num_samples = len(samples)
        yield AudioChunk(samples, RATE)
        spoken = segment_of(self.request.text)
        words = spoken.words if self.request.timestamps else ()
        verdict: Verdict = "bad" if "mumbles" in self.request.text else "ok"
        check = None if self.request.verify == "off" else check_of(verdict)
        self.segments = (replace(spoken, words=words, check=check),)

    @property
    def stats(self) -> SpeechStats:
        assert self.request.seed is not None
        return SpeechStats(self.request.seed, 0.0, 0.0, self._num_samples / RATE, self._num_samples // 80, 0)


class FakeSpeaker:
    """What `voxtral.jobs.run.LocalSpeaker` asks for. Texts say what happens: refused, warns, fails, waits, stops."""

    def __init__(self, folder: Path, *, max_batch: int = 2) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "params.json").write_text("{}")
        self.checkpoint: Any = SimpleNamespace(folder=folder)
        self.config: Any = SimpleNamespace(frame_rate=RATE / 80)
        self.max_batch = max_batch
        self.voices: Any = (SimpleNamespace(name="a"),)
        self.sample_rate = RATE
        self.spoken: list[SpeechRequest] = []
        self.cloned: list[Any] = []

    def check(self, request: SpeechRequest, *, warn: Any = None) -> None:
        if "warns" in request.text:
            warn("the voice has an accent")
        if "refused" in request.text:
            raise VoiceError("the voice is unknown")

    def submit(self, request: SpeechRequest, *, hold_segments: bool = False, warn: Any = None) -> Any:
        assert hold_segments
        self.check(request, warn=warn)
        if "stops" in request.text:
            raise EngineStoppedError("the engine stopped")
        self.spoken.append(request)
        return FakeHandle(request)

    def create_voice(self, reference_audio: Any, *, warn: Any = None) -> Any:
        self.cloned.append(reference_audio)
        warn("the clip is short")
        return f"voice of {reference_audio}"
