"""Running the application with uvicorn: its connections, what is said at the start, drain, logs without texts."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from voxtral.errors import DeviceError, OptionError
from voxtral.server.application import create_app
from voxtral.server.connections import KEEP_ALIVE_S, MAX_HEAD_BYTES, Connections
from voxtral.server.metrics import Metrics
from voxtral.server.model_host import ModelHost
from voxtral.server.options import ServerOptions
from voxtral.server.socket_protocol import MAX_SOCKET_MESSAGE_BYTES

_READY_POLL_S = 0.05

# A stream whose client stops reading is ended by the stream, which can say so; by its connection if that fails.
_LATER_THAN_STREAMS_S = 10

# What uvicorn says of each request that is none, and anybody can send a thousand of in a second.
_SAID_EVERY_S = 60.0


def run(options: ServerOptions, announce: Callable[[str], None], *, is_quiet: bool = False) -> None:
    """Serve until SIGTERM or SIGINT; what runs then is finished within `drain_s`.

    Args:
        options: of the server.
        announce: gets lines for a person.
        is_quiet: no access log.

    Raises:
        OptionError: a key breaks a rule, or the address cannot be listened on.
        DeviceError: the model could not be loaded, or cannot be used any more.
    """
    _set_up_logs(is_quiet=is_quiet)
    app = create_app(options, announce=announce)
    connections = connect(app, options)
    server = _Server(configure(app, options, connections), app.state.service.host, announce, connections)
    try:
        sockets = connections.listen(options.host, options.port)
    except OSError as error:
        raise OptionError(
            f"host {options.host}, port {options.port} cannot be listened on ({error.strerror or error}); it must be "
            "an address of this machine, and a port that is free; choose another with --host or --port"
        ) from error
    # What is imported is never garbage, and each full search through it would hold up every stream for 100 ms.
    gc.freeze()
    server.run(sockets)
    if server.problem is not None:
        raise DeviceError(f"the server ended, because the model cannot be used: {server.problem}")


def connect(app: FastAPI, options: ServerOptions) -> Connections:
    """Make the connections of an application, which tell its metrics."""
    metrics: Metrics = app.state.service.metrics
    connections = Connections(
        options.head_timeout_s,
        options.stall_timeout_s + _LATER_THAN_STREAMS_S,
        options.max_connections,
        metrics.count_closed_connection,
    )
    metrics.watch("voxtral_connections", "Connections that are open.", lambda: connections.num_open)
    return connections


def configure(app: FastAPI, options: ServerOptions, connections: Connections) -> uvicorn.Config:
    """Set up uvicorn."""
    return uvicorn.Config(
        app,
        # Not "auto": other loops do not ask the sockets of `connections`, other parsers have no limit for a head.
        loop="asyncio",
        http=connections.protocol,
        ws="wsproto",
        ws_max_size=MAX_SOCKET_MESSAGE_BYTES,
        ws_per_message_deflate=False,  # a few bytes could stand for any number
        # Who plays what it has and reads on later answers no ping until then; `stall_timeout_s` is the limit for that.
        ws_ping_timeout=None,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=round(options.drain_s),
    )


class _Server(uvicorn.Server):
    """uvicorn's server, which tells the model of its end and a person of its start, and looks after connections."""

    def __init__(
        self, config: uvicorn.Config, host: ModelHost, announce: Callable[[str], None], connections: Connections
    ) -> None:
        super().__init__(config)
        self._connections = connections
        self.problem: str | None = None
        self._host = host
        self._announce = announce
        self._telling: asyncio.Task[None] | None = None
        host.on_fatal = self._give_up

    def _give_up(self, message: str) -> None:
        self.problem = message
        self.should_exit = True

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Take signals as the wish to end well: they are not raised again afterwards, so that the exit code is 0."""
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say where once the model is ready."""
        await super().startup(sockets)
        self._telling = asyncio.create_task(self._tell())

    async def _tell(self) -> None:
        while self._host.state != "ready":
            await asyncio.sleep(_READY_POLL_S)
        card = self._host.card
        if card is not None:
            self._announce(card.description)
        for server in self.servers:
            for listener in server.sockets:
                name, port = listener.getsockname()[:2]
                shown = f"[{name}]" if ":" in name else name
                self._announce(f"ready on http://{shown}:{port} (a page to try it is there; Ctrl-C ends)")

    async def on_tick(self, counter: int) -> bool:
        """Look after connections, every half second."""
        if counter % 5 == 0:
            self._connections.sweep()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no new requests, finish what runs, then end."""
        self._host.drain()
        await super().shutdown(sockets)


def _set_up_logs(*, is_quiet: bool) -> None:
    """Send the logs of this package to standard error, a line each."""
    told = logging.StreamHandler()
    told.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    bare = logging.StreamHandler()
    bare.setFormatter(logging.Formatter("%(message)s"))
    levels = {
        "voxtral": (told, logging.WARNING),
        "voxtral.server.access": (bare, logging.WARNING if is_quiet else logging.INFO),
        "uvicorn.error": (told, logging.WARNING),
    }
    for name, (handler, level) in levels.items():
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False
    logging.getLogger("voxtral.server").setLevel(logging.INFO)
    uvicorns = logging.getLogger("uvicorn.error")
    uvicorns.filters = [_Seldom()]


class _Seldom(logging.Filter):
    """Lets each warning pass once a minute."""

    def __init__(self) -> None:
        super().__init__()
        self._passed_at: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a record is written."""
        if record.levelno != logging.WARNING:
            return True
        now, message = time.monotonic(), str(record.msg)
        is_news = now - self._passed_at.get(message, -_SAID_EVERY_S) >= _SAID_EVERY_S
        if is_news:
            self._passed_at[message] = now
        return is_news
