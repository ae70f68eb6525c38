"""What other dialects of OpenAI's address ask for: rates, words in a header, names in any case, files with a length."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
import soundfile

from listening import decode, events_of
from serving import Serving, serving
from voxtral.audio.encode import encode
from voxtral.audio.pcm import from_int16
from voxtral.audio.read import read_audio
from voxtral.tts import VoxtralTTS

TEXT = "Hello there, how are you?"
BODY: dict[str, Any] = {"input": TEXT, "seed": 6, "max_frames": 10}


@pytest.fixture(scope="module")
def samples(tts: VoxtralTTS) -> np.ndarray:
    """What the engine makes of the text."""
    return tts.synthesize(TEXT, seed=6, max_frames=10).samples


def ask(server: Serving, **fields: Any) -> Any:
    with server.client() as client:
        return client.post("/v1/audio/speech", json={**BODY, **fields})


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 24000, 44100, 48000])
@pytest.mark.parametrize("format", ["pcm", "wav", "flac"])
def test_every_rate_is_given_in_the_container_and_in_a_header(
    server: Serving, samples: np.ndarray, format: str, rate: int
) -> None:
    answer = ask(server, response_format=format, sample_rate=rate)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-voxtral-sample-rate"] == str(rate)
    if format == "pcm":
        heard = from_int16(np.frombuffer(answer.content, "<i2"))
    else:
        heard, named = soundfile.read(io.BytesIO(answer.content), dtype="float32")
        assert named == rate
    assert abs(len(heard) - len(samples) * rate / 24000) <= 2
    back = read_audio(encode(heard, "flac", rate), sample_rate=8000)
    wanted = read_audio(encode(samples, "flac", 24000), sample_rate=8000)
    length = min(len(back), len(wanted))
    assert np.corrcoef(back[:length], wanted[:length])[0, 1] > 0.98


@pytest.mark.parametrize("format", ["mp3", "opus"])
def test_codecs_take_the_rates_that_they_know(server: Serving, format: str) -> None:
    assert ask(server, response_format=format, sample_rate=16000).status_code == 200
    answer = ask(server, response_format=format, sample_rate=9000)
    assert answer.status_code == 400
    assert (answer.json()["error"]["code"], answer.json()["error"]["param"]) == ("unsupported_format", "sample_rate")
    assert "24000" in answer.json()["error"]["message"]


@pytest.mark.parametrize("rate", [7999, 48001, 0, True, 16000.5, "fast"])
def test_other_rates_are_refused_before_anything_is_done(server: Serving, rate: Any) -> None:
    answer = ask(server, sample_rate=rate)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "sample_rate")


@pytest.mark.parametrize("format", ["pcm", "wav", "mp3"])
def test_a_stream_is_the_whole_at_any_rate(server: Serving, format: str) -> None:
    asked = {"response_format": format, "sample_rate": 22050}
    streamed, whole = (decode_at(ask(server, **asked, **more).content, format) for more in ({}, {"stream": False}))
    assert np.array_equal(streamed, whole) if format != "mp3" else abs(len(streamed) - len(whole)) < 2000


def decode_at(data: bytes, format: str) -> np.ndarray:
    return decode(data, format) if format == "pcm" else read_audio(data, sample_rate=22050)


def test_a_flac_file_has_its_length_unless_it_is_streamed(server: Serving, samples: np.ndarray) -> None:
    answer = ask(server, response_format="flac")
    assert "content-length" in answer.headers
    heard, _ = soundfile.read(io.BytesIO(answer.content), dtype="float32")
    assert len(heard) == len(samples)
    assert "content-length" not in ask(server, response_format="flac", stream=True).headers


def test_words_are_told_in_a_header_of_what_is_not_streamed(server: Serving) -> None:
    answer = ask(server, word_timestamps=True, response_format="wav", max_frames=40)
    words = json.loads(answer.headers["x-word-timestamps"])
    assert "".join(word["word"] for word in words).replace(",", "").startswith("Hello")
    assert all(0 <= word["start_ms"] <= word["end_ms"] for word in words)
    assert "content-length" in answer.headers
    events = events_of(ask(server, word_timestamps=True, stream_format="sse").content)
    assert any(event.get("words") for event in events)


def test_many_words_do_not_fit_a_header(server: Serving) -> None:
    answer = ask(server, input="One two three four. " * 60, word_timestamps=True, max_frames=30)
    assert answer.headers["x-word-timestamps-omitted"] == "true"
    assert "x-word-timestamps" not in answer.headers


@pytest.mark.parametrize(
    ("fields", "same"),
    [
        ({"voice": "CASUAL_Male"}, {"voice": "casual_male"}),
        ({"speaker": "casual_male"}, {"voice": "casual_male"}),
        ({"voice": "Onyx", "language": "en"}, {"voice": "onyx", "language": "en"}),
        ({"max_new_tokens": 4, "max_frames": None}, {"max_frames": 4}),
        ({"language": "Auto"}, {}),
        ({"language": "AUTO"}, {"language": ""}),
        ({"response_format": None, "stream_format": None}, {"response_format": "mp3"}),
        ({"model": "gpt-4o-mini-tts-2025-12-15"}, {"model": "tts-1"}),
        ({"model": "tts-1-hd-2024-01-02"}, {}),
    ],
)
def test_what_others_call_otherwise_is_the_same(server: Serving, fields: dict[str, Any], same: dict[str, Any]) -> None:
    def body(more: dict[str, Any]) -> bytes:
        asked = {**BODY, "response_format": "pcm", **more}
        if "max_new_tokens" in more:
            del asked["max_frames"]
        with server.client() as client:
            answer = client.post("/v1/audio/speech", json=asked)
        assert answer.status_code == 200, answer.text
        assert "x-voxtral-ignored" not in answer.headers
        return answer.content

    assert body(fields) == body({"response_format": "pcm", **same})


@pytest.mark.parametrize("model", ["gpt-4o-mini-tts-2025", "gpt-4-2025-12-15", "tts-1-2025-12-15x"])
def test_other_names_are_no_models(server: Serving, model: str) -> None:
    assert ask(server, model=model).status_code == 404


def test_max_new_tokens_of_none_is_refused(server: Serving) -> None:
    with server.client() as client:
        answer = client.post("/v1/audio/speech", json={"input": TEXT, "max_new_tokens": 0})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "max_new_tokens")


def test_a_name_may_stand_for_the_loaded_model(tts: VoxtralTTS, server: Serving) -> None:
    refused = ask(server, model="voxtral-mini-tts-3-0")
    assert refused.status_code == 404
    assert "--model-alias voxtral-mini-tts-3-0" in refused.json()["error"]["message"]
    with serving(tts, model_alias=("voxtral-mini-tts-3-0",)) as other, other.client() as client:
        assert client.post("/v1/audio/speech", json={**BODY, "model": "voxtral-mini-tts-3-0"}).status_code == 200
        assert "voxtral-mini-tts-3-0" in [model["id"] for model in client.get("/v1/models").json()["data"]]


def test_what_is_packed_is_refused_and_not_read_as_damaged(server: Serving) -> None:
    with server.client() as client:
        for coding, status in (("gzip", 415), ("br", 415), ("identity", 200), ("", 200)):
            headers = {"content-encoding": coding}
            assert client.post("/v1/audio/speech", json=BODY, headers=headers).status_code == status


@pytest.mark.parametrize("path", ["/health", "/livez", "/"])
def test_a_public_page_has_a_head(server: Serving, path: str) -> None:
    with server.client() as client:
        head, whole = client.head(path), client.get(path)
        assert (head.status_code, head.content) == (whole.status_code, b"")
        assert head.headers["content-length"] == whole.headers["content-length"]
        assert client.head("/v1/models").status_code == 405
