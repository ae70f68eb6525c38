"""Times of words and checks over HTTP: in OpenAI's events, in headers, and what is refused."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from listening import events_of as read_events
from serving import Serving
from word_times import LETTER_S, give_words

TEXT = "Hello 🙂 world, how are you?"
BODY: dict[str, Any] = {"input": TEXT, "response_format": "pcm", "seed": 6, "max_frames": 20, "stream_format": "sse"}


def events_of(server: Serving, **changes: Any) -> list[dict[str, Any]]:
    with server.client() as client:
        answer = client.post("/v1/audio/speech", json={**BODY, **changes})
    assert answer.status_code == 200, answer.text
    return read_events(answer.content)


@pytest.mark.parametrize("format", ["pcm", "mp3", "flac"])
def test_events_bring_each_word_once_with_its_place_in_the_text(
    server: Serving, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    plain = events_of(server, response_format=format)
    assert not any("words" in event for event in plain)
    give_words(monkeypatch, TEXT)
    *deltas, done = events_of(server, timestamps=True, response_format=format)
    assert done["type"] == "speech.audio.done"
    words = [word for event in deltas for word in event["words"]]
    assert [word["word"] for word in words] == TEXT.split()
    assert [TEXT[word["text_start"] : word["text_end"]] for word in words] == TEXT.split()
    assert (words[0]["start"], words[0]["end"], words[0]["confidence"]) == (0.0, 5 * LETTER_S, 0.9)
    audio = [b"".join(base64.b64decode(event["audio"]) for event in all) for all in (plain[:-1], deltas)]
    assert audio[0] == audio[1]


def test_words_come_while_the_speech_is_made(server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    give_words(monkeypatch, TEXT)
    *deltas, _ = events_of(server, timestamps=True)
    with_words = [index for index, event in enumerate(deltas) if event["words"]]
    assert len(with_words) > 1


def test_all_words_are_there_when_all_is_made_first(server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    give_words(monkeypatch, TEXT)
    *deltas, _ = events_of(server, timestamps=True, stream=False)
    assert [word["word"] for event in deltas for word in event["words"]] == TEXT.split()


@pytest.mark.parametrize("timestamps", ["yes", 1, [True]])
def test_only_true_and_false_are_that(server: Serving, timestamps: Any) -> None:
    with server.client() as client:
        answer = client.post("/v1/audio/speech", json={**BODY, "timestamps": timestamps})
    assert answer.status_code == 400
    assert "timestamps: Value error, it must be true or false" in answer.json()["error"]["message"]


def test_words_in_an_answer_that_is_audio_alone_are_refused_with_the_way_out(server: Serving) -> None:
    with server.client() as client:
        openai = client.post("/v1/audio/speech", json={**BODY, "stream_format": "audio", "timestamps": True})
        guide = client.post("/synthesize", params={"text": TEXT, "timestamps": "true"})
        usual = client.post("/synthesize", params={"text": TEXT, "timestamps": "false", "max_frames": "3"})
    for refused in (openai, guide):
        assert refused.status_code == 400
        error = refused.json()["error"]
        assert (error["param"], error["code"]) == ("timestamps", "invalid_option")
        assert 'stream_format "sse"' in error["message"]
        assert "/dev/captioned_speech" in error["message"]
    assert usual.status_code == 200


def test_a_check_is_in_headers_and_in_the_last_event(server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = events_of(server)
    assert "check" not in plain[-1]["voxtral"]
    give_words(monkeypatch, TEXT, "suspect")
    done = events_of(server, verify="report")[-1]
    assert done["voxtral"]["check"]["verdict"] == "suspect"
    assert [found["kind"] for found in done["voxtral"]["check"]["findings"]] == ["skipped"]
    with server.client() as client:
        whole = {**BODY, "stream_format": "audio", "stream": False, "verify": "report"}
        headers = client.post("/v1/audio/speech", json=whole).headers
        guide = client.post("/synthesize", params={"text": TEXT, "stream": "false", "verify": "report"}).headers
    for found in (headers, guide):
        assert (found["x-voxtral-verdict"], found["x-voxtral-findings"]) == ("suspect", "1")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"verify": "always"}, "verify"),
        ({"max_attempts": 11}, "max_attempts"),
        ({"keep_to_text": "no"}, "keep_to_text"),
    ],
)
def test_options_of_checks_are_checked(server: Serving, changes: dict[str, Any], message: str) -> None:
    with server.client() as client:
        answer = client.post("/v1/audio/speech", json={**BODY, **changes})
    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]
