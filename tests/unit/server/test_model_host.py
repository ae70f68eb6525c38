"""The life of the model: who uses it is counted, whenever they leave."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from voxtral.errors import DeviceError
from voxtral.server import model_host
from voxtral.server.errors import HttpError
from voxtral.server.model_host import LoadedModel, ModelHost
from voxtral.server.options import ServerOptions

# As many turns of the loop as there are between a change of the model and those who wait for it, and some more.
TURNS = range(8)


def given_host() -> ModelHost:
    """Make a host of a model that is only named."""
    tts: Any = SimpleNamespace(name="given")
    return ModelHost(ServerOptions(), tts)


@pytest.mark.parametrize("num_turns", TURNS)
def test_who_leaves_as_the_model_becomes_ready_is_not_counted_for_ever(num_turns: int) -> None:
    """A model with a user that is nobody would never be unloaded."""

    async def run() -> None:
        host, loaded = given_host(), LoadedModel(*[SimpleNamespace()] * 3)  # type: ignore[arg-type]

        async def use() -> None:
            async with host.use():
                await asyncio.Event().wait()

        user = asyncio.create_task(use())
        await asyncio.sleep(0)
        host._loaded = loaded
        host._set("ready")
        for _ in range(num_turns):
            await asyncio.sleep(0)
        user.cancel()
        done, _ = await asyncio.wait([user], timeout=2)
        assert done, "the cancellation was lost"
        assert host._num_users == 0

    asyncio.run(run())


def test_a_model_that_cannot_be_loaded_is_said_and_ends_the_process(tmp_path: Path) -> None:
    async def run() -> None:
        last_words: list[str] = []
        host = ModelHost(ServerOptions(model=str(tmp_path), device="cpu", data_dir=tmp_path))
        host.on_fatal = last_words.append
        await host.start()
        with pytest.raises(HttpError, match="not available") as caught:
            async with host.use():
                pass
        assert (caught.value.status_code, caught.value.code) == (503, "model_unavailable")
        assert not host.is_ready
        assert len(last_words) == 1
        await host.close()

    asyncio.run(run())


def test_without_a_server_around_it_a_fatal_failure_ends_the_process_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under plain uvicorn; not before those whose streams break have been told."""
    codes: list[int] = []
    monkeypatch.setattr(model_host, "_LAST_WORDS_S", 0.01)
    monkeypatch.setattr("os._exit", codes.append)

    async def run() -> None:
        given_host()._fail(DeviceError("the device is gone"))
        assert codes == []
        await asyncio.sleep(0.05)

    asyncio.run(run())
    assert codes == [70]


def test_who_waits_for_a_model_is_told_that_the_server_ends() -> None:
    async def run() -> None:
        host = given_host()
        told: list[bool] = []
        host.on_drain = lambda: told.append(True)

        async def use() -> None:
            async with host.use():
                pass

        user = asyncio.create_task(use())
        await asyncio.sleep(0)
        host.drain()
        with pytest.raises(HttpError, match="shutting down"):
            await user
        assert told == [True]
        host._set("ready")
        assert not host.is_ready

    asyncio.run(run())
