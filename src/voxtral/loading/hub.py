"""Model names, the local Hugging Face cache, and downloads; the only file that touches the network.

It knows files by name, size and hash and never opens what is inside them. Finding a cached model
needs neither the network nor huggingface_hub. Read next: checkpoint.py, which opens what was found.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from voxtral.errors import DownloadError, ModelNotFoundError, OptionError

CANONICAL_ID = "mistralai/Voxtral-4B-TTS-2603"
PINNED_REVISION = "b81be46c3777f88621676791b512bb01dc1cb970"
ALIASES: Mapping[str, str] = MappingProxyType(
    {"mistralai/Voxtral-TTS": CANONICAL_ID, "4b": CANONICAL_ID, "4B": CANONICAL_ID}
)

_WEIGHTS = "consolidated.safetensors"
_REQUIRED_FILES = ("params.json", "tekken.json", _WEIGHTS)
_OPTIONAL_FILES = ("README.md", "LICENSE", "LICENSE.md", "LICENSE.txt")
_VOICE_FOLDER = "voice_embedding"
# The model card of the canonical repository says so; used when an answer of the hub leaves the card out.
_CANONICAL_LICENCE = "CC BY-NC 4.0"
# The client under huggingface_hub waits without end by default, which a dead hub would turn into a hang.
_PLAN_TIMEOUT_S = 20.0

# Source: the naming rules of the hub, as huggingface_hub checks them before each request.
_REPO_ID = re.compile(r"\w(?:[\w.-]{0,94}\w)?/\w(?:[\w.-]{0,94}\w)?", re.ASCII)
_REVISION = re.compile(r"\w[\w.+/-]*", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_VOICE_FILE = re.compile(rf"{_VOICE_FOLDER}/[^/\\:]+")
_AUTHORIZATION = re.compile(r"Bearer [\x21-\x7e]+")


@dataclass(frozen=True)
class PlannedFile:
    """One file of a download.

    Attributes:
        name: path inside the repository, parts joined by "/".
        size_bytes: its size as the hub states it.
        digest: what the hub and its cache call the content: the SHA-256 (64 hex digits) of a large
            file, the git blob id (40 hex digits) of a small one.
    """

    name: str
    size_bytes: int
    digest: str


@dataclass(frozen=True)
class DownloadPlan:
    """What a download would fetch, from where and under which licence.

    Attributes:
        model_id: the repository, aliases resolved.
        revision: the commit, 40 hex digits.
        total_bytes: size of all files.
        cached_bytes: how much of that is in place, parts of files included.
        licence: as the model card names it; empty if it names none.
        files: the weights last, so that a folder without them is never taken for a whole model.
    """

    model_id: str
    revision: str
    total_bytes: int
    cached_bytes: int
    licence: str
    files: tuple[PlannedFile, ...]


@dataclass(frozen=True)
class _Source:
    """Where to ask: a repository, the revision as it was asked for, the endpoint and the credentials."""

    repo: str
    revision: str
    endpoint: str | None
    # Hidden from repr, so that no traceback or log shows a token.
    token: str | None = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)

    @property
    def host(self) -> str:
        """Return host and port alone: an endpoint may carry a password."""
        parts = urlsplit(self.endpoint or "https://huggingface.co")
        return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)


@dataclass(frozen=True)
class _Target:
    """Where the files of one download go.

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

    def part(self, file: PlannedFile) -> Path:
        """Return where the unfinished file waits."""
        # huggingface_hub removes its own unfinished files and may leave holes in them (xet),
        # hence a name that it does not use, with the suffix that cache cleaners know.
        return self.scratch / f"{file.digest}.voxtral.incomplete"

    def stored(self, file: PlannedFile) -> Path:
        """Return where the finished file goes."""
        return self.folder / file.name if self.blobs is None else self.blobs / file.digest

    def has(self, file: PlannedFile) -> bool:
        """Tell whether the finished file is here."""
        named = self.folder / file.name
        if self.blobs is None:
            # Nothing vouches for what lies in a plain folder, so the content is hashed.
            return _size(named) == file.size_bytes and _digest(named, file) == file.digest
        return file.size_bytes in (_size(named), _size(self.blobs / file.digest))

    def part_bytes(self, file: PlannedFile) -> int:
        """Return how much of the unfinished file can be gone on from."""
        size = _size(self.part(file)) or 0
        # Longer than the whole: nothing in it can be trusted.
        return size if size <= file.size_bytes else 0


def canonical_id(model: str) -> str | None:
    """Resolve an alias, or return a hub id unchanged.

    Args:
        model: an alias in `ALIASES` (`4b` in any case), or `owner/name`.

    Returns:
        The hub id, or None if `model` has neither form.

    >>> canonical_id("4b")
    'mistralai/Voxtral-4B-TTS-2603'
    >>> canonical_id("someone/finetune")
    'someone/finetune'
    >>> canonical_id("../finetune") is None
    True
    """
    alias = ALIASES.get(model) or ALIASES.get(model.lower())
    if alias is not None:
        return alias
    is_id = _REPO_ID.fullmatch(model) and not any(bad in model for bad in ("..", "--")) and not model.endswith(".git")
    return model if is_id else None


def find_cached(model_id: str, *, revision: str | None = None) -> Path | None:
    """Find a complete checkpoint in the local Hugging Face cache, without network.

    For the canonical model the pinned revision comes first, then the branch `main`. An alias that
    looks like a hub id is also looked up under its own name, where older guides had users put it.

    Args:
        model_id: an alias or a hub id.
        revision: a branch, tag or commit; if given, nothing else is accepted.

    Returns:
        The snapshot folder, or None if no complete one is there.
    """
    return next((folder for folder in _cached_snapshots(model_id, revision) if _is_complete(folder)), None)


def plan_download(model_id: str, *, revision: str | None = None, token: str | None = None) -> DownloadPlan:
    """Ask the hub what a download into the cache would fetch.

    Args:
        model_id: an alias or a hub id.
        revision: a branch, tag or commit; by default the pinned commit of the canonical model, and
            `main` of any other.
        token: a hub token; by default `HF_TOKEN`, or the one that huggingface_hub has stored.

    Raises:
        ModelNotFoundError: `model_id` is neither an alias nor a hub id.
        DownloadError: the hub is switched off, cannot be reached, refuses, or has no such model.
    """
    source = _open_source(model_id, revision, token)
    commit, licence, files = _ask(source)
    return _plan(source, commit, licence, files, _cache_target(source.repo, commit))[0]


def download(
    model_id: str,
    *,
    revision: str | None = None,
    token: str | None = None,
    local_dir: Path | None = None,
    announce: Callable[[str], None] | None = None,
    progress: bool = True,
) -> Path:
    """Download a checkpoint, or the part of it that is missing.

    What was fetched before a broken connection is kept, and the next call goes on from there. Each
    new file is checked against the size and the hash that the hub states before it is put in place.

    Args:
        model_id: an alias or a hub id.
        revision: as in `plan_download`.
        token: as in `plan_download`.
        local_dir: a folder to fill instead of the Hugging Face cache.
        announce: called with size and licence before the first byte of a file is fetched.
        progress: show a progress bar on stderr, if that is a terminal.

    Returns:
        The folder that holds the checkpoint.

    Raises:
        ModelNotFoundError: `model_id` is neither an alias nor a hub id.
        DownloadError: the hub is switched off, cannot be reached, refuses, breaks off or sends
            something else than it announced; or the disk is full or cannot be written.
    """
    say = announce or _say_nothing
    if _is_offline() and local_dir is None and (cached := find_cached(model_id, revision=revision)) is not None:
        say(f"HF_HUB_OFFLINE is set: {model_id} is taken from {cached}")
        return cached
    source = _open_source(model_id, revision, token)
    commit, licence, files = _ask(source)
    target = _cache_target(source.repo, commit) if local_dir is None else _folder_target(local_dir)
    with _writing(target.folder):
        plan, missing = _plan(source, commit, licence, files, target)
        say(_announcement(plan))
        _check_free_space(target.folder, plan.total_bytes - plan.cached_bytes)
        if missing:
            _fetch_all(source, plan, missing, target, progress=progress, say=say)
        _put_in_place(source, plan, target)
    return target.folder


def resolve_model(
    model: str | os.PathLike[str],
    *,
    revision: str | None = None,
    token: str | None = None,
    allow_download: bool,
    announce: Callable[[str], None] | None = None,
) -> Path:
    """Find the folder of the model that was asked for, and no other one.

    Args:
        model: a folder, an alias or a hub id.
        revision: a branch, tag or commit of a hub id.
        token: as in `plan_download`.
        allow_download: download what is not in the cache.
        announce: as in `download`.

    Returns:
        The folder as it was given, a complete snapshot in the cache, or the result of the download.

    Raises:
        ModelNotFoundError: nothing has this name, or it is not here and must not be downloaded.
        OptionError: a revision was given for a folder.
        DownloadError: the download failed.
    """
    name = os.fspath(model)
    folder = Path(os.path.expanduser(name))
    if name and os.path.isdir(folder):
        if revision is not None:
            raise OptionError(
                f"revision {revision!r} was given with the folder {name}; a folder has no revisions; "
                "leave the revision out, or name the model by its hub id"
            )
        return folder
    if isinstance(model, os.PathLike) or _is_path(name):
        state = "is not a folder" if os.path.exists(folder) else "does not exist"
        raise ModelNotFoundError(
            f"the folder {name} {state}; a model folder holds {', '.join(_REQUIRED_FILES)} and {_VOICE_FOLDER}/; "
            "check the path, or name a model by its hub id or as `4b`"
        )
    if canonical_id(name) is None:
        raise _unknown_name(name)
    cached = find_cached(name, revision=revision)
    if cached is not None:
        is_pinned = canonical_id(name) != CANONICAL_ID or revision is not None or cached.name == PINNED_REVISION
        if announce is not None and not is_pinned:
            announce(
                f"{name}: revision {cached.name[:8]} is in the local cache and used; {PINNED_REVISION[:8]} is expected"
            )
        return cached
    if allow_download:
        return download(name, revision=revision, token=token, announce=announce)
    raise _not_cached(name, revision)


# --- names and the cache ----------------------------------------------------------------------


def _is_path(name: str) -> bool:
    return name.startswith((".", "/", "~")) or name.endswith("/") or "\\" in name or Path(name).is_absolute()


def _unknown_name(name: str) -> ModelNotFoundError:
    return ModelNotFoundError(
        f"{name!r} names no model: it is no folder here, no hub id (owner/name) and no alias; "
        f"give the path of a model folder, a hub id such as {CANONICAL_ID}, or `4b`"
    )


def _not_cached(name: str, revision: str | None) -> ModelNotFoundError:
    at = f" at revision {revision}" if revision else ""
    option = f" --revision {revision}" if revision else ""
    return ModelNotFoundError(
        f"{name}{at} is not on this machine: no folder has that name, and no complete copy is in "
        f"{_describe_search(name)}; nothing is downloaded unless asked for; run `voxtral download {name}{option}`, or "
        "give a model folder"
    )


def _describe_search(model_id: str) -> str:
    return " or ".join(str(_repo_folder(name)) for name in _cached_names(model_id))


def _cache_folder() -> Path:
    """Return the cache folder by the rules of huggingface_hub, from the environment as it is now.

    huggingface_hub reads the environment once, when it is imported; reading it here makes the
    answer the same whether or not it is installed and whenever it was imported.

    Source: huggingface_hub/constants.py (HF_HUB_CACHE); compared in tests/unit/loading/test_hub.py.
    """
    home = os.getenv("HF_HOME")
    if home is None:
        home = os.path.join(os.getenv("XDG_CACHE_HOME", os.path.join("~", ".cache")), "huggingface")
    legacy = os.getenv("HUGGINGFACE_HUB_CACHE", os.path.join(home, "hub"))
    return Path(os.path.expandvars(os.path.expanduser(os.getenv("HF_HUB_CACHE", legacy))))


def _repo_folder(repo: str) -> Path:
    return _cache_folder() / f"models--{repo.replace('/', '--')}"


def _cached_names(model_id: str) -> tuple[str, ...]:
    repo = canonical_id(model_id)
    if repo is None:
        return ()
    return (repo, model_id) if model_id != repo and "/" in model_id else (repo,)


def _cached_snapshots(model_id: str, revision: str | None) -> Iterator[Path]:
    """Yield the snapshot folders that may stand for the model, best first, complete or not."""
    for name in _cached_names(model_id):
        home = _repo_folder(name)
        revisions = [revision] if revision is not None else ["main"]
        if revision is None and name == CANONICAL_ID:
            revisions.insert(0, PINNED_REVISION)
        yield from (home / "snapshots" / commit for wanted in revisions if (commit := _cached_commit(home, wanted)))
        if revision is None and name in ALIASES:
            yield from sorted((home / "snapshots").glob("*/"), key=lambda folder: folder.stat().st_mtime, reverse=True)


def _cached_commit(home: Path, revision: str) -> str | None:
    if _COMMIT.fullmatch(revision):
        return revision
    if not _is_revision(revision):
        return None
    try:
        commit = (home / "refs" / revision).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return commit if _COMMIT.fullmatch(commit) else None


def _is_revision(revision: str) -> bool:
    return _REVISION.fullmatch(revision) is not None and ".." not in revision


def _is_complete(folder: Path) -> bool:
    try:
        voices = list((folder / _VOICE_FOLDER).iterdir())
    except OSError:
        return False
    # These follow links: a link to content that never arrived counts as missing.
    return (
        all(os.path.isfile(folder / name) for name in _REQUIRED_FILES)
        and all(os.path.exists(voice) for voice in voices)
        and any(os.path.isfile(voice) for voice in voices)
    )


# --- asking the hub ---------------------------------------------------------------------------


def _is_offline() -> bool:
    return os.getenv("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def _open_source(model_id: str, revision: str | None, token: str | None) -> _Source:
    """Check everything that can be checked without network."""
    repo = canonical_id(model_id)
    if repo is None:
        raise _unknown_name(model_id)
    if revision is not None and not _is_revision(revision):
        raise DownloadError(
            f"revision {revision!r} of {model_id} cannot exist; a revision is a branch, a tag or a commit; "
            "leave it out, or copy it from the model page"
        )
    if _is_offline():
        raise _offline(model_id, revision)
    try:
        from huggingface_hub.utils import build_hf_headers
    except ImportError as exc:
        raise DownloadError(
            f"{model_id} cannot be downloaded: huggingface_hub is not installed; downloads need it; "
            "run `pip install huggingface_hub`, or give the path of a model folder"
        ) from exc
    try:
        headers = build_hf_headers(token=token, library_name="voxtral-tts")
    except OSError as exc:
        raise DownloadError(
            f"the stored hub token cannot be read ({_reason(exc)}); it is sent with each request; "
            "correct the permissions of the Hugging Face folder, or set HF_TOKEN"
        ) from exc
    # A header with other characters fails inside the client, with an error that quotes the token.
    if "authorization" in headers and not _AUTHORIZATION.fullmatch(headers["authorization"]):
        raise DownloadError(
            "the hub token has spaces, line breaks or characters outside ASCII, or is empty; a token is one word "
            "such as hf_...; set HF_TOKEN again, or remove it if the model needs none"
        )
    default = PINNED_REVISION if repo == CANONICAL_ID else "main"
    return _Source(repo, revision or default, _endpoint(), token, headers)


def _endpoint() -> str | None:
    endpoint = os.getenv("HF_ENDPOINT", "").rstrip("/")
    if not endpoint:
        return None
    try:
        parts = urlsplit(endpoint)
        is_url = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url:
        raise DownloadError(
            "HF_ENDPOINT is not the address of a hub; it must begin with https:// or http:// and a host name; "
            "correct it, or remove it to use the public hub"
        )
    return endpoint


def _offline(model_id: str, revision: str | None) -> DownloadError:
    cached = find_cached(model_id, revision=revision)
    found = f"a complete copy is in {cached}" if cached else f"no complete copy is in {_describe_search(model_id)}"
    return DownloadError(
        f"{model_id} cannot be downloaded: offline mode is on, and {found}; no network is used in offline mode; "
        "unset HF_HUB_OFFLINE, or give the path of a model folder"
    )


def _ask(source: _Source) -> tuple[str, str, tuple[PlannedFile, ...]]:
    """Ask the hub for commit, licence and files of a revision."""
    from huggingface_hub import HfApi

    try:
        info: Any = HfApi(endpoint=source.endpoint, library_name="voxtral-tts").model_info(
            source.repo, revision=source.revision, files_metadata=True, timeout=_PLAN_TIMEOUT_S, token=source.token
        )
        commit = str(info.sha)
        licence = _licence(source.repo, info.card_data)
        files = _select(source, info.siblings or [])
    except (_transport_error(), OSError) as exc:
        raise _explain(source, exc) from exc
    # What a page that is not a hub (a proxy's login page, a wrong HF_ENDPOINT) makes of the parser.
    except (ValueError, TypeError, LookupError, AttributeError) as exc:
        raise _not_a_hub(source) from exc
    if not _COMMIT.fullmatch(commit):
        raise _not_a_hub(source)
    return commit, licence, files


def _select(source: _Source, siblings: list[Any]) -> tuple[PlannedFile, ...]:
    """Choose the files that are needed, the weights last."""
    wanted = (*_REQUIRED_FILES, *_OPTIONAL_FILES)
    files: list[PlannedFile] = []
    for sibling in siblings:
        name = str(sibling.rfilename)
        if name in wanted or (_VOICE_FILE.fullmatch(name) and name.rpartition("/")[2] not in {".", ".."}):
            size = sibling.lfs.size if sibling.lfs is not None else sibling.size
            digest = sibling.lfs.sha256 if sibling.lfs is not None else sibling.blob_id
            if not isinstance(size, int) or size < 0 or not _DIGEST.fullmatch(str(digest)):
                raise _not_a_hub(source)
            files.append(PlannedFile(name, size, digest))
    names = {file.name for file in files}
    missing = [name for name in _REQUIRED_FILES if name not in names]
    if not any(name.startswith(f"{_VOICE_FOLDER}/") for name in names):
        missing.append(f"{_VOICE_FOLDER}/*")
    if missing:
        raise DownloadError(
            f"{source.repo} at {source.revision} has no {', '.join(missing)}; a Voxtral TTS repository holds "
            f"{', '.join(_REQUIRED_FILES)} and {_VOICE_FOLDER}/*; check the id and the revision "
            f"(the original model is {CANONICAL_ID})"
        )
    return tuple(sorted(files, key=lambda file: (file.name == _WEIGHTS, file.name)))


def _licence(repo: str, card: Any) -> str:
    """Name the licence of a model card the way people write it: `cc-by-nc-4.0` is CC BY-NC 4.0."""
    name = getattr(card, "license", None)
    if name == "other":
        name = getattr(card, "license_name", None) or name
    if isinstance(name, list):
        name = ", ".join(str(part) for part in name)
    if not name:
        return _CANONICAL_LICENCE if repo == CANONICAL_ID else ""
    match = re.fullmatch(r"cc-(by[a-z-]*)-(\d\.\d)", str(name))
    return f"CC {match[1].upper()} {match[2]}" if match else str(name)


def _plan(
    source: _Source, commit: str, licence: str, files: tuple[PlannedFile, ...], target: _Target
) -> tuple[DownloadPlan, tuple[PlannedFile, ...]]:
    """Compare what the hub has with what is here; return the plan and the files that are not finished."""
    missing = tuple(file for file in files if not target.has(file))
    total_bytes = sum(file.size_bytes for file in files)
    missing_bytes = sum(file.size_bytes - target.part_bytes(file) for file in missing)
    return DownloadPlan(source.repo, commit, total_bytes, total_bytes - missing_bytes, licence, files), missing


def _announcement(plan: DownloadPlan) -> str:
    missing = plan.total_bytes - plan.cached_bytes
    amount = f"{_human(missing)} to download" if missing else "nothing to download"
    if missing and plan.cached_bytes:
        amount += f" ({_human(plan.cached_bytes)} of {_human(plan.total_bytes)} are here)"
    terms = f"weights licensed {plan.licence}" if plan.licence else "weights under a licence that the hub does not name"
    if re.search(r"\bnc\b", plan.licence.lower()):
        terms += " (no commercial use)"
    return f"{plan.model_id} at {plan.revision[:8]}: {amount}, {terms}"


def _human(num_bytes: int) -> str:
    """Write a size with a decimal unit.

    >>> _human(8_040_000_000), _human(1_500), _human(12)
    ('8.0 GB', '1.5 kB', '12 bytes')
    """
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if num_bytes >= scale:
            return f"{num_bytes / scale:.1f} {unit}"
    return f"{num_bytes} bytes"


def _say_nothing(message: str) -> None:
    """Stand in for `announce` where the caller wants to hear nothing."""


# --- fetching ---------------------------------------------------------------------------------


def _cache_target(repo: str, commit: str) -> _Target:
    home = _repo_folder(repo)
    blobs = home / "blobs"
    # huggingface_hub locks a blob by the same file, so the two never write it at once.
    return _Target(home / "snapshots" / commit, blobs, blobs, home.parent / ".locks" / home.name)


def _folder_target(local_dir: Path) -> _Target:
    folder = Path(os.path.expanduser(local_dir))
    scratch = folder / ".cache" / "huggingface" / "download"
    return _Target(folder, None, scratch, scratch)


def _check_free_space(folder: Path, needed_bytes: int) -> None:
    existing = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    free_bytes = shutil.disk_usage(existing).free
    if free_bytes < needed_bytes:
        raise DownloadError(
            f"{_human(needed_bytes)} are to be downloaded and the disk of {existing} has {_human(free_bytes)} free; "
            f"all must fit, so nothing was fetched; free {_human(needed_bytes - free_bytes)}, or choose a folder on "
            "another disk (HF_HOME)"
        )


def _fetch_all(
    source: _Source,
    plan: DownloadPlan,
    missing: tuple[PlannedFile, ...],
    target: _Target,
    *,
    progress: bool,
    say: Callable[[str], None],
) -> None:
    from huggingface_hub.utils import tqdm

    target.scratch.mkdir(parents=True, exist_ok=True)
    target.locks.mkdir(parents=True, exist_ok=True)
    # disable=None leaves the bar out where stderr is not a terminal.
    with tqdm(
        total=plan.total_bytes,
        initial=plan.cached_bytes,
        desc=plan.model_id.rpartition("/")[2],
        unit="B",
        unit_scale=True,
        disable=None if progress else True,
    ) as bar:
        for file in missing:
            with _locked(target.locks / f"{file.digest}.lock", file, say):
                if target.has(file):
                    # Another process was faster while this one waited for the lock.
                    bar.update(file.size_bytes - target.part_bytes(file))
                else:
                    _fetch(source, plan.revision, file, target, bar)


@contextmanager
def _locked(path: Path, file: PlannedFile, say: Callable[[str], None]) -> Iterator[None]:
    from huggingface_hub.utils import WeakFileLock

    with ExitStack() as stack:
        try:
            stack.enter_context(WeakFileLock(path, timeout=0.1))
        except TimeoutError:
            say(f"waiting for another download of {file.name}")
            stack.enter_context(WeakFileLock(path))
        yield


def _fetch(source: _Source, commit: str, file: PlannedFile, target: _Target, bar: Any) -> None:
    """Fetch one file, going on from what an earlier call left, and put it into the store."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.file_download import http_get

    part = target.part(file)
    start = target.part_bytes(file)
    if start == 0:
        part.unlink(missing_ok=True)
    try:
        with part.open("ab") as out:
            # The library's own downloads begin again after a failed call (it removes the unfinished file),
            # hence its transfer function alone, with a file that outlives the call.
            http_get(
                hf_hub_url(source.repo, file.name, revision=commit, endpoint=source.endpoint),
                out,
                resume_size=start,
                # A compressed answer has another length than the file and cannot be continued.
                headers={**source.headers, "Accept-Encoding": "identity"},
                expected_size=file.size_bytes,
                displayed_filename=file.name,
                _tqdm_bar=bar,
            )
    except HfHubHTTPError as exc:
        # "Range not satisfiable": the hub's file ends where this one does, before the size that was announced.
        if exc.response.status_code == 416:
            raise _discard(source, file, part) from exc
        raise _explain(source, exc, file) from exc
    except _transport_error() as exc:
        raise _broken_off(source, file, part, _reason(exc)) from exc
    except OSError as exc:
        # The library's complaint about a wrong length has no errno; the length is looked at below.
        if exc.errno is not None:
            raise
    if part.stat().st_size < file.size_bytes:
        raise _broken_off(source, file, part, "the answer ended early")
    if part.stat().st_size > file.size_bytes or _digest(part, file) != file.digest:
        raise _discard(source, file, part)
    os.replace(part, _with_parent(target.stored(file)))


def _discard(source: _Source, file: PlannedFile, part: Path) -> DownloadError:
    """Remove content that cannot become the file that was announced, and explain."""
    size = part.stat().st_size
    got = "content with another hash" if size == file.size_bytes else f"{size} bytes"
    part.unlink()
    return DownloadError(
        f"{source.host} sent {got} for {file.name} of {source.repo}, announced with {file.size_bytes} bytes; only a "
        "file of exactly that size and hash is used, so what came was discarded; run the same command again, and if "
        "it fails again, report it on the model page"
    )


def _put_in_place(source: _Source, plan: DownloadPlan, target: _Target) -> None:
    """Link the snapshot to the store, then check every file of the plan."""
    if target.blobs is not None:
        for file in plan.files:
            named = target.folder / file.name
            if _size(named) != file.size_bytes:
                _link(target.blobs / file.digest, _with_parent(named))
        if source.revision != plan.revision:
            _write_ref(target.folder.parent.parent / "refs" / source.revision, plan.revision)
    wrong = [file.name for file in plan.files if _size(target.folder / file.name) != file.size_bytes]
    if wrong:
        raise DownloadError(
            f"{', '.join(wrong)} in {target.folder} changed during the download; every file must have the size that "
            "the hub states; run the same command again, with nothing else writing there"
        )


def _link(blob: Path, named: Path) -> None:
    # Made beside the blob: what an interruption leaves there is not taken for a file of the model.
    fresh = _unused(blob)
    try:
        fresh.symlink_to(os.path.relpath(blob, named.parent))
    except OSError:
        # Windows wants a right for links, and some file systems have none; a copy works everywhere.
        shutil.copyfile(blob, fresh)
    os.replace(fresh, named)


def _write_ref(ref: Path, commit: str) -> None:
    if not ref.is_file() or ref.read_bytes() != commit.encode("ascii"):
        fresh = _unused(_with_parent(ref))
        fresh.write_text(commit, encoding="ascii")
        os.replace(fresh, ref)


def _unused(path: Path) -> Path:
    return path.with_name(f"{path.name}.{uuid4().hex[:8]}.incomplete")


def _with_parent(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _size(path: Path) -> int | None:
    return path.stat().st_size if os.path.isfile(path) else None


def _digest(path: Path, file: PlannedFile) -> str:
    """Hash a file the way its planned digest was made: SHA-256, or SHA-1 with git's blob header."""
    if len(file.digest) == 64:
        state = hashlib.sha256()
    else:
        state = hashlib.sha1(f"blob {path.stat().st_size}\0".encode("ascii"), usedforsecurity=False)
    with path.open("rb") as content:
        while block := content.read(1 << 20):
            state.update(block)
    return state.hexdigest()


# --- errors -----------------------------------------------------------------------------------


def _transport_error() -> type[Exception]:
    """Return the base class of the errors of the HTTP client below huggingface_hub.

    That client is requests, httpx or httpx2, depending on the version; the library's own HTTP error
    derives from the client's in all of them.
    """
    from huggingface_hub.errors import HfHubHTTPError

    own = ("builtins", "huggingface_hub")
    return [cls for cls in HfHubHTTPError.__mro__ if cls.__module__.partition(".")[0] not in own][-1]


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        if exc.errno == errno.ENOSPC:
            raise DownloadError(
                f"the disk of {folder} is full; the download needs the size that was announced; free space there and "
                "run the same command again, which goes on where this one stopped"
            ) from exc
        raise DownloadError(
            f"{exc.filename or folder} cannot be read or written ({exc.strerror}); the download needs a folder that "
            "this user may write; correct its permissions, or choose another one with HF_HOME"
        ) from exc


def _explain(source: _Source, exc: Exception, file: PlannedFile | None = None) -> DownloadError:
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if isinstance(exc, OfflineModeIsEnabled):
        return _offline(source.repo, source.revision)
    if isinstance(exc, HfHubHTTPError):
        return _refused(source, exc, file)
    return DownloadError(
        f"{source.host} cannot be reached ({_reason(exc)}); {source.repo} is downloaded from there; check the network, "
        "proxy and HF_ENDPOINT and run the same command again"
    )


def _refused(source: _Source, exc: Any, file: PlannedFile | None) -> DownloadError:
    """Explain an HTTP status. The answer's own text is left out: it may quote the request."""
    from huggingface_hub.errors import RevisionNotFoundError

    status = exc.response.status_code
    page = f"https://huggingface.co/{source.repo}"
    if status in {401, 403} and "authorization" not in source.headers:
        return DownloadError(
            f"{source.host} refused {source.repo} (HTTP {status}) and no token was sent; the repository does not "
            f"exist, is private, or wants its licence accepted first; check the id, accept the licence on {page}, "
            "and set HF_TOKEN to a token of that account"
        )
    if status in {401, 403}:
        return DownloadError(
            f"{source.host} refused {source.repo} (HTTP {status}) to the token that was sent; the token must be valid "
            f"and its account must have accepted the licence; set HF_TOKEN to a valid token and accept the licence "
            f"on {page}"
        )
    if isinstance(exc, RevisionNotFoundError):
        return DownloadError(
            f"{source.repo} has no revision {source.revision!r}; a revision is a branch, a tag or a commit; see the "
            f"history on {page}, or leave the revision out"
        )
    if status == 404:
        what = f"file {file.name} of {source.repo}" if file else f"model {source.repo}"
        return DownloadError(
            f"{source.host} has no {what} (HTTP 404); a hub id is owner/name, exactly as on the model page; check the "
            f"id (the original model is {CANONICAL_ID})"
        )
    return DownloadError(
        f"{source.host} answered HTTP {status} for {file.name if file else source.repo}; the hub is overloaded or out "
        "of order; wait a while and run the same command again, which goes on where this one stopped"
    )


def _broken_off(source: _Source, file: PlannedFile, part: Path, reason: str) -> DownloadError:
    return DownloadError(
        f"the connection to {source.host} broke off at {_human(_size(part) or 0)} of {_human(file.size_bytes)} of "
        f"{file.name} ({reason}); an unfinished file is never used, but what came is kept; run the same command "
        "again, which goes on from there"
    )


def _not_a_hub(source: _Source) -> DownloadError:
    return DownloadError(
        f"{source.host} did not answer like a Hugging Face hub when asked for {source.repo}; the answer must list the "
        "commit and the files with size and hash; check HF_ENDPOINT, and whether a proxy or login page is in between"
    )


def _reason(exc: BaseException) -> str:
    """Name the innermost cause. The client's own message may hold an address with credentials."""
    reason = type(exc).__name__
    cause: BaseException | None = exc
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            reason = cause.strerror
        cause = cause.__cause__ or cause.__context__
    return reason
