"""What a download would fetch, and under which licence: asked of a hub, compared with what is here.

Read next: fetch.py, which does it.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from voxtral.errors import DownloadError
from voxtral.loading.files import REQUIRED_FILES, VOICE_FOLDER, WEIGHTS_FILE
from voxtral.loading.hub.messages import disk_errors, explain, human_size, not_a_hub, too_much, transport_error
from voxtral.loading.hub.names import CANONICAL_ID, is_commit
from voxtral.loading.hub.source import Source, open_source
from voxtral.loading.hub.store import HubFile, Store

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

_OPTIONAL_FILES = ("README.md", "LICENSE", "LICENSE.md", "LICENSE.txt")
# The model card of the canonical repository says so; used when an answer of the hub leaves the card out.
_CANONICAL_LICENCE = "CC BY-NC 4.0"
# The client under huggingface_hub waits without end by default, which a dead hub would turn into a hang.
_PLAN_TIMEOUT_S = 20.0
# That one waits for each piece of an answer; these bound the whole. The published repository takes 20 kB.
_PLAN_DEADLINE_S, _MAX_PLAN_BYTES = 60.0, 2**24

_MAX_FILES = 1000

_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_VOICE_FILE = re.compile(rf"{VOICE_FOLDER}/(?!\.\.?$)[^/\\:\x00-\x1f\x7f]{{1,200}}")


@dataclass(frozen=True)
class DownloadPlan:
    """What a download would fetch, from where and under which licence.

    Attributes:
        source: the hub, the repository and the revision that was asked for.
        commit: what the revision is now, 40 hex digits.
        licence: as the model card names it; empty if it names none.
        files: the weights last, so that a folder without them is never taken for a whole model.
        store: where the files go.
        missing: those of `files` that are not in the store.
        total_bytes: size of all files.
        cached_bytes: how much of that is in place, parts of files included.
    """

    source: Source
    commit: str
    licence: str
    files: tuple[HubFile, ...]
    store: Store
    missing: tuple[HubFile, ...]
    total_bytes: int
    cached_bytes: int

    def announcement(self) -> str:
        """Say size and licence, as a person should know them before a download starts."""
        missing_bytes = self.total_bytes - self.cached_bytes
        amount = f"{human_size(missing_bytes)} to download" if missing_bytes else "nothing to download"
        if missing_bytes and self.cached_bytes:
            amount += f" ({human_size(self.cached_bytes)} of {human_size(self.total_bytes)} are here)"
        terms = f"licensed {self.licence}" if self.licence else "under a licence that the hub does not name"
        if re.search(r"\bnc\b", self.licence.lower()):
            terms += " (no commercial use)"
        return f"{self.source.repo} at {self.commit[:8]}: {amount}, weights {terms}"


def plan_download(
    model_id: str, *, revision: str | None = None, token: str | None = None, local_dir: Path | None = None
) -> DownloadPlan:
    """Ask the hub what a download would fetch.

    Args:
        model_id: an alias or a hub id.
        revision: a branch, tag or commit; by default the pinned commit of the canonical model, and
            `main` of any other.
        token: a hub token; by default `HF_TOKEN`, or the one that huggingface_hub has stored.
        local_dir: a folder to fill instead of the Hugging Face cache.

    Raises:
        ModelNotFoundError: `model_id` is neither an alias nor a hub id.
        DownloadError: the hub is switched off, cannot be reached, refuses, or has no such model; or
            what is here cannot be read.
    """
    source = open_source(model_id, revision, token)
    commit, licence, files = _ask(source)
    store = Store.in_cache(source.repo, commit) if local_dir is None else Store.in_folder(local_dir)
    with disk_errors(store.folder):
        missing = tuple(file for file in files if not store.has(file))
        missing_bytes = sum(file.size_bytes - store.part_bytes(file) for file in missing)
    total_bytes = sum(file.size_bytes for file in files)
    return DownloadPlan(source, commit, licence, files, store, missing, total_bytes, total_bytes - missing_bytes)


def _ask(source: Source) -> tuple[str, str, tuple[HubFile, ...]]:
    """Ask the hub for commit, licence and files of a revision."""
    from huggingface_hub.hf_api import ModelInfo

    try:
        # One request tells all; a dry run of the library asks for each file, and knows no hash and no licence.
        info = ModelInfo(**json.loads(_read_answer(source)))
        commit = str(info.sha)
        if is_commit(commit):
            return commit, _licence(source.repo, info.card_data), _select(source, info)
    except (transport_error(), OSError) as exc:
        raise explain(source, exc) from exc
    # What a page that is not a hub (a proxy's login page, a wrong HF_ENDPOINT) makes of the parser.
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as exc:
        raise not_a_hub(source) from exc
    raise not_a_hub(source)


def _read_answer(source: Source) -> bytes:
    """Read what the hub says of a revision; the library's own call takes an answer of any length, for any time.

    Raises:
        DownloadError: the answer is too long, or takes too long.
        Exception: whatever the HTTP client below the library raises.
    """
    # The library leaves the parameters of its own types open.
    from huggingface_hub.utils import get_session, hf_raise_for_status  # pyright: ignore[reportUnknownVariableType]

    url = f"{source.endpoint}/api/models/{source.repo}/revision/{quote(source.revision, safe='')}"
    options = {"headers": dict(source.headers), "params": {"blobs": True}, "timeout": _PLAN_TIMEOUT_S}
    # The client is that of requests below version 1 of the library, and of httpx since.
    session: Any = get_session()
    is_httpx = callable(getattr(session, "stream", None))  # requests has a flag of that name
    deadline = time.monotonic() + _PLAN_DEADLINE_S
    with session.stream("GET", url, **options) if is_httpx else session.get(url, stream=True, **options) as answer:
        hf_raise_for_status(answer)
        content = bytearray()
        for piece in answer.iter_bytes() if is_httpx else answer.iter_content(None):
            content += piece
            if len(content) > _MAX_PLAN_BYTES or time.monotonic() > deadline:
                raise too_much(source)
    return bytes(content)


def _select(source: Source, info: ModelInfo) -> tuple[HubFile, ...]:
    """Choose the files that are needed, the weights last."""
    files: list[HubFile] = []
    for sibling in info.siblings or ():
        name = sibling.rfilename
        if name in REQUIRED_FILES or name in _OPTIONAL_FILES or _VOICE_FILE.fullmatch(name):
            size = sibling.lfs.size if sibling.lfs is not None else sibling.size
            digest = sibling.lfs.sha256 if sibling.lfs is not None else sibling.blob_id
            if not isinstance(size, int) or size < 0 or not _DIGEST.fullmatch(str(digest)):
                raise not_a_hub(source)
            files.append(HubFile(name, size, str(digest)))
    names = {file.name for file in files}
    if len(names) < len(files) or len(files) > _MAX_FILES:
        raise not_a_hub(source)
    missing = [name for name in REQUIRED_FILES if name not in names]
    if not any(name.startswith(f"{VOICE_FOLDER}/") for name in names):
        missing.append(f"{VOICE_FOLDER}/*")
    if missing:
        raise DownloadError(
            f"{source.repo} at {source.revision} has no {', '.join(missing)}; a Voxtral TTS repository holds "
            f"{', '.join(REQUIRED_FILES)} and {VOICE_FOLDER}/*; check the id and the revision "
            f"(the original model is {CANONICAL_ID})"
        )
    return tuple(sorted(files, key=lambda file: (file.name == WEIGHTS_FILE, file.name)))


def _licence(repo: str, card: Any) -> str:
    """Name the licence of a model card the way people write it: `cc-by-nc-4.0` is CC BY-NC 4.0."""
    name = getattr(card, "license", None)
    if name == "other":
        name = getattr(card, "license_name", None) or name
    if isinstance(name, list):
        name = ", ".join(str(part) for part in cast("list[object]", name))
    if not name:
        return _CANONICAL_LICENCE if repo == CANONICAL_ID else ""
    match = re.fullmatch(r"cc-(by[a-z-]*)-(\d\.\d)", str(name))
    return f"CC {match[1].upper()} {match[2]}" if match else str(name)
