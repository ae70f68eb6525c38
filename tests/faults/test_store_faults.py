"""Stored voices where the machine refuses: what cannot be read is neither absent nor damaged, no name goes twice.

Longer than most, because one folder and its rules are put through every kind of fault.
"""

from __future__ import annotations

import errno
import io
import os
import pickle
import resource
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch

from checkpoints import TINY
from serving import Serving, serving
from voxtral import disk
from voxtral.config import ModelConfig
from voxtral.errors import (
    VoiceError,
    VoiceNameTakenError,
    VoiceStoreBusyError,
    VoiceStoreError,
    VoiceUnknownError,
    VoiceUnreadableError,
)
from voxtral.loading.params import load_config
from voxtral.tts import VoxtralTTS
from voxtral.voices import store as store_module
from voxtral.voices.facts import VoiceFacts
from voxtral.voices.library import VoiceLibrary
from voxtral.voices.presets import list_presets
from voxtral.voices.prompt import VoicePrompt, load_voice
from voxtral.voices.store import VoiceStore

ERRORS = [errno.EMFILE, errno.ENFILE, errno.EACCES, errno.EPERM, errno.EIO, errno.ENOMEM, errno.ESTALE, errno.ELOOP]


@pytest.fixture(scope="module")
def config() -> ModelConfig:
    return load_config(TINY / "params.json")


@pytest.fixture
def store(tmp_path: Path) -> VoiceStore:
    return VoiceStore(tmp_path / "voices")


def voice(num_rows: int = 5) -> VoicePrompt:
    return VoicePrompt("v", torch.randn(num_rows, 64, generator=torch.Generator().manual_seed(0)))


def named(name: str) -> VoiceFacts:
    return VoiceFacts(name=name, consent="yes")


@contextmanager
def refusing(
    monkeypatch: pytest.MonkeyPatch, part: str, number: int, calls: tuple[str, ...] = ("open",)
) -> Iterator[None]:
    """Let calls of the system fail for every path with `part` in its name."""
    with monkeypatch.context() as patch:
        for call in calls:
            real = getattr(os, call)

            def refuse(path: Any, *arguments: Any, real: Any = real, **options: Any) -> Any:
                if part in str(getattr(path, "path", path)):
                    raise OSError(number, os.strerror(number))
                return real(path, *arguments, **options)

            patch.setattr(os, call, refuse)
        yield


def store_of(running: Serving) -> VoiceStore:
    book = running.service.host._voices
    assert book is not None
    return book.store


# Not to be read is not to be absent.


@pytest.mark.parametrize("number", ERRORS)
@pytest.mark.parametrize("calls", [("open",), ("stat",), ("scandir", "listdir")], ids=" ".join)
def test_what_cannot_be_read_is_not_absent_and_not_damaged(
    store: VoiceStore, config: ModelConfig, monkeypatch: pytest.MonkeyPatch, number: int, calls: tuple[str, ...]
) -> None:
    added = store.add(voice(), named("Ana"))
    for each in (store, VoiceStore(store.folder)):
        part = "voice_" if calls == ("open",) else "voices"
        with refusing(monkeypatch, part, number, calls):
            for look in (
                lambda each=each: VoiceStore(each.folder).list(),
                lambda each=each: VoiceStore(each.folder).find("Ana"),
                lambda each=each: VoiceStore(each.folder).find("alloy"),
                lambda each=each: each.load(added.id, config),
                lambda each=each: VoiceStore(each.folder).check_new("Ana"),
                lambda each=each: VoiceStore(each.folder).check_new("Ben"),
            ):
                with pytest.raises(VoiceUnreadableError) as caught:
                    look()
                assert str(store.folder) not in str(caught.value)
            with pytest.raises((VoiceUnreadableError, VoiceStoreError, VoiceNameTakenError)):
                each.add(voice(), named("ana"))
        # As soon as it can be read, all is as it was, in the same process.
        assert each.list() == (added,)
        assert each.find("Ana") == added
        assert each.load(added.id, config).key == voice().key
        with pytest.raises(VoiceNameTakenError):
            each.add(voice(), named("Ana"))
    assert [found.name for found in store.list()] == ["Ana"]


def test_only_damaged_content_is_remembered(
    store: VoiceStore, config: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = store.add(voice(), named("Ana"))
    path = store.folder / f"{added.id}.safetensors"
    content = path.read_bytes()
    other = VoiceStore(store.folder)
    with refusing(monkeypatch, "voice_", errno.EMFILE), pytest.raises(VoiceUnreadableError):
        other.list()
    assert other.list() == (added,)
    path.write_bytes(content[:-1])
    assert other.list() == ()
    path.write_bytes(content)
    assert other.list() == (added,)


def test_a_name_that_was_read_once_stays_taken_while_its_file_cannot_be(
    store: VoiceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = store.add(voice(), named("Ana"))
    assert store.find("Ana") == added
    os.utime(store.folder / f"{added.id}.safetensors")  # it may be another voice by now
    with refusing(monkeypatch, "voice_", errno.EACCES), pytest.raises(VoiceNameTakenError):
        store.check_new("ANA")


@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors of Linux")
def test_without_descriptors_presets_and_voices_are_unreadable_and_nothing_else(
    store: VoiceStore, config: ModelConfig
) -> None:
    """The real limit, at each number of descriptors that are left."""
    added, library = store.add(voice(), named("Ana")), VoiceLibrary(TINY, config)
    load_voice(TINY / "voice_embedding" / "casual_male.pt", config)  # whatever is imported is by now
    lowest_free = os.dup(0)
    os.close(lowest_free)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    outcomes: list[str] = []
    for spare in range(3):
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free + spare, limits[1]))
        try:
            for look in (
                lambda: VoiceStore(store.folder).list(),
                lambda: store.load(added.id, config),
                lambda: VoiceLibrary(TINY, config).load("casual_male"),
                lambda: library.load("neutral_female"),
                lambda: list_presets(TINY),
                lambda: VoiceStore(store.folder).add(voice(), named("Ana")),
            ):
                try:
                    look()
                    outcomes.append("read")
                except (VoiceUnreadableError, VoiceStoreBusyError, VoiceNameTakenError) as error:
                    outcomes.append(type(error).__name__)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert {"read", "VoiceUnreadableError"} <= set(outcomes)
    assert len(store.list()) == 1


def test_clients_are_told_to_come_back(tts: VoxtralTTS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(tts, data_dir=tmp_path) as running, running.client() as client:
        store = store_of(running)
        added = store.add(VoicePrompt("v", torch.zeros(3, 64)), named("Ana"))

        def ask() -> list[httpx2.Response]:
            body = {"input": "Hello", "max_frames": 2, "response_format": "pcm"}
            return [
                client.get("/v1/audio/voices"),
                client.get("/v1/audio/voices/Ben"),
                client.get(f"/v1/audio/voices/{added.id}"),
                client.post("/v1/audio/speech", json={**body, "voice": "Ana"}),
                client.post("/v1/audio/speech", json={**body, "voice": "alloy"}),
                client.patch(f"/v1/audio/voices/{added.id}", json={"name": "Ben"}),
                client.delete("/v1/audio/voices/Ana"),
            ]

        with refusing(monkeypatch, str(tmp_path), errno.EMFILE, ("scandir", "stat")):
            answers = ask()
        assert {(a.status_code, a.json()["error"]["code"]) for a in answers} == {(503, "voice_unreadable")}
        assert all(answer.headers["retry-after"] for answer in answers)
        assert not any(str(tmp_path) in answer.text for answer in answers)
        assert client.get("/v1/audio/voices/Ana").status_code == 200


# Two servers on one folder.

_RACE = """
import sys, time
from pathlib import Path
import torch
from voxtral.errors import VoiceNameTakenError
from voxtral.voices.facts import VoiceFacts
from voxtral.voices.prompt import VoicePrompt
from voxtral.voices.store import VoiceStore

folder, voice = Path(sys.argv[1]), VoicePrompt("v", torch.ones(200, 64))
store = VoiceStore(folder)
sys.stdin.readline()
for number in range(15):
    try:
        store.add(voice, VoiceFacts(name=f"voice {number}", consent="yes"))
    except VoiceNameTakenError:
        pass
"""


@pytest.mark.slow  # two interpreters with torch; the next test has two stores in one
def test_two_processes_never_give_one_name(store: VoiceStore) -> None:
    command = [sys.executable, "-c", _RACE, str(store.folder)]
    racers = [subprocess.Popen(command, stdin=subprocess.PIPE, text=True) for _ in range(2)]
    time.sleep(2)  # both have their libraries
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.close()
    assert [racer.wait(60) for racer in racers] == [0, 0]
    assert sorted(each.name for each in store.list()) == sorted(f"voice {number}" for number in range(15))


def test_a_check_and_its_write_are_one_step_between_stores(store: VoiceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """One store stands between its check and its write, and the other must wait."""
    has_checked, may_write = threading.Event(), threading.Event()
    outcomes: list[str] = []
    write = VoiceStore._write

    def slow(self: VoiceStore, *arguments: Any) -> None:
        has_checked.set()
        may_write.wait(10)
        write(self, *arguments)

    monkeypatch.setattr(VoiceStore, "_write", slow)

    def add() -> None:
        try:
            VoiceStore(store.folder).add(voice(), named("Ana"))
            outcomes.append("added")
        except VoiceNameTakenError:
            outcomes.append("taken")

    threads = [threading.Thread(target=add) for _ in range(2)]
    threads[0].start()
    assert has_checked.wait(10)
    threads[1].start()
    time.sleep(0.05)
    may_write.set()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["added", "taken"]
    assert len(store.list()) == 1


def test_a_change_never_brings_a_deleted_voice_back(
    store: VoiceStore, config: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    added, other = store.add(voice(), named("Ana")), VoiceStore(store.folder)
    load = VoiceStore.load

    def load_and_lose(self: VoiceStore, *arguments: Any) -> VoicePrompt:
        loaded = load(self, *arguments)
        other.delete(added.id)
        return loaded

    monkeypatch.setattr(VoiceStore, "load", load_and_lose)
    with pytest.raises(VoiceUnknownError):
        store.change(added.id, config, description="new")
    assert store.list() == other.list() == ()
    assert not list(store.folder.glob("*.safetensors"))


def test_who_waits_too_long_for_the_folder_is_told_to_come_back(
    store: VoiceStore, config: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = store.add(voice(), named("Ana"))
    monkeypatch.setattr(store_module, "_PATIENCE_S", 0.05)
    other = VoiceStore(store.folder)
    with other._voices.locked(1):
        for change in (
            lambda: store.add(voice(), named("Ben")),
            lambda: store.change(added.id, config, name="Ben"),
            lambda: store.delete(added.id),
        ):
            with pytest.raises(VoiceStoreBusyError):
                change()
        assert store.list() == (added,)  # who only looks does not wait
    store.delete(added.id)


def test_a_voice_that_is_deleted_while_it_speaks_speaks_to_its_end(tts: VoxtralTTS, tmp_path: Path) -> None:
    with serving(tts, data_dir=tmp_path) as running, running.client() as client:
        store = store_of(running)
        rows = VoiceLibrary(tts.checkpoint.folder, tts.config).load(tts.voices[0].name).rows
        added = store.add(VoicePrompt("v", rows), named("Ana"))
        body = {"input": "Hello there", "voice": "Ana", "response_format": "pcm", "seed": 1, "max_frames": 20}
        whole = client.post("/v1/audio/speech", json=body).content
        with client.stream("POST", "/v1/audio/speech", json=body) as answer:
            assert client.delete(f"/v1/audio/voices/{added.id}").status_code == 200
            assert b"".join(answer.iter_bytes()) == whole
        assert client.post("/v1/audio/speech", json=body).status_code == 400


# Disks that are full, that cannot be written, and clocks that jump.


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("call", ["open", "fsync", "replace"])
def test_what_cannot_be_written_leaves_what_was_there(
    store: VoiceStore, config: ModelConfig, monkeypatch: pytest.MonkeyPatch, number: int, call: str
) -> None:
    added = store.add(voice(), named("Ana"))
    real = getattr(os, call)

    def refuse(path: Any, *arguments: Any, **options: Any) -> Any:
        if call == "open" and not arguments[0] & (os.O_WRONLY | os.O_RDWR):
            return real(path, *arguments, **options)
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        for change in (lambda: store.add(voice(), named("Ben")), lambda: store.change(added.id, config, name="Ben")):
            with pytest.raises(VoiceStoreError) as caught:
                change()
            assert not caught.value.retryable
        assert store.load(added.id, config).key == voice().key
        assert store.list() == (added,)
    assert not [path for path in store.folder.iterdir() if path.name.endswith(".part")]


@contextmanager
def small_disk(folder: Path, kilobytes: int, *options: str) -> Iterator[None]:
    """Mount a disk of memory, where this user may."""
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", ",".join([f"size={kilobytes}k", *options]), "tmpfs", str(folder)]
    if sys.platform != "linux" or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a disk")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_is_really_full(tmp_path: Path, config: ModelConfig) -> None:
    with small_disk(tmp_path / "disk", 64):
        store = VoiceStore(tmp_path / "disk" / "voices")
        kept: list[Any] = []

        def fill() -> None:
            while len(kept) < 20:
                kept.append(store.add(voice(50), named(f"v{len(kept)}")))

        with pytest.raises(VoiceStoreError):
            fill()
        assert kept
        assert set(store.list()) == set(VoiceStore(store.folder).list()) == set(kept)
        assert all(store.load(each.id, config).key == voice(50).key for each in kept)
        assert not list(store.folder.glob("*.part"))
        store.delete(kept[0].id)
        store.add(voice(50), named("again"))


def test_a_data_folder_that_cannot_be_written_is_still_read(tmp_path: Path, config: ModelConfig) -> None:
    with small_disk(tmp_path / "disk", 256):
        store = VoiceStore(tmp_path / "disk" / "voices")
        added = store.add(voice(), named("Ana"))
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path / "disk")], check=True)
        for change in (
            lambda: store.add(voice(), named("Ben")),
            lambda: store.change(added.id, config, name="Ben"),
            lambda: store.delete(added.id),
        ):
            with pytest.raises(VoiceStoreError):
                change()
        assert store.list() == (added,)
        assert store.load(added.id, config).key == voice().key


def test_a_clock_that_jumps_takes_nothing_away(
    store: VoiceStore, config: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also not what is being written: its leftovers look old to a clock that was set forward."""
    now = time.time()
    jumps = [0.0, 86400.0 * 400, -86400.0 * 400, 5.0]
    kept = []
    sync = os.fsync

    def sync_while_others_look(descriptor: int) -> None:
        VoiceStore(store.folder).list()
        sync(descriptor)

    for number, jump in enumerate(jumps):
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", lambda jump=jump: now + jump)
            patch.setattr(os, "fsync", sync_while_others_look)
            kept.append(store.add(voice(), named(f"v{number}")).id)
            assert {each.id for each in store.list()} == set(kept)
            assert store.find("v0") is not None
    assert all(store.load(each, config).key == voice().key for each in kept)


# Threads that save one path.


def test_threads_that_save_one_path_all_succeed(tmp_path: Path, config: ModelConfig) -> None:
    path, problems = tmp_path / "v.safetensors", list[BaseException]()

    def save() -> None:
        try:
            for _ in range(25):
                voice().save(path)
        except VoiceError as error:
            problems.append(error)

    threads = [threading.Thread(target=save) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert load_voice(path, config).key == voice().key
    assert list(tmp_path.iterdir()) == [path]


def test_names_of_new_files_are_never_the_same(tmp_path: Path) -> None:
    names = {disk.temporary_beside(tmp_path / ("x" * 200)).name for _ in range(1000)}
    assert len(names) == 1000


# What is no file, and files that cost much.


def as_pipe(path: Path) -> None:
    os.mkfifo(path)


def as_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def as_folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no pipes with names")
@pytest.mark.parametrize("make", [as_pipe, as_device, as_folder])
@pytest.mark.parametrize("name", ["v.pt", "v.safetensors"])
def test_what_is_no_regular_file_is_refused_at_once(
    tmp_path: Path, config: ModelConfig, make: Callable[[Path], None], name: str
) -> None:
    make(tmp_path / name)
    with pytest.raises(VoiceError, match="regular file"):
        load_voice(tmp_path / name, config)


def archive(pickled: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as members:
        for name, content in (
            ("data.pkl", pickled),
            ("byteorder", b"little"),
            ("version", b"3\n"),
        ):
            members.writestr(f"v/{name}", content)
    return file.getvalue()


def old_form(pickled: bytes) -> bytes:
    """A preset as torch wrote it before 1.6."""
    head = [0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}]
    return b"".join(pickle.dumps(part, 2) for part in head) + pickled + pickle.dumps([], 2)


PICKLES = {
    "many operations": b"\x80\x02" + b"N0" * 2_500_000 + b"N.",
    "many lists": b"\x80\x02" + b"]" * 1_000_000 + b".",
    "memory": b"\x80\x02cbuiltins\nbytearray\n\x8a\x05\x00\x00\x00\x00\x40\x85R.",
    "memory by its old name": b"\x80\x02c__builtin__\nbytearray\n\x8a\x05\x00\x00\x00\x00\x40\x85R.",
    "codecs": b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x06\x00\x00\x00latin1\x86R.",
    "a large number": b"\x80\x02\x8b" + (2**22).to_bytes(4, "little") + b"\x7f" * 2**22 + b".",
    "no end": b"\x80\x02" + b"N" * 10,
    "nothing": b"",
}


@pytest.mark.parametrize("case", PICKLES)
@pytest.mark.parametrize("form", [archive, old_form])
def test_a_pickle_that_costs_much_is_refused_at_once(
    tmp_path: Path, config: ModelConfig, case: str, form: Callable[[bytes], bytes]
) -> None:
    (tmp_path / "v.pt").write_bytes(form(PICKLES[case]))
    before = resource.getrusage(resource.RUSAGE_SELF)
    with pytest.raises(VoiceError, match="no preset voice"):
        load_voice(tmp_path / "v.pt", config)
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_utime - before.ru_utime < 1
    assert after.ru_maxrss - before.ru_maxrss < 200_000  # kB


def test_an_archive_of_very_many_members_is_refused_at_once(tmp_path: Path, config: ModelConfig) -> None:
    with zipfile.ZipFile(tmp_path / "v.pt", "w") as members:
        for number in range(2000):
            members.writestr(f"v/{number}", b"")
    with pytest.raises(VoiceError, match="no preset voice"):
        load_voice(tmp_path / "v.pt", config)


def test_a_header_that_claims_much_is_damaged(store: VoiceStore) -> None:
    store.add(voice(), named("Ana"))
    (store.folder / "voice_00000000000000ff.safetensors").write_bytes((2**40).to_bytes(8, "little") + b"{}")
    (store.folder / "voice_00000000000000fe.safetensors").write_bytes(b"[" * 2**16)
    os.mkfifo(store.folder / "voice_00000000000000fd.safetensors")
    assert [each.name for each in store.list()] == ["Ana"]


# A model that is freed while many ask.


def test_a_model_that_is_freed_again_and_again_answers_everybody() -> None:
    with serving(model=str(TINY), device="cpu", unload_after_s=0.1) as running:
        statuses: list[int] = []

        def ask() -> None:
            body = {"input": "Hi", "max_frames": 2, "response_format": "pcm", "seed": 1}
            with running.client() as client:
                for _ in range(3):
                    statuses.append(client.post("/v1/audio/speech", json=body).status_code)
                    time.sleep(0.4)  # the watch comes by every quarter of a second

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert statuses == [200] * 9
