"""The queue of voices that are searched for: whatever clients do, one at a time, and nothing is left behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxtral.cloning.options import RefineProgress
from voxtral.errors import NumericsError, VoiceStoreError
from voxtral.server.errors import HttpError
from voxtral.server.keys import LOCAL, Client
from voxtral.server.metrics import Metrics
from voxtral.server.options import ServerOptions
from voxtral.server.voice_jobs import MAX_WAITING, Pace, VoiceJob, VoiceJobs, VoiceOrder
from voxtral.voices.facts import StoredVoice, VoiceFacts

STEPS = 3


class Model:
    """Stands in for a model: searches for as many slices as there are steps, and keeps the voices."""

    def __init__(self) -> None:
        self.stored: set[str] = set()
        self.released: list[str] = []
        self.num_searching = self.most_at_once = self.num_users = 0
        self.before_slice: Callable[[int], None] = lambda step: None
        self.before_storing: Callable[[], None] = lambda: None
        self.voices = SimpleNamespace(add=self.add)
        self.tts = SimpleNamespace(create_voice=self.create_voice, engine=SimpleNamespace(num_active=0))
        self.card = SimpleNamespace(id="model")

    def create_voice(self, clip: Any, name: str, *, refine: Any, on_progress: Callable[[RefineProgress], None]) -> Any:
        self.num_searching += 1
        self.most_at_once = max(self.most_at_once, self.num_searching)
        try:
            for step in range(1, refine.steps + 1):
                self.before_slice(step)
                on_progress(RefineProgress(step, refine.steps, 1.0, 0.1 * step))
        finally:
            self.num_searching -= 1
        return name

    def add(self, voice: Any, facts: VoiceFacts, voice_id: str) -> StoredVoice:
        self.before_storing()
        self.stored.add(voice_id)
        return StoredVoice(name=facts.name, consent=facts.consent, id=voice_id, created_at=0)

    @asynccontextmanager
    async def use(self) -> AsyncGenerator[Any]:
        self.num_users += 1
        try:
            yield self
        finally:
            self.num_users -= 1


def make_jobs(model: Model) -> VoiceJobs:
    return VoiceJobs(ServerOptions(refine=STEPS), cast(Any, model), Metrics())


def order_of(model: Model, number: int) -> VoiceOrder:
    facts = VoiceFacts(name=f"voice {number}", consent="true")
    return VoiceOrder(cast(Any, None), facts, STEPS, f"voice_{number:016x}", model.released.append)


def begin(jobs: VoiceJobs, model: Model, number: int, client: Client = LOCAL) -> VoiceJob:
    with jobs.place(client) as place:
        return place.begin(order_of(model, number))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.001)


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("begin"), st.integers(0, 2)),
        st.tuples(st.just("cancel"), st.integers(0, 20)),
        st.tuples(st.just("let go"), st.integers(0, 2)),  # a place in which nothing begins
        st.tuples(st.just("turn"), st.integers(0, 3)),
        st.tuples(st.just("drain"), st.just(0)),
    ),
    max_size=25,
)


class Crowd:
    """Clients that do things to the jobs of a model."""

    def __init__(self, model: Model) -> None:
        self.jobs = make_jobs(model)
        self.begun: list[VoiceJob] = []
        self.refusals: list[HttpError] = []
        self._model = model
        self._clients = [LOCAL, Client("a", 2), Client("remote", 8, "10.0.0.1")]
        self._cancelling: list[asyncio.Task[Any]] = []

    async def act(self, action: str, number: int) -> None:
        match action:
            case "begin" | "let go":
                self._come(self._clients[number], is_let_go=action == "let go")
            case "cancel" if self.begun:
                job = self.begun[number % len(self.begun)]
                if self.jobs.find(job.id) is job:
                    self._cancelling.append(asyncio.create_task(self.jobs.cancel(job)))
            case "drain":
                self.jobs.drain()
            case _:
                await asyncio.sleep(0.0005 * number)

    def _come(self, client: Client, *, is_let_go: bool) -> None:
        try:
            with self.jobs.place(client) as place:
                if not is_let_go:
                    self.begun.append(place.begin(order_of(self._model, len(self.begun))))
        except HttpError as error:
            self.refusals.append(error)

    async def end(self) -> None:
        await asyncio.gather(*self._cancelling)
        await self.jobs.close()


@given(ACTIONS, st.sets(st.integers(0, 30), max_size=6))
def test_whatever_clients_do_nothing_is_left_behind(actions: list[tuple[str, int]], failing: set[int]) -> None:
    model = Model()

    def fail_some() -> None:
        if len(model.stored) in failing:
            raise VoiceStoreError("the disk is full")

    async def run() -> Crowd:
        model.before_storing = fail_some
        crowd = Crowd(model)
        for action, number in actions:
            await crowd.act(action, number)
            assert crowd.jobs.num_active <= MAX_WAITING + 1
        await crowd.end()
        return crowd

    crowd = asyncio.run(run())
    assert (crowd.jobs.num_active, crowd.jobs._num_places, dict(crowd.jobs._by_client)) == (0, 0, {})
    assert model.most_at_once <= 1
    assert model.num_users == 0
    assert sorted(model.released) == sorted(job.id for job in crowd.begun)
    assert model.stored == {job.id for job in crowd.begun if job.stored is not None}
    assert all(job.ended.is_set() for job in crowd.begun)
    assert {job.error.code for job in crowd.begun if job.error is not None} <= {"voice_store_failed"}
    for refusal in crowd.refusals:
        assert refusal.status_code in (429, 503)
        assert int((refusal.headers or {})["Retry-After"]) >= 1


def test_a_cancelled_job_that_was_just_stored_is_handed_back() -> None:
    """Whoever cancels deletes it then: nothing that was cancelled stays."""

    async def run() -> StoredVoice | None:
        model, is_storing, go_on = Model(), threading.Event(), threading.Event()

        def wait() -> None:
            is_storing.set()
            assert go_on.wait(30)

        model.before_storing = wait
        jobs = make_jobs(model)
        job = begin(jobs, model, 1)
        await until(is_storing.is_set)
        cancelling = asyncio.create_task(jobs.cancel(job))
        await asyncio.sleep(0)
        go_on.set()
        stored = await cancelling
        await jobs.close()
        return stored

    stored = asyncio.run(run())
    assert stored is not None
    assert stored.id == f"voice_{1:016x}"


def test_a_loop_that_ends_takes_the_search_with_it() -> None:
    """As an event loop ends: its tasks are cancelled, and what a thread does is waited for."""
    model = Model()
    is_searching = threading.Event()

    def note(step: int) -> None:
        is_searching.set()

    async def run() -> None:
        jobs = make_jobs(model)
        model.before_slice = note
        begin(jobs, model, 1)
        await until(is_searching.is_set)

    asyncio.run(run())
    assert model.num_searching == 0


def test_failures_are_told_of_for_a_while_and_no_more_than_some(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        model = Model()

        def fail(step: int) -> None:
            raise NumericsError("no number")

        model.before_slice = fail
        jobs = make_jobs(model)
        failed = []
        for number in range(40):
            failed.append(begin(jobs, model, number))
            await failed[-1].ended.wait()
        assert jobs.find_failed(failed[0].id) is None
        assert jobs.find_failed("VOICE 39") is failed[-1]
        with pytest.raises(HttpError, match="no number"):
            failed[-1].result()
        monkeypatch.setattr("voxtral.server.voice_jobs._KEPT_FOR_S", -1.0)
        assert jobs.find_failed(failed[-1].id) is None
        assert not jobs._failed
        await jobs.close()

    asyncio.run(run())


def test_a_search_leaves_three_quarters_of_the_time_to_those_who_speak() -> None:
    now, rests, speaking = 0.0, list[float](), iter([False, True, True, False])

    def rest(seconds: float) -> None:
        nonlocal now
        now += seconds
        rests.append(seconds)

    pace = Pace(lambda: next(speaking), rest, lambda: now)
    for slice_s in (1.0, 0.5, 2.0, 1.0):
        now += slice_s
        pace.rest_if_need_be()
    assert rests == [1.5, 6.0]


def test_a_search_that_rests_is_cancelled_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    is_resting, rest = threading.Event(), VoiceJob.rest

    def rest_for_hours(self: VoiceJob, seconds: float) -> None:
        is_resting.set()
        rest(self, 3600.0)

    monkeypatch.setattr(VoiceJob, "rest", rest_for_hours)

    async def run() -> None:
        model = Model()
        model.tts.engine.num_active = 1
        jobs = make_jobs(model)
        job = begin(jobs, model, 1)
        await until(is_resting.is_set)
        async with asyncio.timeout(30):
            assert await jobs.cancel(job) is None
        await jobs.close()

    asyncio.run(run())


def test_who_is_refused_hears_how_long_the_running_search_takes() -> None:
    async def run() -> str:
        model, go_on = Model(), threading.Event()

        def wait(step: int) -> None:
            assert step == 1 or go_on.wait(30)

        model.before_slice = wait
        jobs = make_jobs(model)
        first = begin(jobs, model, 0)
        await until(lambda: first.left_s is not None)
        first.look(RefineProgress(1, 100, 1.0, 0.5))
        for number in range(1, MAX_WAITING + 1):
            begin(jobs, model, number)
        with pytest.raises(HttpError) as refused:
            begin(jobs, model, 99)
        go_on.set()
        await jobs.close()
        assert refused.value.headers is not None
        return refused.value.headers["Retry-After"]

    assert asyncio.run(run()) == "50"
