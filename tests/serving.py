"""A real server on a real socket of this machine: in a thread of the test, or as the program itself."""

from __future__ import annotations

import asyncio
import os
import re
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import uvicorn
from fastapi import FastAPI

from checkpoints import BRIEF
from voxtral.server.application import create_app
from voxtral.server.connections import Connections
from voxtral.server.options import ServerOptions
from voxtral.server.run import configure, connect
from voxtral.server.service import SpeechService
from voxtral.tts import VoxtralTTS

_PATIENCE_S = 30.0

# Knows no authority: clients speak plain HTTP here, and to read the usual ones takes each of them 15 ms.
_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@dataclass(frozen=True)
class Serving:
    """A server that runs.

    Attributes:
        url: such as http://127.0.0.1:40001, without a slash at the end.
        port: of it.
        app: the application.
        tts: the model, where the test gave one.
        connections: as `voxtral serve` has them, where the test asked for that.
    """

    url: str
    port: int
    app: FastAPI
    tts: VoxtralTTS | None
    connections: Connections | None = None

    @property
    def service(self) -> SpeechService:
        return self.app.state.service

    def client(self, **options: Any) -> httpx2.Client:
        """Open a plain HTTP client."""
        return httpx2.Client(base_url=self.url, timeout=_PATIENCE_S, verify=_TLS, **options)

    def wait_until_idle(self) -> None:
        """Wait until nothing is under way, and fail if that takes long."""
        admission, host = self.service.admission, self.service.host
        wait_for(lambda: not (admission.num_active or admission.num_waiting or host.num_active))


class _PromptServer(uvicorn.Server):
    """Looks ten times as often whether it is to end, and after its connections."""

    connections: Connections | None = None

    async def main_loop(self) -> None:
        while not await self.on_tick(0):
            if self.connections:
                self.connections.sweep()
            await asyncio.sleep(0.01)


@contextmanager
def serving(
    tts: VoxtralTTS | None = None, *, host: str = "127.0.0.1", is_guarded: bool = False, **options: Any
) -> Iterator[Serving]:
    """Run a server until the block ends.

    Args:
        tts: a loaded model; None loads what the options name.
        host: address to listen on.
        is_guarded: whether it looks after its connections, as `voxtral serve` does and plain uvicorn does not.
        options: of the server.
    """
    with tempfile.TemporaryDirectory() as folder:
        chosen = ServerOptions(**({"data_dir": Path(folder)} | options))
        app = create_app(chosen, tts)
        connections = connect(app, chosen) if is_guarded else None
        if connections:
            server = _PromptServer(configure(app, chosen, connections))
            server.connections = connections
            sockets = connections.listen(host, 0)
        else:
            server = _PromptServer(uvicorn.Config(app, host=host, port=0, log_config=None, access_log=False))
            sockets = None
        thread = threading.Thread(target=server.run, args=(sockets,), name="test-server")
        thread.start()
        try:
            wait_for(lambda: server.started or not thread.is_alive())
            port = server.servers[0].sockets[0].getsockname()[1]
            wait_for(lambda: app.state.service.host.state != "loading")
            yield Serving(f"http://{host}:{port}", port, app, tts, connections)
        finally:
            server.should_exit = True
            thread.join(_PATIENCE_S)
            assert not thread.is_alive(), "the server did not end"


@dataclass(frozen=True)
class Program:
    """A server that runs as a process of its own.

    Attributes:
        url: without a slash at the end.
        port: of it.
        process: that was started; /proc tells its memory, where there is one.
        data_dir: where it may write.
        log: all that it has written to its outputs.
    """

    url: str
    port: int
    process: subprocess.Popen[bytes]
    data_dir: Path
    log: Path

    def client(self, **options: Any) -> httpx2.Client:
        """Open a plain HTTP client."""
        return httpx2.Client(base_url=self.url, timeout=_PATIENCE_S, verify=_TLS, **options)


@contextmanager
def program(*command: str, environment: dict[str, str] | None = None) -> Iterator[Program]:
    """Run a command that serves the tiny model, until the block ends; `voxtral serve` unless another is named.

    Args:
        command: module and its arguments.
        environment: variables, VOXTRAL_ ones and others; none of this process that begin so are passed on.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("VOXTRAL_")}
    with tempfile.TemporaryDirectory() as folder:
        data_dir, log = Path(folder, "data"), Path(folder, "log")
        variables = {"VOXTRAL_DATA_DIR": str(data_dir), "VOXTRAL_MODEL": str(BRIEF), "VOXTRAL_DEVICE": "cpu"}
        with (
            log.open("wb") as output,
            subprocess.Popen(
                [sys.executable, "-m", *(command or ("voxtral", "serve", "--port", "0"))],
                stdout=output,
                stderr=output,
                env={**inherited, **variables, **(environment or {})},
            ) as process,
        ):
            try:
                found = re.compile(r"(?:ready|running) on (http://[^ /]+:(\d+))")
                wait_for(lambda: found.search(log.read_text()) or process.poll() is not None)
                match = found.search(log.read_text())
                assert match, log.read_text()
                yield Program(match[1].replace("0.0.0.0", "127.0.0.1"), int(match[2]), process, data_dir, log)
            finally:
                process.terminate()
                process.wait(_PATIENCE_S)


def wait_for(condition: Any, patience_s: float = _PATIENCE_S) -> None:
    """Wait for a condition to hold, and fail if that takes long."""
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.005)
