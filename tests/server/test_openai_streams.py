"""OpenAI's own client and a stream under way: when its first bytes come, and what it is told when something fails."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import httpx2
import numpy as np
import openai
import pytest

from checkpoints import BRIEF
from listening import FORMATS, LOSSY, STREAM_FORMATS, audio_of, check_samples, events_of, num_playable, openai_client
from serving import Serving, serving, wait_for
from voxtral.audio.pcm import to_int16
from voxtral.engine.options import EngineOptions
from voxtral.tts import VoxtralTTS

TEXT = "Hello world"
NUM_FRAMES = 12

# Requests for so many frames are those that fail.
DOOMED_FRAMES = 11

# Decode steps until the first bytes of a body leave. FFmpeg's AAC encoder looks one block of 1024 samples ahead of the
# one it writes, and the first step makes 1920.
STEPS_TO_FIRST_BYTES = {"mp3": 1, "opus": 1, "aac": 2, "flac": 1, "wav": 1, "pcm": 1}


class Steps:
    """Stands between an engine and its runner: holds decode steps back, and lets rows fail."""

    def __init__(self, tts: VoxtralTTS) -> None:
        runner: Any = tts.engine._runner
        self._launch, self._collect = runner.launch, runner.collect
        runner.launch, runner.collect = self._launch_when_allowed, self._collect_with_failures
        self._changed = threading.Condition()
        self._num_allowed = math.inf
        self._is_waiting = False
        self._fails_after: list[int] = []

    @contextmanager
    def held(self) -> Iterator[None]:
        """Make no step but those that are allowed, until the block ends."""
        with self._changed:
            self._num_allowed = 0
        try:
            yield
        finally:
            self.allow(math.inf)

    def allow(self, number: float) -> None:
        """Let so many more steps be made."""
        with self._changed:
            self._num_allowed += number
            self._changed.notify_all()

    def wait_until_stopped(self) -> None:
        """Wait until the steps that were allowed have been made, and their audio has been handed over."""
        wait_for(lambda: self._is_waiting and not self._num_allowed)

    def fail_after(self, *num_frames: int) -> None:
        """Let the next doomed requests, one for each number, fail when they have made so many frames."""
        self._fails_after = list(num_frames)

    def _launch_when_allowed(self, rows: Any) -> Any:
        with self._changed:
            self._is_waiting = True
            self._changed.wait_for(lambda: self._num_allowed)
            self._is_waiting = False
            self._num_allowed -= 1
        return self._launch(rows)

    def _collect_with_failures(self, step: Any) -> Iterator[Any]:
        for row, outcome in self._collect(step):
            is_doomed = bool(self._fails_after) and row.request.max_frames == DOOMED_FRAMES
            if is_doomed and row.num_frames > self._fails_after[0]:
                del self._fails_after[0]
                yield row, ArithmeticError("this frame was told to fail")
            else:
                yield row, outcome


@pytest.fixture(scope="module")
def own_tts() -> Iterator[VoxtralTTS]:
    options = EngineOptions(batch_invariant=True, max_batch=4)
    with VoxtralTTS.from_pretrained(BRIEF, device="cpu", options=options) as model:
        yield model


@pytest.fixture(scope="module")
def steps(own_tts: VoxtralTTS) -> Steps:
    return Steps(own_tts)


@pytest.fixture(scope="module")
def server(own_tts: VoxtralTTS, steps: Steps) -> Iterator[Serving]:
    with serving(own_tts) as running:
        yield running


@pytest.fixture(scope="module")
def whole(own_tts: VoxtralTTS) -> np.ndarray:
    """What a request that nothing befalls gets."""
    samples = own_tts.synthesize(TEXT, "en", seed=6, max_frames=NUM_FRAMES).samples
    assert len(samples) == NUM_FRAMES * 1920
    return samples


def order(format: str = "pcm", stream_format: str = "audio", num_frames: int = NUM_FRAMES) -> dict[str, Any]:
    """What a request asks for."""
    return {
        "input": TEXT,
        "model": "gpt-4o-mini-tts",
        "voice": "neutral_female",
        "response_format": format,
        "stream_format": stream_format,
        "extra_body": {"seed": 6, "max_frames": num_frames, "stream": True},
    }


class Listener:
    """Listens to a stream in a thread of its own."""

    def __init__(self, client: openai.OpenAI, **asked: Any) -> None:
        self.has_answer = threading.Event()
        self.has_bytes = threading.Event()
        self.received = b""
        self._pool = ThreadPoolExecutor(1)
        self._end = self._pool.submit(self._listen, client, asked)

    def _listen(self, client: openai.OpenAI, asked: dict[str, Any]) -> None:
        with client.audio.speech.with_streaming_response.create(**asked) as response:
            assert response.status_code == 200
            self.has_answer.set()
            for data in response.iter_bytes():
                self.received += data
                self.has_bytes.set()

    def hear_out(self) -> bytes:
        """Wait for the end, and return all that came or raise what was raised."""
        with self._pool:
            self._end.result(30)
        return self.received


@pytest.mark.parametrize("stream_format", STREAM_FORMATS)
@pytest.mark.parametrize("format", FORMATS)
def test_sound_leaves_after_as_few_steps_as_the_format_allows(
    server: Serving, steps: Steps, whole: np.ndarray, format: str, stream_format: str
) -> None:
    with openai_client(server) as client:
        with steps.held():
            listener = Listener(client, **order(format, stream_format))
            for _ in range(STEPS_TO_FIRST_BYTES[format]):
                steps.wait_until_stopped()
                # Nothing at all, not even headers: a failure up to here has a status of its own.
                assert not listener.has_answer.wait(0.05)
                steps.allow(1)
            assert listener.has_bytes.wait(30)
            # And these bytes are more than a header.
            wait_for(lambda: num_playable(audio_of(listener.received, stream_format), format) > 0)
        body = listener.hear_out()
    if format not in LOSSY:
        check_samples(audio_of(body, stream_format), format, whole)


@pytest.mark.parametrize("stream_format", STREAM_FORMATS)
@pytest.mark.parametrize("format", FORMATS)
def test_a_failure_in_the_middle_is_no_short_success(
    server: Serving, steps: Steps, own_tts: VoxtralTTS, whole: np.ndarray, format: str, stream_format: str
) -> None:
    with openai_client(server) as client:
        with steps.held():
            neighbour = Listener(client, **order())
            steps.fail_after(8)
            doomed = Listener(client, **order(format, stream_format, DOOMED_FRAMES))
            wait_for(lambda: own_tts.engine.num_unfinished == 2)
        with pytest.raises(httpx2.RemoteProtocolError):
            doomed.hear_out()
        # The request beside it, in the same steps, knows nothing of that.
        check_samples(neighbour.hear_out(), "pcm", whole)
    assert num_playable(audio_of(doomed.received, stream_format), format) > 0
    if stream_format == "sse":
        last, for_others = events_of(doomed.received)[-2:]
        assert (last["type"], for_others["type"]) == ("error", "speech.audio.error")
        assert last["error"]["code"] == "engine_error"
        assert last["error"]["message"] == for_others["error"]["message"]
        assert (for_others["error"]["code"], for_others["error"]["action"]) == (500, "discard")
    if (format, stream_format) == ("pcm", "audio"):
        # What came before it is good.
        heard = np.frombuffer(doomed.received, "<i2")
        assert np.array_equal(heard, to_int16(whole)[: len(heard)])
    server.wait_until_idle()


def test_a_client_that_wants_it_whole_gets_an_error_for_a_part(server: Serving, steps: Steps) -> None:
    steps.fail_after(8)
    with openai_client(server) as client, pytest.raises(openai.APIConnectionError):
        client.audio.speech.create(**order("mp3", "audio", DOOMED_FRAMES))


@pytest.mark.parametrize("num_frames", [0, 8])
def test_the_clients_own_retry_mends_a_failure(server: Serving, steps: Steps, num_frames: int) -> None:
    steps.fail_after(num_frames)
    with openai_client(server, max_retries=1) as client:
        answer = client.audio.speech.with_raw_response.create(**order("pcm", "audio", DOOMED_FRAMES))
    assert answer.retries_taken == 1
    assert len(answer.content) == 2 * 1920 * DOOMED_FRAMES


@pytest.mark.parametrize("stream_format", STREAM_FORMATS)
def test_a_failure_before_the_first_audio_has_a_status(server: Serving, steps: Steps, stream_format: str) -> None:
    steps.fail_after(0)
    with openai_client(server) as client, pytest.raises(openai.InternalServerError) as caught:
        client.audio.speech.create(**order("mp3", stream_format, DOOMED_FRAMES))
    assert (caught.value.status_code, caught.value.code) == (500, "engine_error")
    assert caught.value.response.headers["content-type"] == "application/json"


def test_a_full_server_says_when_to_come_back_and_the_client_does(own_tts: VoxtralTTS, steps: Steps) -> None:
    refusals: SimpleQueue[httpx2.Response] = SimpleQueue()

    def note(response: httpx2.Response) -> None:
        if response.status_code == 503:
            refusals.put(response)

    with (
        serving(own_tts, max_streams=1, max_queue=0) as small,
        openai.DefaultHttpxClient(event_hooks={"response": [note]}) as noted,
        openai_client(small) as client,
        openai_client(small, max_retries=5, http_client=noted) as patient_client,
        ThreadPoolExecutor(1) as pool,
    ):
        with steps.held():
            first = Listener(client, **order())
            steps.wait_until_stopped()
            with pytest.raises(openai.InternalServerError) as caught:
                client.audio.speech.create(**order())
            assert (caught.value.status_code, caught.value.code) == (503, "server_busy")
            patient = pool.submit(patient_client.audio.speech.with_raw_response.create, **order())
            assert 1 <= int(refusals.get(timeout=30).headers["retry-after"]) <= 60
        whole = first.hear_out()
        answer = patient.result(30)
    assert answer.retries_taken >= 1
    assert answer.content == whole


def test_a_key_above_its_share_is_a_rate_limit(own_tts: VoxtralTTS, steps: Steps) -> None:
    key = "a-key-of-these-tests"
    with serving(own_tts, api_key=key, max_streams_per_key=1) as shared, openai_client(shared, api_key=key) as client:
        with steps.held():
            first = Listener(client, **order())
            steps.wait_until_stopped()
            with pytest.raises(openai.RateLimitError) as caught:
                client.audio.speech.create(**order())
        assert caught.value.code == "too_many_requests"
        assert int(caught.value.response.headers["retry-after"]) >= 1
        assert len(first.hear_out()) == 2 * 1920 * NUM_FRAMES
