"""Where the files of one download go: the Hugging Face cache with its links, or a plain folder.

It knows sizes and hashes and no hub. Read next: plan.py, which asks a hub for what is missing here.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import uuid4

from voxtral.disk import look
from voxtral.loading.hub.cache import repo_folder


@dataclass(frozen=True)
class HubFile:
    """One file of a repository, as the hub states it.

    Attributes:
        name: path inside the repository, parts joined by "/".
        size_bytes: its size.
        digest: what the hub and its cache call the content: the SHA-256 (64 hex digits) of a large
            file, the git blob id (40 hex digits) of a small one.
    """

    name: str
    size_bytes: int
    digest: str

    def matches(self, path: Path) -> bool:
        """Tell whether the file at `path` has this size and hash."""
        if size_of(path) != self.size_bytes:
            return False
        git_blob = partial(hashlib.sha1, f"blob {self.size_bytes}\0".encode("ascii"), usedforsecurity=False)
        with path.open("rb") as content:
            state = hashlib.file_digest(content, hashlib.sha256 if len(self.digest) == 64 else git_blob)
        return state.hexdigest() == self.digest


@dataclass(frozen=True)
class Store:
    """A checkpoint folder that is being filled.

    Attributes:
        folder: the checkpoint folder that the caller gets.
        blobs: the content store of the cache, which `folder` links to; None for a plain folder.
        scratch: where unfinished files wait to be continued.
        locks: where the lock files lie.
    """

    folder: Path
    blobs: Path | None
    scratch: Path
    locks: Path

    @classmethod
    def in_cache(cls, repo: str, commit: str) -> Store:
        """Return the place of a commit in the local Hugging Face cache."""
        home = repo_folder(repo)
        blobs = home / "blobs"
        # huggingface_hub locks a blob by the same file, so the two never write it at once.
        return cls(home / "snapshots" / commit, blobs, blobs, home.parent / ".locks" / home.name)

    @classmethod
    def in_folder(cls, local_dir: Path) -> Store:
        """Return a plain folder, with the unfinished files in a hidden one."""
        folder = Path(os.path.expanduser(local_dir))
        scratch = folder / ".cache" / "huggingface" / "download"
        return cls(folder, None, scratch, scratch)

    def lock(self, file: HubFile) -> Path:
        """Return the lock file of whoever fetches a file."""
        return self.locks / f"{file.digest}.lock"

    def part(self, file: HubFile) -> Path:
        """Return where the unfinished file waits."""
        # huggingface_hub removes its own unfinished files and may leave holes in them (xet),
        # hence a name that it does not use, with the suffix that cache cleaners know.
        return self.scratch / f"{file.digest}.voxtral.incomplete"

    def part_bytes(self, file: HubFile) -> int:
        """Return how much of the unfinished file can be gone on from."""
        size = size_of(self.part(file)) or 0
        # Longer than the whole: nothing in it can be trusted.
        return size if size <= file.size_bytes else 0

    def has(self, file: HubFile) -> bool:
        """Tell whether the finished file is here."""
        named = self.folder / file.name
        if self.blobs is None:
            # Nothing vouches for what lies in a plain folder, so the content is hashed.
            return file.matches(named)
        return file.size_bytes in (size_of(named), size_of(self.blobs / file.digest))

    def keep(self, file: HubFile) -> None:
        """Put the unfinished file, which has become whole, into its place."""
        named = self.folder / file.name if self.blobs is None else self.blobs / file.digest
        named.parent.mkdir(parents=True, exist_ok=True)
        os.replace(self.part(file), named)

    def publish(self, files: Iterable[HubFile], revision: str) -> None:
        """Link a snapshot of the cache to its content, and then a branch or tag to the snapshot."""
        if self.blobs is None:
            return
        for file in files:
            named = self.folder / file.name
            if size_of(named) != file.size_bytes:
                _link(self.blobs / file.digest, named)
        commit = self.folder.name
        ref = self.folder.parent.parent / "refs" / revision
        if revision != commit and not (ref.is_file() and ref.read_bytes() == commit.encode("ascii")):
            ref.parent.mkdir(parents=True, exist_ok=True)
            fresh = _unused(ref)
            fresh.write_text(commit, encoding="ascii")
            os.replace(fresh, ref)


def size_of(path: Path) -> int | None:
    """Return the size of a file in bytes, links followed, or None if it is no file.

    Raises:
        OSError: that cannot be told.
    """
    found = look(path)
    return found.st_size if found is not None and stat.S_ISREG(found.st_mode) else None


def _link(blob: Path, named: Path) -> None:
    named.parent.mkdir(parents=True, exist_ok=True)
    # Made beside the blob: what an interruption leaves there is not taken for a file of the model.
    fresh = _unused(blob)
    try:
        fresh.symlink_to(os.path.relpath(blob, named.parent))
    except OSError:
        # Windows wants a right for links, and some file systems have none; a copy works everywhere.
        shutil.copyfile(blob, fresh)
    os.replace(fresh, named)


def _unused(path: Path) -> Path:
    return path.with_name(f"{path.name}.{uuid4().hex[:8]}.incomplete")
