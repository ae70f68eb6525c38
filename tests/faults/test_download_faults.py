from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from loopback_hub import LoopbackHub, SeenRequest, client_of, fake_checkpoint, sha256
from voxtral.errors import DownloadError
from voxtral.loading.hub import download
from voxtral.loading.hub.cache import find_cached
from voxtral.loading.hub.names import CANONICAL_ID, PINNED_REVISION
from voxtral.loading.hub.plan import plan_download
from voxtral.loading.locate import locate_model

OTHER = "someone/finetune"
WEIGHTS = "consolidated.safetensors"
FILES = fake_checkpoint()
# The transfer is written in blocks of 10 MiB, so only a larger file leaves something to go on from.
LARGE_FILES = fake_checkpoint(weight_bytes=25 << 20)
BLOCK = 10 << 20


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    loopback = LoopbackHub()
    with loopback.serve(), client_of(loopback, monkeypatch, tmp_path / "hf"):
        # The library waits a second before it goes on after a broken connection.
        monkeypatch.setattr("huggingface_hub.file_download.time", SimpleNamespace(sleep=lambda seconds: None))
        yield loopback


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "hf" / "hub"


def failing_download(*args: Any, **kwargs: Any) -> str:
    with pytest.raises(DownloadError) as caught:
        download(*args, **kwargs)
    message = str(caught.value)
    # What was got, what the rule is, what to do.
    assert message.count(";") >= 2
    return message


def unfinished(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.endswith(".incomplete")]


# --- broken connections


def test_a_call_goes_on_by_itself_after_a_cut(hub: LoopbackHub) -> None:
    hub.add(OTHER, LARGE_FILES)
    hub.cut_after[WEIGHTS] = BLOCK + 5_000
    folder = download(OTHER)
    assert [seen.range for seen in hub.requests_for(WEIGHTS)] == [None, f"bytes={BLOCK}-"]
    assert (folder / WEIGHTS).read_bytes() == LARGE_FILES[WEIGHTS]


@pytest.mark.parametrize("into", ["cache", "folder"])
def test_a_second_call_goes_on_where_the_first_was_cut(
    hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, into: str
) -> None:
    local_dir = tmp_path / "mine" if into == "folder" else None
    hub.add(OTHER, LARGE_FILES)
    hub.cut_after[WEIGHTS] = 2 * BLOCK + 5_000
    hub.status_after_cut[WEIGHTS] = 503
    message = failing_download(OTHER, local_dir=local_dir)
    assert "HTTP 503" in message
    assert "goes on where this one stopped" in message
    assert find_cached(OTHER) is None
    assert not any(path.name == WEIGHTS for path in tmp_path.rglob("*"))
    assert [path.stat().st_size for path in unfinished(tmp_path)] == [2 * BLOCK]

    hub.status_after_cut.clear()
    hub.seen.clear()
    told: list[str] = []
    folder = download(OTHER, local_dir=local_dir, announce=told.append)
    assert (folder / WEIGHTS).read_bytes() == LARGE_FILES[WEIGHTS]
    assert [seen.range for seen in hub.requests_for(WEIGHTS)] == [f"bytes={2 * BLOCK}-"]
    assert not hub.requests_for("tekken.json")
    assert told[0].startswith(f"{OTHER} at cccccccc: 5.2 MB to download (21.0 MB of 26.2 MB are here), weights")
    assert not unfinished(tmp_path)


def test_another_process_goes_on_where_this_one_was_cut(hub: LoopbackHub, cache: Path) -> None:
    hub.add(OTHER, LARGE_FILES)
    hub.cut_after[WEIGHTS] = BLOCK + 1
    hub.status_after_cut[WEIGHTS] = 503
    failing_download(OTHER)
    hub.status_after_cut.clear()
    hub.seen.clear()
    script = f"from voxtral.loading.hub import download; print(download({OTHER!r}))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "HF_HUB_DISABLE_TELEMETRY": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == f"{find_cached(OTHER)}\n", done.stderr
    assert done.stderr == ""
    assert [seen.range for seen in hub.requests_for(WEIGHTS)] == [f"bytes={BLOCK}-"]


def test_a_hub_that_dies_in_mid_file_breaks_the_call_off(hub: LoopbackHub, cache: Path) -> None:
    hub.add(OTHER, LARGE_FILES)
    hub.cut_after[WEIGHTS] = BLOCK + 5_000

    def die(seen: SeenRequest) -> None:
        if seen.range is not None:
            raise ConnectionAbortedError

    hub.before_answer = die
    message = failing_download(OTHER)
    assert f"broke off at 10.5 MB of 26.2 MB of {WEIGHTS} (" in message
    assert "run the same command again" in message
    assert [path.stat().st_size for path in unfinished(cache)] == [BLOCK]
    hub.before_answer = None
    hub.seen.clear()
    download(OTHER)
    assert [seen.range for seen in hub.requests_for(WEIGHTS)] == [f"bytes={BLOCK}-"]


def test_a_hub_that_cannot_continue_sends_the_file_again(hub: LoopbackHub) -> None:
    hub.add(OTHER, LARGE_FILES)
    hub.cut_after[WEIGHTS] = BLOCK + 5_000
    hub.ignores_range = True
    folder = download(OTHER)
    assert (folder / WEIGHTS).read_bytes() == LARGE_FILES[WEIGHTS]


def test_a_stopped_process_leaves_what_it_fetched(hub: LoopbackHub, cache: Path) -> None:
    hub.add(OTHER, LARGE_FILES)
    hub.cut_after[WEIGHTS] = BLOCK + 5_000

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.file_download.time", SimpleNamespace(sleep=interrupt))
        with pytest.raises(KeyboardInterrupt):
            download(OTHER)
    hub.seen.clear()
    download(OTHER)
    assert [seen.range for seen in hub.requests_for(WEIGHTS)] == [f"bytes={BLOCK}-"]


def test_nobody_listens(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://user:s3cret@127.0.0.1:{port}")
    message = failing_download(OTHER)
    assert message.startswith(f"127.0.0.1:{port} cannot be reached (Connection refused); {OTHER} is downloaded from")
    assert "s3cret" not in message


def test_a_hub_that_does_not_answer(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voxtral.loading.hub.plan._PLAN_TIMEOUT_S", 0.2)
    release = threading.Event()
    hub.before_answer = lambda seen: release.wait(10)
    try:
        message = failing_download(OTHER)
    finally:
        release.set()
    assert "cannot be reached (ReadTimeout)" in message


# --- refusals


@pytest.mark.parametrize(
    ("token", "status", "advice"),
    [
        (None, 401, "no token was sent"),
        ("hf_wrong", 401, "set HF_TOKEN to a valid token"),
        ("hf_of-someone-without-access", 403, "accept the licence"),
    ],
)
def test_a_gated_repository_refuses(hub: LoopbackHub, cache: Path, token: str | None, status: int, advice: str) -> None:
    hub.add(CANONICAL_ID, FILES, commit=PINNED_REVISION, token="hf_right")
    message = failing_download("4b", token=token)
    assert f"(HTTP {status})" in message
    assert advice in message
    assert "HF_TOKEN" in message
    assert f"https://huggingface.co/{CANONICAL_ID}" in message
    assert "hf_wrong" not in message
    assert "someone" not in message
    assert not hub.requests_for(WEIGHTS)
    assert download("4b", token="hf_right") == find_cached("4b")


@pytest.mark.parametrize("token", ["hf_x y", "hf_x\nX-Evil: 1", "hf_é", ""])
def test_a_token_that_cannot_be_sent_is_not_quoted(hub: LoopbackHub, token: str) -> None:
    hub.add(OTHER, FILES)
    message = failing_download(OTHER, token=token)
    assert "hub token" in message
    assert "hf_x" not in message
    assert "é" not in message
    assert not hub.seen


def test_a_stored_token_that_cannot_be_read(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.add(OTHER, FILES)
    (tmp_path / "hf" / "token").mkdir(parents=True)
    assert "the stored hub token cannot be read (Is a directory)" in failing_download(OTHER)


def test_a_repository_that_does_not_exist(hub: LoopbackHub) -> None:
    hub.add(OTHER, FILES, token="hf_right")
    stranger = failing_download("someone/else")
    assert "someone/else (HTTP 401)" in stranger
    assert "does not exist, is private" in stranger
    known = failing_download("someone/else", token="hf_right")
    assert "has no model someone/else (HTTP 404)" in known


def test_a_revision_that_does_not_exist(hub: LoopbackHub) -> None:
    hub.add(OTHER, FILES)
    assert "someone/finetune has no revision 'v9'" in failing_download(OTHER, revision="v9")


def test_a_file_that_vanishes_between_plan_and_fetch(hub: LoopbackHub) -> None:
    repo = hub.add(OTHER, FILES)

    def remove(seen: SeenRequest) -> None:
        if seen.path.endswith("tekken.json"):
            repo.files["c" * 40] = {name: content for name, content in FILES.items() if name != "tekken.json"}

    hub.before_answer = remove
    assert f"has no file tekken.json of {OTHER} (HTTP 404)" in failing_download(OTHER)
    assert find_cached(OTHER) is None


@pytest.mark.parametrize("missing", ["params.json", "tekken.json", WEIGHTS, "voice_embedding/*"])
def test_a_repository_without_a_needed_file(hub: LoopbackHub, missing: str) -> None:
    hub.add(OTHER, {name: content for name, content in FILES.items() if not name.startswith(missing.rstrip("*"))})
    message = failing_download(OTHER)
    assert f"{OTHER} at main has no {missing};" in message
    assert len(hub.seen) == 1


# --- answers that no hub gives


@pytest.mark.parametrize(
    "change",
    [
        lambda info: "<html>sign in</html>",
        lambda info: [],
        lambda info: info | {"sha": None},
        lambda info: info | {"sha": "../../elsewhere"},
        lambda info: info | {"siblings": [{"size": 3}]},
        lambda info: info | {"siblings": [{"rfilename": "params.json"}]},
        lambda info: info | {"siblings": [{"rfilename": "params.json", "size": -1, "blobId": "a" * 40}]},
        lambda info: info | {"siblings": [{"rfilename": "params.json", "size": 3, "blobId": "../../x"}]},
    ],
)
def test_an_answer_that_is_not_a_hubs(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    hub.add(OTHER, FILES)
    hub.change_info = change
    assert "did not answer like a Hugging Face hub" in failing_download(OTHER)


@pytest.mark.parametrize("name", ["voice_embedding/../../../x", "voice_embedding/..", "voice_embedding/a/b", "../x"])
def test_a_file_name_cannot_leave_the_folder(hub: LoopbackHub, name: str) -> None:
    hub.add(OTHER, FILES | {name: b"evil"})
    assert name not in {file.name for file in plan_download(OTHER).files}


@pytest.mark.parametrize("endpoint", ["hub.example", "ftp://hub.example", "http://", "http://[::1", "http://h:port"])
def test_an_endpoint_that_is_no_address(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    assert "HF_ENDPOINT is not the address of a hub" in failing_download(OTHER)


# --- wrong content


def test_a_file_that_ends_early_is_never_accepted(hub: LoopbackHub, cache: Path) -> None:
    hub.add(OTHER, FILES)
    hub.sent_instead[WEIGHTS] = FILES[WEIGHTS][:-10]
    first = failing_download(OTHER)
    assert f"broke off at 50.0 kB of 50.0 kB of {WEIGHTS} (the answer ended early)" in first
    # Asked for the rest, the hub says that there is none: it announced another size than it has.
    second = failing_download(OTHER)
    assert f"sent 49990 bytes for {WEIGHTS} of {OTHER}, announced with 50000 bytes" in second
    assert not unfinished(cache)
    assert find_cached(OTHER) is None
    hub.sent_instead.clear()
    assert (download(OTHER) / WEIGHTS).read_bytes() == FILES[WEIGHTS]


def test_a_file_that_is_too_long_is_never_accepted(hub: LoopbackHub, cache: Path) -> None:
    hub.add(OTHER, FILES)
    hub.sent_instead["params.json"] = FILES["params.json"] + b"x"
    assert "sent 701 bytes for params.json" in failing_download(OTHER)
    assert not unfinished(cache)
    hub.sent_instead.clear()
    assert (download(OTHER) / "params.json").read_bytes() == FILES["params.json"]


@pytest.mark.parametrize("name", ["params.json", WEIGHTS])
def test_other_content_of_the_same_size_is_never_accepted(hub: LoopbackHub, cache: Path, name: str) -> None:
    hub.add(OTHER, FILES)
    hub.sent_instead[name] = bytes(len(FILES[name]))
    assert f"sent content with another hash for {name}" in failing_download(OTHER)
    assert not unfinished(cache)
    assert find_cached(OTHER) is None
    hub.sent_instead.clear()
    assert (download(OTHER) / name).read_bytes() == FILES[name]


def test_a_damaged_unfinished_file_is_found_out_and_fetched_again(hub: LoopbackHub, cache: Path) -> None:
    hub.add(OTHER, FILES)
    part = cache / "models--someone--finetune" / "blobs" / f"{sha256(FILES[WEIGHTS])}.voxtral.incomplete"
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(10_000))
    assert "another hash" in failing_download(OTHER)
    assert [seen.range for seen in hub.requests_for(WEIGHTS)] == ["bytes=10000-"]
    part.write_bytes(bytes(60_000))
    hub.seen.clear()
    assert (download(OTHER) / WEIGHTS).read_bytes() == FILES[WEIGHTS]
    assert [seen.range for seen in hub.requests_for(WEIGHTS)] == [None]


def test_a_truncated_file_in_the_cache_is_fetched_again_and_good_ones_are_kept(hub: LoopbackHub) -> None:
    hub.add(OTHER, FILES)
    folder = download(OTHER)
    blob = (folder / WEIGHTS).resolve()
    blob.write_bytes(FILES[WEIGHTS][:1000])
    kept = {path: path.stat().st_mtime_ns for path in blob.parent.iterdir() if path != blob}
    hub.seen.clear()
    assert download(OTHER) == folder
    assert (folder / WEIGHTS).read_bytes() == FILES[WEIGHTS]
    assert {path: path.stat().st_mtime_ns for path in blob.parent.iterdir() if path != blob} == kept
    assert [seen.range for seen in hub.requests_for(WEIGHTS)] == [None]
    assert not hub.requests_for("tekken.json")


def test_a_file_that_changes_during_the_download_is_noticed(hub: LoopbackHub) -> None:
    hub.add(OTHER, FILES)
    folder = download(OTHER)
    (folder / WEIGHTS).resolve().unlink()

    def damage(seen: SeenRequest) -> None:
        if seen.host == "storage":
            (folder / "tekken.json").resolve().write_bytes(b"short")

    hub.before_answer = damage
    assert "tekken.json in " in failing_download(OTHER)
    hub.before_answer = None
    assert (download(OTHER) / "tekken.json").read_bytes() == FILES["tekken.json"]


# --- the disk


def test_a_disk_without_room_is_found_out_before_anything_is_fetched(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hub.add(OTHER, FILES)
    asked: list[Path] = []

    def usage(path: Path) -> Any:
        asked.append(path)
        return SimpleNamespace(free=82_000)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    message = failing_download(OTHER)
    assert f"83.0 kB are to be downloaded and the disk of {tmp_path} has 82.0 kB free" in message
    assert asked == [tmp_path]
    assert len(hub.seen) == 1
    failing_download(OTHER, local_dir=tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


def test_only_what_is_still_missing_must_fit(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(OTHER, FILES)
    folder = download(OTHER)
    (folder / WEIGHTS).resolve().unlink()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=50_000))
    assert download(OTHER) == folder
    (folder / WEIGHTS).resolve().unlink()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=49_999))
    assert "free 1 bytes" in failing_download(OTHER)


def test_a_disk_that_fills_up_meanwhile(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.file_download as library

    def fill(url: str, temp_file: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    hub.add(OTHER, FILES)
    with monkeypatch.context() as patch:
        patch.setattr(library, "http_get", fill)
        message = failing_download(OTHER)
    assert "is full" in message
    assert download(OTHER) == find_cached(OTHER)


def test_a_target_that_cannot_be_written(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.add(OTHER, FILES)
    (tmp_path / "file").write_bytes(b"mine")
    message = failing_download(OTHER, local_dir=tmp_path / "file" / "folder")
    assert f"{tmp_path / 'file'}" in message
    assert "(Not a directory)" in message
    assert (tmp_path / "file").read_bytes() == b"mine"


def test_a_folder_that_cannot_be_read(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*args: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    hub.add(OTHER, FILES)
    download(OTHER, local_dir=tmp_path / "mine")
    monkeypatch.setattr(hashlib, "file_digest", fail)
    message = failing_download(OTHER, local_dir=tmp_path / "mine")
    assert f"{tmp_path / 'mine'} cannot be read or written (Input/output error)" in message


# --- offline


def test_offline_mode_asks_nobody_and_says_where_it_looked(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, cache: Path, tmp_path: Path
) -> None:
    hub.add(CANONICAL_ID, FILES, commit=PINNED_REVISION)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for message in (
        failing_download("mistralai/Voxtral-TTS"),
        failing_download("mistralai/Voxtral-TTS", local_dir=tmp_path / "mine"),
    ):
        assert "offline mode is on" in message
        assert "HF_HUB_OFFLINE" in message
        assert str(cache / "models--mistralai--Voxtral-4B-TTS-2603") in message
        assert str(cache / "models--mistralai--Voxtral-TTS") in message
    with pytest.raises(DownloadError, match="offline mode is on"):
        locate_model("4b", allow_download=True)
    with pytest.raises(DownloadError, match="offline mode is on"):
        plan_download("4b")
    assert not hub.seen


def test_offline_mode_takes_what_is_in_the_cache(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(CANONICAL_ID, FILES, commit=PINNED_REVISION)
    folder = download("4b")
    hub.seen.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "ON")
    told: list[str] = []
    assert download("4b", announce=told.append) == folder
    assert told == [f"HF_HUB_OFFLINE is set: 4b is taken from {folder}"]
    assert locate_model("4b", allow_download=True) == folder
    with pytest.raises(DownloadError, match=f"a complete copy is in {folder}"):
        plan_download("4b")
    with pytest.raises(DownloadError):
        download("4b", revision="v2")
    assert not hub.seen


def test_offline_mode_of_the_library_is_respected(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.add(OTHER, FILES)
    assert "offline mode is on" in failing_download(OTHER)
    assert not hub.seen


def test_downloads_need_huggingface_hub(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        for name in [name for name in sys.modules if name.partition(".")[0] == "huggingface_hub"]:
            patch.setitem(sys.modules, name, None)
        message = failing_download(OTHER)
    assert "huggingface_hub is not installed" in message


# --- two at once


def test_two_downloads_at_once_fetch_each_file_once(hub: LoopbackHub) -> None:
    hub.add(OTHER, FILES)
    told: list[str] = []
    waiting = threading.Event()
    results: list[Path] = []

    def announce(message: str) -> None:
        told.append(message)
        if message == f"waiting for another download of {WEIGHTS}":
            waiting.set()

    def hold(seen: SeenRequest) -> None:
        if seen.host == "storage" and seen.path.endswith(WEIGHTS):
            waiting.wait(10)

    hub.before_answer = hold
    threads = [threading.Thread(target=lambda: results.append(download(OTHER, announce=announce))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert waiting.is_set()
    assert results == [find_cached(OTHER)] * 2
    assert len(hub.requests_for(WEIGHTS)) == 1


def test_no_answer_of_the_hub_is_repeated_to_the_user(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(OTHER, FILES)
    hub.status_after_cut[WEIGHTS] = 500
    message = failing_download(OTHER)
    assert f"answered HTTP 500 for {WEIGHTS}" in message
    assert "s3cret" not in message
    assert "signature" not in json.dumps(message)
