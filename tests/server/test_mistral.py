"""Mistral's dialect over raw HTTP: who is taken for its client, and what that one gets."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest

from listening import events_of
from serving import Serving
from voxtral.audio.pcm import to_int16
from voxtral.tts import VoxtralTTS

TEXT = "Hello there."
AGENT = {"user-agent": "mistral-client-python/2.10.1", "accept": "application/json"}
BODY: dict[str, Any] = {"input": TEXT, "response_format": "pcm", "seed": 6, "max_frames": 8}


@pytest.fixture(scope="module")
def samples(tts: VoxtralTTS) -> np.ndarray:
    return tts.synthesize(TEXT, seed=6, max_frames=8).samples


def ask(server: Serving, headers: dict[str, str] | None = None, **fields: Any) -> Any:
    with server.client() as client:
        return client.post("/v1/audio/speech", json={**BODY, **fields}, headers=headers or {})


@pytest.mark.parametrize(
    ("headers", "fields"),
    [
        (AGENT, {}),
        ({"user-agent": "x", "x-mistral-user-agent": "mistral-client-typescript/2.7.0"}, {}),
        ({}, {"voice_id": "casual_male"}),
        ({}, {"voice_id": None}),
    ],
)
def test_its_clients_get_floats_in_an_object(
    server: Serving, samples: np.ndarray, headers: dict[str, str], fields: dict[str, Any]
) -> None:
    answer = ask(server, headers, **fields)
    assert answer.headers["content-type"] == "application/json"
    heard = np.frombuffer(base64.b64decode(answer.json()["audio_data"]), "<f4")
    assert answer.headers["content-length"] == str(len(answer.content))
    if fields.get("voice_id") is None:
        assert np.array_equal(heard, np.clip(samples, -1, 1))
    assert 0 < np.abs(heard).max() <= 1


def test_others_get_integers(server: Serving, samples: np.ndarray) -> None:
    for accept in ("*/*", "application/octet-stream", "application/json"):
        answer = ask(server, {"accept": accept})
        assert answer.headers["content-type"] == "audio/pcm"
        assert np.array_equal(np.frombuffer(answer.content, "<i2"), to_int16(samples))


def test_events_have_names_whole_samples_and_a_usage(server: Serving, samples: np.ndarray) -> None:
    answer = ask(server, AGENT | {"accept": "text/event-stream"}, stream=True)
    assert answer.headers["content-type"].startswith("text/event-stream")
    *deltas, done = events_of(answer.content)
    pieces = [base64.b64decode(event["audio_data"]) for event in deltas]
    assert len(pieces) > 1
    assert all(len(piece) % 4 == 0 for piece in pieces)
    assert np.array_equal(np.frombuffer(b"".join(pieces), "<f4"), np.clip(samples, -1, 1))
    usage = done["usage"]
    assert usage["completion_tokens"] == 8
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


@pytest.mark.parametrize("format", ["wav", "mp3", "flac", "opus"])
def test_containers_are_whole_files(server: Serving, format: str) -> None:
    data = base64.b64decode(ask(server, AGENT, response_format=format).json()["audio_data"])
    assert data[:4] in (b"RIFF", b"fLaC", b"OggS") or data[0] == 0xFF


@pytest.mark.parametrize(
    ("name", "ends", "ignored"),
    [
        ("en_paul_neutral", "male", None),
        ("gb_jane_sarcasm", "female", "mood"),
        ("GB_Oliver", "male", None),
        ("fr_marie_happy", "female", "mood"),
    ],
)
def test_its_presets_stand_for_ours_by_language_and_gender(
    server: Serving, name: str, ends: str, ignored: str | None
) -> None:
    answer = ask(server, AGENT, voice_id=name)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-voxtral-voice"].endswith(f"_{ends}")
    assert answer.headers.get("x-voxtral-ignored") == ignored


@pytest.mark.parametrize("name", ["en_peter_neutral", "de_paul_neutral", "paul"])
def test_other_names_are_unknown(server: Serving, name: str) -> None:
    answer = ask(server, AGENT, voice_id=name)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "voice")


def test_what_it_sends_without_effect_is_named(server: Serving) -> None:
    answer = ask(server, AGENT, metadata={"a": 1}, prompt_cache_key="k")
    assert answer.headers["x-voxtral-ignored"] == "metadata, prompt_cache_key"


def test_voices_have_what_its_client_wants_of_each(server: Serving) -> None:
    with server.client() as client:
        page = client.get("/v1/audio/voices?limit=10&offset=0&type=preset").json()
        assert {"items", "total", "page", "page_size", "total_pages"} <= set(page)
        for item in page["items"]:
            assert {"id", "name", "created_at", "user_id", "type"} <= set(item)
            assert item["type"] == "preset"
        for model in client.get("/v1/models").json()["data"]:
            assert model["type"] == "base"
            assert isinstance(model["capabilities"], dict)


def test_a_clip_without_consent_is_refused_with_the_way_for_its_client(server: Serving) -> None:
    clip = base64.b64encode(b"RIFF").decode()
    with server.client() as client:
        refused = client.post("/v1/audio/voices", json={"name": "x", "sample_audio": clip}, headers=AGENT)
        assert refused.status_code == 400
        assert "X-Voxtral-Consent" in json.dumps(refused.json())
        # With it, the clip is looked at.
        asked = client.post(
            "/v1/audio/voices",
            json={"name": "x", "sample_audio": clip, "languages": ["en"]},
            headers=AGENT | {"X-Voxtral-Consent": "true"},
        )
        assert asked.json()["error"]["param"] in ("reference", "audio_sample")
