"""Who may speak now: so many streams at a time, a short queue behind them, and a limit for each client.

One instance belongs to one event loop. It knows no HTTP but the errors that it raises, and no model.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque

from voxtral.server.errors import busy, shutting_down
from voxtral.server.keys import Client

# How much the latest stream moves the mean duration of a stream, by which a refused client is told when to come back.
_NEWS = 0.2


class Admission:
    """Lets requests in, first come, first served.

    Args:
        max_streams: that are under way at a time.
        max_queue: that wait.
        max_wait_s: longest wait, in seconds.
    """

    def __init__(self, max_streams: int, max_queue: int, max_wait_s: float) -> None:
        self.max_streams = max_streams
        self.max_queue = max_queue
        self.max_wait_s = max_wait_s
        self.num_active = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._by_client: Counter[Client] = Counter()
        self._mean_s = 1.0
        self._is_closed = False

    @property
    def num_waiting(self) -> int:
        """Requests in the queue."""
        return len(self._waiting)

    async def enter(self, client: Client) -> Ticket:
        """Wait for a turn.

        Raises:
            HttpError: 429, the client has its share; 503, the queue is full or closed, or the wait was too long.
        """
        if self._is_closed:
            raise shutting_down()
        if client.max_streams is not None and self._by_client[client] >= client.max_streams:
            whose, way_out = "key", ""
            if client.peer:
                whose = "address"
                way_out = " while nobody has a key (keys tell clients apart, and a proxy can be named with --proxy)"
            raise busy(
                f"this {whose} has {client.max_streams} requests under way, which is its limit{way_out}",
                code="too_many_requests",
                status=429,
                retry_after_s=self._mean_s,
            )
        self._by_client[client] += 1
        try:
            await self._wait_for_turn()
        except BaseException:
            self._forget(client)
            raise
        return Ticket(self, client)

    async def _wait_for_turn(self) -> None:
        if self.num_active < self.max_streams and not self._waiting:
            self.num_active += 1
            return
        if len(self._waiting) >= self.max_queue:
            raise busy(
                f"{self.num_active} streams are under way and {len(self._waiting)} requests wait, which is all this "
                "server takes",
                code="server_busy",
                retry_after_s=self._mean_s * (len(self._waiting) + 1) / self.max_streams,
            )
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            # Not wait_for: before Python 3.12 it loses a cancellation that comes together with the turn.
            async with asyncio.timeout(self.max_wait_s):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._pass_on()  # the turn came while the client left
            elif turn in self._waiting:
                self._waiting.remove(turn)
            if isinstance(error, TimeoutError):
                raise busy(
                    f"no stream became free within {self.max_wait_s:g} s",
                    code="waited_too_long",
                    retry_after_s=self._mean_s,
                ) from None
            raise

    def close(self) -> None:
        """Turn away all who wait and all who come; whoever has a turn keeps it."""
        self._is_closed = True
        for turn in self._waiting:
            if not turn.done():
                turn.set_exception(shutting_down())

    def leave(self, client: Client, seconds: float) -> None:
        """Give a turn back that lasted so many seconds."""
        self._mean_s += _NEWS * (seconds - self._mean_s)
        self._forget(client)
        self._pass_on()

    def _forget(self, client: Client) -> None:
        self._by_client[client] -= 1
        if not self._by_client[client]:
            del self._by_client[client]

    def _pass_on(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.num_active -= 1


class Ticket:
    """A turn; to be given back once."""

    def __init__(self, admission: Admission, client: Client) -> None:
        self._admission = admission
        self._client = client
        self._since = time.monotonic()
        self._is_open = True

    def give_back(self) -> None:
        """Let the next one in. More calls do nothing."""
        if self._is_open:
            self._is_open = False
            self._admission.leave(self._client, time.monotonic() - self._since)


class Holdings:
    """What is kept in memory for those who wait, of all of them together.

    Args:
        max_bytes: at most.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.num_bytes = 0

    def change(self, by: int) -> None:
        """Keep more, or less.

        Raises:
            HttpError: 503, there is no room for more; nothing has changed.
        """
        if by > 0 and self.num_bytes + by > self._max_bytes:
            raise busy("too much waits to be spoken", code="server_busy")
        self.num_bytes += by
