"""The life of the model: who uses it is counted, whenever they leave."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

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
