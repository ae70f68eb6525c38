"""Options of speech over HTTP: each does what it does in Python, in every dialect, and none slows others down."""

from __future__ import annotations

from typing import Any

import pytest

from serving import Serving
from voxtral.audio.pcm import to_int16
from voxtral.tts import VoxtralTTS

TEXT = "One sentence is here. " * 24  # two segments
WAYS = [("/synthesize", "text"), ("/v1/audio/speech", "input")]


def ask(server: Serving, path: str, field: str, **options: Any) -> Any:
    with server.client() as client:
        fields = {field: TEXT, "seed": 7, "max_frames": 4, "response_format": "pcm", **options}
        return client.post(path, json=fields)


@pytest.mark.parametrize(("path", "field"), WAYS)
@pytest.mark.parametrize(
    "options",
    [
        {"pause": 0.01},
        {"noise_scale": 0.5},
        {"num_euler_steps": 1},
        {"guidance_scale": 2.0, "speed": 1.5},
        {"pause": 0.0, "noise_scale": 0.0, "guidance_scale": 1.0},
    ],
    ids=lambda options: "-".join(options),
)
def test_an_option_does_what_it_does_in_python(
    server: Serving, tts: VoxtralTTS, path: str, field: str, options: dict[str, Any]
) -> None:
    answer = ask(server, path, field, **options)
    assert answer.status_code == 200, answer.text
    assert "X-Voxtral-Ignored" not in answer.headers
    said = to_int16(tts.synthesize(TEXT, seed=7, max_frames=4, **options).samples).tobytes()
    assert answer.content == said
    assert said != to_int16(tts.synthesize(TEXT, seed=7, max_frames=4).samples).tobytes()


@pytest.mark.parametrize(("path", "field"), WAYS)
@pytest.mark.parametrize(
    "options",
    [
        *({"pause": -1}, {"pause": 61}, {"noise_scale": 2.1}, {"num_euler_steps": 0}, {"num_euler_steps": 2.5}),
        *({name: True} for name in ("pause", "speed", "noise_scale", "guidance_scale", "max_frames", "seed")),
    ],
    ids=str,
)
def test_what_is_outside_its_range_is_refused(server: Serving, path: str, field: str, options: dict[str, Any]) -> None:
    answer = ask(server, path, field, **options)
    assert answer.status_code == 400
    assert next(iter(options)) in answer.json()["error"]["message"]


@pytest.mark.parametrize(("path", "field"), WAYS)
def test_more_steps_than_the_checkpoint_asks_for_are_refused(
    server: Serving, tts: VoxtralTTS, path: str, field: str
) -> None:
    own = tts.config.generation.num_euler_steps
    assert ask(server, path, field, num_euler_steps=own).status_code == 200
    answer = ask(server, path, field, num_euler_steps=own + 1)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_option")
    assert f"at most {own}" in answer.json()["error"]["message"]
