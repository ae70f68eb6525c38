"""Names of models and revisions, told apart without disk or network."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from voxtral.errors import ModelNotFoundError

CANONICAL_ID = "mistralai/Voxtral-4B-TTS-2603"
PINNED_REVISION = "b81be46c3777f88621676791b512bb01dc1cb970"
ALIASES: Mapping[str, str] = MappingProxyType(
    {"mistralai/Voxtral-TTS": CANONICAL_ID, "4b": CANONICAL_ID, "4B": CANONICAL_ID}
)

# Source: the naming rules of the hub, as huggingface_hub checks them before each request.
_REPO_ID = re.compile(r"\w(?:[\w.-]{0,94}\w)?/\w(?:[\w.-]{0,94}\w)?", re.ASCII)
_REVISION = re.compile(r"\w[\w.+/-]*", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")


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


def require_id(model: str) -> str:
    """Resolve an alias, or return a hub id unchanged, as `canonical_id` does.

    Raises:
        ModelNotFoundError: `model` is neither.
    """
    repo = canonical_id(model)
    if repo is None:
        raise ModelNotFoundError(
            f"{model!r} names no model: it is no folder here, no hub id (owner/name) and no alias; "
            f"give the path of a model folder, a hub id such as {CANONICAL_ID}, or `4b`"
        )
    return repo


def is_revision(name: str) -> bool:
    """Tell whether a branch, tag or commit can have this name, which then is safe in a path."""
    return _REVISION.fullmatch(name) is not None and ".." not in name


def is_commit(name: str) -> bool:
    """Tell whether a revision is a commit, which never changes."""
    return _COMMIT.fullmatch(name) is not None
