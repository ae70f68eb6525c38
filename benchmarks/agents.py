"""Voice agents: text in pieces over a web socket, interruptions at random, and a player that must not run dry.

    python -m benchmarks.agents --agents 6,16 --seconds 60 --json FILE

`voxtral serve` runs as a process of its own. Each agent has one socket (ElevenLabs' `multi-stream-input`) and takes
turn after turn: words come as a language model writes them, speech is played as it comes, and three turns in ten are
cut off. First audio counts from the moment when the last word of the first sentence was sent. A gap is a moment when
the player, which begins with the first audio, has nothing to play although there is more to come and its text was sent.
What comes of a turn after the server has said that it is cut off would be heard by the wrong person: it is counted.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from benchmarks.loopback import served
from benchmarks.options import make_parser, read_numbers, resolve
from benchmarks.report import ROOT, Report
from voxtral.bench import percentile, round_figure

_TEXTS = ROOT / "benchmarks" / "texts" / "test" / "en.txt"
_PATH = "/v1/text-to-speech/en_f1/multi-stream-input?output_format=pcm_24000&sync_alignment=true"
_BYTES_PER_S = 2 * 24000
_WORDS_PER_S = 15.0
_CUT_OFF_SHARE = 0.3
_PATIENCE_S = 60.0


@dataclass
class Heard:
    """What one agent has heard.

    Attributes:
        first_s: from the last word of the first sentence to the first audio, of each turn.
        gaps_s: of each turn that was played to its end, how long its player had nothing.
        cancel_s: from the interruption to the server's word that nothing more comes.
        num_late: pieces of a turn behind that word.
        num_words_told: interruptions for which the last word was told.
        num_turns: that were begun.
    """

    first_s: list[float] = field(default_factory=list[float])
    gaps_s: list[float] = field(default_factory=list[float])
    cancel_s: list[float] = field(default_factory=list[float])
    num_late: int = 0
    num_words_told: int = 0
    num_turns: int = 0


class Agent:
    """One agent on its socket."""

    def __init__(self, socket: ClientConnection, sentences: Sequence[str], seed: int) -> None:
        self.heard = Heard()
        self._socket = socket
        self._sentences = sentences
        self._rng = random.Random(seed)
        self._cut_off: set[str] = set()

    async def run(self, until: float) -> None:
        """Take turns until a moment."""
        while time.perf_counter() < until:
            self.heard.num_turns += 1
            await self._turn(f"turn-{self.heard.num_turns}")
            await asyncio.sleep(self._rng.uniform(0.0, 0.3))

    async def _turn(self, context: str) -> None:
        text = " ".join(self._rng.sample(list(self._sentences), self._rng.choice((1, 2, 3))))
        first_sentence_words = len(text.split(".", maxsplit=1)[0].split())
        cut_after_s = self._rng.uniform(0.2, 2.0) if self._rng.random() < _CUT_OFF_SHARE else None
        sent_at: list[float] = []
        writing = asyncio.create_task(self._write(context, text, sent_at))
        deadline = time.perf_counter() + _PATIENCE_S
        began = dry_at = cut_at = None
        dry_s = 0.0
        while True:
            timeout_s = deadline - time.perf_counter()
            if began is not None and cut_after_s is not None and cut_at is None:
                timeout_s = min(timeout_s, began + cut_after_s - time.perf_counter())
            try:
                message: dict[str, Any] = json.loads(await asyncio.wait_for(self._socket.recv(), max(timeout_s, 0.001)))
            except TimeoutError:
                if time.perf_counter() >= deadline:
                    raise
                cut_at = time.perf_counter()
                writing.cancel()
                await self._send(cancel_context=True, context_id=context)
                continue
            now = time.perf_counter()
            if "error" in message:
                raise RuntimeError(f"the server refused a turn: {message['error']}")
            if message["context_id"] in self._cut_off:
                self.heard.num_late += message.get("audio") is not None
                continue
            if message.get("cancelled"):
                self._cut_off.add(context)
                self.heard.cancel_s.append(now - (cut_at or now))
                self.heard.num_words_told += message["last_word"] is not None
                return
            if message["isFinal"]:
                if cut_at is None:
                    self.heard.gaps_s.append(dry_s)
                self._cut_off.add(context)
                await writing
                return
            seconds = len(base64.b64decode(message["audio"])) / _BYTES_PER_S
            if began is None:
                began = dry_at = now
                ready = sent_at[min(first_sentence_words, len(sent_at)) - 1]
                self.heard.first_s.append(now - ready)
            # A player waits only for what is late, not for words that were not written yet.
            lateness_s = now - max(dry_at or now, sent_at[-1])
            dry_s += max(0.0, lateness_s)
            dry_at = max(dry_at or now, now) + seconds

    async def _write(self, context: str, text: str, sent_at: list[float]) -> None:
        """Send words as a language model writes them, and close the text."""
        for word in text.split():
            await self._send(text=word + " ", context_id=context)
            sent_at.append(time.perf_counter())
            await asyncio.sleep(self._rng.expovariate(_WORDS_PER_S))
        await self._send(close_context=True, context_id=context)

    async def _send(self, **message: Any) -> None:
        await self._socket.send(json.dumps(message))


async def measure(port: int, num_agents: int, seconds: float, sentences: Sequence[str]) -> list[Heard]:
    """Let agents speak for so long."""
    url = f"ws://127.0.0.1:{port}{_PATH}"
    sockets = [await connect(url, max_size=None) for _ in range(num_agents)]
    agents = [Agent(socket, sentences, seed) for seed, socket in enumerate(sockets)]
    until = time.perf_counter() + seconds
    await asyncio.gather(*(agent.run(until) for agent in agents))
    for socket in sockets:
        await socket.close()
    return [agent.heard for agent in agents]


def main(words: Sequence[str] | None = None) -> None:
    """Measure and report."""
    parser = make_parser(__doc__)
    parser.add_argument("--agents", type=read_numbers, default=(6, 16))
    parser.add_argument("--seconds", type=float, default=60.0)
    arguments = parser.parse_args(words)
    if arguments.short:
        arguments.agents, arguments.seconds = (2,), 3.0
    device, precision = resolve(arguments)
    report = Report("agents", arguments)
    report.note(device=str(device), precision=precision)
    sentences = [line for line in _TEXTS.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    with (
        tempfile.TemporaryDirectory() as folder,
        served("--model", arguments.model, "--device", arguments.device, data_dir=folder) as server,
    ):
        port = server.wait_until_ready()
        for num_agents in arguments.agents:
            heard = asyncio.run(measure(port, num_agents, arguments.seconds, sentences))
            first = [1e3 * value for each in heard for value in each.first_s]
            gaps = [value for each in heard for value in each.gaps_s]
            cancels = [1e3 * value for each in heard for value in each.cancel_s]
            report.add(
                agents=num_agents,
                turns=sum(each.num_turns for each in heard),
                first_audio_ms={f"p{share}": round_figure(percentile(first, share)) for share in (50, 95)},
                played=len(gaps),
                with_gaps=sum(gap > 0.005 for gap in gaps),
                silence_s=round_figure(sum(gaps)),
                cut_off=len(cancels),
                cut_off_ms={f"p{share}": round_figure(percentile(cancels, share)) for share in (50, 95)}
                if cancels
                else None,
                told_the_last_word=sum(each.num_words_told for each in heard),
                heard_after_the_cut=sum(each.num_late for each in heard),
            )
    report.finish()


if __name__ == "__main__":
    main()
