"""Running the application with uvicorn: what is said at the start, drain at the end, logs without texts."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager

import uvicorn

from voxtral.errors import DeviceError
from voxtral.server.application import create_app
from voxtral.server.model_host import ModelHost
from voxtral.server.options import ServerOptions

# Longer than the minute for which proxies keep an idle connection, so that they and not we close it.
_KEEP_ALIVE_S = 65

_READY_POLL_S = 0.05


def run(options: ServerOptions, announce: Callable[[str], None], *, is_quiet: bool = False) -> None:
    """Serve until SIGTERM or SIGINT; what runs then is finished within `drain_s`.

    Args:
        options: of the server.
        announce: gets lines for a person.
        is_quiet: no access log.

    Raises:
        OptionError: a key breaks a rule.
        DeviceError: the model could not be loaded, or cannot be used any more.
    """
    _set_up_logs(is_quiet=is_quiet)
    app = create_app(options, announce=announce)
    config = uvicorn.Config(
        app,
        host=options.host,
        port=options.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=round(options.drain_s),
    )
    server = _Server(config, app.state.service.host, announce)
    server.run()
    if server.problem is not None:
        raise DeviceError(f"the server ended, because the model cannot be used: {server.problem}")


class _Server(uvicorn.Server):
    """uvicorn's server, which tells the model of its end and a person of its start."""

    def __init__(self, config: uvicorn.Config, host: ModelHost, announce: Callable[[str], None]) -> None:
        super().__init__(config)
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
