"""Where a download comes from: everything that can be checked before a hub is asked.

Read next: plan.py, which asks.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from voxtral.errors import DownloadError
from voxtral.loading.hub.cache import describe_search, find_cached
from voxtral.loading.hub.names import CANONICAL_ID, PINNED_REVISION, is_revision, require_id

_PUBLIC_HUB = "https://huggingface.co"
_AUTHORIZATION = re.compile(r"Bearer [\x21-\x7e]+")


@dataclass(frozen=True)
class Source:
    """A revision of a repository, as it was asked for, and the hub that has it.

    Attributes:
        repo: the hub id, aliases resolved.
        revision: a branch, tag or commit.
        endpoint: the address of the hub, which may carry a password.
        headers: sent with each request, a token among them.
    """

    repo: str
    revision: str
    # Hidden, so that no traceback or log shows what is secret in them.
    endpoint: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)

    @property
    def host(self) -> str:
        """Return host and port of the hub, which every message may show."""
        parts = urlsplit(self.endpoint)
        return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)


def open_source(model_id: str, revision: str | None, token: str | None) -> Source:
    """Check everything that can be checked without network.

    Raises:
        ModelNotFoundError: `model_id` is neither an alias nor a hub id.
        DownloadError: revision, token or address cannot be right, or the hub is switched off.
    """
    repo = require_id(model_id)
    if revision is not None and not is_revision(revision):
        raise DownloadError(
            f"revision {revision!r} of {model_id} cannot exist; a revision is a branch, a tag or a commit; "
            "leave it out, or copy it from the model page"
        )
    if is_offline():
        raise offline(model_id, revision)
    try:
        # The library leaves the parameters of its own types open.
        from huggingface_hub.utils import build_hf_headers  # pyright: ignore[reportUnknownVariableType]
    except ImportError as exc:
        raise DownloadError(
            f"{model_id} cannot be downloaded: huggingface_hub is not installed; downloads need it; "
            "run `pip install huggingface_hub`, or give the path of a model folder"
        ) from exc
    try:
        headers = build_hf_headers(token=token, library_name="voxtral-tts")
    except OSError as exc:
        raise DownloadError(
            f"the stored hub token cannot be read ({exc.strerror}); it is sent with each request; "
            "correct the permissions of the Hugging Face folder, or set HF_TOKEN"
        ) from exc
    # A header with other characters fails inside the client, with an error that quotes the token.
    if "authorization" in headers and not _AUTHORIZATION.fullmatch(headers["authorization"]):
        raise DownloadError(
            "the hub token has spaces, line breaks or characters outside ASCII, or is empty; a token is one word "
            "such as hf_...; set HF_TOKEN again, or remove it if the model needs none"
        )
    return Source(repo, revision or (PINNED_REVISION if repo == CANONICAL_ID else "main"), _endpoint(), headers)


def is_offline() -> bool:
    """Tell whether the user has switched the network off, as huggingface_hub reads it."""
    return os.getenv("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def offline(model_id: str, revision: str | None) -> DownloadError:
    """Explain that nothing is fetched in offline mode, and what is here."""
    cached = find_cached(model_id, revision=revision)
    found = f"a complete copy is in {cached}" if cached else f"no complete copy is in {describe_search(model_id)}"
    return DownloadError(
        f"{model_id} cannot be downloaded: offline mode is on, and {found}; no network is used in offline mode; "
        "unset HF_HUB_OFFLINE, or give the path of a model folder"
    )


def _endpoint() -> str:
    endpoint = os.getenv("HF_ENDPOINT", "").rstrip("/") or _PUBLIC_HUB
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
