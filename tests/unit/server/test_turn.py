"""A turn with a delivery of the test's own: what it does about clients that stall, and what the log gets."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from voxtral.server import turn
from voxtral.server.delivery import STALLED
from voxtral.server.guard import Visit
from voxtral.server.options import ServerOptions
from voxtral.server.service import SpeechOrder, SpeechService
from voxtral.server.turn import Turn
from voxtral.types import SpeechRequest


class Listener:
    """Takes note of whether it was told to give up."""

    def __init__(self) -> None:
        self.is_given_up = False

    def give_up(self) -> None:
        self.is_given_up = True

    def __getattr__(self, name: str) -> Any:
        async def take(*_: Any, **__: Any) -> None:
            return None

        return take


def speak(visit: Visit, listener: Listener, text: str = "Hi.") -> Turn:
    service: Any = SimpleNamespace(options=ServerOptions(), check_length=lambda *_, **__: None)
    order = SpeechOrder(SpeechRequest(text), "pcm")
    return Turn(service, order, visit, listener, in_pieces=not text)  # type: ignore[arg-type]


@pytest.mark.parametrize("error", [STALLED, "engine_error"])
def test_a_client_that_takes_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch, error: str) -> None:
    """A socket that is broken off without a word is not whole for anybody; one that goes on would seem to be."""

    async def deliver(service: Any, order: Any, sink: Any, visit: Visit) -> None:
        visit.facts["error"] = error

    async def run() -> None:
        listener = Listener()
        await speak(Visit("id"), listener).wait()
        assert listener.is_given_up is (error == STALLED)

    monkeypatch.setattr(turn, "deliver", deliver)
    asyncio.run(asyncio.wait_for(run(), 10))


def test_the_log_has_the_first_audio_of_the_utterance_that_had_any(monkeypatch: pytest.MonkeyPatch) -> None:
    facts: list[dict[str, Any]] = [{"error": "invalid_voice"}, {"ttfa_s": 0.2}, {"ttfa_s": 0.3}]

    async def deliver(service: Any, order: Any, sink: Any, visit: Visit) -> None:
        visit.facts.update(facts.pop(0))

    async def run() -> None:
        visit = Visit("id")
        for _ in range(3):
            await speak(visit, Listener()).wait()
        assert visit.facts["ttfa_s"] == 0.2
        assert visit.facts["utterances"] == 3

    monkeypatch.setattr(turn, "deliver", deliver)
    asyncio.run(asyncio.wait_for(run(), 10))


def test_a_socket_that_opens_as_the_server_ends_is_told() -> None:
    for state, is_told in (("ready", False), ("draining", True)):
        told: list[bool] = []
        opened: Any = SimpleNamespace(drain=lambda told=told: told.append(True))
        service: Any = SimpleNamespace(sockets=_Opened(), host=SimpleNamespace(state=state))
        SpeechService.welcome(service, opened)
        assert bool(told) is is_told
        assert service.sockets.all == [opened]


class _Opened:
    def __init__(self) -> None:
        self.all: list[Any] = []

    def add(self, opened: Any) -> None:
        self.all.append(opened)
