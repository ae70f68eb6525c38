"""The local Hugging Face cache: where it is, and which complete checkpoints are in it.

Reading it needs neither the network nor huggingface_hub. Read next: store.py, which writes into it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from voxtral.disk import ABSENT, is_file, is_folder, look
from voxtral.errors import CheckpointError
from voxtral.loading.files import REQUIRED_FILES, VOICE_FOLDER
from voxtral.loading.hub.names import ALIASES, CANONICAL_ID, PINNED_REVISION, canonical_id, is_commit, is_revision


def find_cached(model_id: str, *, revision: str | None = None) -> Path | None:
    """Find a complete checkpoint in the local Hugging Face cache, without network.

    For the canonical model the pinned revision comes first, then the branch `main`. An alias that
    looks like a hub id is also looked up under its own name, where older guides had users put it.

    Args:
        model_id: an alias or a hub id.
        revision: a branch, tag or commit; if given, nothing else is accepted.

    Returns:
        The snapshot folder, or None if no complete one is there.

    Raises:
        CheckpointError: the cache cannot be read, so that this cannot be told.
    """
    try:
        return next((folder for folder in _snapshots(model_id, revision) if _is_complete(folder)), None)
    except OSError as error:
        raise CheckpointError(
            f"{error.filename or cache_folder()} cannot be read ({error.strerror or error}), so that it is not known "
            f"whether {model_id} is in the local cache; check the permissions and the disk, or choose another place "
            "with HF_HOME"
        ) from error


def describe_search(model_id: str) -> str:
    """Say in which folders `find_cached` looks."""
    return " or ".join(str(repo_folder(name)) for name in _cached_names(model_id))


def repo_folder(repo: str) -> Path:
    """Return the folder of a repository in the cache, which need not exist."""
    return cache_folder() / f"models--{repo.replace('/', '--')}"


def cache_folder() -> Path:
    """Return the cache folder by the rules of huggingface_hub, from the environment as it is now.

    huggingface_hub reads the environment once, when it is imported; reading it here makes the
    answer the same whether or not it is installed and whenever it was imported.

    Source: huggingface_hub/constants.py (HF_HUB_CACHE); compared in tests/unit/loading/hub/test_cache.py.
    """
    home = os.getenv("HF_HOME")
    if home is None:
        home = os.path.join(os.getenv("XDG_CACHE_HOME", os.path.join("~", ".cache")), "huggingface")
    legacy = os.getenv("HUGGINGFACE_HUB_CACHE", os.path.join(home, "hub"))
    return Path(os.path.expandvars(os.path.expanduser(os.getenv("HF_HUB_CACHE", legacy))))


def _cached_names(model_id: str) -> tuple[str, ...]:
    repo = canonical_id(model_id)
    if repo is None:
        return ()
    return (repo, model_id) if model_id != repo and "/" in model_id else (repo,)


def _snapshots(model_id: str, revision: str | None) -> Iterator[Path]:
    """Yield the snapshot folders that may stand for the model, best first, complete or not."""
    for name in _cached_names(model_id):
        home = repo_folder(name)
        revisions = [revision] if revision is not None else ["main"]
        if revision is None and name == CANONICAL_ID:
            revisions.insert(0, PINNED_REVISION)
        yield from (home / "snapshots" / commit for wanted in revisions if (commit := _commit_of(home, wanted)))
        if revision is None and name in ALIASES:
            yield from sorted(_folders(home / "snapshots"), key=lambda folder: folder.stat().st_mtime, reverse=True)


def _folders(parent: Path) -> list[Path]:
    return [path for path in parent.iterdir() if is_folder(path)] if is_folder(parent) else []


def _commit_of(home: Path, revision: str) -> str | None:
    if is_commit(revision):
        return revision
    if not is_revision(revision):
        return None
    try:
        commit = (home / "refs" / revision).read_text(encoding="ascii").strip()
    except (*ABSENT, IsADirectoryError, UnicodeDecodeError):
        return None
    return commit if is_commit(commit) else None


def _is_complete(folder: Path) -> bool:
    if not is_folder(folder / VOICE_FOLDER):
        return False
    voices = list((folder / VOICE_FOLDER).iterdir())
    # These follow links: a link to content that never arrived counts as missing.
    return (
        all(is_file(folder / name) for name in REQUIRED_FILES)
        and all(look(voice) is not None for voice in voices)
        and any(is_file(voice) for voice in voices)
    )
