"""What is known of a checkpoint when it is loaded, and what its engine must measure for that. No torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from voxtral.align.alignment import Alignment, find_alignment
from voxtral.engine.options import EngineOptions
from voxtral.loading.checkpoint import Checkpoint, shared_fingerprint


def known_alignment(checkpoint: Checkpoint, warn: Callable[[str], None]) -> Alignment | None:
    """Look for the alignment of a checkpoint; None where it is unknown, or known to have none.

    Args:
        checkpoint: opened.
        warn: is told of files that cannot be used.
    """
    found = find_alignment(checkpoint.folder, shared_fingerprint(checkpoint), checkpoint.config.backbone, warn)
    return found if found is not None and found.has_aligner else None


def follow_text(options: EngineOptions, alignment: Alignment | None) -> EngineOptions:
    """Let an engine measure what the heads of an alignment see of the text."""
    return options if alignment is None else replace(options, text_heads=alignment.heads)
