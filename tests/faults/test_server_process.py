"""`voxtral serve` as a process: how it ends, and what it writes meanwhile."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
import socket
import time
from pathlib import Path

import httpx2
import pytest

from benchmarks.loopback import Answer, BrokenBodyError, Exchange, ServerProcess, ask, served
from checkpoints import BRIEF, strip_encoder
from crowd import SENTENCE, SPEECH
from serving import wait_for
from spoken_clips import spoken_file

pytestmark = pytest.mark.clients

VOICES = "/v1/audio/voices"

# Said in every place of a request where somebody's words may be.
SECRET = "Sesame"

# A device that fails at the frame of one request, and does not answer when it is tried out afterwards.
BROKEN_DEVICE = """
import voxtral.tts
from voxtral.cli.main import main
from voxtral.engine.runner import Runner
from voxtral.errors import DeviceError

launch = Runner.launch

def fail(self, rows):
    if any(row.num_launched == 20 for row in rows):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")
    return launch(self, rows)

def is_gone(device):
    raise DeviceError("the device does not answer; end the process")

Runner.launch, voxtral.loading.running.probe_device = fail, is_gone
main()
"""


def is_refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


async def hear_while(server: ServerProcess, port: int, text: str) -> tuple[bool, Answer]:
    """Begin to hear a text, send SIGTERM, and go on when nobody else is let in.

    Returns:
        Whether the text was heard to its end, and the answer to one that waited for its turn.
    """
    exchange = await Exchange.begin(port, SPEECH, {"input": text, "response_format": "pcm", "seed": 1})
    assert (await exchange.head())[0] == 200
    waiting = asyncio.create_task(ask(port, SPEECH, {"input": "One.", "response_format": "pcm"}))
    await asyncio.sleep(0.1)
    server.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + 30
    while not is_refused(port):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    other = await waiting
    is_whole = True
    try:
        async for _ in exchange.pieces():
            pass
    except BrokenBodyError:
        is_whole = False
    exchange.leave()
    return is_whole, other


@pytest.mark.parametrize(("drain_s", "num_sentences"), [(60, 3), pytest.param(1, 60, marks=pytest.mark.slow)])
def test_sigterm_lets_what_runs_finish_for_a_while(drain_s: int, num_sentences: int, tmp_path: Path) -> None:
    with served("--model", "nano", data_dir=tmp_path, drain_s=drain_s, max_streams=1) as server:
        port = server.wait_until_ready()
        is_whole, other = asyncio.run(hear_while(server, port, SENTENCE * num_sentences))
        assert server.wait() == 0
    assert is_whole == (drain_s == 60)
    assert other.status == 503
    assert json.loads(other.body)["error"]["code"] == "shutting_down"
    assert int(other.headers["retry-after"]) >= 1


def test_a_device_that_is_gone_ends_the_process_for_its_supervisor(tmp_path: Path) -> None:
    with served("--model", "nano", program=("-c", BROKEN_DEVICE), data_dir=tmp_path) as server:
        port = server.wait_until_ready()
        answer = asyncio.run(ask(port, SPEECH, {"input": SENTENCE, "response_format": "pcm"}))
        code = server.wait()
    assert answer.status == 200
    assert not answer.is_whole
    assert code not in (0, -signal.SIGTERM, -signal.SIGKILL)
    assert "the model cannot be used: the device does not answer" in server.output


@pytest.mark.slow  # tests/server/test_voice_jobs.py has a server that ends well
def test_a_server_that_is_killed_leaves_nothing_of_the_voice_that_it_searched_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = spoken_file(3.0)
    body = {"name": "Zoe", "consent": True, "refine": 10_000, "audio_sample": base64.b64encode(clip).decode()}
    words = ("--model", str(strip_encoder(BRIEF, tmp_path / "model")), "--refine", "10000")
    data, temporary = tmp_path / "data", tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    with served(*words, data_dir=data) as server:
        port = server.wait_until_ready()
        made = json.loads(asyncio.run(ask(port, VOICES, body)).body)
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}") as client:
            wait_for(lambda: client.get(f"{VOICES}/{made['id']}").json()["progress"] > 0)
        server.send_signal(signal.SIGKILL)
        assert server.wait() == -signal.SIGKILL
    written = [path.read_bytes() for path in (*data.rglob("*"), *temporary.rglob("*")) if path.is_file()]
    for start in range(44, len(clip) - 64, 20_000):
        assert not any(clip[start : start + 64] in content for content in written)
    with served(*words, data_dir=data) as server:
        with httpx2.Client(base_url=f"http://127.0.0.1:{server.wait_until_ready()}") as client:
            assert client.get(VOICES).json()["uploaded_voices"] == []
            for name in (made["id"], "Zoe"):
                assert client.get(f"{VOICES}/{name}").status_code == 404
            assert "started anew" in client.get(f"{VOICES}/{made['id']}").json()["error"]["message"]
            body["refine"] = 1
            assert client.post(f"{VOICES}?wait=60", json=body, timeout=60).status_code == 201
        server.send_signal(signal.SIGTERM)
        assert server.wait() == 0
    assert "Zoe" not in server.output


@pytest.mark.slow  # tests/server/test_voice_jobs.py has a short form
def test_sigterm_ends_a_search_and_does_not_wait_for_it(tmp_path: Path) -> None:
    body = {"name": "Zoe", "consent": True, "refine": True, "audio_sample": base64.b64encode(spoken_file(3.0)).decode()}
    words = ("--model", str(strip_encoder(BRIEF, tmp_path / "model")), "--refine", "10000")
    with served(*words, data_dir=tmp_path / "data", drain_s=3600) as server:
        port = server.wait_until_ready()
        assert asyncio.run(ask(port, VOICES, {**body, "refine": 10_000})).status == 202
        server.send_signal(signal.SIGTERM)
        assert server.wait() == 0


@pytest.mark.slow  # tests/server/test_door.py has the short form
def test_no_word_of_a_client_is_written_anywhere(tmp_path: Path) -> None:
    key = f"{SECRET}-key-0123456789"
    bearer = {"Authorization": f"Bearer {key}"}

    async def talk(port: int) -> list[Answer]:
        json_type = {"Content-Type": "application/json"}
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        return [
            await ask(port, f"/synthesize?text={SECRET}&max_frames=3", {}, bearer),
            await ask(port, f"/synthesize?text=hi&voice={SECRET}", {}, bearer),
            await ask(port, "/synthesize", {"text": SECRET, "max_frames": 3}, bearer | form),
            await ask(port, SPEECH, {"input": SECRET, "max_frames": 3}, bearer | {"X-Request-Id": "mine-1"}),
            await ask(port, SPEECH, {"input": SECRET * 20_000}, bearer),
            await ask(port, SPEECH, {"input": "hi", SECRET: SECRET, "instructions": SECRET, "max_frames": 3}, bearer),
            await ask(port, SPEECH, {"input": "hi", "voice": SECRET}, bearer),
            await ask(port, SPEECH, {"input": "hi", "model": SECRET}, bearer),
            await ask(port, SPEECH, {"input": "hi", "language": SECRET}, bearer),
            await ask(port, SPEECH, {"input": "hi", "speed": SECRET}, bearer),
            await ask(port, SPEECH, {"input": "hi"}, {"Authorization": f"Bearer {SECRET}"}),
            await ask(port, SPEECH, {"input": "hi", "max_frames": 3}, bearer | {"X-Request-Id": f"a {SECRET}"}),
            await ask(port, f"/{SECRET}", {}, bearer | json_type),
            await ask(port, "/v1/audio/voices", {"name": SECRET, "consent": SECRET, "audio_sample": SECRET}, bearer),
        ]

    words = ("--model", str(BRIEF), "--log-format", "json")
    with served(*words, api_key=key, data_dir=tmp_path, max_chars=50_000) as server:
        answers = asyncio.run(talk(server.wait_until_ready()))
        server.send_signal(signal.SIGTERM)
        assert server.wait() == 0
    assert SECRET.lower() not in server.output.lower()
    lines = [json.loads(line) for line in server.output.splitlines() if line.startswith("{")]
    assert [line["status"] for line in lines] == [answer.status for answer in answers]
    assert [answer.status for answer in answers[:5]] == [200, 400, 400, 200, 413]
    assert [line["request_id"] for line in lines] == [answer.headers["x-request-id"] for answer in answers]
    assert answers[3].headers["x-request-id"] == "mine-1"
    assert SECRET not in answers[11].headers["x-request-id"]
    spoken = lines[3]
    assert (spoken["client"], spoken["method"], spoken["route"]) == ("key1", "POST", SPEECH)
    assert (spoken["chars"], spoken["format"], spoken["bytes"]) == (len(SECRET), "mp3", len(answers[3].body))
    assert 0 < spoken["ttfa_s"] <= spoken["seconds"]
