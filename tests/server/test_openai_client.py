"""The real client of OpenAI over a real socket: what it hears is what the engine made, in every format."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import openai
import pytest

from listening import FORMATS, STREAM_FORMATS, audio_of, check_samples, decode, events_of, openai_client, pitch_ratio
from serving import Serving, serving
from voxtral.engine.options import EngineOptions
from voxtral.tts import VoxtralTTS
from voxtral.voices.book import OPENAI_VOICES

TEXT = "Hello there, how are you today?"
VOICE = "en_f1"


@pytest.fixture(scope="module")
def nano() -> Iterator[VoxtralTTS]:
    """Speech, because a lossy format keeps nothing of noise."""
    options = EngineOptions(batch_invariant=True, max_batch=1)
    with VoxtralTTS.from_pretrained("nano", device="cpu", options=options) as model:
        yield model


@pytest.fixture(scope="module")
def speech(nano: VoxtralTTS) -> np.ndarray:
    """What the engine makes of the text."""
    return nano.synthesize(TEXT, voice=VOICE, seed=7).samples


@pytest.fixture(scope="module")
def first_second(nano: VoxtralTTS) -> np.ndarray:
    """The same, up to its twelfth frame."""
    return nano.synthesize(TEXT, voice=VOICE, seed=7, max_frames=12).samples


@pytest.fixture(scope="module")
def speaker(nano: VoxtralTTS) -> Iterator[openai.OpenAI]:
    """A client of a server that speaks."""
    with serving(nano) as running, openai_client(running) as client:
        yield client


@pytest.fixture(scope="module")
def client(server: Serving) -> Iterator[openai.OpenAI]:
    """A client of a server with the tiny model."""
    with openai_client(server) as client:
        yield client


@pytest.mark.parametrize("stream_format", STREAM_FORMATS)
@pytest.mark.parametrize("format", FORMATS)
def test_every_format_holds_what_the_engine_made(
    speaker: openai.OpenAI, first_second: np.ndarray, format: Any, stream_format: Any
) -> None:
    heard = speaker.audio.speech.create(
        input=TEXT,
        model="gpt-4o-mini-tts",
        voice=VOICE,
        response_format=format,
        stream_format=stream_format,
        extra_body={"seed": 7, "max_frames": 12},
    )
    check_samples(audio_of(heard.content, stream_format), format, first_second)


@pytest.mark.parametrize("speed", [0.5, 2.0])
def test_the_pitch_stays_at_another_speed(speaker: openai.OpenAI, speech: np.ndarray, speed: float) -> None:
    heard = speaker.audio.speech.create(
        input=TEXT, model="tts-1", voice=VOICE, response_format="wav", speed=speed, extra_body={"seed": 7}
    )
    samples = decode(heard.content, "wav")
    assert len(samples) == pytest.approx(len(speech) / speed, abs=1)
    assert pitch_ratio(speech, samples, speed) == pytest.approx(1.0, abs=0.02)


def test_the_measure_of_pitch_sees_a_tape_that_runs_three_percent_too_fast(speech: np.ndarray) -> None:
    fast = np.interp(np.arange(0, len(speech) - 1, 1.03), np.arange(len(speech)), speech)
    assert pitch_ratio(speech, fast, 1.03) == pytest.approx(1.03, abs=0.005)


@pytest.mark.parametrize("speed", [0.25, 4.0])
def test_the_slowest_and_the_fastest_speed_are_those_of_the_library(
    client: openai.OpenAI, tts: VoxtralTTS, speed: float
) -> None:
    options = {"voice": "casual_male", "seed": 7, "max_frames": 12}
    made = tts.synthesize(TEXT, **options, speed=speed).samples
    heard = client.audio.speech.create(
        input=TEXT,
        model="tts-1",
        voice="casual_male",
        response_format="pcm",
        speed=speed,
        extra_body={"seed": 7, "max_frames": 12},
    )
    check_samples(heard.content, "pcm", made)
    assert len(made) == pytest.approx(len(tts.synthesize(TEXT, **options)) / speed, abs=1)


def test_mp3_is_what_comes_unasked(client: openai.OpenAI, tts: VoxtralTTS) -> None:
    heard = client.audio.speech.create(
        input=TEXT, model="tts-1", voice="alloy", extra_body={"seed": 7, "max_frames": 3}
    )
    assert heard.response.headers["content-type"] == "audio/mpeg"
    assert len(decode(heard.content, "mp3")) >= 3 * 1920


def test_a_voice_is_named_by_a_string_or_an_object(client: openai.OpenAI, tts: VoxtralTTS) -> None:
    made = tts.synthesize(TEXT, voice="casual_male", seed=7, max_frames=4).samples
    voices: list[Any] = ["casual_male", {"id": "casual_male"}]
    for voice in voices:
        heard = client.audio.speech.create(
            input=TEXT,
            model="tts-1",
            voice=voice,
            response_format="wav",
            extra_body={"seed": 7, "max_frames": 4},
        )
        check_samples(heard.content, "wav", made)


@pytest.mark.parametrize("voice", OPENAI_VOICES)
def test_openais_voices_stand_for_presets_of_their_gender(client: openai.OpenAI, voice: str) -> None:
    heard = client.audio.speech.create(
        input="Hello", model="tts-1", voice=voice, response_format="pcm", extra_body={"seed": 7, "max_frames": 1}
    )
    # The names of the checkpoint's own voices.
    preset = {"female": "neutral_female", "male": "casual_male"}[OPENAI_VOICES[voice]]
    assert heard.response.headers["x-voxtral-voice"] == preset
    assert len(heard.content) == 2 * 1920


def test_headers_tell_how_to_make_the_same_again(client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voxtral.speech.planner.secrets.randbits", lambda num_bits: 1234)
    body = {"input": "Hello", "model": "tts-1", "voice": "alloy", "response_format": "pcm"}
    first = client.audio.speech.create(**body, extra_body={"max_frames": 4})
    seed = int(first.response.headers["x-voxtral-seed"])
    assert seed == 1234
    again = client.audio.speech.create(**body, extra_body={"max_frames": 4, "seed": seed})
    other = client.audio.speech.create(**body, extra_body={"max_frames": 4, "seed": seed + 1})
    assert first.content == again.content != other.content


def test_what_has_no_effect_is_named(client: openai.OpenAI) -> None:
    heard = client.audio.speech.create(
        input="Hello",
        model="tts-1",
        voice="alloy",
        instructions="Speak like a pirate.",
        response_format="pcm",
        extra_body={"seed": 7, "max_frames": 1, "emotion": "joy"},
    )
    assert heard.response.headers["x-voxtral-ignored"] == "instructions, emotion"


def test_the_last_event_counts_tokens_and_tells_why_it_ended(client: openai.OpenAI) -> None:
    heard = client.audio.speech.create(
        input="Hello",
        model="gpt-4o-mini-tts",
        voice="alloy",
        response_format="pcm",
        stream_format="sse",
        extra_body={"seed": 7, "max_frames": 3},
    )
    assert heard.response.headers["content-type"].startswith("text/event-stream")
    *deltas, done = events_of(heard.content)
    assert {event["type"] for event in deltas} == {"speech.audio.delta"}
    assert done["type"] == "speech.audio.done"
    usage = done["usage"]
    assert usage["output_tokens"] == 3
    assert usage["input_tokens"] > 0
    assert usage["total_tokens"] == usage["input_tokens"] + 3
    assert (done["voxtral"]["finish_reason"], done["voxtral"]["seed"]) == ("length", 7)


def test_guidance_is_passed_on(client: openai.OpenAI, tts: VoxtralTTS) -> None:
    made = tts.synthesize("Hello", "en", seed=7, max_frames=4, guidance_scale=2.5).samples
    heard = client.audio.speech.create(
        input="Hello",
        model="tts-1",
        voice=None,  # type: ignore[arg-type]
        response_format="flac",
        extra_body={"seed": 7, "max_frames": 4, "guidance_scale": 2.5, "language": "en"},
    )
    check_samples(heard.content, "flac", made)


def test_models_are_listed_and_described(client: openai.OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert names[1:] == ["tts-1", "tts-1-hd", "gpt-4o-mini-tts", "voxtral-tts"]
    for name in names:
        model = client.models.retrieve(name)
        assert (model.id, model.object) == (name, "model")
        assert model.to_dict()["root"] == names[0] == "brief"  # and not the path of its folder
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("gpt-4")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


@pytest.mark.parametrize(
    ("wrong", "kind", "param", "code"),
    [
        ({"input": " "}, openai.BadRequestError, "input", "invalid_text"),
        ({"voice": "nobody"}, openai.BadRequestError, "voice", "invalid_voice"),
        ({"voice": {"id": "../../etc/passwd"}}, openai.BadRequestError, "voice", "invalid_voice"),
        ({"model": "gpt-4"}, openai.NotFoundError, "model", "model_not_found"),
        ({"response_format": "ogg"}, openai.BadRequestError, "response_format", "invalid_request"),
        ({"stream_format": "ws"}, openai.BadRequestError, "stream_format", "invalid_request"),
        ({"speed": 4.5}, openai.BadRequestError, "speed", "invalid_request"),
        ({"speed": 0.2}, openai.BadRequestError, "speed", "invalid_request"),
        ({"extra_body": {"language": "xx"}}, openai.BadRequestError, "language", "unsupported_language"),
        ({"extra_body": {"seed": -1}}, openai.BadRequestError, "seed", "invalid_request"),
        ({"extra_body": {"max_frames": 0}}, openai.BadRequestError, "max_frames", "invalid_request"),
        (
            {"extra_body": {"ref_audio": "http://127.0.0.1/clip.wav"}},
            openai.BadRequestError,
            "ref_audio",
            "invalid_reference_audio",
        ),
        ({"input": "a" * 100_001}, openai.APIStatusError, "input", "text_too_long"),
    ],
)
@pytest.mark.parametrize("stream_format", STREAM_FORMATS)
def test_what_is_wrong_arrives_as_the_clients_own_error(
    client: openai.OpenAI,
    wrong: dict[str, Any],
    kind: type[openai.APIStatusError],
    param: str,
    code: str,
    stream_format: str,
) -> None:
    body = {"input": "Hello", "model": "tts-1", "voice": "alloy", "stream_format": stream_format}
    with pytest.raises(kind) as caught:
        client.audio.speech.create(**(body | wrong))
    error = caught.value
    assert (error.param, error.code) == (param, code)
    assert isinstance(error.body, dict)
    assert error.body["message"] in error.message


def test_a_key_is_sent_as_openai_sends_it(tts: VoxtralTTS) -> None:
    key = "a-key-of-these-tests"
    with serving(tts, api_key=key) as guarded:
        with openai_client(guarded, api_key=key) as client:
            assert client.models.retrieve("tts-1").id == "tts-1"
        with openai_client(guarded, api_key="another-key-of-theirs") as client:
            with pytest.raises(openai.AuthenticationError) as caught:
                client.audio.speech.create(input="Hello", model="tts-1", voice="alloy")
            assert caught.value.code == "invalid_api_key"
