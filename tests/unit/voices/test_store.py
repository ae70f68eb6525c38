"""The folder of users' voices: what is stored stays readable, whatever happens to the process or to a file."""

from __future__ import annotations

import json
import logging
import os
import random
import subprocess
import sys
import threading
import time
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from checkpoints import TINY
from voxtral.config import ModelConfig
from voxtral.errors import (
    VoiceError,
    VoiceNameTakenError,
    VoiceStoreError,
    VoiceStoreFullError,
    VoiceUnknownError,
)
from voxtral.loading.params import load_config
from voxtral.voices import folder as folder_module
from voxtral.voices import store as store_module
from voxtral.voices.facts import VoiceFacts
from voxtral.voices.prompt import VoicePrompt, load_voice
from voxtral.voices.store import VoiceStore

FACTS = VoiceFacts(
    name="Zoë",
    consent="Zoë agreed on 3 May",
    language="fr",
    description="calm",
    ref_text="Bonjour",
    mime_type="audio/flac",
    file_size=12345,
    duration_s=3.2,
)


@pytest.fixture(scope="module")
def config() -> ModelConfig:
    return load_config(TINY / "params.json")


@pytest.fixture
def store(tmp_path: Path) -> VoiceStore:
    return VoiceStore(tmp_path / "voices" / "0123456789abcdef")


def make_voice(num_rows: int = 5) -> VoicePrompt:
    generator = torch.Generator().manual_seed(0)
    return VoicePrompt(
        name="cloned",
        rows=torch.randn(num_rows, 64, generator=generator),
        codes=torch.randint(21, (37, num_rows - 1), generator=generator),
    )


def files_of(store: VoiceStore) -> list[Path]:
    """All that is in the folder, but for the file that is locked."""
    return [path for path in store.folder.iterdir() if path.name != ".lock"]


def named(name: str) -> VoiceFacts:
    return VoiceFacts(name=name, consent="yes")


# Adding and finding.


def test_a_voice_is_found_with_all_its_facts_also_after_a_restart(store: VoiceStore, config: ModelConfig) -> None:
    added = store.add(make_voice(), FACTS)
    assert abs(added.created_at - time.time()) < 60
    for each in (store, VoiceStore(store.folder)):
        assert each.list() == (added,)
        assert each.find(added.id) == each.find("Zoë") == added
        voice = each.load(added.id, config)
        assert voice.name == "Zoë"
        assert torch.equal(voice.rows, make_voice().rows)
        assert torch.equal(voice.codes, make_voice().codes)
        assert voice.metadata["consent"] == FACTS.consent
    facts = {field: getattr(added, field) for field in FACTS.__dataclass_fields__}
    assert VoiceFacts(**facts) == FACTS


def test_names_are_found_whatever_their_case_and_composition(store: VoiceStore) -> None:
    added = store.add(make_voice(), FACTS)
    for name in ("ZOË", "zoë", unicodedata.normalize("NFD", "Zoë"), " Zoë "):
        assert store.find(name) == added
    assert store.find("Zoe") is None
    assert store.find("x" * 10**6) is None


@pytest.mark.parametrize("name", ["a", "Ana 2", "J.R._R-T", "حسن", "हिन्दी", "日本の声", "7of9", "x" * 64])
def test_names_of_any_script_are_taken(store: VoiceStore, name: str) -> None:
    assert store.add(make_voice(), named(name)).name == name
    assert VoiceStore(store.folder).list()[0].name == name


@pytest.mark.parametrize(
    "name",
    [
        *("", " ", "x" * 65, ".hidden", "-rf", "_", "a/b", "..", "../x", "a\\b", "a\0b", "a\nb", "a:b", "a%2fb"),
        *("\u3164", "\u115f", "\u1160", "\uffa0", "a\u3164", "a\ufe0f", "a\u034f", "a\u180b", "a\u17b4", "a\U000e0100"),
        *("a\u200bb", "a\u200fb", "a\u2066b", "\ufeffa", "a\u00adb", "a\u2060b", "\u2800", "\ue000", "a\u0378"),
        *("a\u202eb", "\ud800", "a\ud800", "\u0308a", "voice_0123456789abcdef", "VOICE_0123456789ABCDEF"),
    ],
)
def test_other_names_are_refused(store: VoiceStore, name: str) -> None:
    with pytest.raises(VoiceError):
        store.add(make_voice(), named(name))
    assert not store.folder.exists()


def test_names_are_unique_but_for_case_and_composition(store: VoiceStore, config: ModelConfig) -> None:
    store.add(make_voice(), FACTS)
    other = store.add(make_voice(), named("other"))
    for name in ("Zoë", "ZOË", unicodedata.normalize("NFD", "zoë")):
        with pytest.raises(VoiceNameTakenError):
            store.check_new(name)
        with pytest.raises(VoiceNameTakenError):
            store.add(make_voice(), named(name))
        with pytest.raises(VoiceNameTakenError):
            store.change(other.id, config, name=name)
    assert {voice.name for voice in store.list()} == {"Zoë", "other"}


def test_there_is_a_cap(tmp_path: Path) -> None:
    store = VoiceStore(tmp_path, max_voices=2)
    first = store.add(make_voice(), named("a"))
    store.add(make_voice(), named("b"))
    for refused in (lambda: store.check_new("c"), lambda: store.add(make_voice(), named("c"))):
        with pytest.raises(VoiceStoreFullError, match="2"):
            refused()
    store.delete(first.id)
    store.add(make_voice(), named("c"))


# Changing and deleting.


def test_facts_change_and_the_voice_stays(store: VoiceStore, config: ModelConfig) -> None:
    added = store.add(make_voice(), FACTS)
    changed = store.change(added.id, config, name="ZOË", description="")
    assert (changed.name, changed.description, changed.language) == ("ZOË", "", "fr")
    assert (changed.id, changed.consent, changed.created_at) == (added.id, added.consent, added.created_at)
    again = VoiceStore(store.folder)
    assert again.list() == (changed,)
    assert again.load(added.id, config).key == make_voice().key
    assert len(files_of(store)) == 1


def test_a_deleted_voice_is_gone(store: VoiceStore, config: ModelConfig) -> None:
    added = store.add(make_voice(), FACTS)
    store.delete(added.id)
    assert store.list() == ()
    assert not files_of(store)
    for refused in (
        lambda: store.delete(added.id),
        lambda: store.load(added.id, config),
        lambda: store.change(added.id, config, name="b"),
    ):
        with pytest.raises(VoiceUnknownError):
            refused()


@pytest.mark.parametrize("voice_id", ["../secret", "secret", "", "voice_../../secret", "/etc/passwd"])
def test_no_id_leads_out_of_the_folder(store: VoiceStore, config: ModelConfig, voice_id: str) -> None:
    store.add(make_voice(), FACTS)
    for folder in (store.folder, store.folder.parent):
        make_voice().save(folder / "secret.safetensors")
    assert len(store.list()) == 1
    assert store.find(voice_id) is None
    for refused in (lambda: store.load(voice_id, config), lambda: store.delete(voice_id)):
        with pytest.raises(VoiceUnknownError):
            refused()
    assert (store.folder / "secret.safetensors").exists()


# Other processes, and threads.


def test_processes_share_the_folder(store: VoiceStore, config: ModelConfig) -> None:
    other = VoiceStore(store.folder)
    assert other.list() == ()
    added = store.add(make_voice(), FACTS)
    assert other.list() == (added,)
    changed = other.change(added.id, config, name="renamed")
    assert store.list() == (changed,)
    (store.folder / f"{added.id}.safetensors").unlink()
    assert store.list() == other.list() == ()


def test_threads_get_one_voice_of_a_name(store: VoiceStore) -> None:
    outcomes: list[object] = []

    def add() -> None:
        try:
            outcomes.append(store.add(make_voice(), FACTS))
        except VoiceNameTakenError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(not isinstance(outcome, Exception) for outcome in outcomes) == 1
    assert len(outcomes) == 8
    assert len(store.list()) == 1


def test_what_is_stored_is_found_at_once_also_when_the_table_is_trusted(
    store: VoiceStore, config: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_module, "_TICK_S", 0.012)

    def settle() -> None:
        for _ in range(2):
            store.find("nobody")
            time.sleep(0.02)

    store.add(make_voice(), named("first"))
    settle()
    added = store.add(make_voice(), FACTS)
    assert store.find("Zoë") == store.find(added.id) == added
    settle()
    changed = store.change(added.id, config, name="renamed")
    assert store.find("Zoë") is None
    assert store.find("renamed") == store.find(added.id) == changed
    settle()
    store.delete(added.id)
    assert store.find("renamed") is store.find(added.id) is None


def test_a_voice_that_goes_while_it_is_read_is_unknown_and_not_damaged(
    store: VoiceStore, config: ModelConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    added = store.add(make_voice(), FACTS)

    def load(path: Path, config: ModelConfig) -> VoicePrompt:
        path.unlink()
        return load_voice(path, config)

    monkeypatch.setattr(store_module, "load_voice", load)
    with pytest.raises(VoiceUnknownError):
        store.load(added.id, config)
    assert "damaged" not in caplog.text


def test_reading_one_voice_keeps_nobody_from_finding_another(
    store: VoiceStore, config: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = store.add(make_voice(), FACTS)
    is_reading, may_end = threading.Event(), threading.Event()

    def load(path: Path, config: ModelConfig) -> VoicePrompt:
        is_reading.set()
        assert may_end.wait(60)
        return load_voice(path, config)

    monkeypatch.setattr(store_module, "load_voice", load)
    thread = threading.Thread(target=store.load, args=(added.id, config))
    thread.start()
    try:
        assert is_reading.wait(60)
        assert store.find("Zoë") == added  # would wait for ever
    finally:
        may_end.set()
        thread.join()


# Damage.


def test_a_damaged_file_is_left_out_and_named_by_its_id_alone(
    store: VoiceStore, config: ModelConfig, caplog: pytest.LogCaptureFixture
) -> None:
    good = store.add(make_voice(), FACTS)
    bad = store.add(make_voice(), VoiceFacts(name="Secretname", consent="Secretconsent"))
    path = store.folder / f"{bad.id}.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with caplog.at_level(logging.DEBUG):
        assert store.list() == (good,)
        assert store.list() == (good,)
    assert caplog.text.count(bad.id) == 1
    assert "Secret" not in caplog.text
    store.add(make_voice(), named("Secretname"))


def test_a_voice_of_another_checkpoint_is_refused_when_it_is_used(
    store: VoiceStore, config: ModelConfig, caplog: pytest.LogCaptureFixture
) -> None:
    wide = VoicePrompt("Secretname", torch.zeros(3, 128))
    stored = store.add(wide, named("Secretname"))
    with pytest.raises(VoiceError, match=stored.id) as caught:
        store.load(stored.id, config)
    assert str(store.folder) not in str(caught.value)
    assert "Secret" not in caplog.text


def test_damage_anywhere_never_breaks_the_listing(store: VoiceStore) -> None:
    """Each byte of the header is changed in turn: a voice is left out or listed with facts that can be sent."""
    good = store.add(make_voice(), FACTS)
    victim = store.add(make_voice(), named("other"))
    path = store.folder / f"{victim.id}.safetensors"
    data = path.read_bytes()
    header_size = 8 + int.from_bytes(data[:8], "little")
    generator = random.Random(0)
    num_left_out = 0
    for position in range(header_size):
        damaged = bytearray(data)
        damaged[position] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        fresh = VoiceStore(store.folder)
        voices = fresh.list()
        assert good in voices
        json.dumps([voice.__dict__ for voice in voices], ensure_ascii=False, allow_nan=False).encode()
        num_left_out += len(voices) == 1
    assert num_left_out > header_size // 2


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("duration_s", "nan"),
        ("duration_s", "1e999"),
        ("created_at", "soon"),
        ("created_at", "9" * 5000),
        ("consent", "\ud800"),
        ("name", "../x"),
    ],
)
def test_facts_that_nobody_could_have_stored_are_damage(store: VoiceStore, field: str, value: str) -> None:
    added = store.add(make_voice(), FACTS)
    facts = {name: str(each) for name, each in added.__dict__.items() if name not in ("id", "name")}
    name = value if field == "name" else added.name
    VoicePrompt(name, make_voice().rows, metadata={**facts, field: value}).save(
        store.folder / "voice_00000000000000ff.safetensors"
    )
    assert store.list() == (added,)


def test_what_is_no_voice_in_the_folder_is_let_be(store: VoiceStore) -> None:
    added = store.add(make_voice(), FACTS)
    (store.folder / "README").write_text("hello")
    (store.folder / "voice_00000000000000ff.safetensors").mkdir()
    (store.folder / "voice_00000000000000fe.safetensors").symlink_to(f"{added.id}.safetensors")
    (store.folder / "voice_00000000000000fd.pt").write_bytes(b"\x80")
    assert len(store.list()) == 1
    assert len(files_of(store)) == 5


def test_a_folder_that_cannot_be_used_is_said_without_its_path(tmp_path: Path, config: ModelConfig) -> None:
    (tmp_path / "file").write_text("no folder")
    store = VoiceStore(tmp_path / "file" / "voices")
    assert store.list() == ()
    with pytest.raises(VoiceStoreError) as caught:
        store.add(make_voice(), FACTS)
    assert str(tmp_path) not in str(caught.value)


def test_a_write_that_fails_leaves_what_was_there(
    store: VoiceStore, config: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = store.add(make_voice(), FACTS)

    def disk_full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(VoiceStoreError):
        store.add(make_voice(), named("b"))
    with pytest.raises(VoiceStoreError):
        store.change(added.id, config, name="b")
    monkeypatch.undo()
    assert store.list() == (added,)
    assert len(files_of(store)) == 1
    assert store.load(added.id, config).key == make_voice().key


# A process that is killed.

# Stops a new voice and a change of an old one half-way, when half of each file has reached the disk.
_KILLED_WHILE_WRITING = """
import os, sys, threading, time
from pathlib import Path
import torch
from checkpoints import TINY
from voxtral.loading.params import (load_config)
from voxtral.voices.facts import VoiceFacts
from voxtral.voices.prompt import VoicePrompt
from voxtral.voices.store import VoiceStore

folder, voice = Path(sys.argv[1]), VoicePrompt("v", torch.ones(200, 64))
ids = [VoiceStore(folder).add(voice, VoiceFacts(name=f"kept {n}", consent="yes")).id for n in range(3)]
print(*ids, flush=True)

def stop(descriptor):
    os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
    os.write(1, b"half\\n")  # in one piece, for there are two threads
    time.sleep(60)

os.fsync = stop
# In another folder, for only one at a time writes to one.
other = VoiceStore(folder.with_name("other"))
add = lambda: other.add(voice, VoiceFacts(name="half", consent="yes"))
threading.Thread(target=add).start()
VoiceStore(folder).change(ids[0], load_config(TINY / "params.json"), name="half changed")
"""

# Adds, changes and deletes without end, and says when each is done.
_KILLED_ANYWHERE = """
import sys
from itertools import count
from pathlib import Path
import torch
from checkpoints import TINY
from voxtral.loading.params import (load_config)
from voxtral.voices.facts import VoiceFacts
from voxtral.voices.prompt import VoicePrompt
from voxtral.voices.store import VoiceStore

store, config = VoiceStore(Path(sys.argv[1])), load_config(TINY / "params.json")
voice = VoicePrompt("v", torch.ones(2000, 64))
prefix = sys.argv[2]
for number in count():
    added = store.add(voice, VoiceFacts(name=f"{prefix} {number}", consent="yes"))
    print("added", added.id, flush=True)
    store.change(added.id, config, description="changed")
    print("changed", added.id, flush=True)
    if number % 2:
        store.delete(added.id)
        print("deleted", added.id, flush=True)
"""


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def test_a_kill_in_mid_write_leaves_every_voice_readable(store: VoiceStore, config: ModelConfig) -> None:
    with start(_KILLED_WHILE_WRITING, str(store.folder)) as process:
        assert process.stdout is not None
        ids = process.stdout.readline().split()
        told = [process.stdout.readline(), process.stdout.readline()]
        process.kill()
    assert told == ["half\n", "half\n"]
    other = VoiceStore(store.folder.with_name("other"))
    leftovers = [path for each in (store, other) for path in files_of(each) if path.name.endswith(".part")]
    assert len(leftovers) == 2
    assert other.list() == ()

    assert {voice.id: voice.name for voice in store.list()} == dict(
        zip(ids, ("kept 0", "kept 1", "kept 2"), strict=True)
    )
    for voice_id in ids:
        assert torch.equal(store.load(voice_id, config).rows, torch.ones(200, 64))
    store.add(make_voice(), named("half"))

    # What another process may still be writing is let be; what nobody can be writing any more goes.
    assert all(path.exists() for path in leftovers)
    for path in leftovers:
        os.utime(path, (time.time() - 3600,) * 2)
    assert len(VoiceStore(store.folder).list()) == 4
    assert len(VoiceStore(other.folder).list()) == 0
    assert not any(path.exists() for path in leftovers)


@pytest.mark.slow
def test_kills_at_any_time_lose_nothing_that_was_done(store: VoiceStore, config: ModelConfig) -> None:
    generator = random.Random(0)
    kept: set[str] = set()
    for number in range(8):
        done: list[list[str]] = []
        with start(_KILLED_ANYWHERE, str(store.folder), f"round {number}") as process:
            assert process.stdout is not None
            for _ in range(generator.randrange(1, 40)):
                done.append(process.stdout.readline().split())
            time.sleep(generator.random() * 0.02)
            process.kill()
            done += [line.split() for line in process.stdout.read().splitlines()]
        kept |= {voice_id for what, voice_id in done if what == "added"}
        kept -= {voice_id for what, voice_id in done if what == "deleted"}
        in_flight = done[-1][1]
        listed = {voice.id: voice for voice in store.list()}
        assert kept - {in_flight} <= set(listed)
        assert len(set(listed) - kept) <= 1
        for what, voice_id in done:
            if what == "changed" and voice_id in listed:
                assert listed[voice_id].description == "changed"
        for voice_id in listed:
            assert store.load(voice_id, config).rows.shape == (2000, 64)
        kept = set(listed)


def test_a_name_and_a_place_are_kept_for_a_voice_that_is_still_being_made(tmp_path: Path, config: ModelConfig) -> None:
    store = VoiceStore(tmp_path / "voices", max_voices=2)
    voice_id = store.reserve(" Zoe\u0308 ")
    assert store.is_reserved(voice_id)
    assert store.is_reserved("ZOË")
    assert not (tmp_path / "voices").exists()
    with pytest.raises(VoiceNameTakenError, match="still being made"):
        store.check_new("zoë")
    with pytest.raises(VoiceNameTakenError):
        store.reserve("zoë")
    with pytest.raises(VoiceNameTakenError):
        store.add(make_voice(), FACTS)
    other = store.add(make_voice(), VoiceFacts(name="other", consent="true"))
    with pytest.raises(VoiceNameTakenError):
        store.change(other.id, config, name="ZOË")
    with pytest.raises(VoiceStoreFullError):
        store.reserve("one more")
    assert store.list() == (other,)
    stored = store.add(make_voice(), FACTS, voice_id)
    assert stored.id == voice_id
    assert not store.is_reserved("zoë")
    assert {voice.name for voice in store.list()} == {"other", "Zoë"}
    store.release(voice_id)


def test_what_was_reserved_is_given_back(tmp_path: Path) -> None:
    store = VoiceStore(tmp_path, max_voices=1)
    store.release(store.reserve("a"))
    assert store.check_new("A") == "A"


def test_how_a_voice_was_made_stays_with_it(store: VoiceStore, config: ModelConfig) -> None:
    voice = replace(make_voice(), metadata={"made_by": "a search", "consent": "not this one"})
    stored = store.add(voice, FACTS)
    store.change(stored.id, config, description="loud")
    kept = store.load(stored.id, config).metadata
    assert (kept["made_by"], kept["consent"], kept["description"]) == ("a search", FACTS.consent, "loud")
