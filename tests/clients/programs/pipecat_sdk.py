"""Pipecat's services for ElevenLabs and OpenAI, each in a pipeline: what they get from a server, as a line of JSON."""

from __future__ import annotations

import asyncio
import base64
import json
import sys

import aiohttp
from loguru import logger
from pipecat.frames.frames import ErrorFrame, TTSAudioRawFrame, TTSSpeakFrame, TTSTextFrame
from pipecat.pipeline.worker import PipelineParams
from pipecat.services.elevenlabs.tts import ElevenLabsHttpTTSService, ElevenLabsTTSService
from pipecat.services.openai.tts import OpenAITTSService
from pipecat.services.tts_service import TTSService
from pipecat.tests.utils import run_test

_RATE = 24000


async def speak(service: TTSService, text: str) -> dict[str, object]:
    down, up = await run_test(
        service,
        frames_to_send=[TTSSpeakFrame(text)],
        pipeline_params=PipelineParams(audio_out_sample_rate=_RATE),
        start_timeout=20,
    )
    pieces = [frame for frame in down if isinstance(frame, TTSAudioRawFrame)]
    words = [frame for frame in down if isinstance(frame, TTSTextFrame)]
    return {
        "rates": sorted({piece.sample_rate for piece in pieces}),
        "audio": base64.b64encode(b"".join(piece.audio for piece in pieces)).decode(),
        "words": [word.text for word in words],
        "times_s": [(word.pts - words[0].pts) / 1e9 for word in words if word.pts and words[0].pts],
        "errors": [frame.error for frame in (*down, *up) if isinstance(frame, ErrorFrame)],
    }


async def main(url: str, voice: str, text: str) -> None:
    logger.remove()
    heard: dict[str, object] = {}
    heard["socket"] = await speak(
        ElevenLabsTTSService(
            api_key="any",
            url=url.replace("http", "ws"),
            settings=ElevenLabsTTSService.Settings(voice=voice),
        ),
        text,
    )
    async with aiohttp.ClientSession() as session:
        heard["http"] = await speak(
            ElevenLabsHttpTTSService(
                api_key="any",
                aiohttp_session=session,
                base_url=url,
                settings=ElevenLabsHttpTTSService.Settings(voice=voice),
            ),
            text,
        )
    heard["openai"] = await speak(OpenAITTSService(api_key="any", base_url=f"{url}/v1"), text)
    heard["refused"] = await speak(
        OpenAITTSService(api_key="any", base_url=f"{url}/v1", settings=OpenAITTSService.Settings(model="nobody")),
        text,
    )
    print(json.dumps(heard))


if __name__ == "__main__":
    asyncio.run(main(*json.loads(sys.stdin.read())))
