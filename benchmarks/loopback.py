"""A server as a process of its own, and a plain client that notes when each piece of an answer is in its hands.

Used by the benchmark over HTTP and by the tests that load the server. The client is asyncio and nothing else: no pool,
no retries and no buffer between the socket and the clock.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from voxtral.bench import StreamTiming

_READY = re.compile(r"ready on http://127\.0\.0\.1:(\d+)")
_PATIENCE_S = 120.0


class BrokenBodyError(Exception):
    """The connection ended before the body did."""


@dataclass(frozen=True)
class Answer:
    """A response, read to its end.

    Attributes:
        status: of HTTP.
        headers: names in lower case.
        body: all of it, or what came of it.
        is_whole: whether the body came to its end.
        sent_at: when the request was written, on the clock of time.perf_counter.
        answered_at: when the status was in hand, on the same clock.
        arrivals: when each piece of the body was in hand, and its bytes.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    is_whole: bool
    sent_at: float
    answered_at: float
    arrivals: tuple[tuple[float, int], ...]

    def as_stream(self) -> StreamTiming:
        """Take the body for int16 samples, and give what voxtral.bench counts with."""
        return StreamTiming(self.sent_at, tuple((at, num_bytes // 2) for at, num_bytes in self.arrivals))


class Exchange:
    """One request on a connection of its own, and its answer piece by piece."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.sent_at = time.perf_counter()
        self._reader = reader
        self._writer = writer
        self._headers: dict[str, str] = {}

    @classmethod
    async def begin(
        cls, port: int, path: str, fields: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> Exchange:
        """Connect and post fields as JSON; the time to connect does not count.

        Raises:
            OSError: nobody listens.
        """
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        body = json.dumps(fields).encode()
        given = {
            "Host": f"127.0.0.1:{port}",
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "Connection": "close",
            **(headers or {}),
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in given.items())
        exchange = cls(reader, writer)
        writer.write(f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
        await writer.drain()
        return exchange

    async def head(self) -> tuple[int, Mapping[str, str]]:
        """Wait for status and headers.

        Raises:
            BrokenBodyError: the connection ended without them.
        """
        try:
            lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise BrokenBodyError("the connection ended without an answer") from error
        pairs = (line.partition(":") for line in lines[1:] if line)
        self._headers = {name.lower(): value.strip() for name, _, value in pairs}
        return int(lines[0].split()[1]), self._headers

    async def pieces(self) -> AsyncIterator[bytes]:
        """Give the body as the server cut it.

        Raises:
            BrokenBodyError: it ended without its end.
        """
        try:
            if "content-length" in self._headers:
                yield await self._reader.readexactly(int(self._headers["content-length"]))
                return
            while size := int(await self._reader.readuntil(b"\r\n"), 16):
                yield (await self._reader.readexactly(size + 2))[:-2]
            await self._reader.readuntil(b"\r\n")
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise BrokenBodyError("the connection ended in the middle of the body") from error

    def leave(self, *, is_reset: bool = False) -> None:
        """Go away: with a FIN, or with an RST as a process does that was killed."""
        if is_reset:
            raw: socket.socket = self._writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._writer.transport.abort()
        self._writer.close()


async def ask(port: int, path: str, fields: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Answer:
    """Post fields and read the answer to its end, whole or not.

    Raises:
        OSError: nobody listens.
        BrokenBodyError: there was no answer at all.
    """
    exchange = await Exchange.begin(port, path, fields, headers)
    body, arrivals, is_whole = bytearray(), [], True
    try:
        status, found = await exchange.head()
        answered_at = time.perf_counter()
        try:
            async for piece in exchange.pieces():
                arrivals.append((time.perf_counter(), len(piece)))
                body += piece
        except BrokenBodyError:
            is_whole = False
    finally:
        exchange.leave()
    return Answer(status, found, bytes(body), is_whole, exchange.sent_at, answered_at, tuple(arrivals))


class ServerProcess:
    """`voxtral serve` on a free port of this machine.

    Args:
        words: further words of the command.
        program: what Python runs, in place of the package.
        variables: VOXTRAL_ variables without the prefix; those of the person who runs this are left out.
    """

    def __init__(self, *words: str, program: Sequence[str] = ("-m", "voxtral"), **variables: object) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("VOXTRAL_")}
        environment |= {f"VOXTRAL_{name.upper()}": str(value) for name, value in variables.items()}
        self._lines: list[str] = []
        self._process = subprocess.Popen(
            [sys.executable, *program, "serve", "--port", "0", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    def _listen(self) -> None:
        for line in self._process.stdout or ():
            self._lines.append(line)

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    @property
    def output(self) -> str:
        """All that it has printed so far."""
        return "".join(self._lines)

    def wait_until_ready(self) -> int:
        """Wait until it listens and has spoken its first word; return its port.

        Raises:
            RuntimeError: it ended, or took too long.
        """
        deadline = time.monotonic() + _PATIENCE_S
        while self._process.poll() is None and time.monotonic() < deadline:
            if found := _READY.search(self.output):
                return int(found.group(1))
            time.sleep(0.02)
        raise RuntimeError(f"the server did not start:\n{self.output}")

    def resident_bytes(self) -> int:
        """Read how much memory it has now; Linux only."""
        with open(f"/proc/{self.pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def send_signal(self, number: int) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def wait(self) -> int:
        """Wait for its end; return the exit code."""
        code = self._process.wait(_PATIENCE_S)
        self._listener.join()
        if self._process.stdout is not None:
            self._process.stdout.close()
        return code

    def end(self) -> None:
        """End it if it still runs, with force if it must be."""
        if self._process.poll() is None:
            self.send_signal(signal.SIGTERM)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self.wait()


@contextmanager
def served(*words: str, program: Sequence[str] = ("-m", "voxtral"), **variables: object) -> Iterator[ServerProcess]:
    """Run a server as a process until the block ends."""
    server = ServerProcess(*words, program=program, **variables)
    try:
        yield server
    finally:
        server.end()
