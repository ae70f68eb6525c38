"""Model names, the local Hugging Face cache, and downloads; the only folder that touches the network.

It knows files by name, size and hash and never opens what is inside them. huggingface_hub is imported
when a hub is asked, and what asks it when a download is wanted, not before. Read next: names.py and cache.py; the
path of a download is source.py, plan.py, fetch.py. What finds and loads a model: locate.py and checkpoint.py, beside
this folder.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from voxtral.loading.hub.cache import describe_search, find_cached
from voxtral.loading.hub.names import ALIASES, CANONICAL_ID, PINNED_REVISION, canonical_id, require_id

if TYPE_CHECKING:
    from voxtral.loading.hub.fetch import download
    from voxtral.loading.hub.plan import DownloadPlan, plan_download

__all__ = [
    "ALIASES",
    "CANONICAL_ID",
    "PINNED_REVISION",
    "DownloadPlan",
    "canonical_id",
    "describe_search",
    "download",
    "find_cached",
    "plan_download",
    "require_id",
]

_HOMES = {
    "DownloadPlan": "voxtral.loading.hub.plan",
    "download": "voxtral.loading.hub.fetch",
    "plan_download": "voxtral.loading.hub.plan",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'voxtral.loading.hub' has no attribute {name!r}")
