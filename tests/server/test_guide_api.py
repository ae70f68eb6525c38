"""The users' guide's own API, as it stands there."""

from __future__ import annotations

import io
import subprocess
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile

from serving import Serving
from spoken_clips import spoken_file
from voxtral.audio.pcm import to_int16
from voxtral.tts import VoxtralTTS

TEXT = "Hello world"


def expected(tts: VoxtralTTS, text: str = TEXT, **options: object) -> np.ndarray:
    return to_int16(tts.synthesize(text, "en", seed=6, max_frames=12, **options).samples)


def samples_of(wav: bytes) -> np.ndarray:
    """Read a streamed WAV, whose header does not know its length."""
    assert wav[:4] == b"RIFF"
    assert wav[36:40] == b"data"
    return np.frombuffer(wav[44:], dtype="<i2")


OPTIONS = {"seed": "6", "max_frames": "12"}


def test_the_guides_curl_line(server: Serving, tmp_path: Path) -> None:
    target = tmp_path / "hello.wav"
    url = f"{server.url}/synthesize?text=Hello%20world&language=en&max_frames=12"
    done = subprocess.run(["curl", "-sS", "-X", "POST", url, "--output", str(target)], check=True, timeout=30)
    assert done.returncode == 0
    samples, rate = soundfile.read(target)
    assert rate == 24000
    assert len(samples) > 0


@pytest.mark.parametrize("way", ["query", "form", "multipart", "json"])
def test_text_comes_by_query_form_or_json(server: Serving, tts: VoxtralTTS, way: str) -> None:
    fields = {"text": TEXT, "language": "en", **OPTIONS}
    sent = {
        "query": {"params": fields},
        "form": {"data": fields},
        "multipart": {"files": {name: (None, value) for name, value in fields.items()}},
        "json": {"json": {**fields, "seed": 6, "max_frames": 12}},
    }[way]
    with server.client() as client:
        answer = client.post("/synthesize", **sent)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "audio/wav"
    assert np.array_equal(samples_of(answer.content), expected(tts))


def test_a_reference_is_the_voice_and_is_not_kept(server: Serving, tts: VoxtralTTS, tmp_path: Path) -> None:
    clip = spoken_file(3.0)
    with server.client() as client:
        answer = client.post(
            "/synthesize",
            params={"text": TEXT, "language": "en", **OPTIONS},
            files={"reference": ("me.wav", clip, "audio/wav")},
        )
    assert answer.status_code == 200, answer.text
    assert np.array_equal(samples_of(answer.content), expected(tts, reference_audio=clip))
    assert not [path for path in server.service.options.data_dir.rglob("*") if path.is_file() and path.name != ".lock"]


def test_health_is_json_and_ok_in_plain_text(server: Serving, tts: VoxtralTTS) -> None:
    with server.client() as client:
        assert client.get("/health").json() == {
            "status": "ok",
            "model": "voxtral-tts",
            "languages": len(tts.config.languages),
            "cloning": {"encoder": "checkpoint", "refine": False, "licence": None},
        }
        assert client.get("/health", headers={"accept": "text/plain"}).text == "OK"


def test_a_held_answer_has_length_and_statistics(server: Serving, tts: VoxtralTTS) -> None:
    with server.client() as client:
        answer = client.post(
            "/synthesize", json={"text": TEXT, "language": "en", "seed": 6, "max_frames": 12, "stream": False}
        )
    with wave.open(io.BytesIO(answer.content)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
    assert np.array_equal(samples, expected(tts))
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert answer.headers["x-voxtral-finish-reason"] == "length"
    assert answer.headers["x-voxtral-frames"] == "12"


def test_a_client_of_http_1_0_gets_the_length(server: Serving) -> None:
    """Without chunks a body that breaks off looks like one that ended."""
    url = f"{server.url}/synthesize?text=Hello&max_frames=3"
    done = subprocess.run(
        ["curl", "-sS", "--http1.0", "-X", "POST", "-D", "-", "-o", "/dev/null", url],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert "content-length:" in done.stdout.lower()


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({}, 400, "invalid_request"),
        ({"text": ""}, 400, "invalid_text"),
        ({"text": "hi", "language": "xx"}, 400, "unsupported_language"),
        ({"text": "hi", "speed": "fast"}, 400, "invalid_request"),
        ({"text": "hi", "voice": "../secret"}, 400, "invalid_voice"),
        ({"text": "hi", "voice": "/etc/passwd.safetensors"}, 400, "invalid_voice"),
        ({"text": "hi", "reference": "clip.wav"}, 400, "invalid_reference_audio"),
        ({"text": "a" * 100_001}, 413, "text_too_long"),
    ],
)
def test_what_is_wrong_is_said_before_any_work(server: Serving, fields: dict, status: int, code: str) -> None:
    with server.client() as client:
        answer = client.post("/synthesize", data=fields)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code)
    assert set(error) == {"message", "type", "param", "code"}


def test_long_text_is_spoken_in_order_without_gaps(server: Serving, tts: VoxtralTTS) -> None:
    text = "This is a sentence that has some length to it, and a comma. " * 12
    with server.client() as client:
        answer = client.post("/synthesize", json={"text": text, "language": "en", "seed": 6, "max_frames": 12})
    made = expected(tts, text)
    assert len(tts.synthesize(text, "en", seed=6, max_frames=12).segments) > 1
    assert np.array_equal(samples_of(answer.content), made)
