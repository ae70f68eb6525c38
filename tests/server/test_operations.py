"""What supervisors and Prometheus see."""

from __future__ import annotations

import re

from serving import Serving, serving
from voxtral.tts import VoxtralTTS

OWN = ("voxtral_streams", "voxtral_queue_length", "voxtral_batch_size", "voxtral_ready")


def numbers_of(server: Serving) -> dict[str, float]:
    with server.client() as client:
        answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    lines = [line for line in answer.text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_the_numbers_are_those_of_what_was_spoken(tts: VoxtralTTS) -> None:
    with serving(tts) as running, running.client() as client:
        frames, seconds = 0.0, 0.0
        for seed in (1, 2, 3):
            fields = {"input": "Hello.", "seed": seed, "max_frames": 9, "stream": False, "response_format": "pcm"}
            answer = client.post("/v1/audio/speech", json=fields)
            frames += float(answer.headers["x-voxtral-frames"])
            seconds += len(answer.content) / 2 / 24000
        assert client.post("/v1/audio/speech", json={"input": ""}).status_code == 400
        assert client.post("/v1/audio/speech", json={"input": "hi", "voice": "nobody"}).status_code == 400
        running.wait_until_idle()
        found = numbers_of(running)
        assert found["voxtral_frames_total"] == frames > 0
        assert abs(found["voxtral_audio_seconds_total"] - seconds) < 1e-6
        for name in ("ttfa_seconds", "queue_seconds", "rtf"):
            assert found[f"voxtral_{name}_count"] == 3
        assert 0 < found["voxtral_ttfa_seconds_sum"] < 60
        assert found['voxtral_responses_total{route="/v1/audio/speech",status="200"}'] == 3
        assert found['voxtral_responses_total{route="/v1/audio/speech",status="400"}'] == 2
        assert found['voxtral_errors_total{code="invalid_voice"}'] == 1
        assert [found[name] for name in OWN] == [0, 0, 0, 1]
        assert found["voxtral_memory_bytes"] > 2**20
        assert found["voxtral_cancellations_total"] == found["voxtral_engine_restarts_total"] == 0


def test_two_servers_in_one_process_count_for_themselves(server: Serving, tts: VoxtralTTS) -> None:
    before = numbers_of(server)["voxtral_frames_total"]
    with serving(tts) as other, other.client() as client:
        client.post("/v1/audio/speech", json={"input": "Hello.", "max_frames": 3})
        other.wait_until_idle()
        assert numbers_of(other)["voxtral_frames_total"] > 0
    assert numbers_of(server)["voxtral_frames_total"] == before


def test_it_lives_and_is_ready(server: Serving) -> None:
    with server.client() as client:
        assert client.get("/livez").json() == {"status": "ok"}
        assert client.get("/readyz").json() == {"status": "ready"}


def test_a_request_keeps_its_id_if_that_is_harmless(server: Serving) -> None:
    with server.client() as client:
        for given, is_kept in (
            ("abc-1.x_Y", True),
            ("a" * 64, True),
            ("a" * 65, False),
            ("a b", False),
            ("a\tb", False),
        ):
            found = client.get("/livez", headers={"X-Request-Id": given}).headers["x-request-id"]
            assert (found == given) == is_kept
            assert is_kept or re.fullmatch("req_[0-9a-f]{16}", found)
        refused = client.post("/v1/audio/speech", json={}, headers={"X-Request-Id": "mine"})
        assert refused.headers["x-request-id"] == "mine"
