"""A device that fails while it speaks: everybody is told, and a new engine speaks on if the device still answers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from checkpoints import BRIEF
from voxtral.engine.options import EngineOptions
from voxtral.errors import DeviceError, EngineStoppedError
from voxtral.tts import VoxtralTTS
from voxtral.types import SamplingOptions, SpeechRequest

REQUEST = SpeechRequest("Hello there.", seed=3, sampling=SamplingOptions(max_frames=6))


@pytest.fixture
def own_tts() -> Iterator[VoxtralTTS]:
    """A model that a test may break."""
    options = EngineOptions(batch_invariant=True, max_batch=2)
    with VoxtralTTS.from_pretrained(BRIEF, device="cpu", options=options) as model:
        yield model


def speak(tts: VoxtralTTS) -> np.ndarray:
    return np.concatenate([chunk.samples for chunk in tts.submit(REQUEST).chunks()])


def break_engine(tts: VoxtralTTS) -> None:
    """Let the next frame of this engine fail as on a GPU."""

    def launch(rows: Any) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    tts.engine._runner.launch = launch
    with pytest.raises(EngineStoppedError, match="illegal memory access"):
        speak(tts)
    assert tts.engine.failure is not None


def test_after_a_passing_failure_a_new_engine_speaks_the_same(own_tts: VoxtralTTS) -> None:
    expected = speak(own_tts)
    broken = own_tts.engine
    for _ in range(2):
        break_engine(own_tts)
        with pytest.raises(EngineStoppedError, match="restart_engine"):
            own_tts.submit(REQUEST)
        own_tts.restart_engine()
        assert own_tts.engine.failure is None
        assert np.array_equal(speak(own_tts), expected)
    # What was handed out before stays as it was.
    assert broken.failure is not None
    with pytest.raises(EngineStoppedError):
        broken.call(lambda model: None)


def test_what_was_under_way_does_not_hold_up_a_move(own_tts: VoxtralTTS) -> None:
    unread = own_tts.submit(REQUEST)
    break_engine(own_tts)
    own_tts.restart_engine()
    own_tts.bfloat16()
    assert own_tts.compute.dtype is torch.bfloat16
    with pytest.raises(EngineStoppedError):
        list(unread.chunks())


def test_a_working_engine_is_left_alone(own_tts: VoxtralTTS) -> None:
    handle, engine = own_tts.submit(REQUEST), own_tts.engine
    own_tts.restart_engine()
    assert own_tts.engine is engine
    assert sum(len(chunk) for chunk in handle.chunks())


def test_a_device_that_does_not_answer_is_reported(own_tts: VoxtralTTS) -> None:
    break_engine(own_tts)
    own_tts._running.compute = replace(own_tts.compute, device=torch.device("cuda:99"))
    for _ in range(2):
        with pytest.raises(DeviceError, match="end the process"):
            own_tts.restart_engine()
    with pytest.raises(EngineStoppedError):
        own_tts.submit(REQUEST)


def test_a_closed_model_is_not_restarted(own_tts: VoxtralTTS) -> None:
    break_engine(own_tts)
    own_tts.close()
    with pytest.raises(EngineStoppedError, match="has been closed"):
        own_tts.restart_engine()


def test_many_who_speak_and_restart_at_once_are_told_or_served(own_tts: VoxtralTTS) -> None:
    expected = speak(own_tts)
    outcomes: list[Any] = []

    def run() -> None:
        for _ in range(4):
            try:
                outcomes.append(np.array_equal(speak(own_tts), expected))
            except EngineStoppedError as error:
                outcomes.append(error)
            own_tts.restart_engine()

    before = set(threading.enumerate())
    break_engine(own_tts)
    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(outcomes) == 16
    assert all(outcome is True or isinstance(outcome, EngineStoppedError) for outcome in outcomes)
    assert outcomes.count(True) >= 12  # each fails once at most, with the engine that was broken
    own_tts.close()
    assert set(threading.enumerate()) <= before
