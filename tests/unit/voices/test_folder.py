"""The table of a folder of voices: what anybody does to the folder is seen at once, and little is read for it."""

from __future__ import annotations

import errno
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from voxtral.errors import VoiceUnreadableError
from voxtral.voices import folder as under_test
from voxtral.voices.facts import StoredVoice
from voxtral.voices.folder import VoiceFolder

IDS = [f"voice_{number:016x}" for number in range(4)]
NAMES = ["Ana", "ben", "Zoë"]


def content(name: str, created_at: int = 0) -> bytes:
    """A file as the store writes it, but for its size."""
    voice = StoredVoice(id="", name=name, consent="yes", created_at=created_at)
    metadata = str(voice.to_metadata()).replace("'", '"')
    return save({"rows": torch.zeros(2, 4)}, {"name": name, "metadata": metadata})


CONTENTS = {name: content(name) for name in NAMES}


def put(path: Path, name: str) -> None:
    """Add a voice or replace one, in one step."""
    partial = path.with_suffix(".new")
    partial.write_bytes(CONTENTS[name])
    partial.replace(path)


def name_of(voice: StoredVoice | None) -> str | None:
    return voice.name if voice else None


class Clock:
    """Stands in for the module `time`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return time.time()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(under_test, "time", clock)
    return clock


def settle(voices: VoiceFolder, clock: Clock) -> None:
    """Let the folder be read at a time when its timestamps tell of every later change."""
    voices.find("nobody")
    time.sleep(0.02)  # longer than the tick of any kernel
    clock.now += 3
    voices.find("nobody")


@contextmanager
def counted() -> Iterator[SimpleNamespace]:
    """Count how often folders are listed, files are looked at, and headers are read."""
    with (
        mock.patch.object(os, "scandir", wraps=os.scandir) as scandir,
        mock.patch.object(os, "stat", wraps=os.stat) as stat,
        mock.patch.object(under_test, "read_voice_header", wraps=under_test.read_voice_header) as read,
    ):
        yield SimpleNamespace(scandir=scandir, stat=stat, read=read)


# What looking costs.


def test_a_voice_is_found_without_a_look_at_the_others(tmp_path: Path, clock: Clock) -> None:
    for number in range(50):
        (tmp_path / f"voice_{number:016x}.safetensors").write_bytes(content(f"v{number}"))
    voices = VoiceFolder(tmp_path)
    settle(voices, clock)
    with counted() as calls:
        for name_or_id, found in (("v7", "v7"), ("V7", "v7"), (f"voice_{9:016x}", "v9"), ("alloy", None)):
            assert name_of(voices.find(name_or_id)) == found
    assert (calls.scandir.call_count, calls.read.call_count) == (0, 0)
    assert calls.stat.call_count == 4 + 3  # the folder each time, and the file that was found


def test_a_header_is_read_once(tmp_path: Path) -> None:
    for voice_id in IDS:
        put(tmp_path / f"{voice_id}.safetensors", "Ana")
    voices = VoiceFolder(tmp_path)
    with counted() as calls:
        for _ in range(3):
            assert len(voices.scan().voices) == len(IDS)
    assert calls.read.call_count == len(IDS)
    put(tmp_path / f"{IDS[2]}.safetensors", "ben")
    with counted() as calls:
        assert name_of(voices.find("ben")) == "ben"
    assert calls.read.call_count == 1


# What other processes do.

CHANGES: dict[str, tuple[list[str], dict[str, str | None]]] = {
    "create": (["cp", "spare", f"{IDS[1]}.safetensors"], {IDS[0]: "Ana", IDS[1]: "ben", "ben": "ben", "Ana": "Ana"}),
    "move in": (["mv", "spare", f"{IDS[1]}.safetensors"], {IDS[0]: "Ana", IDS[1]: "ben", "ben": "ben", "Ana": "Ana"}),
    "replace": (["mv", "spare", f"{IDS[0]}.safetensors"], {IDS[0]: "ben", "Ana": None, "ben": "ben"}),
    "delete": (["rm", f"{IDS[0]}.safetensors"], {IDS[0]: None, "Ana": None}),
    "rename": (
        ["mv", f"{IDS[0]}.safetensors", f"{IDS[1]}.safetensors"],
        {IDS[0]: None, IDS[1]: "Ana", "Ana": "Ana"},
    ),
    "move out": (["mv", f"{IDS[0]}.safetensors", "spare"], {IDS[0]: None, "Ana": None}),
}


@pytest.mark.parametrize("is_settled", [True, False])
@pytest.mark.parametrize("change", CHANGES)
def test_what_another_process_does_is_seen_at_once(tmp_path: Path, clock: Clock, change: str, is_settled: bool) -> None:
    put(tmp_path / f"{IDS[0]}.safetensors", "Ana")
    (tmp_path / "spare").write_bytes(CONTENTS["ben"])
    voices = VoiceFolder(tmp_path)
    if is_settled:
        settle(voices, clock)
    assert name_of(voices.find("Ana")) == "Ana"
    command, expected = CHANGES[change]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert {each: name_of(voices.find(each)) for each in expected} == expected


def test_many_changes_within_one_tick_of_the_clock_are_all_seen(tmp_path: Path) -> None:
    """Two of three come in the same tick as the one before, so that the folder's timestamps say nothing of them."""
    voices, path = VoiceFolder(tmp_path), tmp_path / f"{IDS[0]}.safetensors"
    for number in range(100):
        name = NAMES[number % 3]
        put(path, name)
        assert [name_of(voices.find(each)) for each in (IDS[0], name)] == [name, name]
        path.unlink()
        assert [voices.find(each) for each in (IDS[0], name)] == [None, None]


def test_changes_are_seen_as_soon_as_the_folder_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real clocks, with a tick as short as that of this machine, so that each round crosses the border."""
    monkeypatch.setattr(under_test, "_TICK_S", 0.012)
    voices, path = VoiceFolder(tmp_path), tmp_path / f"{IDS[0]}.safetensors"
    for number in range(12):
        name = NAMES[number % 3]
        put(path, name)
        until = time.monotonic() + 0.014
        while time.monotonic() < until:
            assert name_of(voices.find(name)) == name
        path.unlink()
        until = time.monotonic() + 0.014
        while time.monotonic() < until:
            assert voices.find(name) is None


OPERATIONS = st.one_of(
    st.tuples(st.just("put"), st.sampled_from(IDS), st.sampled_from(NAMES)),
    st.tuples(st.just("delete"), st.sampled_from(IDS), st.none()),
    st.tuples(st.just("rename"), st.sampled_from(IDS), st.sampled_from(IDS)),
    st.tuples(st.just("wait"), st.sampled_from([0.1, 1.0, 3.0, 70.0]), st.none()),
    st.tuples(st.just("look"), st.none(), st.none()),
)


@settings(max_examples=80)
@given(st.lists(OPERATIONS, min_size=5, max_size=20))
def test_whatever_is_done_and_however_coarse_the_clock_the_table_is_that_of_the_folder(
    operations: list[tuple[str, Any, Any]],
) -> None:
    """The folder has timestamps of 2 s, as on FAT: what is done within one tick of it leaves no new ones."""
    clock, model = Clock(), dict[str, str]()
    with tempfile.TemporaryDirectory() as name:
        path, changed_in_tick = Path(name), 0

        def stamp_of(looked_at: Path) -> Any:
            return (changed_in_tick,) if looked_at == path else real_stamp_of(looked_at)

        real_stamp_of = under_test._stamp_of
        with mock.patch.object(under_test, "_stamp_of", stamp_of), mock.patch.object(under_test, "time", clock):
            voices = VoiceFolder(path)
            for what, first, second in [*operations, ("look", None, None)]:
                if what == "wait":
                    clock.now += first
                elif what == "look":
                    assert {each: name_of(voices.find(each)) for each in IDS} == {e: model.get(e) for e in IDS}
                    found = {each: voices.find(each) for each in NAMES}
                    assert {each for each, voice in found.items() if voice} == set(model.values())
                    assert all(voice is None or model[voice.id] == each for each, voice in found.items())
                elif change(path, model, what, first, second):
                    changed_in_tick = int(clock.now // 2)


def change(path: Path, model: dict[str, str], what: str, voice_id: str, other: str) -> bool:
    """Do it in the folder and in the model; False if there was nothing to do."""
    file = path / f"{voice_id}.safetensors"
    if what == "put":
        put(file, other)
        model[voice_id] = other
    elif voice_id not in model:
        return False
    elif what == "delete":
        file.unlink()
        del model[voice_id]
    else:
        file.rename(path / f"{other}.safetensors")
        model[other] = model.pop(voice_id)
    return True


# What leaves no trace in the folder's time.


def test_a_time_that_is_set_back_hides_nothing(tmp_path: Path, clock: Clock) -> None:
    """As rsync and tar do after they have put files into a folder."""
    put(tmp_path / f"{IDS[0]}.safetensors", "Ana")
    voices, before = VoiceFolder(tmp_path), tmp_path.stat()
    settle(voices, clock)
    put(tmp_path / f"{IDS[1]}.safetensors", "ben")
    os.utime(tmp_path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert name_of(voices.find("ben")) == "ben"


def test_a_folder_in_the_place_of_another_is_another(tmp_path: Path, clock: Clock) -> None:
    for name, voice_name in (("a", "Ana"), ("b", "ben")):
        (tmp_path / name).mkdir()
        put(tmp_path / name / f"{IDS[0]}.safetensors", voice_name)
    voices = VoiceFolder(tmp_path / "now")
    (tmp_path / "now").symlink_to("a")
    settle(voices, clock)
    assert name_of(voices.find(IDS[0])) == "Ana"
    (tmp_path / "now").unlink()
    assert voices.find(IDS[0]) is None
    (tmp_path / "now").symlink_to("b")
    assert name_of(voices.find(IDS[0])) == "ben"


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("rewrite", "name"), [(lambda path: path.write_bytes(CONTENTS["ben"]), "ben"), (damage, None)], ids=["name", "cut"]
)
def test_a_file_that_is_rewritten_in_place_is_another(
    tmp_path: Path, clock: Clock, rewrite: Callable[[Path], object], name: str | None
) -> None:
    path = tmp_path / f"{IDS[0]}.safetensors"
    put(path, "Ana")
    voices = VoiceFolder(tmp_path)
    settle(voices, clock)
    rewrite(path)
    assert name_of(voices.find("Ana")) is None
    assert name_of(voices.find(IDS[0])) == name


@pytest.mark.parametrize("wait", [lambda voices, clock: voices.scan(), lambda voices, clock: clock.monotonic() + 60])
def test_a_name_that_is_rewritten_in_place_is_found_after_a_scan_or_a_minute(
    tmp_path: Path, clock: Clock, wait: Any
) -> None:
    put(tmp_path / f"{IDS[0]}.safetensors", "Ana")
    voices = VoiceFolder(tmp_path)
    settle(voices, clock)
    (tmp_path / f"{IDS[0]}.safetensors").write_bytes(CONTENTS["ben"])
    assert voices.find("ben") is None
    if isinstance(later := wait(voices, clock), float):
        clock.now = later
    assert name_of(voices.find("ben")) == "ben"


# Folders that cannot be read, and names that are there twice.


def test_a_failure_to_read_the_folder_is_over_when_it_is_over(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """A process that has no descriptors left for a moment must not lose its voices for a minute."""
    put(tmp_path / f"{IDS[0]}.safetensors", "Ana")
    voices = VoiceFolder(tmp_path)
    settle(voices, clock)
    clock.now += 100
    with (
        mock.patch.object(os, "scandir", side_effect=OSError(errno.EMFILE, "Too many open files")),
        pytest.raises(VoiceUnreadableError),
    ):
        voices.find("Ana")
    assert "Too many open files" in caplog.text
    assert name_of(voices.find("Ana")) == "Ana"


def test_a_folder_that_comes_and_goes(tmp_path: Path, clock: Clock) -> None:
    voices = VoiceFolder(tmp_path / "voices")
    settle(voices, clock)
    (tmp_path / "voices").mkdir()
    put(tmp_path / "voices" / f"{IDS[0]}.safetensors", "Ana")
    assert name_of(voices.find("Ana")) == "Ana"
    settle(voices, clock)
    (tmp_path / "voices").rename(tmp_path / "elsewhere")
    assert voices.find("Ana") is None


def test_of_two_voices_with_one_name_the_older_is_found(tmp_path: Path) -> None:
    for created_at, voice_id in ((2, IDS[0]), (1, IDS[1]), (3, IDS[2])):
        (tmp_path / f"{voice_id}.safetensors").write_bytes(content("Ana", created_at))
    found = VoiceFolder(tmp_path).find("ANA")
    assert found is not None
    assert found.id == IDS[1]
