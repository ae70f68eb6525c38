"""Where files lie after a download, and which of them are taken for whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from loopback_hub import COMMIT, FILES, NEEDED, OTHER, LoopbackHub, contents, git_blob_id, sha256
from voxtral.loading.hub import download
from voxtral.loading.hub.cache import find_cached
from voxtral.loading.hub.store import HubFile
from voxtral.loading.locate import locate_model


@pytest.mark.parametrize("digest", [git_blob_id(b"content"), sha256(b"content")])
def test_a_file_matches_by_size_and_hash(tmp_path: Path, digest: str) -> None:
    path = tmp_path / "file"
    file = HubFile("file", len(b"content"), digest)
    assert not file.matches(path)
    for content, expected in ((b"content", True), (b"c0ntent", False), (b"content ", False), (b"", False)):
        path.write_bytes(content)
        assert file.matches(path) is expected


def test_file_systems_without_links_get_copies(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: object) -> None:
        raise OSError(1, "A required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    hub.add(OTHER, FILES | {"voice_embedding/twin.pt": FILES["voice_embedding/casual_male.pt"]})
    folder = download(OTHER)
    assert not any(path.is_symlink() for path in folder.rglob("*"))
    assert contents(folder) == {name: FILES[name] for name in NEEDED} | {
        "voice_embedding/twin.pt": FILES["voice_embedding/casual_male.pt"]
    }


def test_local_dir_gets_plain_files_and_leaves_the_cache_alone(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.add(OTHER, FILES)
    target = tmp_path / "models" / "mine"
    assert download(OTHER, local_dir=target) == target
    assert contents(target) == {name: FILES[name] for name in NEEDED}
    assert not any(path.is_symlink() for path in target.rglob("*"))
    assert not (tmp_path / "hf").exists()
    assert locate_model(target, allow_download=False) == target


def test_local_dir_is_checked_by_content(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.add(OTHER, FILES)
    target = download(OTHER, local_dir=tmp_path / "mine")
    (target / "tekken.json").write_bytes(bytes(len(FILES["tekken.json"])))
    (target / "params.json").write_bytes(FILES["params.json"][:-1])
    (target / "notes.txt").write_bytes(b"mine")
    hub.seen.clear()
    download(OTHER, local_dir=target)
    assert contents(target) == {name: FILES[name] for name in NEEDED} | {"notes.txt": b"mine"}
    assert len(hub.requests_for("tekken.json")) == len(hub.requests_for("params.json")) == 1
    assert not hub.requests_for("consolidated.safetensors")


def test_huggingface_hub_finds_and_reads_what_was_downloaded(hub: LoopbackHub, tmp_path: Path) -> None:
    from huggingface_hub import scan_cache_dir, snapshot_download

    hub.add(OTHER, FILES)
    folder = download(OTHER)
    cache = tmp_path / "hf" / "hub"
    assert snapshot_download(OTHER, cache_dir=cache, local_files_only=True) == str(folder)
    report = scan_cache_dir(cache)
    assert not report.warnings
    (repo,) = report.repos
    assert (repo.repo_id, repo.size_on_disk) == (OTHER, sum(len(FILES[name]) for name in NEEDED))
    assert {name: revision.commit_hash for name, revision in repo.refs.items()} == {"main": COMMIT}


def test_what_huggingface_hub_downloaded_is_used_as_it_is(hub: LoopbackHub, tmp_path: Path) -> None:
    from huggingface_hub import snapshot_download

    hub.add(OTHER, FILES)
    snapshot_download(OTHER, cache_dir=tmp_path / "hf" / "hub", endpoint=hub.endpoint)
    folder = find_cached(OTHER)
    assert folder is not None
    assert contents(folder) == FILES
    hub.seen.clear()
    assert download(OTHER) == folder
    assert len(hub.seen) == 1
