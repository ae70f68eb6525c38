"""VoiceJobs: voices that are searched for, one at a time and a few in a queue, beside whoever speaks.

A job begins where its clip, name and steps have been found good, and ends with a stored voice, an error, or nothing
where it was cancelled. It lives in memory alone: a server that ends forgets it, and nothing of it is on disk before
the voice is. One instance belongs to one event loop; the search waits in a thread, and runs on the engine's in slices,
with rests between them where somebody speaks.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from voxtral.audio.reference import PreparedClip
from voxtral.cloning.options import RefineOptions, RefineProgress
from voxtral.errors import CancelledError
from voxtral.server.cloning import encoder_problems
from voxtral.server.errors import HttpError, as_http_error, busy, shutting_down
from voxtral.server.keys import Client
from voxtral.server.metrics import Metrics
from voxtral.server.model_host import LoadedModel, ModelHost
from voxtral.server.options import ServerOptions
from voxtral.voices.facts import MAX_NAME_CHARS, StoredVoice, VoiceFacts, fold_name

_log = logging.getLogger("voxtral.server")

# Jobs that wait behind the one that runs.
MAX_WAITING = 8

# Jobs that failed are told of for a while, so many of them at most.
_KEPT_FAILURES, _KEPT_FOR_S = 32, 3600.0

# While somebody speaks, a search rests for so many times as long as its last slice took: it has a quarter of the time,
# and speech the rest. Without rests there is a slice before each frame, and a step of nano takes as long as eight.
_REST = 3.0

# When to come back, where nobody knows how long the running job takes.
_RETRY_AFTER_S, _LONGEST_RETRY_S = 30.0, 600.0


@dataclass(frozen=True)
class VoiceOrder:
    """What a job makes a voice of; everything in it has been checked.

    Attributes:
        clip: prepared; forgotten when the job ends.
        facts: kept with the voice.
        steps: of the search.
        id: that was reserved for the voice, with its name.
        release: gives back what was reserved.
    """

    clip: PreparedClip
    facts: VoiceFacts
    steps: int
    id: str
    release: Callable[[str], None]


class VoiceJob:
    """A voice that is being made.

    Attributes:
        voice: as it will be stored.
        steps: of the search at most.
        ended: set when nothing more will happen.
        error: why it failed; None unless it did.
        stored: the voice; None unless it was made.
    """

    def __init__(self, order: VoiceOrder) -> None:
        self.voice = StoredVoice(**asdict(order.facts), id=order.id, created_at=int(time.time()))
        self.steps = order.steps
        self.ended = asyncio.Event()
        self.error: HttpError | None = None
        self.stored: StoredVoice | None = None
        # Written by the thread that searches, and read here.
        self._seen: RefineProgress | None = None
        # Written here, and read by that thread.
        self._cancelled = threading.Event()
        self._ended_at = 0.0
        self._end_of_server = False

    @property
    def id(self) -> str:
        """The id of the job and of its voice."""
        return self.voice.id

    @property
    def progress(self) -> float:
        """Part of the search that is done, 0 to 1."""
        if self.stored is not None:
            return 1.0
        return self._seen.fraction if self._seen else 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds that the search will go on for at most, where that can be told."""
        seen = self._seen
        return seen.left_s if seen is not None and seen.step else None

    def result(self) -> StoredVoice | None:
        """Return the voice; None while it is being made.

        Raises:
            HttpError: the job failed or was cancelled.
        """
        if self.error is not None:
            raise self.error
        if not self.ended.is_set() or self.stored is not None:
            return self.stored
        if self._end_of_server:
            raise shutting_down()
        raise HttpError(
            409, "the voice was cancelled while it was being made; upload the clip again", code="voice_cancelled"
        )

    def look(self, progress: RefineProgress) -> None:
        """Take note of a slice, in the thread that searches.

        Raises:
            CancelledError: the job was cancelled.
        """
        self.check()
        self._seen = progress

    def check(self) -> None:
        """Refuse to go on with a job that was cancelled.

        Raises:
            CancelledError: it was.
        """
        if self._cancelled.is_set():
            raise CancelledError("the voice was cancelled; upload the clip again")

    def rest(self, seconds: float) -> None:
        """Let others compute, in the thread that searches.

        Raises:
            CancelledError: the job was cancelled, before or meanwhile.
        """
        self._cancelled.wait(seconds)
        self.check()

    # Called by VoiceJobs.

    def cancel(self, *, is_end_of_server: bool = False) -> None:
        """Let it end at its next slice."""
        self._end_of_server |= is_end_of_server
        self._cancelled.set()

    def end(self) -> None:
        """Tell those who wait."""
        self._ended_at = time.monotonic()
        self.ended.set()

    @property
    def is_stale(self) -> bool:
        """Whether it has ended so long ago that nobody will ask."""
        return self.ended.is_set() and time.monotonic() - self._ended_at > _KEPT_FOR_S


class Pace:
    """Leaves the engine to those who speak, most of the time.

    Args:
        is_speaking: tells whether anybody does.
        rest: waits for so many seconds.
        clock: tells the time in seconds.
    """

    def __init__(
        self,
        is_speaking: Callable[[], bool],
        rest: Callable[[float], None],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._is_speaking = is_speaking
        self._rest = rest
        self._clock = clock
        self._since = clock()

    def rest_if_need_be(self) -> None:
        """Rest after a slice, if somebody speaks."""
        if self._is_speaking():
            self._rest(_REST * (self._clock() - self._since))
        self._since = self._clock()


class Place:
    """Room for a job; given back where none begins in it."""

    def __init__(self, jobs: VoiceJobs, client: Client) -> None:
        self._jobs = jobs
        self.client = client
        self.is_taken = False

    def begin(self, order: VoiceOrder) -> VoiceJob:
        """Queue a job; it gives the place back when it ends."""
        self.is_taken = True
        return self._jobs.begin(order, self)


class VoiceJobs:
    """The jobs of a server.

    Args:
        options: of the server.
        host: of the model.
        metrics: gets how each job ended.
    """

    def __init__(self, options: ServerOptions, host: ModelHost, metrics: Metrics) -> None:
        self._options = options
        self._host = host
        self._metrics = metrics
        # In the order in which they came, the one that runs first.
        self._active: dict[str, VoiceJob] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._failed: OrderedDict[str, VoiceJob] = OrderedDict()
        self._num_places = 0
        self._by_client: Counter[Client] = Counter()
        self._turn = asyncio.Lock()
        self._running: VoiceJob | None = None
        self._is_closed = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="voxtral-voice")

    @property
    def num_active(self) -> int:
        """Jobs that run or wait."""
        return len(self._active)

    @contextmanager
    def place(self, client: Client) -> Generator[Place]:
        """Take room for a job, so that there is some when its clip has been checked.

        Raises:
            HttpError: 429, there is no room, or the client has its share; 503, the server ends.
        """
        if self._is_closed:
            raise shutting_down()
        self._check_room(client)
        place = Place(self, client)
        self._num_places += 1
        self._by_client[client] += 1
        try:
            yield place
        finally:
            if not place.is_taken:
                self._give_back(client)

    def _check_room(self, client: Client) -> None:
        limit = MAX_WAITING + 1
        if client.max_streams is not None:
            # Whoever has a limit leaves room to others.
            limit = min(client.max_streams, MAX_WAITING // 2)
        if self._num_places > MAX_WAITING:
            raise busy(
                f"one voice is being made and {MAX_WAITING} wait, which is all this server takes",
                code="voice_queue_full",
                status=429,
                retry_after_s=self._retry_after_s,
            )
        if self._by_client[client] >= limit:
            raise busy(
                f"this {'address' if client.peer else 'key'} has {limit} voices being made, which is its limit",
                code="too_many_requests",
                status=429,
                retry_after_s=self._retry_after_s,
            )

    @property
    def _retry_after_s(self) -> float:
        left_s = self._running.left_s if self._running else None
        return _RETRY_AFTER_S if left_s is None else min(left_s, _LONGEST_RETRY_S)

    def _give_back(self, client: Client) -> None:
        self._num_places -= 1
        self._by_client[client] -= 1
        if not self._by_client[client]:
            del self._by_client[client]

    def begin(self, order: VoiceOrder, place: Place) -> VoiceJob:
        """Queue a job in a place; see `Place.begin`."""
        job = VoiceJob(order)
        task = asyncio.create_task(self._run(job, order))
        # Not within the task, which may be cancelled before it begins.
        task.add_done_callback(lambda _: self._end(job, order, place.client))
        self._active[job.id], self._tasks[job.id] = job, task
        if self._is_closed:  # since the place was taken
            self._cancel_waiting()
        return job

    def find(self, name_or_id: str) -> VoiceJob | None:
        """Find a job that runs or waits, by the id or the name of its voice."""
        return _find(self._active, name_or_id)

    def find_failed(self, name_or_id: str) -> VoiceJob | None:
        """Find a job that failed, by the id or the name of its voice, as long as it is told of."""
        for job in [job for job in self._failed.values() if job.is_stale]:
            self.forget(job)
        return _find(self._failed, name_or_id)

    def forget(self, job: VoiceJob) -> None:
        """Tell no more of a job that failed."""
        self._failed.pop(job.id, None)

    def count_ahead(self, job: VoiceJob) -> int:
        """Count the jobs that end before this one begins."""
        return list(self._active).index(job.id) if job.id in self._active else 0

    async def cancel(self, job: VoiceJob) -> StoredVoice | None:
        """Let a job end, and wait until it has, which is at its next slice.

        Returns:
            The voice, where it was stored by then.
        """
        self._stop(job)
        await job.ended.wait()
        return job.stored

    def drain(self) -> None:
        """Take no new jobs, and cancel those that wait; the one that runs goes on until `close`."""
        self._is_closed = True
        self._cancel_waiting()

    def _cancel_waiting(self) -> None:
        for job in list(self._active.values()):
            if job is not self._running:
                self._stop(job, is_end_of_server=True)

    async def close(self) -> None:
        """Cancel all jobs and wait until they have ended; the engine must still run."""
        self._is_closed = True
        for job in list(self._active.values()):
            self._stop(job, is_end_of_server=True)
        if self._tasks:
            await asyncio.wait(self._tasks.values())
        await asyncio.to_thread(self._thread.shutdown)

    def _stop(self, job: VoiceJob, *, is_end_of_server: bool = False) -> None:
        job.cancel(is_end_of_server=is_end_of_server)
        # One that runs ends by itself: whatever a thread does cannot be taken from it.
        if job is not self._running and job.id in self._tasks:
            self._tasks[job.id].cancel()

    async def _run(self, job: VoiceJob, order: VoiceOrder) -> None:
        try:
            # From the beginning, so that the model stays, and with it the names that are reserved.
            async with self._host.use() as loaded, self._turn:
                self._running = job
                try:
                    await self._make(job, order, loaded)
                finally:
                    self._running = None
        except (asyncio.CancelledError, CancelledError):
            pass  # nobody wants the voice any more, and `job` says why
        except Exception as error:  # noqa: BLE001 - whatever it is, whoever asks is told
            self._fail(job, error)

    def _end(self, job: VoiceJob, order: VoiceOrder, client: Client) -> None:
        order.release(job.id)
        del self._active[job.id], self._tasks[job.id]
        self._give_back(client)
        self._metrics.count_searched_voice("made" if job.stored else "failed" if job.error else "cancelled")
        job.end()

    async def _make(self, job: VoiceJob, order: VoiceOrder, loaded: LoadedModel) -> None:
        searching = asyncio.get_running_loop().run_in_executor(self._thread, lambda: self._search(job, order, loaded))
        while True:
            try:
                job.stored = await asyncio.shield(searching)
                return
            except asyncio.CancelledError:
                # Of this task, and not of the search: that ends before anything else begins.
                if searching.done():
                    raise
                job.cancel()

    def _search(self, job: VoiceJob, order: VoiceOrder, loaded: LoadedModel) -> StoredVoice:
        """Search for the voice and store it, in a thread."""
        job.check()
        pace = Pace(lambda: loaded.tts.engine.num_active > 0, job.rest)

        def look(progress: RefineProgress) -> None:
            job.look(progress)
            pace.rest_if_need_be()

        with encoder_problems(loaded.card, self._options, "upload"):
            voice = loaded.tts.create_voice(
                order.clip, order.facts.name, refine=RefineOptions(steps=order.steps), on_progress=look
            )
        job.check()
        return loaded.voices.add(voice, order.facts, order.id)

    def _fail(self, job: VoiceJob, error: Exception) -> None:
        job.error = as_http_error(error)
        # Its kind and no more: a message may quote what somebody sent.
        _log.error("the voice %s could not be made: %s (%s)", job.id, job.error.code, type(error).__name__)
        self._failed[job.id] = job
        while len(self._failed) > _KEPT_FAILURES:
            self._failed.popitem(last=False)


def _find(jobs: dict[str, VoiceJob] | OrderedDict[str, VoiceJob], name_or_id: str) -> VoiceJob | None:
    if name_or_id in jobs:
        return jobs[name_or_id]
    wanted = fold_name(name_or_id[: 4 * MAX_NAME_CHARS])
    return next((job for job in reversed(jobs.values()) if fold_name(job.voice.name) == wanted), None)
