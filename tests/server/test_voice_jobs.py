"""Voices that are searched for, over HTTP on a checkpoint without encoder: made, told of, cancelled, refused, lost."""

from __future__ import annotations

import base64
import logging
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from checkpoints import BRIEF, strip_encoder
from hostile_clips import wav
from serving import Serving, serving, wait_for
from spoken_clips import spoken_file
from voxtral.audio.pcm import to_int16
from voxtral.cloning import search as search_module
from voxtral.cloning.options import RefineProgress
from voxtral.engine.options import EngineOptions
from voxtral.engine.runner import Runner
from voxtral.errors import NumericsError
from voxtral.loading.checkpoint import open_checkpoint
from voxtral.loading.encoder_file import EncoderFacts, own_encoder, write_encoder
from voxtral.server import voice_jobs
from voxtral.server.voice_jobs import MAX_WAITING, VoiceJob
from voxtral.tts import VoxtralTTS
from voxtral.voices.store import VoiceStore

VOICES = "/v1/audio/voices"
SPEECH = "/v1/audio/speech"
STEPS = 3
CLIP = spoken_file(1.2)


@pytest.fixture(scope="module")
def stripped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return strip_encoder(BRIEF, tmp_path_factory.mktemp("without-encoder") / "brief")


@pytest.fixture(scope="module")
def bare(stripped: Path) -> Iterator[VoxtralTTS]:
    """A model without encoder; it would search for whatever it is not told about."""
    with pytest.MonkeyPatch.context() as patch:
        # What the presets tell is found out in a moment, and each step is a slice.
        patch.setattr(search_module, "_MAX_FRAMES", 60)
        patch.setattr(search_module, "_DECODED_FRAMES", 30)
        patch.setattr(search_module, "_SLICE_S", 0.0)
        options = EngineOptions(batch_invariant=True, max_batch=4)
        with VoxtralTTS.from_pretrained(stripped, device="cpu", refine=True, options=options) as tts:
            yield tts


@pytest.fixture(scope="module")
def server(bare: VoxtralTTS) -> Iterator[Serving]:
    with serving(bare, refine=STEPS) as running:
        yield running


@pytest.fixture
def client(server: Serving) -> Iterator[httpx2.Client]:
    """A client of a server without jobs and with no voices but the presets."""
    with server.client() as client:
        for voice in client.get(VOICES).json()["uploaded_voices"]:
            client.delete(f"{VOICES}/{voice['name']}")
        yield client
        wait_for(lambda: not server.service.jobs.num_active)


class Gate:
    """Holds searches up before they go on from a slice."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.arrived = threading.Event()
        self.num_searching = self.most_at_once = 0
        self.job: VoiceJob | None = None

    @property
    def is_cancelled(self) -> bool:
        """Whether the search that is held up is to end."""
        return self.job is not None and self.job._cancelled.is_set()

    def pass_through(self, job: VoiceJob) -> None:
        self.job = job
        self.num_searching += 1
        self.most_at_once = max(self.most_at_once, self.num_searching)
        self.arrived.set()
        assert self.opened.wait(30)
        self.num_searching -= 1


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate()
    look = VoiceJob.look

    def held(self: VoiceJob, progress: RefineProgress) -> None:
        look(self, progress)
        gate.pass_through(self)
        self.check()

    monkeypatch.setattr(VoiceJob, "look", held)
    yield gate
    gate.opened.set()


def upload(client: httpx2.Client, name: str = "Zoë", *, clip: bytes = CLIP, query: str = "", **fields: Any) -> Any:
    form = {"name": name, "consent": "true", "refine": "true", **fields}
    data = {key: value for key, value in form.items() if value is not None}
    return client.post(f"{VOICES}{query}", data=data, files={"audio_sample": ("me.wav", clip, "audio/wav")})


def code_of(answer: httpx2.Response) -> tuple[int, str]:
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return answer.status_code, error["code"]


def message_of(answer: httpx2.Response) -> str:
    return answer.json()["error"]["message"]


def look_at(client: httpx2.Client, voice_id: str) -> dict[str, Any]:
    answer = client.get(f"{VOICES}/{voice_id}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def wait_until_ended(client: httpx2.Client, voice_id: str) -> dict[str, Any]:
    wait_for(lambda: look_at(client, voice_id)["status"] != "processing")
    return look_at(client, voice_id)


def listed_names(client: httpx2.Client) -> set[str]:
    """Every name of a voice that any list has."""
    listed = client.get(VOICES).json()
    plain = client.get(VOICES, params={"legacy": "true"}).json()["voices"]
    model = client.get("/v1/models/tts-1").json()["voices"]
    parts = [*listed["voices"], *listed["data"], *listed["items"], *listed["uploaded_voices"], *model]
    return {*(part["name"] for part in parts), *plain}


def speak(client: httpx2.Client, voice: str, **fields: Any) -> httpx2.Response:
    body = {"input": "Hello", "voice": voice, "response_format": "pcm", "seed": 7, "max_frames": 8, **fields}
    return client.post(SPEECH, json=body)


def store_of(server: Serving) -> VoiceStore:
    loaded = server.service.host._loaded
    assert loaded is not None
    return loaded.voices.store


def files_of(server: Serving) -> list[Path]:
    found = server.service.options.data_dir.rglob("*")
    return [path for path in found if path.is_file() and path.name != ".lock"]


# Made.


def test_a_voice_is_searched_for_and_spoken_with(client: httpx2.Client, server: Serving, bare: VoxtralTTS) -> None:
    answer = upload(client, refine="2", language="French", description="calm", slug="s")
    assert answer.status_code == 202, answer.text
    made = answer.json()
    assert (made["name"], made["status"], made["steps"], made["jobs_ahead"]) == ("Zoë", "processing", 2, 0)
    assert (made["language"], made["description"], made["consent"]) == ("fr", "calm", "true")
    assert (made["mime_type"], made["file_size"], made["duration_s"]) == ("audio/wav", len(CLIP), 1.2)
    assert (made["success"], made["ignored"]) == (True, ["slug"])
    assert "1.20 s" in made["warnings"][0]
    ready = wait_until_ended(client, made["id"])
    assert (ready["id"], ready["status"], ready["consent"]) == (made["id"], "ready", "true")
    assert set(ready) == set(look_at(client, "zoë"))
    assert ready == client.get(f"{VOICES}/zoë").json()
    assert "Zoë" in listed_names(client)

    voice = bare.create_voice(CLIP, refine=2, warn=lambda line: None)
    expected = to_int16(bare.synthesize("Hello", voice=voice, seed=7, max_frames=8).samples)
    for name in ("Zoë", made["id"]):
        assert np.array_equal(np.frombuffer(speak(client, name).content, "<i2"), expected)
    (file,) = files_of(server)
    kept = bare.load_voice(file)
    assert kept.codes is not None
    assert (kept.metadata["refine_steps"], kept.metadata["consent"]) == ("2", "true")
    # Also when somebody has changed it.
    assert client.patch(f"{VOICES}/{made['id']}", json={"name": "Zoé"}).status_code == 200
    assert "voxtral-tts" in bare.load_voice(file).metadata["made_by"]


@pytest.mark.parametrize(("refine", "steps"), [(True, STEPS), ("True", STEPS), (1, 1), ("02", 2)])
def test_json_and_forms_say_how_long_a_search_is(client: httpx2.Client, refine: Any, steps: int) -> None:
    body = {"name": "Zoë", "consent": True, "refine": refine, "audio_sample": base64.b64encode(CLIP).decode()}
    made = client.post(f"{VOICES}?wait=0", json=body)
    assert (made.status_code, made.json()["steps"]) == (202, steps)


def test_a_request_waits_for_a_while(client: httpx2.Client, gate: Gate) -> None:
    answer = upload(client, query="?wait=0.01")
    assert (answer.status_code, answer.json()["status"]) == (202, "processing")
    gate.opened.set()
    answer = upload(client, "b", query="?wait=30")
    assert answer.status_code == 201
    assert answer.json()["status"] == "ready"
    assert "progress" not in answer.json()
    assert answer.json()["voice"]["name"] == "b"
    assert {"Zoë", "b"} <= listed_names(client)


def test_who_hangs_up_while_it_waits_loses_nothing(client: httpx2.Client, server: Serving, gate: Gate) -> None:
    request = client.build_request(
        "POST",
        f"{VOICES}?wait=3600",
        data={"name": "Zoë", "consent": "true", "refine": "true"},
        files={"audio_sample": ("me.wav", CLIP)},
    )
    body = request.read()
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(f"POST {VOICES}?wait=3600 HTTP/1.1\r\n{head}\r\n".encode() + body)
        assert gate.arrived.wait(30)
    gate.opened.set()
    wait_for(lambda: "Zoë" in listed_names(client))
    wait_for(lambda: not server.service.jobs.num_active)


# While it is made.


def test_until_it_is_ready_it_is_told_of_and_listed_nowhere(client: httpx2.Client, gate: Gate) -> None:
    before = listed_names(client)
    first, second = upload(client, "alloy").json(), upload(client, "b").json()
    assert gate.arrived.wait(30)
    assert second["jobs_ahead"] == 1
    for voice_id in (first["id"], "Alloy"):
        seen = look_at(client, voice_id)
        assert (seen["id"], seen["status"]) == (first["id"], "processing")
        assert 0 <= seen["progress"] < 1
    assert listed_names(client) == before

    answer = speak(client, "b")
    assert code_of(answer) == (400, "invalid_voice")
    assert "still being made" in message_of(answer)
    assert code_of(speak(client, f"casual_male+{second['id']}")) == (400, "invalid_voice")
    # Names that others speak with go on to mean what they did.
    assert speak(client, "alloy").headers["x-voxtral-voice"] == "neutral_female"
    for refused in (
        client.get(f"{VOICES}/{first['id']}/sample"),
        client.patch(f"{VOICES}/b", json={"description": "x"}),
    ):
        assert code_of(refused) == (409, "voice_processing")
    assert code_of(upload(client, " B ")) == (409, "voice_exists")
    assert code_of(upload(client, "ALLOY", refine=None)) == (409, "voice_exists")
    gate.opened.set()
    assert wait_until_ended(client, second["id"])["status"] == "ready"
    assert {"alloy", "b"} <= listed_names(client)
    assert gate.most_at_once == 1


def test_progress_only_rises(client: httpx2.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    look = VoiceJob.look

    def note(self: VoiceJob, progress: RefineProgress) -> None:
        look(self, progress)
        seen.append(client.get(f"{VOICES}/{self.id}").json()["progress"])

    monkeypatch.setattr(VoiceJob, "look", note)
    assert upload(client, query="?wait=30").status_code == 201
    assert seen == sorted(seen)
    assert seen[-STEPS:] == [round(step / STEPS, 4) for step in range(1, STEPS + 1)]


def test_a_name_cannot_be_taken_by_a_change_meanwhile(client: httpx2.Client, gate: Gate, server: Serving) -> None:
    gate.opened.set()
    assert upload(client, "other", query="?wait=30").status_code == 201
    gate.opened.clear()
    gate.arrived.clear()
    upload(client, "a")
    assert gate.arrived.wait(30)
    assert code_of(client.patch(f"{VOICES}/other", json={"name": "A"})) == (409, "voice_exists")
    assert client.patch(f"{VOICES}/other", json={"name": "Other"}).status_code == 200
    gate.opened.set()


def test_speech_goes_on_between_two_slices(client: httpx2.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever listens waits for one slice before each frame at most, also if the search never rests."""
    events: list[str] = []
    launch, advance = Runner.launch, search_module._advance

    def note_frame(self: Any, rows: Any) -> Any:
        events.append("frame")
        return launch(self, rows)

    def note_slice(work: Any) -> Any:
        events.append("slice")
        return advance(work)

    monkeypatch.setattr(voice_jobs, "_REST", 0.0)
    monkeypatch.setattr(Runner, "launch", note_frame)
    monkeypatch.setattr(search_module, "_advance", note_slice)
    made = upload(client).json()
    heard = speak(client, "casual_male", max_frames=60)
    assert heard.status_code == 200
    wait_until_ended(client, made["id"])
    while_speaking = "".join(event[0] for event in events).strip("s")
    assert "s" in while_speaking, "no slice fell between two frames"
    assert "ss" not in while_speaking


# Cancelled.


def test_a_job_is_cancelled(client: httpx2.Client, server: Serving, gate: Gate) -> None:
    running, waiting = upload(client, "running").json(), upload(client, "waiting").json()
    assert gate.arrived.wait(30)
    answer = client.delete(f"{VOICES}/waiting")
    assert answer.status_code == 200
    assert (answer.json()["id"], answer.json()["status"], answer.json()["deleted"]) == (
        waiting["id"],
        "cancelled",
        True,
    )
    with ThreadPoolExecutor(2) as pool:
        deletions = [pool.submit(client.delete, f"{VOICES}/{running['id']}") for _ in range(2)]
        wait_for(lambda: gate.is_cancelled)
        gate.opened.set()
        statuses = {deletion.result().status_code for deletion in deletions}
        assert statuses in ({200}, {200, 404})  # the second may come too late
    for voice_id in (running["id"], waiting["id"]):
        answer = client.get(f"{VOICES}/{voice_id}")
        assert code_of(answer) == (404, "voice_not_found")
        assert "cancelled or the server has been started anew" in message_of(answer)
    assert code_of(client.get(f"{VOICES}/running")) == (404, "voice_not_found")
    assert server.service.jobs.num_active == 0
    assert files_of(server) == []
    assert upload(client, "Running", query="?wait=30").status_code == 201


def test_a_search_stops_at_its_next_slice(client: httpx2.Client, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    num_slices = 0
    advance = search_module._advance

    def count(work: Any) -> Any:
        nonlocal num_slices
        num_slices += 1
        return advance(work)

    monkeypatch.setattr(search_module, "_advance", count)
    made = upload(client).json()
    assert gate.arrived.wait(30)
    before = num_slices
    with ThreadPoolExecutor(1) as pool:
        deletion = pool.submit(client.delete, f"{VOICES}/{made['id']}")
        wait_for(lambda: gate.is_cancelled)
        gate.opened.set()
        deletion.result()
    assert num_slices == before


def test_who_waits_for_a_voice_that_is_cancelled_is_told(client: httpx2.Client, gate: Gate) -> None:
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(upload, client, query="?wait=30")
        assert gate.arrived.wait(30)
        deletion = pool.submit(client.delete, f"{VOICES}/Zoë")
        wait_for(lambda: gate.is_cancelled)
        gate.opened.set()
        assert deletion.result().status_code == 200
        assert code_of(waiting.result()) == (409, "voice_cancelled")
    assert code_of(client.get(f"{VOICES}/Zoë")) == (404, "voice_not_found")


# Failed.


def test_a_job_that_fails_says_why_until_it_is_forgotten(
    client: httpx2.Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(self: VoxtralTTS, *_: Any, **__: Any) -> Any:
        raise NumericsError("Sesame is no number")

    with monkeypatch.context() as patch, caplog.at_level(logging.DEBUG, logger="voxtral"):
        patch.setattr(VoxtralTTS, "create_voice", fail)
        made = upload(client, "Sesame").json()
        failed = wait_until_ended(client, made["id"])
        # Who waits is told at once.
        assert code_of(upload(client, "other", query="?wait=30")) == (500, "not_finite")
    assert (failed["status"], failed["error"]["code"], failed["name"]) == ("failed", "not_finite", "Sesame")
    assert set(failed["error"]) == {"message", "type", "param", "code"}
    assert made["id"] in caplog.text
    assert "Sesame" not in caplog.text
    assert "Sesame" not in listed_names(client)
    assert code_of(client.get(f"{VOICES}/{made['id']}/sample")) == (409, "voice_failed")
    again = upload(client, "Sesame", query="?wait=30")
    assert again.status_code == 201
    assert look_at(client, "Sesame")["id"] == again.json()["id"]
    assert client.delete(f"{VOICES}/{made['id']}").status_code == 200
    assert code_of(client.get(f"{VOICES}/{made['id']}")) == (404, "voice_not_found")
    assert look_at(client, "Sesame")["status"] == "ready"


# Refused.


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"consent": None}, 400, "invalid_request"),
        ({"name": "a/b"}, 400, "invalid_request"),
        ({"name": "voice_0123456789abcdef"}, 400, "invalid_request"),
        ({"name": "Casual_Male"}, 409, "voice_exists"),
        ({"language": "Klingon"}, 400, "unsupported_language"),
        ({"clip": b""}, 400, "invalid_reference_audio"),
        ({"clip": b"RIFF is no wav"}, 400, "invalid_reference_audio"),
        ({"clip": spoken_file(0.5)}, 400, "invalid_reference_audio"),
        ({"clip": wav(bytes(2 * 8000 * 3), rate=8000)}, 400, "invalid_reference_audio"),
        ({"clip": b"\0" * (10 * 2**20 + 1)}, 413, "clip_too_large"),
        ({"refine": str(STEPS + 1)}, 400, "invalid_option"),
        ({"refine": "10000"}, 400, "invalid_option"),
        ({"refine": "10001"}, 400, "invalid_request"),
        ({"refine": "9" * 4000}, 400, "invalid_request"),
        ({"refine": "0"}, 400, "invalid_request"),
        ({"refine": "-1"}, 400, "invalid_request"),
        ({"refine": "1.5"}, 400, "invalid_request"),
        ({"refine": "\N{ARABIC-INDIC DIGIT TWO}"}, 400, "invalid_request"),
        ({"refine": "yes please"}, 400, "invalid_request"),
        ({"query": "?wait=nan"}, 400, "invalid_request"),
        ({"query": "?wait=inf"}, 400, "invalid_request"),
        ({"query": "?wait=1e9"}, 400, "invalid_request"),
        ({"query": "?wait=-1"}, 400, "invalid_request"),
        ({"query": "?wait="}, 400, "invalid_request"),
    ],
)
def test_what_can_be_known_before_is_refused_before(
    server: Serving, client: httpx2.Client, fields: dict[str, Any], status: int, code: str
) -> None:
    assert code_of(upload(client, **fields)) == (status, code)
    jobs = server.service.jobs
    assert (jobs.num_active, jobs._num_places) == (0, 0)
    assert files_of(server) == []
    assert not store_of(server).is_reserved(fields.get("name") or "Zoë")


@pytest.mark.parametrize("refine", [1.0, 0, -1, 10**400, [1], {"steps": 1}, "", None, False])
def test_json_that_is_no_number_of_steps_begins_no_search(client: httpx2.Client, refine: Any) -> None:
    body = {"name": "Zoë", "consent": True, "refine": refine, "audio_sample": base64.b64encode(CLIP).decode()}
    is_none = refine in ("", None) or refine is False
    assert code_of(client.post(VOICES, json=body)) == (400, "encoder_missing" if is_none else "invalid_request")


def test_without_a_search_the_ways_out_are_named(client: httpx2.Client) -> None:
    """Also where the model itself would search when it is not told."""
    answer = upload(client, refine=None)
    assert code_of(answer) == (400, "encoder_missing")
    assert "send the field refine" in message_of(answer)
    assert "--encoder FILE" in message_of(answer)
    for answer in _inline(client):
        assert code_of(answer) == (400, "encoder_missing")
        assert "upload the clip with the field refine" in message_of(answer)
        assert VOICES in message_of(answer)
        assert "--encoder FILE" in message_of(answer)
    assert client.get("/v1/models").json()["data"][0]["cloning"] is False


def _inline(client: httpx2.Client) -> Iterator[httpx2.Response]:
    clip = base64.b64encode(CLIP).decode()
    for fields in ({}, {"stream_format": "sse"}, {"stream": False}):
        yield client.post(SPEECH, json={"input": "Hello", "ref_audio": clip, **fields})
    yield client.post("/synthesize", data={"text": "Hello"}, files={"reference": ("me.wav", CLIP)})


@contextmanager
def another(tts: VoxtralTTS, **options: Any) -> Iterator[tuple[Serving, httpx2.Client]]:
    with serving(tts, **options) as running, running.client() as client:
        yield running, client


def test_a_server_that_searches_for_none_says_what_its_owner_can_do(bare: VoxtralTTS) -> None:
    with another(bare) as (_, client):
        for answer in (upload(client, refine=None), *_inline(client)):
            assert code_of(answer) == (400, "encoder_missing")
            assert "whoever runs this server can start it with --refine STEPS" in message_of(answer)
            assert "--encoder FILE" in message_of(answer)
        answer = upload(client)
        assert code_of(answer) == (403, "refine_disabled")
        assert "--refine STEPS" in message_of(answer)
        assert client.get("/health").json()["cloning"] == {"encoder": None, "refine": False, "licence": None}
    with another(bare, refine=STEPS, cloning=False) as (_, client):
        for answer in (upload(client), upload(client, refine=None), *_inline(client)):
            assert code_of(answer) == (403, "cloning_disabled")
        assert client.get("/health").json()["cloning"]["refine"] is False


def test_there_is_room_for_a_few(client: httpx2.Client, server: Serving, gate: Gate) -> None:
    made = [upload(client, f"voice {number}") for number in range(MAX_WAITING + 1)]
    assert {answer.status_code for answer in made} == {202}
    assert [answer.json()["jobs_ahead"] for answer in made] == list(range(MAX_WAITING + 1))
    refused = upload(client, "one more")
    assert code_of(refused) == (429, "voice_queue_full")
    assert int(refused.headers["retry-after"]) >= 1
    metrics = client.get("/metrics").text
    assert f"voxtral_voice_jobs {MAX_WAITING + 1:.1f}" in metrics
    for answer in made[1:]:
        client.delete(f"{VOICES}/{answer.json()['id']}")
    assert upload(client, "one more").status_code == 202
    client.delete(f"{VOICES}/one more")
    gate.opened.set()
    assert wait_until_ended(client, made[0].json()["id"])["status"] == "ready"
    assert 'voxtral_voices_searched_total{outcome="cancelled"}' in client.get("/metrics").text


def test_a_place_among_the_voices_is_kept(bare: VoxtralTTS, gate: Gate) -> None:
    with another(bare, refine=STEPS, max_voices=1) as (_, client):
        first = upload(client, "a").json()
        assert code_of(upload(client, "b")) == (409, "too_many_voices")
        gate.opened.set()
        assert wait_until_ended(client, first["id"])["status"] == "ready"


def test_a_key_has_its_share_and_its_voices_are_everybodys(bare: VoxtralTTS, gate: Gate) -> None:
    keys = "first-key-of-this-test,second-key-of-this-test"
    with another(bare, refine=STEPS, api_key=keys, max_streams_per_key=2) as (_, client):
        first, second = ({"authorization": f"Bearer {key}"} for key in keys.split(","))
        assert upload(client).status_code == 401
        client.headers.update(first)
        made = upload(client, "a").json()
        assert upload(client, "b").status_code == 202
        refused = upload(client, "c")
        assert code_of(refused) == (429, "too_many_requests")
        assert int(refused.headers["retry-after"]) >= 1
        # Who searches may speak.
        assert speak(client, "casual_male").status_code == 200
        client.headers.update(second)
        assert upload(client, "c").status_code == 202
        # Voices have no owners, here as elsewhere.
        assert look_at(client, made["id"])["status"] == "processing"
        for name in ("b", "c"):
            assert client.delete(f"{VOICES}/{name}").status_code == 200
        gate.opened.set()


# Lost.


def test_a_server_that_ends_forgets_what_was_not_made(bare: VoxtralTTS, gate: Gate, tmp_path: Path) -> None:
    def open_when_ending() -> None:
        wait_for(lambda: gate.is_cancelled)  # or "b" might be made before the server ends
        gate.opened.set()

    with ThreadPoolExecutor(1) as pool, another(bare, refine=STEPS, data_dir=tmp_path) as (_, client):
        running, waiting = upload(client, "a").json(), upload(client, "b").json()
        assert gate.arrived.wait(30)
        opened = pool.submit(open_when_ending)
    opened.result()
    with another(bare, refine=STEPS, data_dir=tmp_path) as (_, client):
        for voice in (running, waiting):
            answer = client.get(f"{VOICES}/{voice['id']}")
            if answer.status_code != 200:  # it may have been made in the moment before
                assert code_of(answer) == (404, "voice_not_found")
                assert "started anew" in message_of(answer)
        assert code_of(client.get(f"{VOICES}/b")) == (404, "voice_not_found")
    assert CLIP[44:1044] not in b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_who_waits_while_the_server_ends_gets_the_voice_or_the_reason(bare: VoxtralTTS, gate: Gate) -> None:
    with ThreadPoolExecutor(2) as pool, another(bare, refine=STEPS) as (running, client):
        first = pool.submit(upload, client, "a", query="?wait=30")
        assert gate.arrived.wait(30)
        second = pool.submit(upload, client, "b", query="?wait=30")
        wait_for(lambda: running.service.jobs.num_active == 2)
        running.service.host.drain()
        assert code_of(second.result()) == (503, "shutting_down")
        assert code_of(upload(client, "c")) == (503, "shutting_down")
        gate.opened.set()
        assert first.result().status_code == 201


# With an encoder.


def test_an_encoder_file_makes_voices_at_once(stripped: Path, tts: VoxtralTTS, tmp_path: Path) -> None:
    file = tmp_path / "mine.safetensors"
    facts = EncoderFacts(origin="distilled", licence="CC BY-NC 4.0")
    write_encoder(file, own_encoder(open_checkpoint(BRIEF)), open_checkpoint(stripped), facts)
    with serving(model=str(stripped), device="cpu", encoder=file, refine=STEPS) as running, running.client() as client:
        said = {"encoder": "distilled", "refine": STEPS, "licence": "CC BY-NC 4.0"}
        model = client.get("/v1/models").json()["data"][0]
        assert (model["cloning"], model["cloning_details"], model["has_encoder"]) == (True, said, True)
        assert client.get("/health").json()["cloning"] == said
        answer = upload(client, refine=None)
        assert (answer.status_code, answer.json()["status"]) == (200, "ready")
        assert all(answer.status_code == 200 for answer in _inline(client))
        voice = tts.create_voice(CLIP, warn=lambda line: None)
        stored = next(iter(files_of(running)))
        assert np.array_equal(tts.load_voice(stored).rows.numpy(), voice.rows.numpy())
        # And a search begins with what it says.
        assert upload(client, "b", refine="1", query="?wait=30").status_code == 201


def test_an_encoder_that_cannot_be_used_shows_no_path(bare: VoxtralTTS, stripped: Path) -> None:
    """It was put there since the model was loaded."""
    file = stripped / "codec_encoder.safetensors"
    file.write_bytes(b"no encoder")
    try:
        with another(bare, refine=STEPS) as (_, client):
            job = wait_until_ended(client, upload(client, "b").json()["id"])
            for error in (upload(client, refine=None).json()["error"], job["error"]):
                assert error["code"] == "invalid_encoder"
                assert str(stripped) not in error["message"]
    finally:
        file.unlink()
