"""Voices over HTTP: made from a clip with consent, listed in everybody's shape, heard, changed, deleted, kept."""

from __future__ import annotations

import base64
import json
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx2
import numpy as np
import pytest

from hostile_clips import wav
from serving import Serving, serving
from spoken_clips import spoken_file
from voxtral.audio.pcm import to_int16
from voxtral.server.dialects import voices
from voxtral.tts import VoxtralTTS

VOICES = "/v1/audio/voices"
RATE = 24000


def make_clip(seconds: float = 3.0, hz: float = 180.0, format: str = "WAV") -> bytes:
    return spoken_file(seconds, RATE, hz=hz, format=format)


def silent_clip(seconds: int) -> bytes:
    return wav(bytes(2 * 8000 * seconds), rate=8000)


CLIP = make_clip()


@pytest.fixture(scope="module")
def server(tts: VoxtralTTS) -> Iterator[Serving]:
    with serving(tts) as running:
        yield running


@pytest.fixture
def client(server: Serving) -> Iterator[httpx2.Client]:
    """A client, and no voices but the presets."""
    with server.client() as client:
        for voice in client.get(VOICES).json()["uploaded_voices"]:
            client.delete(f"{VOICES}/{voice['name']}")
        yield client


def create(client: httpx2.Client, name: str = "Zoë", clip: bytes = CLIP, **fields: Any) -> httpx2.Response:
    form = {"name": name, "consent": "true", **fields}
    data = {key: value for key, value in form.items() if value is not None}
    return client.post(VOICES, data=data, files={"audio_sample": ("../../me.wav", clip, "audio/wav")})


def code_of(answer: httpx2.Response) -> tuple[int, str]:
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return answer.status_code, error["code"]


def speak(client: httpx2.Client, voice: str | dict[str, str], **fields: Any) -> httpx2.Response:
    body = {"input": "Hello", "voice": voice, "response_format": "pcm", "seed": 7, "max_frames": 8, **fields}
    return client.post("/v1/audio/speech", json=body)


def test_a_voice_is_made_listed_and_spoken_with(client: httpx2.Client, tts: VoxtralTTS) -> None:
    made = create(
        client, consent="She agreed on 3 May", language="French", speaker_description="calm", ref_text="Bonjour"
    )
    assert made.status_code == 200, made.text
    voice = made.json()
    assert voice["id"].startswith("voice_")
    assert (voice["name"], voice["language"], voice["languages"]) == ("Zoë", "fr", ["fr"])
    assert (voice["consent"], voice["description"], voice["ref_text"]) == ("She agreed on 3 May", "calm", "Bonjour")
    assert (voice["mime_type"], voice["file_size"]) == ("audio/wav", len(CLIP))
    assert voice["duration_s"] == pytest.approx(3.0, abs=0.08)
    assert (voice["kind"], voice["is_default"], voice["warnings"], voice["ignored"]) == ("uploaded", False, [], [])

    listed = client.get(VOICES).json()
    assert voice["id"] in [each["id"] for each in listed["voices"]]
    assert listed["uploaded_voices"][0]["consent"] == "She agreed on 3 May"

    expected = to_int16(tts.synthesize("Hello", voice=tts.create_voice(CLIP), seed=7, max_frames=8).samples)
    for name in ("Zoë", "zoë", voice["id"], {"id": voice["id"]}):
        answer = speak(client, name)
        assert answer.status_code == 200, answer.text
        assert np.array_equal(np.frombuffer(answer.content, "<i2"), expected)
    assert client.post("/synthesize", data={"text": "Hello", "voice": "Zoë", "max_frames": "4"}).status_code == 200


def test_the_list_has_everybodys_shape(client: httpx2.Client, tts: VoxtralTTS) -> None:
    create(client)
    presets = [voice.name for voice in tts.voices]
    names = [*presets, "Zoë"]
    listed = client.get(VOICES).json()
    assert listed["object"] == "list"
    assert [voice["name"] for voice in listed["voices"]] == names
    assert listed["voices"] == listed["data"] == listed["items"]
    assert set(listed["voices"][0]) == set(listed["voices"][-1])
    assert [voice["id"] for voice in listed["voices"]][: len(presets)] == presets
    assert [voice["gender"] for voice in listed["voices"]] == ["male", "female", ""]
    assert [voice["kind"] for voice in listed["voices"]] == ["preset", "preset", "uploaded"]
    assert any(voice["is_default"] for voice in listed["voices"])
    assert set(listed["uploaded_voices"][0]) >= {"name", "consent", "created_at", "file_size", "mime_type"}
    assert client.get(VOICES, params={"legacy": "true"}).json()["voices"] == names


def test_items_come_in_pages(client: httpx2.Client, tts: VoxtralTTS) -> None:
    create(client)

    def page(**query: Any) -> tuple[list[str], int, int, int, int]:
        listed = client.get(VOICES, params=query).json()
        numbers = (listed["total"], listed["page"], listed["page_size"], listed["total_pages"])
        return [item["name"] for item in listed["items"]], *numbers

    presets = [voice.name for voice in tts.voices]
    assert page(limit=2) == (presets, 3, 1, 2, 2)
    assert page(limit=2, offset=2) == (["Zoë"], 3, 2, 2, 2)
    assert page(limit=2, offset=10**30)[0] == []
    assert page(type="preset")[0] == presets
    assert page(type="custom") == (["Zoë"], 1, 1, 100, 1)
    for query in ({"limit": 0}, {"offset": -1}, {"type": "x"}, {"legacy": "maybe"}):
        assert code_of(client.get(VOICES, params=query)) == (400, "invalid_request")


def test_json_takes_the_clip_in_base64(client: httpx2.Client) -> None:
    text = base64.b64encode(CLIP).decode()
    for number, clip in enumerate(({"audio_sample": text}, {"sample_audio": f"data:audio/x-wav;base64,{text}"})):
        answer = client.post(
            VOICES, json={"name": f"v{number}", "consent": True, **clip, "language": None, "slug": "s", "tags": []}
        )
        assert answer.status_code == 200, answer.text
        assert answer.json()["consent"] == "true"
        assert answer.json()["ignored"] == ["slug", "tags"]
        assert answer.json()["mime_type"] == ("", "audio/x-wav")[number]
        assert answer.json()["file_size"] == len(CLIP)


@pytest.mark.parametrize(("kind", "kept"), [("audio/x-m4a", "audio/x-m4a"), ("<b>/\N{SNOWMAN}", ""), ("x" * 999, "")])
def test_only_what_is_a_type_of_media_is_kept_as_one(client: httpx2.Client, kind: str, kept: str) -> None:
    body = {"name": "Zoë", "consent": True, "file": f"data:{kind};base64,{base64.b64encode(CLIP).decode()}"}
    assert client.post(VOICES, json=body).json()["mime_type"] == kept


def test_a_short_clip_is_told(client: httpx2.Client) -> None:
    answer = create(client, clip=make_clip(1.5, format="FLAC"))
    assert answer.status_code == 200
    assert "1.50 s" in answer.json()["warnings"][0]


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"consent": None}, 400, "invalid_request"),
        ({"consent": ""}, 400, "invalid_request"),
        ({"consent": "False"}, 400, "invalid_request"),
        ({"consent": "x" * 1001}, 400, "invalid_request"),
        ({"name": None}, 400, "invalid_request"),
        ({"name": "../../etc/passwd"}, 400, "invalid_request"),
        ({"name": "x" * 65}, 400, "invalid_request"),
        ({"name": "voice_0123456789abcdef"}, 400, "invalid_request"),
        ({"name": "Neutral_Female"}, 409, "voice_exists"),
        ({"language": "Klingon"}, 400, "unsupported_language"),
        ({"language": "ja"}, 400, "unsupported_language"),
        ({"clip": b""}, 400, "invalid_reference_audio"),
        ({"clip": b"RIFF is no wav"}, 400, "invalid_reference_audio"),
        ({"clip": make_clip(0.5)}, 400, "invalid_reference_audio"),
        ({"clip": silent_clip(601)}, 400, "invalid_reference_audio"),
        ({"clip": silent_clip(3)}, 400, "invalid_reference_audio"),
        ({"clip": b"\0" * (10 * 2**20 + 1)}, 413, "clip_too_large"),
        ({"clip": b"\0" * (20 * 2**20)}, 413, "body_too_large"),
    ],
)
def test_what_is_wrong_is_refused_and_leaves_nothing(
    server: Serving, client: httpx2.Client, fields: dict[str, Any], status: int, code: str
) -> None:
    assert code_of(create(client, **fields)) == (status, code)
    assert client.get(VOICES).json()["uploaded_voices"] == []
    assert not [path for path in server.service.options.data_dir.rglob("*") if path.is_file() and path.name != ".lock"]


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({}, 400, "invalid_reference_audio"),
        ({"audio_sample": "no base64!"}, 400, "invalid_reference_audio"),
        ({"audio_sample": "http://localhost/me.wav"}, 400, "invalid_reference_audio"),
        ({"audio_sample": 7}, 400, "invalid_reference_audio"),
        ({"audio_sample": "QUJD", "consent": False}, 400, "invalid_request"),
        ({"audio_sample": "QUJD", "consent": 1}, 400, "invalid_request"),
        ({"audio_sample": "QUJD", "description": "\ud800"}, 400, "invalid_request"),
        ({"audio_sample": "QUJD", "description": 7}, 400, "invalid_request"),
        ({"audio_sample": "Q" * (10 * 2**20 * 4 // 3 + 8)}, 413, "clip_too_large"),
    ],
)
def test_wrong_json_is_refused(client: httpx2.Client, fields: dict[str, Any], status: int, code: str) -> None:
    body = {"name": "Zoë", "consent": True, **fields}
    content = json.dumps(body)  # the client itself would refuse half a character
    answer = client.post(VOICES, content=content, headers={"content-type": "application/json"})
    assert code_of(answer) == (status, code)


def test_a_name_is_given_once(client: httpx2.Client) -> None:
    other = create(client, "other").json()
    assert create(client, "Zoë").status_code == 200
    assert code_of(create(client, " ZOË ")) == (409, "voice_exists")
    for name in ("zoë", "Casual_Male"):
        assert code_of(client.patch(f"{VOICES}/{other['id']}", json={"name": name})) == (409, "voice_exists")
    with ThreadPoolExecutor(4) as pool:
        statuses = sorted(answer.status_code for answer in pool.map(lambda _: create(client, "same"), range(4)))
    assert statuses == [200, 409, 409, 409]


def test_an_openai_name_may_be_given_to_a_voice_of_ones_own(client: httpx2.Client) -> None:
    """Some clients know no other names."""
    before = speak(client, "alloy")
    made = create(client, "alloy")
    assert made.status_code == 200
    assert speak(client, "alloy").content == speak(client, made.json()["id"]).content != before.content
    client.delete(f"{VOICES}/alloy")
    assert speak(client, "alloy").content == before.content


def test_a_voice_is_read_by_name_or_id(client: httpx2.Client) -> None:
    made = create(client, "Zoë 2").json()
    by_id = client.get(f"{VOICES}/{made['id']}").json()
    assert by_id == client.get(f"{VOICES}/Zoë 2").json()
    assert {key: made[key] for key in by_id} == by_id
    preset = client.get(f"{VOICES}/neutral_female").json()
    assert (preset["id"], preset["kind"]) == ("neutral_female", "preset")


@pytest.mark.parametrize(
    "name", ["nobody", "voice_0123456789abcdef", "..", "%2e%2e%2fsecret", "%00", "%ff", "x" * 9000]
)
@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
def test_who_is_unknown_is_not_found(client: httpx2.Client, method: str, name: str) -> None:
    body = {"json": {"name": "b"}} if method == "PATCH" else {}
    answer = client.request(method, httpx2.URL(client.base_url).copy_with(raw_path=f"{VOICES}/{name}".encode()), **body)
    assert answer.status_code == 404
    assert code_of(answer)[1] in ("voice_not_found", "not_found")


def test_a_voice_is_changed(client: httpx2.Client) -> None:
    made = create(client, language="fr", description="calm").json()
    path = f"{VOICES}/{made['id']}"
    changed = client.patch(path, json={"name": "Zoé", "description": "", "language": "de-AT", "age": 7})
    assert changed.status_code == 200, changed.text
    assert (changed.json()["name"], changed.json()["description"], changed.json()["language"]) == ("Zoé", "", "de")
    assert changed.json()["ignored"] == ["age"]
    assert changed.json()["consent"] == "true"
    assert client.get(f"{VOICES}/Zoë").status_code == 404
    assert speak(client, "Zoé").status_code == 200
    for body in ({}, {"age": 7}, {"name": None}, {"name": "a/b"}, {"name": 7}):
        assert code_of(client.patch(path, json=body)) == (400, "invalid_request")
    assert code_of(client.patch(path, json={"language": "xx"})) == (400, "unsupported_language")


def test_a_voice_is_deleted(client: httpx2.Client, server: Serving) -> None:
    made = create(client).json()
    answer = client.delete(f"{VOICES}/Zoë")
    assert answer.status_code == 200
    assert (answer.json()["id"], answer.json()["deleted"]) == (made["id"], True)
    assert code_of(client.delete(f"{VOICES}/{made['id']}")) == (404, "voice_not_found")
    assert code_of(speak(client, "Zoë")) == (400, "invalid_voice")
    assert not [path for path in server.service.options.data_dir.rglob("*") if path.is_file() and path.name != ".lock"]


def test_presets_are_not_changed(client: httpx2.Client) -> None:
    path = f"{VOICES}/neutral_female"
    for answer in (client.patch(path, json={"name": "b"}), client.delete(path)):
        assert code_of(answer) == (403, "voice_is_preset")


def test_a_voice_is_heard(client: httpx2.Client, tts: VoxtralTTS, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voices, "sample_sentence", {"en": "Hi", "fr": "Oui"}.__getitem__)
    made = create(client, language="fr").json()
    for name, text, voice in (
        (made["id"], "Oui", tts.create_voice(CLIP)),
        ("Zoë", "Oui", tts.create_voice(CLIP)),
        ("casual_male", "Hi", "casual_male"),
    ):
        answer = client.get(f"{VOICES}/{name}/sample", params={"response_format": "pcm"})
        assert answer.status_code == 200, answer.text
        expected = to_int16(tts.synthesize(text, voice=voice, seed=0).samples)
        assert np.array_equal(np.frombuffer(answer.content, "<i2"), expected)
    assert client.get(f"{VOICES}/casual_male/sample").content[:4] == b"RIFF"
    assert code_of(client.get(f"{VOICES}/nobody/sample")) == (404, "voice_not_found")
    answer = client.get(f"{VOICES}/casual_male/sample", params={"response_format": "doc"})
    assert code_of(answer) == (400, "invalid_request")


def test_voices_are_there_after_a_restart(tts: VoxtralTTS, tmp_path: Path) -> None:
    with serving(tts, data_dir=tmp_path) as running, running.client() as client:
        made = create(client).json()
        before = speak(client, "Zoë").content
    assert CLIP not in b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    with serving(tts, data_dir=tmp_path) as running, running.client() as client:
        assert [voice["name"] for voice in client.get(VOICES).json()["uploaded_voices"]] == ["Zoë"]
        assert client.get(f"{VOICES}/Zoë").json()["id"] == made["id"]
        assert speak(client, "Zoë").content == before


def test_there_is_a_cap(tts: VoxtralTTS) -> None:
    with serving(tts, max_voices=1) as running, running.client() as client:
        assert create(client).status_code == 200
        assert code_of(create(client, "b")) == (409, "too_many_voices")


def test_cloning_can_be_switched_off(tts: VoxtralTTS) -> None:
    with serving(tts, cloning=False) as running, running.client() as client:
        assert code_of(create(client)) == (403, "cloning_disabled")


def test_a_folder_that_cannot_be_written_is_a_failure_of_the_server(tts: VoxtralTTS, tmp_path: Path) -> None:
    with serving(tts, data_dir=tmp_path / "data") as running, running.client() as client:
        (tmp_path / "data").write_text("no folder, since the server started")
        answer = create(client)
        assert code_of(answer) == (500, "voice_store_failed")
        assert str(tmp_path) not in answer.text
        assert client.get(VOICES).status_code == 200


def test_making_a_voice_takes_a_turn(tts: VoxtralTTS, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine does nothing else meanwhile, so that many at once would hold up all streams."""
    entered, go_on = threading.Event(), threading.Event()
    create_voice = VoxtralTTS.create_voice

    def slow(self: VoxtralTTS, *arguments: Any, **options: Any) -> Any:
        entered.set()
        assert go_on.wait(30)
        return create_voice(self, *arguments, **options)

    monkeypatch.setattr(VoxtralTTS, "create_voice", slow)
    with serving(tts, max_streams=1, max_queue=0) as running, running.client() as client, ThreadPoolExecutor(1) as pool:
        first = pool.submit(create, client)
        assert entered.wait(30)
        refused = create(client, "b")
        go_on.set()
        assert code_of(refused) == (503, "server_busy")
        assert refused.headers["retry-after"]
        assert first.result().status_code == 200
        running.wait_until_idle()


def test_no_name_and_no_text_is_logged(client: httpx2.Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="voxtral"):
        create(client, "Sesame", consent="Sesame agreed", description="Sesame", ref_text="Sesame")
        client.get(f"{VOICES}/Sesame")
        client.patch(f"{VOICES}/Sesame", json={"description": "Sesame"})
        client.patch(f"{VOICES}/Sesame", json={"name": "Sesame/"})
        client.delete(f"{VOICES}/Sesame")
        client.delete(f"{VOICES}/Sesame")
    assert "/v1/audio/voices/{voice_id}" in caplog.text
    assert "Sesame" not in caplog.text


def test_stored_voices_are_blended_by_name_and_id(client: httpx2.Client) -> None:
    voice_id = create(client).json()["id"]
    preset = client.get(VOICES, params={"type": "preset"}).json()["items"][0]["name"]
    heard: set[bytes] = set()
    for name in ("Zoë", voice_id, "zoë"):
        body = {
            "input": "Hello.",
            "voice": f"{name}:0.6+{preset}:0.4",
            "response_format": "pcm",
            "seed": 3,
            "max_frames": 4,
        }
        answer = client.post("/v1/audio/speech", json=body)
        assert answer.status_code == 200, answer.text
        assert unquote(answer.headers["x-voxtral-voice"]) == f"Zoë:0.6+{preset}:0.4"
        heard.add(answer.content)
    assert len(heard) == 1


def test_a_blend_over_http_never_names_a_file(client: httpx2.Client, tmp_path: Path) -> None:
    file = tmp_path / "me.safetensors"
    file.touch()
    for name in (str(file), f"alloy+{file}"):
        answer = client.post("/v1/audio/speech", json={"input": "Hello.", "voice": name})
        assert code_of(answer) == (400, "invalid_voice")
        assert "is unknown" in answer.json()["error"]["message"]
