"""Where users' voices are kept. This version keeps none."""

from __future__ import annotations

from pathlib import Path


class VoiceStore:
    """A folder of voices."""

    def __init__(self, folder: Path, max_voices: int = 1000) -> None:
        self.folder = folder
        self.max_voices = max_voices

    def find(self, name: str) -> None:
        """Find a voice by name or id."""
        return
