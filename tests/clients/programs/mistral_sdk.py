"""Mistral's own client and LiveKit's plug-in of it: what they get from a server, as a line of JSON."""

from __future__ import annotations

import asyncio
import base64
import json
import sys

from livekit.plugins import mistralai as livekit_mistral
from mistralai.client import Mistral
from mistralai.client.errors import SDKError


def encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


async def speak_with_livekit(client: Mistral, text: str) -> dict[str, object]:
    async with livekit_mistral.TTS(client=client) as tts, tts.synthesize(text) as stream:
        frames = [event.frame async for event in stream]
    return {
        "rate": frames[0].sample_rate,
        "seconds": sum(frame.samples_per_channel for frame in frames) / frames[0].sample_rate,
    }


def main(url: str, text: str, clip: str) -> None:
    client = Mistral(api_key="a-key-of-sixteen", server_url=url)
    speech, voices = client.audio.speech, client.audio.voices
    extra = {"seed": 6, "max_frames": 8}
    whole = speech.complete(input=text, response_format="pcm", additional_properties=extra)
    with speech.complete(input=text, response_format="pcm", stream=True, additional_properties=extra) as events:
        deltas = [event.data for event in events]
    page = voices.list(type_="preset")
    heard: dict[str, object] = {
        "whole": whole.audio_data,
        "pieces": [delta.audio_data for delta in deltas if delta.type == "speech.audio.delta"],
        "usage": deltas[-1].usage.model_dump(),
        "presets": [voice.name for voice in page.items],
        "first": voices.get(voice_id=page.items[0].id).name,
        "sample": encode(voices.get_sample_audio(voice_id=page.items[0].id).read()[:4]),
        "models": [model.id for model in client.models.list().data],
        "livekit": asyncio.run(speak_with_livekit(client, text)),
    }
    try:
        speech.complete(input=text, voice_id="nobody")
    except SDKError as error:
        heard["refused"] = error.status_code
    made = voices.create(
        name="My voice",
        sample_audio=clip,
        sample_filename="me.wav",
        languages=["en"],
        http_headers={"X-Voxtral-Consent": "true"},
    )
    changed = voices.update(voice_id=made.id, name="Other name")
    cloned = speech.complete(input=text, voice_id=made.id, response_format="pcm", additional_properties=extra)
    inline = speech.complete(input=text, ref_audio=clip, response_format="pcm", additional_properties=extra)
    heard["made"] = {"type": made.type, "name": made.name, "renamed": changed.name}
    heard["cloned"], heard["inline"] = cloned.audio_data, inline.audio_data
    voices.delete(voice_id=made.id)
    heard["left"] = [voice.name for voice in voices.list(type_="custom").items]
    print(json.dumps(heard))


if __name__ == "__main__":
    main(*json.loads(sys.stdin.read()))
