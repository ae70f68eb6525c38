"""What clients do to a server that mean it no good, for as long as it takes. tests/faults has the short forms."""

from __future__ import annotations

import asyncio
import os
import socket
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2
import pytest

from benchmarks.loopback import Answer, ServerProcess, ask, served
from crowd import SENTENCE, SPEECH, SlowReader
from serving import wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc"),
]

# `voxtral serve` as a shell starts it after `ulimit -n`.
FEW_DESCRIPTORS = """
import resource
from voxtral.cli.main import main

resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, {limit}))
main()
"""

REQUEST = b"GET /page.js HTTP/1.1\r\nHost: localhost\r\n\r\n"

FIRST = {
    "silent": b"",
    "slow head": b"GET /livez HTTP/1.1\r\n",
    "kept alive": REQUEST,
    "deaf": REQUEST,
    "deaf and asking": REQUEST * 50,
}


def probe(port: int, path: str = "/livez") -> float:
    """Ask once on a new connection; return how long that took in seconds."""
    began = time.perf_counter()
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=5) as client:
        assert client.get(path).status_code == 200
    return time.perf_counter() - began


def num_descriptors(server: ServerProcess) -> int:
    return len(os.listdir(f"/proc/{server.pid}/fd"))


class Attackers:
    """Connections that are opened again whenever the server closes them."""

    def __init__(self, port: int, number: int, kind: str) -> None:
        self.num_opened = 0
        self._port = port
        self._kind = kind
        self._open: list[socket.socket] = []
        for _ in range(number):
            self._open.append(self._connect())

    def _connect(self) -> socket.socket:
        self.num_opened += 1
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(0.5)
        with suppress(OSError):
            connection.connect(("127.0.0.1", self._port))
            connection.sendall(FIRST[self._kind])
        connection.setblocking(False)
        return connection

    def go_on(self) -> None:
        """Send a byte of a slow head, and replace what was closed."""
        for index, connection in enumerate(self._open):
            try:
                if self._kind == "slow head":
                    connection.send(b"a")
                if not self._kind.startswith("deaf") and connection.recv(65536) == b"":
                    raise ConnectionResetError
            except BlockingIOError:
                continue
            except OSError:
                connection.close()
                self._open[index] = self._connect()

    def close(self) -> None:
        for connection in self._open:
            connection.close()


@pytest.mark.parametrize(
    ("limit", "kind"),
    [
        *((64, kind) for kind in FIRST),
        # Not "deaf and asking": to answer forty thousand requests takes ten seconds, whoever reads the answers.
        *((1024, kind) for kind in FIRST if kind != "deaf and asking"),
    ],
)
def test_whoever_takes_all_descriptors_takes_nothing_from_others(limit: int, kind: str, tmp_path: Path) -> None:
    """More connections than descriptors are held for ten seconds, and opened anew as often as they are closed."""
    program = ("-c", FEW_DESCRIPTORS.format(limit=limit))
    with served("--model", "nano", program=program, data_dir=tmp_path, head_timeout_s=3) as server:
        port = server.wait_until_ready()
        attackers = Attackers(port, min(limit * 5 // 4, 900 if limit < 1000 else 1280), kind)
        try:
            waits, most, until = [], 0, time.monotonic() + 10
            while time.monotonic() < until:
                attackers.go_on()
                waits += [probe(port), probe(port, "/readyz")]
                most = max(most, num_descriptors(server))
            answer = asyncio.run(ask(port, SPEECH, {"input": "Hello.", "response_format": "pcm"}))
            probe(port, "/v1/audio/voices")
        finally:
            attackers.close()
        wait_for(lambda: num_descriptors(server) < 30)
        output = server.output
    said = output.count("connections closed since")
    print(
        f"\nulimit -n {limit}, {kind}: {attackers.num_opened} connections in 10 s; probes {len(waits)}, median "
        f"{statistics.median(waits) * 1e3:.0f} ms, longest {max(waits) * 1e3:.0f} ms; {most} descriptors at most; "
        f"{len(output)} bytes of log, {said} lines of it about connections"
    )
    assert answer.is_whole
    assert most < limit
    assert max(waits) < 2
    assert said <= 1
    assert "Traceback" not in output


@contextmanager
def slow_readers(port: int, number: int, text: str, num_bytes: int, every_s: float) -> Iterator[list[SlowReader]]:
    fields = {"input": text, "response_format": "pcm"}
    readers = [SlowReader(port, fields, num_bytes=num_bytes, every_s=every_s) for _ in range(number)]
    try:
        yield readers
    finally:
        for reader in readers:
            reader.leave()


def test_four_who_read_a_sixth_of_what_is_spoken_give_up_their_places(tmp_path: Path) -> None:
    """16 kB every two seconds never is a stall of five."""
    with served("--model", "nano", data_dir=tmp_path, max_streams=4, max_queue=0, stall_timeout_s=5) as server:
        port = server.wait_until_ready()
        began = time.monotonic()
        fair: list[Answer] = []
        with slow_readers(port, 4, SENTENCE * 200, 16_000, 2.0) as readers:
            time.sleep(1)
            while time.monotonic() - began < 30:
                fair.append(asyncio.run(ask(port, SPEECH, {"input": "Hello.", "response_format": "pcm"})))
                time.sleep(1)
            cut = sorted(round(reader.ended_at - began, 1) for reader in readers if reader.ended_at)
            assert not any(reader.is_whole for reader in readers)
        statuses = [answer.status for answer in fair]
        print(f"\nfour slow readers were cut off after {cut} s; a fair client got {statuses}")
        assert len(cut) == 4
        assert statuses[-5:] == [200] * 5
        assert "error=client_stalled" in server.output


def test_sixteen_slow_readers_with_default_settings(tmp_path: Path) -> None:
    """They read at three quarters of the speed at which it is heard, as slow lines do: nobody is cut off for that.

    Who comes on top is told so, and served as soon as they have gone.
    """
    with served("--model", "nano", data_dir=tmp_path) as server:
        port = server.wait_until_ready()
        before = server.resident_bytes()
        waits: list[float] = []
        with slow_readers(port, 16, SENTENCE * 200, 7200, 0.2) as readers:
            wait_for(lambda: all(reader.num_bytes for reader in readers))
            sizes = []
            began = time.monotonic()
            late = asyncio.run(ask(port, SPEECH, {"input": "Hello.", "response_format": "pcm"}))
            waited_s = time.monotonic() - began
            while time.monotonic() - began < 45:
                waits += [probe(port), probe(port, "/readyz")]
                sizes.append(server.resident_bytes())
                time.sleep(0.1)
            heard_s = [reader.num_bytes / 48000 for reader in readers]
            assert not any(reader.ended_at for reader in readers)
        wait_for(lambda: "voxtral_streams 0.0" in httpx2.get(f"http://127.0.0.1:{port}/metrics").text)
        began = time.monotonic()
        answer = asyncio.run(ask(port, SPEECH, {"input": "Hello.", "response_format": "pcm"}))
        served_s = time.monotonic() - began
        print(
            f"\n16 slow readers, default settings, 45 s: {min(heard_s):.0f} to {max(heard_s):.0f} s of audio each; "
            f"a 17th got {late.status} after {waited_s:.0f} s, and {answer.status} in {served_s:.1f} s when they had "
            f"gone; probes at most {max(waits) * 1e3:.0f} ms; memory grew by {(max(sizes) - before) / 1e6:.0f} MB, in "
            f"the last half minute by {(sizes[-1] - sizes[0]) / 1e6:.1f} MB"
        )
    assert (late.status, late.headers["retry-after"] >= "1") == (503, True)
    assert answer.is_whole
    assert max(waits) < 1
    assert max(sizes) - sizes[0] < 64e6


@pytest.mark.parametrize("max_lead_s", [None, 5.0])
def test_behind_a_proxy_that_takes_everything(max_lead_s: float | None, tmp_path: Path) -> None:
    """The proxy reads as fast as it can; its client has stopped, and nobody can see that."""
    options = {} if max_lead_s is None else {"max_lead_s": max_lead_s}
    with served("--model", "nano", data_dir=tmp_path, **options) as server:
        port = server.wait_until_ready()
        fields = {"input": (SENTENCE * 1100)[:100_000], "response_format": "pcm", "seed": 1}
        proxy = SlowReader(port, fields, num_bytes=2**20, every_s=0, buffer_bytes=2**20)
        wait_for(lambda: proxy.num_bytes > 0)
        began = time.monotonic()
        leads_s = []
        while time.monotonic() - began < 20:
            time.sleep(0.1)
            leads_s.append(proxy.num_bytes / 48000 - (time.monotonic() - began))
        proxy.leave()
        print(f"\n--max-lead {max_lead_s}: after 20 s the proxy has {leads_s[-1]:.0f} s more than is heard by then")
    if max_lead_s is None:
        assert leads_s[-1] > 30
    else:
        assert max(leads_s) < max_lead_s + 1
        assert min(leads_s[50:]) > max_lead_s / 2
