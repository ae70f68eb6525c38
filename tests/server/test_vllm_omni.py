"""vLLM-Omni's batch and web socket, message by message, over a real socket."""

from __future__ import annotations

import base64
import contextlib
import io
import itertools
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from serving import Serving, serving
from voxtral.audio.pcm import to_int16
from voxtral.server.dialects.vllm_omni import session
from voxtral.server.dialects.vllm_omni.units import UnitSplitter
from voxtral.tts import VoxtralTTS

TEXT = "Hello there."
BASE: dict[str, Any] = {"seed": 6, "max_new_tokens": 8}


@pytest.fixture(scope="module")
def server(tts: VoxtralTTS) -> Iterator[Serving]:
    """As `voxtral serve` has it, which looks after its connections."""
    with serving(tts, is_guarded=True) as running:
        yield running


@pytest.fixture
def socket(server: Serving) -> Iterator[ClientConnection]:
    with open_socket(server) as opened:
        yield opened
    server.wait_until_idle()


def open_socket(server: Serving, **options: Any) -> ClientConnection:
    url = server.url.replace("http", "ws") + "/v1/audio/speech/stream"
    return connect(url, open_timeout=20, max_size=2**24, **options)


def send(socket: ClientConnection, kind: str, **fields: Any) -> None:
    socket.send(json.dumps({"type": kind, **fields}))


def read(socket: ClientConnection, until: str) -> list[Any]:
    """Read up to a message of a type: messages, and bytes for frames that are none."""
    seen: list[Any] = []
    while True:
        message = socket.recv(timeout=30)
        seen.append(message if isinstance(message, bytes) else json.loads(message))
        if not isinstance(message, bytes) and seen[-1]["type"] == until:
            return seen


def types(messages: list[Any]) -> list[str]:
    return ["bytes" if isinstance(message, bytes) else message["type"] for message in messages]


def speak(tts: VoxtralTTS, text: str = TEXT) -> np.ndarray:
    return tts.synthesize(text, seed=6, max_frames=8).samples


# The socket.


def test_a_text_is_one_file_between_start_and_done(socket: ClientConnection, tts: VoxtralTTS) -> None:
    send(socket, "session.config", **BASE)
    send(socket, "input.text", text="Hello ")
    send(socket, "input.text", text="there.")
    send(socket, "input.done")
    start, data, done, end = read(socket, "session.done")
    assert start == {
        "type": "audio.start", "utterance_index": 0, "sentence_index": 0, "sentence_text": TEXT, "format": "wav",
    }  # fmt: skip
    heard, rate = soundfile.read(io.BytesIO(data), dtype="int16")
    assert rate == 24000
    assert np.array_equal(heard, to_int16(speak(tts)))
    assert done == {
        "type": "audio.done", "utterance_index": 0, "sentence_index": 0, "total_bytes": len(data), "error": False,
    }  # fmt: skip
    assert end == {"type": "session.done", "utterance_index": 0, "total_sentences": 1}


def test_pieces_are_the_whole(socket: ClientConnection, tts: VoxtralTTS) -> None:
    send(socket, "session.config", stream_audio=True, response_format="pcm", **BASE)
    send(socket, "input.text", text=TEXT)
    send(socket, "input.done")
    messages = read(socket, "session.done")
    assert messages[0]["sample_rate"] == 24000
    pieces = [message for message in messages if isinstance(message, bytes)]
    assert len(pieces) > 1
    assert np.array_equal(np.frombuffer(b"".join(pieces), "<i2"), to_int16(speak(tts)))


def test_units_are_spoken_in_order_before_the_text_is_whole(socket: ClientConnection, tts: VoxtralTTS) -> None:
    send(socket, "session.config", split_granularity="sentence", **BASE)
    send(socket, "input.text", text="Dr. Lee is here. She sings")
    first = read(socket, "audio.done")
    assert first[0]["sentence_text"] == "Dr. Lee is here."
    send(socket, "input.text", text=", I. Berlin! 今日は。")
    send(socket, "input.done")
    rest = read(socket, "session.done")
    starts = [message for message in rest if not isinstance(message, bytes) and message["type"] == "audio.start"]
    assert [start["sentence_text"] for start in starts] == ["She sings, I. Berlin!", "今日は。"]
    assert [start["sentence_index"] for start in starts] == [1, 2]
    assert rest[-1]["total_sentences"] == 3
    assert types(rest) == ["audio.start", "bytes", "audio.done"] * 2 + ["session.done"]


def test_one_socket_has_many_utterances_and_its_configuration_stays(socket: ClientConnection) -> None:
    send(socket, "session.config", response_format="flac", **BASE)
    for number in range(3):
        send(socket, "input.text", text=TEXT)
        send(socket, "input.done")
        start, data, _, end = read(socket, "session.done")
        assert (start["utterance_index"], end["utterance_index"], data[:4]) == (number, number, b"fLaC")
    send(socket, "session.config", response_format="mp3", **BASE)
    send(socket, "input.text", text=TEXT)
    send(socket, "input.done")
    assert read(socket, "session.done")[0]["format"] == "mp3"


@pytest.mark.parametrize("texts", [[], [""], [" \n"]])
def test_an_empty_text_is_no_sentence(socket: ClientConnection, texts: list[str]) -> None:
    send(socket, "session.config", **BASE)
    for text in texts:
        send(socket, "input.text", text=text)
    send(socket, "input.done")
    assert read(socket, "session.done") == [{"type": "session.done", "utterance_index": 0, "total_sentences": 0}]


def test_words_come_with_their_times_at_the_end(socket: ClientConnection) -> None:
    send(
        socket, "session.config", stream_audio=True, response_format="pcm", word_timestamps=True, seed=6,
        max_new_tokens=30,
    )  # fmt: skip
    send(socket, "input.text", text="One two three.")
    send(socket, "input.done")
    start, *chunks, done, _ = read(socket, "session.done")
    assert start["word_timestamps"] is True
    assert [chunk["chunk_id"] for chunk in chunks] == list(range(len(chunks)))
    assert all(chunk["timestamps"] is None for chunk in chunks[:-1])
    assert chunks[-1]["audio_b64"] == ""
    assert [word["word"].strip(" .") for word in chunks[-1]["timestamps"]] == ["One", "two", "three"]
    for before, after in itertools.pairwise(chunks):
        assert before["chunk_end_ms"] == after["chunk_start_ms"]
    assert done["total_bytes"] == sum(len(base64.b64decode(chunk["audio_b64"])) for chunk in chunks)


def test_who_interrupts_hears_no_more_and_is_told_how_far_it_was(socket: ClientConnection) -> None:
    send(socket, "session.config", stream_audio=True, response_format="pcm", split_granularity="sentence", seed=6)
    send(socket, "input.text", text="One two three four five. Six seven eight. " * 8)
    read(socket, "audio.start")
    assert isinstance(socket.recv(timeout=30), bytes)
    send(socket, "input.cancel", played_ms=100)
    cut = read(socket, "audio.cancelled")[-1]
    assert (cut["utterance_index"], cut["played_ms"]) == (0, 100)
    send(socket, "session.config", **BASE)
    send(socket, "input.text", text=TEXT)
    send(socket, "input.done")
    after = read(socket, "session.done")
    assert types(after) == ["audio.start", "bytes", "audio.done", "session.done"]
    assert after[0]["utterance_index"] == 1


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ("{", "no JSON"),
        ("[1]", "no JSON object"),
        ('{"type": "input.texts"}', "Unknown message type: input.texts"),
        ('{"text": "x"}', "Unknown message type: None"),
        ('{"type": "input.text", "text": 5}', "input.text requires a string value"),
        ('{"type": "input.text"}', "input.text requires a string value"),
        ('{"type": "session.config", "speed": 99}', "speed"),
        ('{"type": "session.config", "stream_audio": true}', "response_format pcm"),
        ('{"type": "session.config", "word_timestamps": true}', "needs stream_audio"),
        ('{"type": "session.config", "max_new_tokens": 0}', "max_new_tokens"),
        ('{"type": "session.config", "speaker_embedding": [0.5]}', "no vectors"),
        ('{"type": "session.config", "ref_audio": "%"}', "no audio file"),
        ('{"type": "session.config", "model": "other"}', "is not here"),
        (b"\x00\x01", "binary"),
        (json.dumps({"type": "input.text", "text": "x" * 140_000}), "more than"),
    ],
)
def test_what_is_wrong_is_told_and_the_session_goes_on(socket: ClientConnection, sent: Any, said: str) -> None:
    send(socket, "session.config", **BASE)
    socket.send(sent)
    assert said in read(socket, "error")[-1]["message"]
    send(socket, "input.text", text=TEXT)
    send(socket, "input.done")
    assert types(read(socket, "session.done")) == ["audio.start", "bytes", "audio.done", "session.done"]


def test_no_configuration_within_an_utterance(socket: ClientConnection) -> None:
    send(socket, "session.config", **BASE)
    send(socket, "input.text", text=TEXT)
    send(socket, "session.config", response_format="mp3", **BASE)
    assert "within an utterance" in read(socket, "error")[-1]["message"]
    send(socket, "input.done")
    assert read(socket, "session.done")[0]["format"] == "wav"


def test_a_unit_that_fails_is_told_with_its_place(socket: ClientConnection) -> None:
    send(socket, "session.config", voice="nobody", **BASE)
    send(socket, "input.text", text=TEXT)
    send(socket, "input.done")
    messages = read(socket, "session.done")
    assert types(messages) == ["audio.start", "error", "audio.done", "session.done"]
    assert messages[1]["message"].startswith("Generation failed for utterance 0, sentence 0: ")
    assert messages[2]["error"] is True


@pytest.mark.parametrize(
    ("first", "said"),
    [
        ('{"type": "input.text", "text": "x"}', "Expected session.config, got: input.text"),
        ("{", "no JSON"),
        ('{"type": "session.config", "speed": 99}', "speed"),
    ],
)
def test_without_a_configuration_the_socket_is_closed(socket: ClientConnection, first: str, said: str) -> None:
    socket.send(first)
    assert said in read(socket, "error")[-1]["message"]
    with pytest.raises(ConnectionClosed):
        socket.recv(timeout=20)
    assert socket.close_code == 1008


def test_who_is_silent_is_let_go(server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_CONFIG_TIMEOUT_S", 0.1)
    monkeypatch.setattr(session, "_IDLE_TIMEOUT_S", 0.2)
    with open_socket(server) as socket:
        assert read(socket, "error")[-1]["message"] == "Timeout waiting for session.config"
    with open_socket(server) as socket:
        send(socket, "session.config", **BASE)
        # While something is spoken, nobody needs to say anything.
        send(socket, "input.text", text="One two three four. " * 5)
        send(socket, "input.done")
        read(socket, "session.done")
        assert read(socket, "error")[-1]["message"] == "Idle timeout: no message received"
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=20)


def test_session_close_closes_well(socket: ClientConnection) -> None:
    send(socket, "session.config", **BASE)
    send(socket, "session.close")
    with pytest.raises(ConnectionClosed):
        socket.recv(timeout=20)
    assert socket.close_code == 1000


def test_who_leaves_stops_the_engine(server: Serving) -> None:
    with open_socket(server) as socket:
        send(socket, "session.config", stream_audio=True, response_format="pcm", seed=6)
        send(socket, "input.text", text="One two three four five. " * 40)
        send(socket, "input.done")
        read(socket, "audio.start")
    server.wait_until_idle()
    # Nothing has failed: there was only nobody to write to.
    with server.client() as client:
        assert 'code="internal_error"' not in client.get("/metrics").text


def test_a_server_that_ends_finishes_what_is_spoken(tts: VoxtralTTS) -> None:
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(serving(tts, is_guarded=True))
        socket = stack.enter_context(open_socket(running))
        send(socket, "session.config", stream_audio=True, response_format="pcm", **BASE)
        send(socket, "input.text", text=TEXT)
        send(socket, "input.done")
        read(socket, "audio.start")
        running.service.host.drain()
        messages = read(socket, "session.done")
        pieces = b"".join(message for message in messages if isinstance(message, bytes))
        assert len(pieces) == 2 * len(speak(tts))
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=20)
        assert socket.close_code == 1012


def test_strangers_pages_and_keys_are_refused_at_the_handshake(tts: VoxtralTTS) -> None:
    key = "0123456789abcdef"
    with serving(tts, api_key=key, is_guarded=True) as running:
        for headers, status in (
            ({}, 401),
            ({"Authorization": "Bearer no"}, 401),
            ({"Authorization": f"Bearer {key}", "Origin": "http://x.example"}, 403),
        ):
            with pytest.raises(InvalidStatus) as refused, open_socket(running, additional_headers=headers):
                pass
            # As over HTTP: a status that says which it is, and a body that says why.
            assert refused.value.response.status_code == status
            assert json.loads(refused.value.response.body or b"{}")["error"]["code"]
            assert refused.value.response.headers["X-Request-Id"]
        with open_socket(running, additional_headers={"Authorization": f"Bearer {key}"}) as socket:
            send(socket, "session.config", **BASE)


@given(st.lists(st.text("ab .,;!?1。\n'\"", max_size=12), max_size=8), st.sampled_from(["none", "sentence", "clause"]))
@settings(max_examples=150, deadline=None)
def test_units_are_the_text_in_order(pieces: list[str], granularity: Any) -> None:
    splitter = UnitSplitter(granularity, "en")
    units = [unit for piece in pieces for unit in splitter.push(piece)] + splitter.flush()
    assert "".join("".join(units).split()) == "".join("".join(pieces).split())
    assert splitter.num_waiting == 0
    assert all(unit.strip() for unit in units)


def test_clauses_do_not_wait_for_their_sentence() -> None:
    splitter = UnitSplitter("clause", "en")
    assert splitter.push("Well, I have 3,000 of them; ") == ["Well,", " I have 3,000 of them;"]
    assert splitter.push("the rest is") == []
    assert [unit.strip() for unit in splitter.push(" gone. And so on")] == ["the rest is gone."]
    assert [unit.strip() for unit in splitter.flush()] == ["And so on"]


# The batch.


def test_a_batch_has_its_results_in_order_and_one_fault_does_no_harm(server: Serving, tts: VoxtralTTS) -> None:
    items = [
        {"input": TEXT},
        {"input": " "},
        {"input": TEXT, "voice": "nobody"},
        {"speed": 2},
        {"input": "Bye.", "response_format": "flac"},
    ]
    with server.client() as client:
        answer = client.post("/v1/audio/speech/batch", json={"items": items, **BASE})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert [result["index"] for result in body["results"]] == [0, 1, 2, 3, 4]
    assert [result["status"] for result in body["results"]] == ["success", "error", "error", "error", "success"]
    assert (body["total"], body["succeeded"], body["failed"]) == (5, 2, 3)
    first, *_, last = body["results"]
    heard, _ = soundfile.read(io.BytesIO(base64.b64decode(first["audio_data"])), dtype="int16")
    assert np.array_equal(heard, to_int16(speak(tts)))
    assert (first["media_type"], last["media_type"]) == ("audio/wav", "audio/flac")
    assert first["usage"]["output_tokens"] == len(heard) // 1920
    assert "error" not in first
    assert body["id"].startswith("speech-batch-")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"items": []}, 400),
        ({"items": [{"input": "x"}] * 33}, 400),
        ({"items": [{"input": "x"}], "model": "other"}, 404),
        ({"items": [{"input": "x" * 11_000}, {"input": "y" * 11_000}]}, 413),
    ],
)
def test_other_batches_are_refused_whole(server: Serving, body: dict[str, Any], status: int) -> None:
    with server.client() as client:
        assert client.post("/v1/audio/speech/batch", json=body).status_code == status
