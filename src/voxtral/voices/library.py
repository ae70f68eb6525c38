"""VoiceLibrary: finds the voice that a caller means: a preset, a saved voice, one at hand, or a blend."""

# pyright: reportUnnecessaryIsInstance=false
# (callers without a type checker pass anything)

from __future__ import annotations

import os
import threading
from pathlib import Path

from voxtral.config import ModelConfig
from voxtral.engine.process import BoundToProcess
from voxtral.errors import VoiceError, VoiceUnreadableError, quoted
from voxtral.types import OneVoice, Voice, VoiceBlend
from voxtral.voices.blend import find_blend
from voxtral.voices.blend_rows import blend_voices
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
        """Find a preset by name, read a saved voice by path, check a VoicePrompt, or blend such voices.

        Raises:
            VoiceError: there is no such voice, it does not fit this checkpoint, or a blend breaks a rule.
            VoiceUnreadableError: its file cannot be read now.
            EngineStoppedError: this is a forked child.
        """
        self.check_process()
        if not isinstance(voice, VoiceBlend):
            blend = find_blend(voice, self._paths)
            if blend is None:
                return self._load_one(voice)
            voice = blend
        return blend_voices([(self._load_one(part), weight) for part, weight in voice.parts])

    def _load_one(self, voice: OneVoice) -> VoicePrompt:
        if isinstance(voice, VoicePrompt):
            check_voice(voice, self._config)
            return voice
        name = os.fspath(voice) if isinstance(voice, str | os.PathLike) else None
        if not isinstance(name, str):
            raise VoiceError(
                f"voice is {quoted(voice)}; it must be a preset's name, the path of a saved voice, a VoicePrompt or "
                "a VoiceBlend"
            )
        if name in self._paths:
            with self._lock:
                if name not in self._loaded:
                    self._loaded[name] = self._load_preset(name)
                return self._loaded[name]
        if name.endswith(".safetensors"):
            return load_voice(name, self._config)
        known = ", ".join(self._paths) or "none"
        raise VoiceError(
            f"voice {quoted(name)} is unknown; this checkpoint has: {known}; name one of them or the path of a saved "
            ".safetensors voice"
        )

    def _load_preset(self, name: str) -> VoicePrompt:
        try:
            return load_voice(self._paths[name], self._config)
        except VoiceUnreadableError as error:
            # Clients of a server read this too, and where a checkpoint lies is not for them.
            reason = getattr(error.__cause__, "strerror", None) or type(error.__cause__).__name__
            raise VoiceUnreadableError(
                f"the preset {name} cannot be read now ({reason}); its file must be readable; check the checkpoint's "
                "permissions and the disk, or try again"
            ) from error

    def is_preset(self, voice: VoicePrompt) -> bool:
        """Tell whether a voice is one that `load` read from the checkpoint."""
        return self._loaded.get(voice.name) is voice
