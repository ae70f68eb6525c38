"""A real server on a real socket of this machine, in a thread of the test."""

from __future__ import annotations

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

from voxtral.server.application import create_app
from voxtral.server.options import ServerOptions
from voxtral.server.service import SpeechService
from voxtral.tts import VoxtralTTS

_PATIENCE_S = 30.0


@dataclass(frozen=True)
class Serving:
    """A server that runs.

    Attributes:
        url: such as http://127.0.0.1:40001, without a slash at the end.
        port: of it.
        app: the application.
        tts: the model, where the test gave one.
    """

    url: str
    port: int
    app: FastAPI
    tts: VoxtralTTS | None

    @property
    def service(self) -> SpeechService:
        return self.app.state.service

    def client(self, **options: Any) -> httpx2.Client:
        """Open a plain HTTP client."""
        return httpx2.Client(base_url=self.url, timeout=_PATIENCE_S, **options)

    def wait_until_idle(self) -> None:
        """Wait until nothing is under way, and fail if that takes long."""
        admission, host = self.service.admission, self.service.host
        wait_for(lambda: not (admission.num_active or admission.num_waiting or host.num_active))


@contextmanager
def serving(tts: VoxtralTTS | None = None, *, host: str = "127.0.0.1", **options: Any) -> Iterator[Serving]:
    """Run a server until the block ends.

    Args:
        tts: a loaded model; None loads what the options name.
        host: address to listen on.
        options: of the server.
    """
    with tempfile.TemporaryDirectory() as folder:
        app = create_app(ServerOptions(**({"data_dir": Path(folder)} | options)), tts)
        server = uvicorn.Server(uvicorn.Config(app, host=host, port=0, log_config=None, access_log=False))
        thread = threading.Thread(target=server.run, name="test-server")
        thread.start()
        try:
            wait_for(lambda: server.started or not thread.is_alive())
            port = server.servers[0].sockets[0].getsockname()[1]
            wait_for(lambda: app.state.service.host.state != "loading")
            yield Serving(f"http://{host}:{port}", port, app, tts)
        finally:
            server.should_exit = True
            thread.join(_PATIENCE_S)
            assert not thread.is_alive(), "the server did not end"


def wait_for(condition: Any, patience_s: float = _PATIENCE_S) -> None:
    """Wait for a condition to hold, and fail if that takes long."""
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.005)
