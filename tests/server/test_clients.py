"""What programs that speak to OpenAI's API really send, and what they need back: requests as their sources make them.

LiveKit and Pipecat use OpenAI's client (and are run themselves in `tests/clients`), Open WebUI, SillyTavern and
wyoming_openai plain HTTP.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from typing import Any

import httpx2
import openai
import pytest

from listening import check_samples, num_playable
from serving import Serving, wait_for
from voxtral.tts import VoxtralTTS
from voxtral.voices.book import OPENAI_VOICES

TEXT = "Hello world"


@pytest.fixture(autouse=True)
def fixed_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Speak alike in every run: none of these programs sends a seed."""
    monkeypatch.setattr("voxtral.speech.planner.secrets.randbits", lambda num_bits: 7)


@pytest.fixture
def client(server: Serving) -> Any:
    with server.client() as client:
        yield client


# LiveKit, livekit-plugins-openai: TTS, SSEChunkedStream and AudioChunkedStream.


async def livekit_speaks(server: Serving, model: str, **options: Any) -> tuple[str, bytes]:
    """Open the connection early, speak, and take the answer for what its Content-Type says: its type, and the audio."""
    timeout = httpx2.Timeout(connect=15.0, read=5.0, write=5.0, pool=5.0)
    async with openai.AsyncClient(
        max_retries=0,
        api_key="any",
        base_url=f"{server.url}/v1",
        http_client=openai.DefaultAsyncHttpxClient(timeout=timeout, follow_redirects=True),
    ) as client:
        await client.get("/", cast_to=str)
        async with client.audio.speech.with_streaming_response.create(
            input=TEXT,
            model=model,
            voice="ash",
            response_format="mp3",
            speed=1.0,
            timeout=httpx2.Timeout(30, connect=10),
            **options,
        ) as stream:
            assert stream.request_id
            content_type = stream.headers["content-type"]
            if not content_type.startswith("text/event-stream"):
                return content_type, b"".join([data async for data in stream.iter_bytes()])
            return content_type, await _livekit_reads_events(stream)


async def _livekit_reads_events(stream: Any) -> bytes:
    audio = b""
    async for line in stream.iter_lines():
        if not line.startswith("data: "):
            continue
        data = line[len("data: ") :]
        if data.strip() == "[DONE]":
            break
        event = json.loads(data)
        if event["type"] == "speech.audio.delta":
            audio += base64.b64decode(event.get("delta") or event.get("audio"))
    return audio


def test_livekit_hears_mp3_in_events(server: Serving) -> None:
    kind, audio = asyncio.run(livekit_speaks(server, "gpt-4o-mini-tts", stream_format="sse"))
    assert kind.startswith("text/event-stream")
    assert num_playable(audio, "mp3") > 1920


def test_livekit_hears_plain_mp3_of_the_older_models(server: Serving) -> None:
    kind, audio = asyncio.run(livekit_speaks(server, "tts-1"))
    assert kind == "audio/mpeg"
    assert num_playable(audio, "mp3") > 1920


def test_livekit_hears_of_an_error_by_its_status(server: Serving) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        asyncio.run(livekit_speaks(server, "gpt-5-tts", stream_format="sse"))
    assert caught.value.request_id


# Pipecat, OpenAITTSService: refuses all voices but OpenAI's before it asks.


async def pipecat_speaks(server: Serving, **options: Any) -> bytes:
    """Take what comes for samples, as headerless 16-bit mono at 24 kHz."""
    async with (
        openai.AsyncOpenAI(api_key="any", base_url=f"{server.url}/v1") as client,
        client.audio.speech.with_streaming_response.create(
            input=TEXT, model="gpt-4o-mini-tts", response_format="pcm", **options
        ) as answer,
    ):
        assert answer.status_code == 200
        return b"".join([data async for data in answer.iter_bytes(1024)])


@pytest.mark.parametrize("voice", OPENAI_VOICES)
def test_pipecat_hears_samples_of_each_voice_that_it_knows(server: Serving, tts: VoxtralTTS, voice: str) -> None:
    preset = {"female": "neutral_female", "male": "casual_male"}[OPENAI_VOICES[voice]]
    samples = asyncio.run(
        pipecat_speaks(server, voice=voice, instructions="Be kind.", speed=1.0, extra_body={"seed": 7, "max_frames": 2})
    )
    check_samples(samples, "pcm", tts.synthesize(TEXT, voice=preset, seed=7, max_frames=2).samples)


def test_pipecat_reports_what_it_knows_as_a_bad_request(server: Serving) -> None:
    with pytest.raises(openai.BadRequestError):
        asyncio.run(pipecat_speaks(server, voice="alloy", extra_body={"input": ""}))


# Open WebUI, routers/audio.py: asks for voices and models without a key, and keeps what it gets as a file.


def test_open_webui_finds_voices_and_models_by_id_and_name(client: httpx2.Client, tts: VoxtralTTS) -> None:
    voices = client.get("/v1/audio/voices").json()["voices"]
    names = {voice["id"]: voice["name"] for voice in voices}
    assert names == {voice.name: voice.name for voice in tts.voices}
    models = client.get("/v1/audio/models").json()["models"]
    assert {"tts-1", "tts-1-hd"} <= {model["id"] for model in models}
    assert all(model["name"] for model in models)


def open_webui_speaks(client: httpx2.Client, **payload: Any) -> httpx2.Response:
    return client.post(
        "/v1/audio/speech",
        json={"model": "tts-1", "input": TEXT, "voice": "alloy", **payload},
        headers={
            "Content-Type": "application/json",
            "Authorization": "Bearer sk-any",
            "X-OpenWebUI-User-Name": "Ada%20Lovelace",
            "X-OpenWebUI-User-Id": "2c0ffee0",
            "X-OpenWebUI-User-Email": "ada@example.org",
            "X-OpenWebUI-User-Role": "user",
        },
    )


def test_open_webui_gets_an_mp3_and_its_user_is_not_written_down(
    client: httpx2.Client, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "voxtral"):
        answer = open_webui_speaks(client)
        wait_for(lambda: "/v1/audio/speech" in caplog.text)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "audio/mpeg"
    assert num_playable(answer.content, "mp3") > 1920
    assert not any(word in caplog.text for word in ("Ada", "ada@", "2c0ffee0", TEXT))


def test_open_webui_reads_the_message_of_an_error(client: httpx2.Client) -> None:
    answer = open_webui_speaks(client, voice="nobody")
    assert answer.status_code == 400
    assert "nobody" in answer.json()["error"]["message"]


# SillyTavern, openai-compatible: its own server asks, from Node, with the key that was typed or none.


def silly_tavern_speaks(client: httpx2.Client, voice: str) -> httpx2.Response:
    return client.post(
        "/v1/audio/speech",
        json={"model": "tts-1", "input": TEXT, "voice": voice, "response_format": "mp3", "speed": 1},
        headers={"Authorization": "Bearer", "User-Agent": "node", "Sec-Fetch-Mode": "cors"},
    )


def test_silly_tavern_gets_an_mp3_or_a_status(client: httpx2.Client) -> None:
    answer = silly_tavern_speaks(client, "casual_male")
    assert answer.status_code == 200
    assert num_playable(answer.content, "mp3") > 1920
    assert silly_tavern_speaks(client, "Nobody I Typed").status_code == 400


# wyoming_openai, compatibility.py: tells servers apart by what they answer, in this order.


async def wyoming_takes_us_for(server: Serving) -> str:
    async with openai.AsyncOpenAI(api_key="any", base_url=f"{server.url}/v1") as client:
        if (await client._client.get("/readyz")).is_success:
            return "LocalAI"
        health = await client._client.get("../../health")
        if health.is_success and health.text == "OK":
            return "Speaches"
        test = await client._client.get("/test")
        if test.is_success and test.json().get("status") == "ok":
            return "Kokoro"
        return "OpenAI"


def test_wyoming_takes_us_for_openai_whose_voices_we_have(server: Serving, client: httpx2.Client) -> None:
    # As LocalAI's, our voices would be called what the model is called.
    assert asyncio.run(wyoming_takes_us_for(server)) == "OpenAI"
    assert client.get("/v1/readyz").status_code == client.get("/v1/test").status_code == 404
    assert {"alloy", "ash", "coral", "echo", "fable", "onyx", "nova", "sage", "shimmer"} <= set(OPENAI_VOICES)


def test_wyoming_set_up_for_speaches_or_kokoro_finds_our_voices(client: httpx2.Client, tts: VoxtralTTS) -> None:
    presets = {voice.name for voice in tts.voices}
    assert client.get("/health", headers={"Accept": "text/plain"}).text == "OK"
    assert {voice["name"] for voice in client.get("/v1/models/tts-1").json()["voices"]} == presets
    assert {voice["id"] for voice in client.get("/v1/audio/voices").json()["voices"]} == presets
