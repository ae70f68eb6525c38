"""Kokoro-FastAPI's clients: what they send to /dev/captioned_speech, and how they read the answer."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest

from serving import Serving
from voxtral.audio.pcm import to_int16
from voxtral.tts import VoxtralTTS
from word_times import give_words

TEXT = "Hello world, how are you?"
BODY: dict[str, Any] = {"model": "kokoro", "input": TEXT, "voice": "af_bella", "speed": 1.0, "response_format": "pcm"}
SAME = {"seed": 6, "max_frames": 20}


def post(server: Serving, **changes: Any) -> Any:
    with server.client() as client:
        return client.post("/dev/captioned_speech", json={**BODY, **SAME, **changes})


def test_one_object_has_all_audio_and_all_words(
    server: Serving, tts: VoxtralTTS, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_words(monkeypatch, TEXT)
    answer = post(server, stream=False)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert int(answer.headers["content-length"]) == len(answer.content)
    found = answer.json()
    assert set(found) == {"audio", "audio_format", "timestamps"}
    assert found["audio_format"] == "audio/pcm"
    expected = to_int16(tts.synthesize(TEXT, "en", voice=answer.headers["x-voxtral-voice"], **SAME).samples)
    assert np.array_equal(np.frombuffer(base64.b64decode(found["audio"], validate=True), "<i2"), expected)
    words = found["timestamps"]
    assert [word["word"] for word in words] == TEXT.split()
    assert all(set(word) == {"word", "start_time", "end_time"} for word in words)
    edges = [word[edge] for word in words for edge in ("start_time", "end_time")]
    assert edges == sorted(edges)
    assert edges[-1] == pytest.approx(len(expected) / 24000, abs=1e-4)


def wordy_seed(tts: VoxtralTTS) -> int:
    """A seed with which the tiny model goes on to the last frame; its lengths are random."""
    return next(seed for seed in range(1000) if tts.synthesize(TEXT, seed=seed, max_frames=20).duration > 1.5)


def test_a_long_answer_is_one_text_of_base64(server: Serving, tts: VoxtralTTS) -> None:
    seed = wordy_seed(tts)
    answer = post(server, stream=False, voice=None, seed=seed)
    audio = base64.b64decode(answer.json()["audio"], validate=True)
    assert len(audio) > 2 * 32766  # more than two pieces
    assert np.array_equal(np.frombuffer(audio, "<i2"), to_int16(tts.synthesize(TEXT, seed=seed, max_frames=20).samples))


def test_a_stream_is_an_object_a_line_and_words_come_once(
    server: Serving, tts: VoxtralTTS, monkeypatch: pytest.MonkeyPatch
) -> None:
    same = {"voice": None, "seed": wordy_seed(tts)}
    give_words(monkeypatch, TEXT)
    whole = post(server, stream=False, **same).json()
    with (
        server.client() as client,
        client.stream("POST", "/dev/captioned_speech", json={**BODY, **SAME, **same}) as answer,
    ):
        assert answer.headers["content-type"] == "application/jsonl"
        lines = [json.loads(line) for line in answer.iter_lines() if line]
    assert len(lines) > 1
    assert all(set(line) == {"audio", "audio_format", "timestamps"} for line in lines)
    assert b"".join(base64.b64decode(line["audio"]) for line in lines) == base64.b64decode(whole["audio"])
    words = [word for line in lines for word in line["timestamps"]]
    assert [word["word"] for word in words] == TEXT.split()
    assert sum(bool(line["timestamps"]) for line in lines) > 1


@pytest.mark.parametrize("stream", [True, False])
def test_words_are_never_null_where_text_was_spoken(server: Serving, stream: bool) -> None:
    # Whatever is known of the words.
    lines = [json.loads(line) for line in post(server, stream=stream).text.splitlines()]
    assert all(isinstance(line["timestamps"], list) for line in lines)
    words = [word for line in lines for word in line["timestamps"]]
    assert [word["word"] for word in words] == TEXT.split()


@pytest.mark.parametrize("stream", [True, False])
def test_who_wants_no_words_gets_none(server: Serving, stream: bool) -> None:
    lines = [json.loads(line) for line in post(server, stream=stream, return_timestamps=False).text.splitlines()]
    assert {line["timestamps"] for line in lines} == {None}


@pytest.mark.parametrize(
    ("format", "media_type"),
    [("mp3", "audio/mpeg"), ("wav", "audio/wav"), ("opus", "audio/opus"), ("flac", "audio/flac")],
)
def test_the_format_is_named_by_its_media_type(server: Serving, format: str, media_type: str) -> None:
    assert post(server, response_format=format, stream=False).json()["audio_format"] == media_type


def test_an_empty_body_of_options_is_enough(server: Serving) -> None:
    with server.client() as client:
        answer = client.post("/dev/captioned_speech", json={"input": "Hi.", "max_frames": 3})
    assert answer.status_code == 200
    assert {json.loads(line)["audio_format"] for line in answer.text.splitlines()} == {"audio/mpeg"}


@pytest.mark.parametrize(("voice", "gender"), [("af_bella", "female"), ("am_adam", "male"), ("bm_fable", "male")])
def test_names_of_its_voices_stand_for_presets(server: Serving, voice: str, gender: str) -> None:
    answer = post(server, voice=voice, stream=False)
    assert gender in answer.headers["x-voxtral-voice"].split("_")
    assert answer.headers["x-voxtral-language"] == "en"
    assert answer.headers["x-voxtral-ignored"] == "model"


@pytest.mark.parametrize("voice", ["af_bella(2)+am_adam(1)", "af_bella:2+am_adam", "af_bella(0.6) + am_adam(.3)"])
def test_its_names_are_blended(server: Serving, voice: str) -> None:
    answer = post(server, voice=voice, stream=False)
    first, second = unquote(answer.headers["x-voxtral-voice"]).split("+")
    assert ("female" in first, first[-6:]) == (True, ":0.667")
    assert ("_male" in second, second[-6:]) == (True, ":0.333")
    assert answer.headers["x-voxtral-language"] == "en"


def test_a_voice_that_was_added_under_such_a_name_goes_first(server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    voices = server.service.host._voices
    assert voices is not None
    preset = voices.presets[-1].name
    monkeypatch.setattr(voices, "find", lambda name: voices.presets[-1])
    monkeypatch.setattr(voices, "resolve", lambda name, language: preset if name == "af_bella" else None)
    assert post(server, stream=False).headers["x-voxtral-voice"] == preset


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"voice": "af_bella+zf_xiaoxiao"}, "is unknown"),
        ({"voice": "af_bella(much)+af_sky"}, "is no number"),
        ({"voice": "+".join(["af_bella"] * 5)}, "more than 4 voices"),
        ({"voice": "zf_xiaoxiao"}, "is unknown"),
        ({"lang_code": "z"}, "language"),
        ({"return_timestamps": "maybe"}, "return_timestamps: .*it must be true or false"),
        ({"input": ""}, "the text is empty"),
        ({"speed": 9}, "speed"),
        ({"model": "xtts"}, "xtts"),
    ],
)
def test_what_is_not_done_is_refused(server: Serving, changes: dict[str, Any], message: str) -> None:
    answer = post(server, **changes)
    assert answer.status_code in (400, 404)
    assert message.split(":")[0] in answer.json()["error"]["message"]


def test_fields_without_effect_are_named(server: Serving) -> None:
    answer = post(server, stream=False, volume_multiplier=1.0, normalization_options={"normalize": True})
    assert answer.headers["x-voxtral-ignored"] == "model, volume_multiplier, normalization_options"
