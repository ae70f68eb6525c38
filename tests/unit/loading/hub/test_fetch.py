"""What a download asks a hub for, and what it tells."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from loopback_hub import COMMIT, FILES, NEEDED, OTHER, LoopbackHub, contents, fake_checkpoint
from voxtral.loading.hub import download
from voxtral.loading.hub.cache import find_cached
from voxtral.loading.hub.names import CANONICAL_ID, PINNED_REVISION

ALIAS = "mistralai/Voxtral-TTS"


def test_download_fetches_what_is_needed_and_nothing_else(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.add(OTHER, FILES)
    folder = download(OTHER)
    assert folder == tmp_path / "hf" / "hub" / "models--someone--finetune" / "snapshots" / COMMIT
    assert contents(folder) == {name: FILES[name] for name in NEEDED}
    assert find_cached(OTHER) == folder
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".incomplete")]
    # A compressed answer could not be continued after a break.
    assert {seen.accept_encoding for seen in hub.seen[1:]} == {"identity"}


def test_size_and_licence_are_announced_before_any_file_is_asked_for(hub: LoopbackHub) -> None:
    hub.add(CANONICAL_ID, FILES, commit=PINNED_REVISION)
    told: list[tuple[str, int]] = []
    download("4b", announce=lambda message: told.append((message, len(hub.seen))))
    expected = (
        "mistralai/Voxtral-4B-TTS-2603 at b81be46c: 83.0 kB to download, weights licensed CC BY-NC 4.0 "
        "(no commercial use)"
    )
    assert told == [(expected, 1)]


def test_second_download_fetches_nothing(hub: LoopbackHub) -> None:
    hub.add(OTHER, FILES)
    folder = download(OTHER)
    hub.seen.clear()
    told: list[str] = []
    assert download(OTHER, announce=told.append) == folder
    assert len(hub.seen) == 1
    assert told == [f"{OTHER} at cccccccc: nothing to download, weights licensed CC BY-NC 4.0 (no commercial use)"]


@pytest.mark.parametrize("name", [CANONICAL_ID, ALIAS, "4b", "4B"])
def test_aliases_download_the_canonical_model_at_the_pinned_revision(hub: LoopbackHub, name: str) -> None:
    repo = hub.add(CANONICAL_ID, FILES, commit=PINNED_REVISION, branch=None)
    repo.revisions["main"] = "d" * 40
    repo.files["d" * 40] = fake_checkpoint(seed=1)
    folder = download(name)
    assert folder.name == PINNED_REVISION
    assert contents(folder) == {name: FILES[name] for name in NEEDED}
    assert download(name, revision="main").name == "d" * 40
    assert find_cached(name) == folder


def test_a_new_commit_fetches_only_what_changed(hub: LoopbackHub) -> None:
    repo = hub.add(OTHER, FILES)
    old = download(OTHER)
    repo.revisions["main"] = "d" * 40
    repo.files["d" * 40] = FILES | {"params.json": b"{}"}
    hub.seen.clear()
    new = download(OTHER)
    assert new.name == "d" * 40
    assert find_cached(OTHER) == new
    assert [seen.path.rpartition("/")[2] for seen in hub.seen] == ["main", "params.json"]
    assert contents(old)["params.json"] == FILES["params.json"]


def test_voices_that_are_missing_from_a_complete_looking_snapshot_are_fetched(hub: LoopbackHub) -> None:
    hub.add(OTHER, FILES)
    folder = download(OTHER)
    voice = folder / "voice_embedding" / "casual_male.pt"
    voice.resolve().unlink()
    voice.unlink()
    assert find_cached(OTHER) == folder
    hub.seen.clear()
    assert contents(download(OTHER)) == {name: FILES[name] for name in NEEDED}
    assert len(hub.seen) == 2


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("stderr", "shown"), [(Terminal(), True), (io.StringIO(), False)])
def test_progress_is_shown_on_a_terminal_only(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, stderr: io.StringIO, shown: bool
) -> None:
    hub.add(OTHER, FILES)
    monkeypatch.setattr(sys, "stderr", stderr)
    download(OTHER)
    assert ("100%" in stderr.getvalue()) is shown
    assert ("83.0k/83.0k" in stderr.getvalue()) is shown


def test_no_progress_is_shown_where_nothing_is_missing(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(OTHER, FILES)
    download(OTHER)
    monkeypatch.setattr(sys, "stderr", Terminal())
    download(OTHER)
    assert sys.stderr.getvalue() == ""  # type: ignore[attr-defined]
