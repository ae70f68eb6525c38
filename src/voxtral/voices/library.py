"""VoiceLibrary: finds the voice that a caller means, a preset by name, a saved voice by path, or one at hand."""

# pyright: reportUnnecessaryIsInstance=false
# (callers without a type checker pass anything)

from __future__ import annotations

import os
import threading
from pathlib import Path

from voxtral.config import ModelConfig
from voxtral.engine.process import BoundToProcess
from voxtral.errors import VoiceError
from voxtral.types import Voice
from voxtral.voices.presets import VoiceInfo, default_voice, describe_presets, list_presets
from voxtral.voices.prompt import VoicePrompt, check_voice, load_voice


class VoiceLibrary(BoundToProcess):
    """The voices of one checkpoint; safe to use from many threads. A preset is read once.

    Args:
        folder: of the checkpoint.
        config: of the checkpoint.
    """

    def __init__(self, folder: Path, config: ModelConfig) -> None:
        super().__init__()
        self._config = config
        self._paths = list_presets(folder)
        self._loaded: dict[str, VoicePrompt] = {}
        self._lock = threading.Lock()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the presets."""
        return tuple(self._paths)

    def describe(self) -> tuple[VoiceInfo, ...]:
        """List the presets."""
        return describe_presets(self._paths, self._config.languages)

    def default_for(self, language: str) -> str:
        """Choose the preset that speaks a language when no voice is named.

        Raises:
            VoiceError: the checkpoint has no presets at all.
        """
        return default_voice(self._paths, self._config.languages, language)

    def load(self, voice: Voice) -> VoicePrompt:
        """Find a preset by name, read a saved voice by path, or check a VoicePrompt.

        Raises:
            VoiceError: there is no such voice, or it does not fit this checkpoint.
            EngineStoppedError: this is a forked child.
        """
        self.check_process()
        if isinstance(voice, VoicePrompt):
            check_voice(voice, self._config)
            return voice
        name = os.fspath(voice) if isinstance(voice, str | os.PathLike) else None
        if not isinstance(name, str):
            raise VoiceError(
                f"voice is {voice!r}; it must be a preset's name, the path of a saved voice or a VoicePrompt"
            )
        if name in self._paths:
            with self._lock:
                if name not in self._loaded:
                    self._loaded[name] = load_voice(self._paths[name], self._config)
                return self._loaded[name]
        if name.endswith(".safetensors"):
            return load_voice(name, self._config)
        known = ", ".join(self._paths) or "none"
        raise VoiceError(
            f"voice {name!r} is unknown; this checkpoint has: {known}; name one of them or the path of a saved "
            ".safetensors voice"
        )

    def is_preset(self, voice: VoicePrompt) -> bool:
        """Tell whether a voice is one that `load` read from the checkpoint."""
        return self._loaded.get(voice.name) is voice
