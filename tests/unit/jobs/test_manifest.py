"""The journal of a folder: its lock, what older versions wrote, and what stands in the way."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import filelock
import pytest

from voxtral.errors import AudioError
from voxtral.jobs.manifest import MANIFEST_FILE, Manifest, open_folder

# As version 0.1.0 wrote it: claimed, made, failed, made again, and killed in the middle of a line.
OLD_JOURNAL = """\
{"format": "voxtral-batch-1"}
{"file": "a.wav", "bytes": 3}
{"file": "a.wav", "digest": "aa", "bytes": 5, "seed": 7, "duration_s": 0.08}
{"file": "b.wav", "seed": 8, "error": "generation_failed", "message": "the model made only silence"}
{"file": "c.wav", "digest": "cc", "bytes": 4, "seed": 9, "duration_s": 0.64}
{"file": "d.wav", "dig"""

HOLDS = """
import sys, time
from pathlib import Path
from voxtral.jobs.manifest import Manifest
with Manifest(Path(sys.argv[1])) as manifest:
    manifest.part("a.wav").write_bytes(b"half")
    print("locked", flush=True)
    time.sleep(60)
"""


def test_a_journal_of_an_older_version_is_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / MANIFEST_FILE).write_text(OLD_JOURNAL)
    (tmp_path / "a.wav").write_bytes(b"12345")
    work = tmp_path / ".voxtral-batch"
    work.mkdir()
    (work / "c.wav").write_bytes(b"1234")  # written down, and not in its place
    with Manifest(tmp_path) as manifest:
        assert [manifest.state("a.wav", digest) for digest in ("aa", "other")] == ["done", "changed"]
        assert manifest.state("b.wav", "bb") == "new"
        assert manifest.state("c.wav", "cc") == "done"
        assert manifest.others(["a.wav"]) == ["c.wav"]
    assert (tmp_path / MANIFEST_FILE).read_text() == OLD_JOURNAL[: OLD_JOURNAL.rindex("\n") + 1]
    assert sorted(os.listdir(tmp_path)) == ["a.wav", MANIFEST_FILE, "c.wav"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_the_lock_is_refused_at_once_and_goes_with_its_process(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "locked\n"
        before = time.process_time()
        with pytest.raises(AudioError, match="in use by another batch; two would overwrite each other's files"):
            Manifest(tmp_path).__enter__()
        assert time.process_time() - before < 1
        # Nothing lies there for the lock's sake.
        assert sorted(os.listdir(tmp_path)) == [".voxtral-batch", MANIFEST_FILE]
        program.send_signal(signal.SIGKILL)
        program.wait()
        with Manifest(tmp_path) as manifest:
            assert manifest.state("a.wav") == "new"
    assert os.listdir(tmp_path) == []


def test_a_journal_that_another_run_takes_away_meanwhile_is_opened_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, num_locked = filelock.lock_descriptor, 0

    def lock_late(descriptor: int, *, blocking: bool = True) -> bool:
        nonlocal num_locked
        num_locked += 1
        if num_locked == 1:
            (tmp_path / MANIFEST_FILE).unlink()
        return lock(descriptor, blocking=blocking)

    monkeypatch.setattr(filelock, "lock_descriptor", lock_late)
    with Manifest(tmp_path) as manifest:
        manifest.part("a.wav").write_bytes(b"1234")
        manifest.commit("a.wav", "aa", seed=1, duration_s=1.0)
    with Manifest(tmp_path) as manifest:
        assert manifest.state("a.wav", "aa") == "done"


def test_a_disk_that_knows_no_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, *, blocking: bool = True) -> bool:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(filelock, "lock_descriptor", refuse)
    with pytest.raises(AudioError, match=r"batch\.jsonl cannot be written \(Function not implemented\)"):
        Manifest(tmp_path).__enter__()


def test_what_stands_in_the_way_is_named(tmp_path: Path) -> None:
    with open_folder(tmp_path) as manifest:
        manifest.part("a.wav").write_bytes(b"1234")
        manifest.commit("a.wav", "aa", seed=1, duration_s=1.0)
        (tmp_path / "b.wav").write_bytes(b"mine")
        assert manifest.foreign({"a.wav": (), "b.wav": (), "c.wav": ()}) == ["b.wav"]
        (tmp_path / "c.wav").mkdir()
        with pytest.raises(AudioError, match=r"c\.wav is a folder"):
            manifest.foreign({"a.wav": (), "c.wav": ()})


def test_a_new_folder_goes_again_if_nothing_was_made(tmp_path: Path) -> None:
    with pytest.raises(KeyError), open_folder(tmp_path / "new" / "folder"):
        raise KeyError
    assert os.listdir(tmp_path / "new") == []
    (tmp_path / "old").mkdir()
    with open_folder(tmp_path / "old"):
        pass
    assert os.listdir(tmp_path / "old") == []
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(AudioError, match="cannot be made"), open_folder(tmp_path / "file"):
        pass
