"""LiveKit's plug-in for OpenAI: what it gets from a server, as a line of JSON."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from typing import Any

from livekit.agents import APIStatusError
from livekit.plugins import openai as livekit_openai


async def speak(url: str, text: str, **options: Any) -> dict[str, object]:
    tts = livekit_openai.TTS(api_key="any", base_url=f"{url}/v1", **options)
    usage: list[Any] = []
    tts.on("metrics_collected", usage.append)
    async with tts, tts.synthesize(text) as stream:
        frames = [event.frame async for event in stream]
    return {
        "rate": frames[0].sample_rate,
        "audio": base64.b64encode(b"".join(bytes(frame.data) for frame in frames)).decode(),
        "tokens": [(each.input_tokens, each.output_tokens) for each in usage],
    }


async def main(url: str, text: str) -> None:
    heard: dict[str, object] = {
        "default": await speak(url, text),
        "older": await speak(url, text, model="tts-1"),
        "pcm": await speak(url, text, response_format="pcm", voice="nova"),
    }
    try:
        await speak(url, text, model="nobody")
    except APIStatusError as error:
        heard["refused"] = error.status_code
    print(json.dumps(heard))


if __name__ == "__main__":
    asyncio.run(main(*json.loads(sys.stdin.read())))
