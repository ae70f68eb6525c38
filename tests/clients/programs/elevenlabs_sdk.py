"""ElevenLabs' own client and LiveKit's plug-in of it: what they get from a server, as a line of JSON."""

from __future__ import annotations

import asyncio
import base64
import json
import sys

import aiohttp
from elevenlabs import VoiceSettings
from elevenlabs.client import ElevenLabs
from elevenlabs.core.api_error import ApiError
from livekit.plugins import elevenlabs as livekit_elevenlabs


def encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


async def speak_with_livekit(url: str, voice: str, text: str) -> dict[str, object]:
    async with aiohttp.ClientSession() as session:
        tts = livekit_elevenlabs.TTS(
            voice_id=voice, api_key="any", base_url=f"{url.replace('http', 'ws')}/v1", http_session=session
        )
        async with tts, tts.stream() as stream:
            for piece in text.split(" "):
                stream.push_text(piece + " ")
            stream.end_input()
            frames = [event.frame async for event in stream]
    words = [str(word) for frame in frames for word in frame.userdata.get("lk.timed_transcripts", [])]
    samples = sum(frame.samples_per_channel for frame in frames)
    return {"rate": frames[0].sample_rate, "seconds": samples / frames[0].sample_rate, "words": words}


def main(url: str, voice: str, text: str) -> None:
    client = ElevenLabs(api_key="any", base_url=url)
    speech = client.text_to_speech
    asked = {"voice_id": voice, "text": text, "seed": 6, "output_format": "pcm_24000", "model_id": "eleven_flash_v2_5"}
    timed = speech.convert_with_timestamps(**asked)
    lines = list(speech.stream_with_timestamps(**asked))
    # Its realtime call speaks wss whatever the address says, unless it is told so.
    speech._ws_base_url = url.replace("http", "ws")
    realtime = speech.convert_realtime(
        voice_id=voice,
        text=iter(word + " " for word in text.split(" ")),
        model_id="eleven_flash_v2_5",
        output_format="pcm_24000",
        voice_settings=VoiceSettings(speed=1.0),
    )
    heard: dict[str, object] = {
        "whole": encode(b"".join(speech.convert(**asked))),
        "stream": encode(b"".join(speech.stream(**asked))),
        "default": encode(b"".join(speech.convert(voice_id=voice, text=text))),
        "timed": timed.audio_base_64,
        "characters": timed.alignment.characters,
        "lines": [line.audio_base_64 for line in lines],
        "realtime": encode(b"".join(realtime)),
        "voices": [each.voice_id for each in client.voices.get_all().voices],
        "found": [each.voice_id for each in client.voices.search(search=voice).voices],
        "voice": client.voices.get(voice_id=voice).name,
        "models": [model.model_id for model in client.models.list()],
        "livekit": asyncio.run(speak_with_livekit(url, voice, text)),
    }
    try:
        speech.convert_with_timestamps(voice_id="nobody", text=text)
    except ApiError as error:
        heard["refused"] = [error.status_code, error.body["detail"]["status"]]
    print(json.dumps(heard))


if __name__ == "__main__":
    main(*json.loads(sys.stdin.read()))
