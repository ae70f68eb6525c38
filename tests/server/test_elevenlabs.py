"""ElevenLabs' dialect over HTTP and over its sockets, message by message."""

from __future__ import annotations

import base64
import io
import itertools
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import soundfile
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from serving import Serving, serving
from voxtral.audio.encode import ContainerEncoder
from voxtral.audio.pcm import to_int16, to_ulaw
from voxtral.audio.read import read_audio
from voxtral.server.dialects.elevenlabs import sockets
from voxtral.tts import VoxtralTTS

TEXT = "Hello there, how are you?"
VOICE = "casual_male"
BASE = f"/v1/text-to-speech/{VOICE}"
KEY = {"xi-api-key": "any"}


@pytest.fixture(scope="module")
def server(tts: VoxtralTTS) -> Iterator[Serving]:
    with serving(tts, is_guarded=True) as running:
        yield running


@pytest.fixture(scope="module")
def samples(tts: VoxtralTTS) -> np.ndarray:
    return tts.synthesize(TEXT, voice=VOICE, seed=6).samples


def post(server: Serving, path: str = "", **fields: Any) -> Any:
    query = fields.pop("query", "output_format=pcm_24000")
    with server.client(headers=KEY) as client:
        return client.post(f"{BASE}{path}?{query}", json={"text": TEXT, "seed": 6, **fields})


# Over HTTP.


@pytest.mark.parametrize("path", ["", "/stream"])
def test_a_text_is_what_the_engine_makes(server: Serving, samples: np.ndarray, path: str) -> None:
    answer = post(server, path)
    assert answer.headers["content-type"].startswith("audio/")
    assert np.array_equal(np.frombuffer(answer.content, "<i2"), to_int16(samples))


@pytest.mark.parametrize(
    ("name", "rate"),
    [
        ("mp3_22050_32", 22050), ("mp3_24000_48", 24000), ("mp3_44100_128", 44100), ("mp3_44100_192", 44100),
        ("wav_8000", 8000), ("wav_44100", 44100), ("opus_48000_64", 48000),
    ],
)  # fmt: skip
def test_every_format_has_the_rate_of_its_name(server: Serving, samples: np.ndarray, name: str, rate: int) -> None:
    answer = post(server, query=f"output_format={name}")
    assert answer.status_code == 200, answer.text
    with soundfile.SoundFile(io.BytesIO(answer.content)) as file:
        assert file.samplerate == rate
    heard = read_audio(answer.content, sample_rate=24000)
    assert abs(len(heard) - len(samples)) < 4000


@pytest.mark.parametrize(
    ("name", "format", "rate", "bit_rate"),
    [
        ("mp3_22050_32", "mp3", 22050, 32_000), ("mp3_44100_128", "mp3", 44100, 128_000),
        ("mp3_44100_192", "mp3", 44100, 192_000), ("mp3_44100", "mp3", 44100, None),
        ("opus_48000_32", "opus", 48000, 32_000), ("opus_48000_192", "opus", 48000, 192_000),
    ],
)  # fmt: skip
def test_a_bit_rate_in_a_name_is_that_of_the_sound(
    server: Serving, samples: np.ndarray, name: str, format: str, rate: int, bit_rate: int | None
) -> None:
    whole = ContainerEncoder(format, 24000, is_seekable=False, output_rate=rate, bit_rate=bit_rate)
    expected = whole.write(samples) + whole.finish()
    heard = post(server, "/stream", query=f"output_format={name}").content
    if format == "mp3":
        assert heard == expected
    else:  # each Ogg stream has a number of its own
        assert len(heard) == pytest.approx(len(expected), rel=0.05)


def test_without_a_format_it_is_mp3_at_44100(server: Serving) -> None:
    answer = post(server, query="enable_logging=true")
    assert answer.headers["content-type"] == "audio/mpeg"
    assert soundfile.info(io.BytesIO(answer.content)).samplerate == 44100


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 32000, 44100, 48000])
def test_pcm_is_resampled(server: Serving, samples: np.ndarray, rate: int) -> None:
    heard = np.frombuffer(post(server, query=f"output_format=pcm_{rate}").content, "<i2")
    assert np.array_equal(heard.astype("<i2").tobytes(), encode_pcm(samples, rate))


def encode_pcm(samples: np.ndarray, rate: int) -> bytes:
    encoder = ContainerEncoder("pcm", 24000, is_seekable=False, output_rate=rate)
    return encoder.write(samples) + encoder.finish()


def test_telephones_get_one_byte_a_sample(server: Serving, samples: np.ndarray) -> None:
    linear = np.frombuffer(encode_pcm(samples, 8000), "<i2")
    assert post(server, query="output_format=ulaw_8000").content == to_ulaw(linear)
    assert len(post(server, query="output_format=alaw_8000").content) == len(linear)


@pytest.mark.parametrize(
    "name",
    [
        "mp3_8000_32", "pcm_11025", "ulaw_16000", "aac_44100", "mp3", "x" * 40,
        "mp3_44100_99", "mp3_22050_192", "opus_48000_16", "pcm_24000_64",
    ],
)  # fmt: skip
def test_other_formats_are_refused_and_never_another_rate(server: Serving, name: str) -> None:
    answer = post(server, query=f"output_format={name}")
    assert answer.status_code == 400
    assert answer.json()["detail"]["status"] == answer.json()["error"]["code"]


def check_alignment(alignment: dict[str, Any], text: str) -> None:
    assert "".join(alignment["characters"]) == text
    starts, ends = alignment["character_start_times_seconds"], alignment["character_end_times_seconds"]
    assert len(starts) == len(ends) == len(text)
    assert all(start <= end for start, end in zip(starts, ends, strict=True))
    assert all(before <= after + 1e-6 for before, after in itertools.pairwise(starts))


def test_characters_have_their_times(server: Serving, samples: np.ndarray) -> None:
    body = post(server, "/with-timestamps").json()
    assert np.array_equal(np.frombuffer(base64.b64decode(body["audio_base64"]), "<i2"), to_int16(samples))
    check_alignment(body["alignment"], TEXT)
    assert body["normalized_alignment"] == body["alignment"]
    assert body["alignment"]["character_end_times_seconds"][-1] <= len(samples) / 24000 + 0.01


def test_a_stream_brings_each_character_once(server: Serving, samples: np.ndarray) -> None:
    lines = [json.loads(line) for line in post(server, "/stream/with-timestamps").content.splitlines()]
    assert len(lines) > 1
    heard = b"".join(base64.b64decode(line["audio_base64"]) for line in lines)
    assert np.array_equal(np.frombuffer(heard, "<i2"), to_int16(samples))
    told = [line["alignment"] for line in lines if line["alignment"]]
    whole = {name: [value for each in told for value in each[name]] for name in told[0]}
    check_alignment(whole, TEXT)


def test_settings_have_their_effect_or_are_named(server: Serving, samples: np.ndarray) -> None:
    fast = post(server, voice_settings={"speed": 1.2, "stability": 0.5}, model_id="eleven_turbo_v2", previous_text="x")
    assert len(fast.content) < 2 * len(samples) * 0.95
    assert set(fast.headers["x-voxtral-ignored"].split(", ")) == {"stability", "model_id", "previous_text"}
    for settings in (None, {}):
        assert len(post(server, voice_settings=settings).content) == 2 * len(samples)
    assert post(server, voice_settings={"speed": 9}).status_code == 400


def test_numbers_are_written_out_where_that_is_asked_for(server: Serving, tts: VoxtralTTS) -> None:
    def length(**fields: Any) -> int:
        return len(post(server, text="I have 1234 of 99.", **fields).content)

    for chosen, level in (("on", "auto"), ("auto", "auto"), ("off", "clean")):
        wanted = tts.synthesize("I have 1234 of 99.", voice=VOICE, seed=6, normalize=level)  # type: ignore[arg-type]
        assert length(apply_text_normalization=chosen) == 2 * len(wanted.samples)


def test_dictionaries_are_ours(server: Serving, tts: VoxtralTTS) -> None:
    with server.client() as client:
        assert client.put("/v1/dictionaries/names", json={"rules": {"there": "over here"}}).status_code in (200, 201)
    located = [{"pronunciation_dictionary_id": "names", "version_id": "1"}]
    wanted = tts.synthesize(TEXT, voice=VOICE, seed=6, dictionary={"there": "over here"})
    assert len(post(server, pronunciation_dictionary_locators=located).content) == 2 * len(wanted.samples)
    missing = post(server, pronunciation_dictionary_locators=[{"pronunciation_dictionary_id": "none"}])
    assert (missing.status_code, missing.json()["detail"]["status"]) == (404, "dictionary_not_found")


def test_voices_and_models_as_its_clients_list_them(server: Serving) -> None:
    with server.client(headers=KEY) as client:
        voices = client.get("/v1/voices").json()["voices"]
        assert VOICE in [voice["voice_id"] for voice in voices]
        assert {"voice_id", "name", "category"} <= set(voices[0])
        page = client.get("/v2/voices?page_size=1").json()
        assert (len(page["voices"]), page["has_more"], page["total_count"]) == (1, True, len(voices))
        rest = client.get(f"/v2/voices?page_size=100&next_page_token={page['next_page_token']}").json()
        assert [*page["voices"], *rest["voices"]] == voices
        assert rest["has_more"] is False
        found = client.get("/v2/voices?search=CASUAL_m").json()["voices"]
        assert [voice["voice_id"] for voice in found] == [VOICE]
        assert client.get(f"/v1/voices/{VOICE}").json()["name"] == VOICE
        assert client.get("/v1/voices/nobody").json()["detail"]["status"] == "voice_not_found"
        (model,) = client.get("/v1/models").json()
        assert model["can_do_text_to_speech"] is True
        assert model["languages"][0]["language_id"]
    with server.client() as client:
        assert client.get("/v1/models").json()["object"] == "list"


def test_errors_have_both_shapes(server: Serving) -> None:
    answer = post(server, text=" ")
    assert answer.status_code == 400
    assert answer.json()["detail"]["message"] == answer.json()["error"]["message"]


# Over sockets.


def open_socket(server: Serving, kind: str = "stream-input", query: str = "output_format=pcm_24000&seed=6") -> Any:
    url = f"{server.url.replace('http', 'ws')}{BASE}/{kind}?{query}"
    return connect(url, open_timeout=20, max_size=2**24, additional_headers=KEY)


def send(socket: ClientConnection, **message: Any) -> None:
    socket.send(json.dumps(message))


def read_all(socket: ClientConnection) -> list[dict[str, Any]]:
    """Read until the server closes."""
    messages = []
    try:
        while True:
            messages.append(json.loads(socket.recv(timeout=30)))
    except ConnectionClosed:
        return messages


def audio(messages: list[dict[str, Any]]) -> np.ndarray:
    return np.frombuffer(b"".join(base64.b64decode(each["audio"]) for each in messages if each.get("audio")), "<i2")


def fed(tts: VoxtralTTS, pieces: list[str]) -> np.ndarray:
    """What the library makes of the same pieces."""
    stream = tts.synthesize_stream(iter(pieces), voice=VOICE, seed=6, timestamps=True)
    return to_int16(np.concatenate([chunk.samples for chunk in stream]))


def test_a_text_in_pieces_is_spoken_to_its_end(server: Serving, tts: VoxtralTTS) -> None:
    pieces = ["Hello ", "there. ", "How are ", "you?"]
    with open_socket(server) as socket:
        send(socket, text=" ", voice_settings=None, try_trigger_generation=True)
        for piece in pieces:
            send(socket, text=piece)
        send(socket, text="")
        messages = read_all(socket)
        assert socket.close_code == 1000
    assert messages[-1] == {"audio": None, "isFinal": True, "alignment": None, "normalizedAlignment": None}
    assert np.array_equal(audio(messages), fed(tts, pieces))
    told = [each["alignment"] for each in messages if each["alignment"]]
    assert "".join(char for each in told for char in each["chars"]) == "Hello there. How are you?"
    for each in told:
        assert len(each["chars"]) == len(each["charStartTimesMs"]) == len(each["charDurationsMs"])


def test_times_of_messages_add_up(server: Serving) -> None:
    """Clients add them up, each from where the last one that had any ended: Pipecat's words were seconds early."""
    starts: list[list[int]] = []
    for query in ("sync_alignment=true", "sync_alignment=false"):
        with open_socket(server, query=f"output_format=pcm_24000&seed=6&{query}") as socket:
            send(socket, text="One two three four five. Six seven eight nine ten. ")
            send(socket, text="")
            told = [each["alignment"] for each in read_all(socket) if each.get("alignment")]
        assert len(told) > 2
        since, starts_ms = 0, []
        for each in told:
            starts_ms += [since + start for start in each["charStartTimesMs"]]
            if query.endswith("false"):
                since += each["charStartTimesMs"][-1] + each["charDurationsMs"][-1]
        starts.append(starts_ms)
    assert starts[0][-1] > 0
    assert np.max(np.abs(np.subtract(*starts))) <= 1


def test_speech_comes_before_the_text_is_whole(server: Serving) -> None:
    with open_socket(server) as socket:
        send(socket, text=" ")
        send(socket, text="Hello there. And then")
        assert json.loads(socket.recv(timeout=30))["audio"]
        send(socket, text=" more")
        send(socket, text="", flush=False)
        assert read_all(socket)[-1]["isFinal"] is True


def test_a_flush_and_a_pause_have_half_a_sentence_spoken(server: Serving) -> None:
    for flush in (True, False):
        with open_socket(server) as socket:
            send(socket, text="Half a sentence ", flush=flush)
            assert json.loads(socket.recv(timeout=30))["audio"]
            send(socket, text="")
            assert read_all(socket)[-1]["isFinal"] is True


def test_a_wish_for_more_text_is_waited_for(server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "_PATIENCE_S", None)
    with open_socket(server) as socket:
        send(socket, text=" ", generation_config={"chunk_length_schedule": [50]})
        send(socket, text="Hello there. ")
        with pytest.raises(TimeoutError):
            socket.recv(timeout=0.4)
        send(socket, text="And now there are more than fifty of them. And more. ")
        assert json.loads(socket.recv(timeout=30))["audio"]
        send(socket, text="")
        read_all(socket)


@pytest.mark.parametrize("key", ["context_id", "contextId"])
def test_contexts_do_not_mix(server: Serving, tts: VoxtralTTS, key: str) -> None:
    texts = {"a": ["Hello there. ", "How are you?"], "b": ["One two. ", "Three."]}
    with open_socket(server, "multi-stream-input") as socket:
        for name in texts:
            send(socket, text=" ", voice_settings={}, **{key: name})
        for pieces in zip(*texts.values(), strict=True):
            for name, piece in zip(texts, pieces, strict=True):
                send(socket, text=piece, **{key: name})
        for name in texts:
            send(socket, text="", flush=True, **{key: name})
            send(socket, close_context=True, **{key: name})
        heard: dict[str, list[dict[str, Any]]] = {name: [] for name in texts}
        while not all(messages and messages[-1]["isFinal"] for messages in heard.values()):
            message = json.loads(socket.recv(timeout=30))
            assert message["contextId"] == message["context_id"]
            heard[message["context_id"]].append(message)
        # The socket stays, and the names can be used again.
        send(socket, text="Again. ", **{key: "a"})
        send(socket, close_context=True, **{key: "a"})
        assert json.loads(socket.recv(timeout=30))["audio"]
        send(socket, close_socket=True)
        assert read_all(socket)[-1]["isFinal"] is True
        assert socket.close_code == 1000
    for name, pieces in texts.items():
        assert np.array_equal(audio(heard[name]), fed(tts, pieces))


def test_one_context_fails_alone(server: Serving) -> None:
    with open_socket(server, "multi-stream-input") as socket:
        send(socket, text="Hello there. ", context_id="bad", voice_settings={"speed": 99})
        assert json.loads(socket.recv(timeout=30))["error"]
        socket.send(b"\x00")
        socket.send("{")
        send(socket, text=5, context_id="worse")
        assert json.loads(socket.recv(timeout=30))["context_id"] == "worse"
        send(socket, text="Hello there. ", context_id="good", flush=True)
        assert json.loads(socket.recv(timeout=30))["audio"]
        send(socket, close_context=True, context_id="nobody")
        send(socket, close_socket=True)
        assert read_all(socket)[-1]["isFinal"] is True


def test_there_is_a_number_of_contexts(server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "_MAX_CONTEXTS", 2)
    with open_socket(server, "multi-stream-input") as socket:
        for name in "abc":
            send(socket, text="Half ", context_id=name)
        message = json.loads(socket.recv(timeout=30))
        while "error" not in message:
            message = json.loads(socket.recv(timeout=30))
        assert (message["context_id"], message["code"]) == ("c", "too_many_contexts")


def test_who_interrupts_hears_no_more_and_is_told_the_last_word(server: Serving) -> None:
    with open_socket(server, "multi-stream-input") as socket:
        send(socket, text="One two three four five six. " * 12, context_id="a", flush=True)
        first = json.loads(socket.recv(timeout=30))
        assert first["audio"]
        send(socket, cancel_context=True, context_id="a", played_ms=60_000)
        message = first
        while not message.get("cancelled"):
            message = json.loads(socket.recv(timeout=30))
        assert message["isFinal"] is True
        assert message["last_word"] is None or message["last_word"]["word"]
        send(socket, text="Hello there. ", context_id="b", flush=True)
        assert json.loads(socket.recv(timeout=30))["context_id"] == "b"
    server.wait_until_idle()


def test_the_silent_are_let_go(server: Serving) -> None:
    with open_socket(server, query="inactivity_timeout=1") as socket:
        (message,) = read_all(socket)
        assert (message["error"], socket.close_code) == ("idle", 1008)
    with open_socket(server, "multi-stream-input", query="inactivity_timeout=1") as socket:
        assert read_all(socket) == []
        assert socket.close_code == 1000


@pytest.mark.parametrize("query", ["output_format=mp3_8000_32", "output_format=pcm_24000&apply_text_normalization=no"])
def test_what_is_wrong_of_one_text_closes_its_socket(server: Serving, query: str) -> None:
    with open_socket(server, query=query) as socket:
        send(socket, text="Hello. ")
        (message,) = read_all(socket)
        assert message["message"]
        assert socket.close_code == 1008
