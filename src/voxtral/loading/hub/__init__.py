"""Model names, the local Hugging Face cache, and downloads; the only folder that touches the network.

It knows files by name, size and hash and never opens what is inside them. huggingface_hub is imported
when a hub is asked, not before. Read next: names.py and cache.py; the path of a download is source.py,
plan.py, fetch.py. What finds and loads a model: locate.py and checkpoint.py, beside this folder.
"""

from __future__ import annotations

from voxtral.loading.hub.cache import describe_search, find_cached
from voxtral.loading.hub.fetch import download
from voxtral.loading.hub.names import ALIASES, CANONICAL_ID, PINNED_REVISION, canonical_id, require_id
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
