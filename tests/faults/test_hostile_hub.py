"""Hubs that mean harm: answers without end, slow ones, bombs, redirects, and lists that lead out of a folder."""

from __future__ import annotations

import errno
import gzip
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from loopback_hub import FILES, OTHER, LoopbackHub, client_of
from voxtral.errors import CheckpointError, DownloadError
from voxtral.loading import locate
from voxtral.loading.hub import find_cached, plan
from voxtral.loading.hub.fetch import download
from voxtral.loading.hub.plan import plan_download

WEIGHTS = "consolidated.safetensors"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    loopback = LoopbackHub()
    with loopback.serve(), client_of(loopback, monkeypatch, tmp_path / "hf"):
        monkeypatch.setattr("huggingface_hub.file_download.time", SimpleNamespace(sleep=lambda seconds: None))
        loopback.add(OTHER, FILES)
        yield loopback


@contextmanager
def answering(write: Callable[[Callable[[bytes], object]], None], **headers: str) -> Iterator[tuple[str, list[str]]]:
    """Run a server that answers every request in one way, and give its address and the tokens that it has seen."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *arguments: Any) -> None:
            pass

        def do_GET(self) -> None:
            seen.append(self.headers.get("Authorization", ""))
            self.send_response(200)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            with suppress(OSError):
                write(self.wfile.write)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def endless(write: Callable[[bytes], object]) -> None:
    while True:
        write(bytes(2**16))


def dripping(write: Callable[[bytes], object]) -> None:
    for _ in range(200):
        write(b" ")
        time.sleep(0.01)


def on_disk(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


# What there is.

BOMB = gzip.compress(b"[" + b" " * 2**26 + b"]")


@pytest.mark.parametrize(
    ("write", "headers"),
    [
        (endless, {"Content_Type": "application/json"}),
        (dripping, {"Content_Type": "application/json"}),
        (lambda write: write(BOMB), {"Content_Encoding": "gzip"}),
        (lambda write: write(b"[" * 10**6), {}),
        (lambda write: write(json.dumps({"id": OTHER, "siblings": [{}] * 10**5}).encode()), {}),
        (lambda write: write(b'{"sha": NaN}'), {}),
    ],
    ids=["endless", "slow", "bomb", "deep", "long", "odd"],
)
def test_an_answer_without_end_is_given_up(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, write: Any, headers: dict[str, str]
) -> None:
    monkeypatch.setattr(plan, "_PLAN_DEADLINE_S", 0.2)
    with answering(write, **headers) as (url, _):
        monkeypatch.setenv("HF_ENDPOINT", url)
        began = time.monotonic()
        with pytest.raises(DownloadError, match="HF_ENDPOINT"):
            plan_download(OTHER)
        assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "names",
    [
        ["voice_embedding/../../../evil.pt"],
        ["voice_embedding/a\nb.pt"],
        ["voice_embedding/a\0b.pt"],
        ["voice_embedding/..\\evil.pt"],
        ["voice_embedding/" + "x" * 5000],
        ["/etc/passwd", "../../evil", "C:evil"],
        ["voice_embedding/casual_male.pt"],  # a second time
        [f"voice_embedding/v{number}.pt" for number in range(2000)],
    ],
    ids=["up", "line", "zero", "backslash", "long", "absolute", "twice", "many"],
)
def test_a_list_of_files_cannot_lead_elsewhere_or_be_without_end(
    hub: LoopbackHub, tmp_path: Path, names: list[str]
) -> None:
    def add(info: dict[str, Any]) -> dict[str, Any]:
        info["siblings"] += [{"rfilename": name, "size": 1, "blobId": "0" * 40} for name in names]
        return info

    hub.change_info = add
    try:
        found = plan_download(OTHER, local_dir=tmp_path / "target")
    except DownloadError:
        return
    assert {file.name for file in found.files} <= set(FILES)


# Files.


@pytest.mark.parametrize(
    ("write", "headers"),
    [
        (endless, {}),
        (endless, {"Content_Length": str(2**40)}),
        (lambda write: write(gzip.compress(bytes(2**26))), {"Content_Encoding": "gzip"}),
    ],
    ids=["endless", "announced", "bomb"],
)
def test_a_body_without_end_takes_no_more_disk_than_was_announced(
    hub: LoopbackHub, tmp_path: Path, write: Any, headers: dict[str, str]
) -> None:
    with answering(write, **headers) as (url, _):
        hub.storage = url
        with pytest.raises(DownloadError, match="sent"):
            download(OTHER)
    assert on_disk(tmp_path) < 2 * sum(map(len, FILES.values()))
    assert find_cached(OTHER) is None


@pytest.mark.parametrize("scheme", ["file:///etc/passwd#", "ftp://127.0.0.1:9", "gopher://127.0.0.1:9", "http://["])
def test_a_redirect_to_another_scheme_is_a_failure(hub: LoopbackHub, tmp_path: Path, scheme: str) -> None:
    hub.storage = scheme
    with pytest.raises(DownloadError):
        download(OTHER)
    assert find_cached(OTHER) is None


def test_a_redirect_in_a_circle_ends(hub: LoopbackHub) -> None:
    hub.storage = f"{hub.endpoint}/{OTHER}/resolve/main/{WEIGHTS}?"
    with pytest.raises(DownloadError):
        download(OTHER)


def test_no_token_goes_to_another_host(hub: LoopbackHub) -> None:
    with answering(lambda write: write(b"x")) as (url, seen):
        hub.storage = url.replace("127.0.0.1", "localhost")
        hub.repositories[OTHER].token = "hf_secret"
        with pytest.raises(DownloadError):
            download(OTHER, token="hf_secret")
    assert seen
    assert set(seen) == {""}


# Disks.


def test_a_disk_that_is_really_full(hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if sys.platform != "linux" or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a disk")
    try:
        with pytest.raises(DownloadError, match="nothing was fetched"):
            download(OTHER, local_dir=disk)
        monkeypatch.setattr("voxtral.loading.hub.fetch._check_free_space", lambda *arguments: None)
        with pytest.raises(DownloadError, match="is full"):
            download(OTHER, local_dir=disk)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ENOMEM])
@pytest.mark.parametrize("call", ["stat", "scandir", "listdir", "open"])
def test_a_cache_that_cannot_be_read_is_not_empty(
    hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, call: str
) -> None:
    """Or the whole model would be fetched again."""
    folder = download(OTHER)
    real = getattr(os, call)

    def refuse(path: Any = ".", *arguments: Any, **options: Any) -> Any:
        if "models--" in str(path):
            raise OSError(number, os.strerror(number))
        return real(path, *arguments, **options)

    num_seen = len(hub.seen)
    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        # What it looks at without that call, it finds; nothing is fetched in any case.
        with suppress(CheckpointError):
            assert find_cached(OTHER) == folder
        with suppress(CheckpointError, DownloadError):
            assert locate.locate_model(OTHER, allow_download=True) == folder
    assert len(hub.seen) == num_seen


def test_a_choice_of_the_model_says_that_the_cache_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any, **options: Any) -> Any:
        raise CheckpointError("the cache cannot be read")

    monkeypatch.delenv("VOXTRAL_MODEL", raising=False)
    monkeypatch.setattr(locate.hub, "find_cached", refuse)
    name, reason = locate.choose_model(None, "cpu")
    assert name == "nano"
    assert "cannot be read" in reason
