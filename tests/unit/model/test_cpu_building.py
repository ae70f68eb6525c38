"""Compiling, keeping and finding the library: nothing broken, foreign or half written is ever loaded.

The compiler is a script that copies a file, so that nothing is compiled here; what it copies need not be a library,
because finding one loads nothing.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from voxtral.model.kernels.cpu import building, library
from voxtral.model.kernels.cpu.building import NoLibraryError, find_library
from voxtral.model.kernels.cpu.library import open_library

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the compiler is a shell script")


class FakeCompiler:
    """A `cc` that says a version, and writes a line into what it is told to make."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "cc"
        self.calls = folder / "calls"
        self.set()

    def set(self, *, version: str = "fake cc 1.0", code: int = 0, says: str = "", makes: str = "library") -> None:
        self.path.write_text(
            f"#!/bin/sh\nif [ \"$1\" = --version ]; then echo '{version}'; exit 0; fi\n"
            f"echo run >> '{self.calls}'\nif [ {code} != 0 ]; then echo '{says}' >&2; exit {code}; fi\n"
            f"for last; do :; done\nprintf '{makes}' > \"$last\"\n"
        )
        self.path.chmod(0o755)

    @property
    def num_calls(self) -> int:
        return len(self.calls.read_text().splitlines()) if self.calls.exists() else 0


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCompiler:
    folder = tmp_path / "bin"
    folder.mkdir()
    fake = FakeCompiler(folder)
    monkeypatch.setenv("CC", str(fake.path))
    monkeypatch.setattr(building, "PREBUILT_FOLDER", tmp_path / "prebuilt")
    return fake


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_it_is_compiled_once_and_kept_privately(compiler: FakeCompiler, cache: Path) -> None:
    first, origin = find_library(cache)
    again, _ = find_library(cache)
    assert first == again
    assert first.read_text() == "library"
    assert compiler.num_calls == 1
    assert "fake cc 1.0" in origin
    assert first.parent.stat().st_mode & 0o077 == 0
    assert [path for path in first.parent.iterdir() if path != first] == []


def test_another_compiler_or_source_makes_another_library(
    compiler: FakeCompiler, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = find_library(cache)
    compiler.set(version="fake cc 2.0")
    second, _ = find_library(cache)
    monkeypatch.setattr(building, "source_digest", lambda: "0" * 16)
    third, _ = find_library(cache)
    assert len({first, second, third}) == 3
    assert compiler.num_calls == 3


def test_a_kept_library_serves_without_a_compiler(
    compiler: FakeCompiler, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = find_library(cache)
    monkeypatch.setenv("CC", "/nowhere/cc")
    assert find_library(cache) == (first, "compiled here before")


def test_without_a_compiler_and_with_nothing_kept_the_reason_is_said(
    compiler: FakeCompiler, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "/nowhere/cc")
    with pytest.raises(NoLibraryError, match="no C compiler is here"):
        find_library(cache)
    monkeypatch.delenv("CC")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(NoLibraryError, match=r"tried cc, gcc, clang"):
        find_library(cache)
    with pytest.raises(NoLibraryError, match="VOXTRAL_CACHE is empty"):
        find_library(None)


@pytest.mark.parametrize("damage", ["cut", "changed", "emptied"])
def test_a_damaged_file_is_compiled_anew(damage: str, compiler: FakeCompiler, cache: Path) -> None:
    kept, _ = find_library(cache)
    kept.write_text({"cut": "libr", "changed": "librarY", "emptied": ""}[damage])
    again, _ = find_library(cache)
    assert again.read_text() == "library"
    assert compiler.num_calls == 2


@pytest.mark.parametrize("what", ["open file", "open folder", "link to a file", "link to a folder", "folder as a file"])
def test_what_others_could_have_written_is_not_loaded(
    what: str, compiler: FakeCompiler, cache: Path, tmp_path: Path
) -> None:
    kept, _ = find_library(cache)
    foreign = tmp_path / "foreign"
    if what == "open file":
        kept.chmod(0o777)
    elif what == "open folder":
        kept.parent.chmod(0o777)
    elif what == "link to a file":
        kept.rename(foreign)
        kept.symlink_to(foreign)
    elif what == "link to a folder":
        kept.parent.rename(foreign)
        (cache / "kernels").symlink_to(foreign)
    else:
        kept.unlink()
        kept.mkdir()
    if "folder" in what and what != "folder as a file":
        with pytest.raises(NoLibraryError, match="is open to others"):
            find_library(cache)
        return
    if what == "folder as a file":
        with pytest.raises(NoLibraryError, match="cannot be written to"):
            find_library(cache)
        return
    again, _ = find_library(cache)
    assert compiler.num_calls == 2
    assert not again.is_symlink()
    assert again.stat().st_mode & 0o022 == 0


def test_a_folder_that_cannot_be_made_is_a_reason(compiler: FakeCompiler, cache: Path) -> None:
    cache.write_text("a file")
    with pytest.raises(NoLibraryError, match="cannot be made"):
        find_library(cache)


def test_a_compiler_that_fails_is_a_reason(compiler: FakeCompiler, cache: Path) -> None:
    compiler.set(code=1, says="x.c:1: error: no such thing")
    with pytest.raises(NoLibraryError, match="error: no such thing"):
        find_library(cache)
    assert list((cache / "kernels").iterdir()) == []


def test_many_at_once_all_find_a_whole_library(compiler: FakeCompiler, cache: Path) -> None:
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(find_library(cache)[0])) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert found[0].read_text() == "library"
    assert len(found) == 6


def test_a_library_beside_the_source_comes_first_if_it_is_of_that_source(compiler: FakeCompiler, cache: Path) -> None:
    folder = building.PREBUILT_FOLDER
    folder.mkdir()
    (folder / f"voxtral-cpu-{'0' * 16}{building.SUFFIX}").write_text("of another source")
    assert find_library(cache)[0].parent != folder
    (folder / building.prebuilt_name()).write_text("of this source")
    assert find_library(None) == (folder / building.prebuilt_name(), "came with the package")


def test_a_processor_of_another_kind_is_a_reason(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building.platform, "machine", lambda: "riscv64")
    with pytest.raises(NoLibraryError, match="riscv64"):
        find_library(cache)


def test_what_is_no_library_is_a_reason(compiler: FakeCompiler, cache: Path) -> None:
    with pytest.raises(NoLibraryError, match="cannot be opened"):
        open_library.__wrapped__(cache)


def test_a_library_of_another_version_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "_VERSION", -1)
    with pytest.raises(NoLibraryError, match=r"of another version|no C compiler"):
        open_library.__wrapped__(Path(os.environ["VOXTRAL_CACHE"]))
