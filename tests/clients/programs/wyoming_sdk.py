"""The reference library of Wyoming: what it gets from a server, as a line of JSON."""

from __future__ import annotations

import asyncio
import base64
import json
import sys

from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.event import Event
from wyoming.info import Describe, Info
from wyoming.tts import (
    Synthesize,
    SynthesizeChunk,
    SynthesizeStart,
    SynthesizeStop,
    SynthesizeStopped,
    SynthesizeVoice,
)


async def read(client: AsyncTcpClient, last: str) -> list[Event]:
    events: list[Event] = []
    while not events or events[-1].type != last:
        event = await client.read_event()
        assert event is not None
        events.append(event)
    return events


def sound(events: list[Event]) -> str:
    chunks = [AudioChunk.from_event(event) for event in events if AudioChunk.is_type(event.type)]
    assert {(chunk.rate, chunk.width, chunk.channels) for chunk in chunks} == {(24000, 2, 1)}
    return base64.b64encode(b"".join(chunk.audio for chunk in chunks)).decode()


async def run(port: int, voice: str, text: str) -> dict[str, object]:
    async with AsyncTcpClient("127.0.0.1", port) as client:
        await client.write_event(Describe().event())
        info = Info.from_event((await read(client, "info"))[-1])
        chosen = SynthesizeVoice(name=voice)
        await client.write_event(Synthesize(text=text, voice=chosen).event())
        whole = await read(client, AudioStop().event().type)
        assert AudioStart.is_type(whole[0].type)
        await client.write_event(SynthesizeStart(voice=chosen).event())
        for word in text.split(" "):
            await client.write_event(SynthesizeChunk(text=word + " ").event())
        await client.write_event(Synthesize(text=text, voice=chosen).event())
        await client.write_event(SynthesizeStop().event())
        pieces = await read(client, SynthesizeStopped().event().type)
    (program,) = info.tts
    return {
        "program": program.name,
        "streams": program.supports_synthesize_streaming,
        "voices": [each.name for each in program.voices],
        "whole": sound(whole),
        "pieces": sound(pieces),
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(*json.loads(sys.stdin.read())))))
