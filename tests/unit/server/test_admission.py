"""The queue at the door: never too many, first come first served, and no turn is ever lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxtral.server.admission import Admission, Ticket
from voxtral.server.errors import HttpError
from voxtral.server.keys import Client

LOCAL = Client("local")


def in_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 5))


async def settle() -> None:
    """Let every task go on until it waits."""
    for _ in range(10):
        await asyncio.sleep(0)


class Visitor:
    """A client that wants a turn, and keeps it until it is told to go."""

    def __init__(self, admission: Admission, client: Client, log: list[Visitor]) -> None:
        self.client = client
        self.ticket: Ticket | None = None
        self.is_told_to_go = asyncio.Event()
        self._admission = admission
        self._log = log
        self.task = asyncio.create_task(self._visit())

    async def _visit(self) -> None:
        self.ticket = await self._admission.enter(self.client)
        try:
            self._log.append(self)
            await self.is_told_to_go.wait()
        finally:
            self.ticket.give_back()

    @property
    def is_inside(self) -> bool:
        return self.ticket is not None and not self.task.done()


CLIENTS = [LOCAL, Client("one", 1), Client("two", 2)]
STEPS = st.lists(
    st.tuples(st.sampled_from(["come", "go", "cancel", "go and cancel"]), st.integers(0, 30), st.booleans()),
    max_size=60,
)


@settings(max_examples=80)
@given(st.integers(1, 3), st.integers(0, 4), STEPS)
def test_any_coming_going_and_giving_up_keeps_the_rules(max_streams: int, max_queue: int, steps: list[Any]) -> None:
    async def play() -> None:
        admission = Admission(max_streams, max_queue, max_wait_s=60)
        admitted: list[Visitor] = []
        came: list[Visitor] = []
        for what, number, is_settled in steps:
            here = [visitor for visitor in came if not visitor.task.done()]
            if what == "come":
                came.append(Visitor(admission, CLIENTS[number % len(CLIENTS)], admitted))
            elif here and what == "cancel":
                here[number % len(here)].task.cancel()
            elif here:
                leaving = here[number % len(here)]
                leaving.is_told_to_go.set()
                if what == "go and cancel":
                    # The turn and the cancellation of whoever gets it come in the same round of the loop.
                    await asyncio.sleep(0)
                    for visitor in here:
                        if visitor is not leaving and not visitor.is_inside:
                            visitor.task.cancel()
                            break
            if is_settled:
                await settle()
            check_rules(admission, came)
        await settle()
        check_rules(admission, came, is_settled=True)
        for visitor in came:
            visitor.task.cancel()
        results = await asyncio.gather(*(visitor.task for visitor in came), return_exceptions=True)
        assert all(isinstance(result, (asyncio.CancelledError, HttpError, type(None))) for result in results)
        order = [came.index(visitor) for visitor in admitted]
        assert order == sorted(order), "first come, first served"
        assert admission.num_active == admission.num_waiting == 0
        ticket = await asyncio.wait_for(admission.enter(CLIENTS[1]), 1)
        ticket.give_back()

    in_loop(play)


def check_rules(admission: Admission, came: list[Visitor], *, is_settled: bool = False) -> None:
    inside = [visitor for visitor in came if visitor.is_inside]
    assert len(inside) <= admission.num_active <= admission.max_streams
    assert admission.num_waiting <= admission.max_queue
    for client in CLIENTS[1:]:
        assert sum(visitor.client is client for visitor in inside) <= (client.max_streams or 0)
    if is_settled:
        assert len(inside) == admission.num_active
        assert not admission.num_waiting or admission.num_active == admission.max_streams, "a turn was lost"


def test_a_client_that_gives_up_just_as_its_turn_comes_passes_it_on() -> None:
    """Before Python 3.12 asyncio.wait_for takes the turn and forgets that the task was cancelled."""

    async def play() -> None:
        admission = Admission(1, 2, max_wait_s=60)
        first = await admission.enter(LOCAL)
        second = asyncio.create_task(admission.enter(LOCAL))
        third = asyncio.create_task(admission.enter(LOCAL))
        await settle()
        first.give_back()
        second.cancel()
        await settle()
        assert second.cancelled()
        assert third.done()
        third.result().give_back()
        assert admission.num_active == 0

    in_loop(play)


def test_a_full_queue_says_so_at_once_and_when_to_come_back() -> None:
    async def play() -> None:
        admission = Admission(1, 1, max_wait_s=60)
        await admission.enter(LOCAL)
        waiting = asyncio.create_task(admission.enter(LOCAL))
        await settle()
        with pytest.raises(HttpError) as caught:
            await admission.enter(LOCAL)
        assert (caught.value.status_code, caught.value.code) == (503, "server_busy")
        assert int((caught.value.headers or {})["Retry-After"]) >= 1
        waiting.cancel()

    in_loop(play)


@pytest.mark.parametrize("max_wait_s", [0.0, 0.02])
def test_a_long_wait_ends_and_leaves_nothing_behind(max_wait_s: float) -> None:
    async def play() -> None:
        admission = Admission(1, 1, max_wait_s)
        first = await admission.enter(LOCAL)
        with pytest.raises(HttpError) as caught:
            await admission.enter(Client("one", 1))
        assert (caught.value.status_code, caught.value.code) == (503, "waited_too_long")
        assert admission.num_waiting == 0
        first.give_back()
        (await admission.enter(Client("one", 1))).give_back()
        assert admission.num_active == 0

    in_loop(play)


def test_a_key_has_its_own_limit_and_leaves_room_for_others() -> None:
    async def play() -> None:
        admission = Admission(4, 4, max_wait_s=60)
        one = Client("one", 1)
        ticket = await admission.enter(one)
        with pytest.raises(HttpError) as caught:
            await admission.enter(one)
        assert (caught.value.status_code, caught.value.code) == (429, "too_many_requests")
        assert "Retry-After" in (caught.value.headers or {})
        other = await admission.enter(Client("two", 1))
        ticket.give_back()
        ticket.give_back()
        again = await admission.enter(one)
        assert admission.num_active == 2
        other.give_back()
        again.give_back()

    in_loop(play)


@pytest.mark.parametrize("num_rounds", range(4))
def test_a_closed_queue_turns_away_who_waits_and_lets_finish_who_is_in(num_rounds: int) -> None:
    """Whatever comes with it: a turn for the first who waits, and the second giving up."""

    async def play() -> None:
        admission = Admission(1, 4, max_wait_s=60)
        inside = await admission.enter(LOCAL)
        waiting = [asyncio.create_task(admission.enter(CLIENTS[index])) for index in (0, 1, 2)]
        await settle()
        admission.close()
        for _ in range(num_rounds):
            await asyncio.sleep(0)
        waiting[1].cancel()
        inside.give_back()
        await settle()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(result, HttpError | asyncio.CancelledError) for result in results)
        assert {result.code for result in results if isinstance(result, HttpError)} == {"shutting_down"}
        assert admission.num_active == admission.num_waiting == len(admission._by_client) == 0
        with pytest.raises(HttpError, match="shutting down"):
            await admission.enter(LOCAL)

    in_loop(play)
