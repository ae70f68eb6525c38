"""Which voice a name means: a preset, a voice that was stored, or an OpenAI name. Never a path.

The thirteen names of OpenAI's voices stand for presets of whatever checkpoint is loaded, of the language of the
request where it says one. Case does not count, unless two presets differ in nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Literal

from voxtral.config import ModelConfig
from voxtral.errors import VoiceError, VoiceNameTakenError, quoted
from voxtral.text.language import resolve_language
from voxtral.types import VoiceBlend
from voxtral.voices.blend import parse_blend
from voxtral.voices.facts import StoredVoice, VoiceFacts, fold_name
from voxtral.voices.presets import VoiceInfo
from voxtral.voices.prompt import VoicePrompt
from voxtral.voices.store import VoiceStore

Gender = Literal["female", "male", ""]

# Source: OpenAI's list of voices; the genders are how they sound.
OPENAI_VOICES: Mapping[str, Gender] = MappingProxyType(
    {
        "alloy": "female",
        "ash": "male",
        "ballad": "male",
        "cedar": "male",
        "coral": "female",
        "echo": "male",
        "fable": "male",
        "marin": "female",
        "nova": "female",
        "onyx": "male",
        "sage": "female",
        "shimmer": "female",
        "verse": "male",
    }
)


class VoiceBook:
    """The voices of one model; it does not keep the model in memory.

    Attributes:
        store: voices that users made.

    Args:
        config: of the checkpoint.
        presets: the checkpoint's own voices.
    """

    def __init__(self, config: ModelConfig, presets: Iterable[VoiceInfo], store: VoiceStore) -> None:
        self.store = store
        self._config = config
        self._presets = {voice.name: voice for voice in presets}
        self._folded_presets = {fold_name(name): name for name in self._presets}

    @property
    def presets(self) -> tuple[VoiceInfo, ...]:
        """The checkpoint's own voices."""
        return tuple(self._presets.values())

    def resolve(self, name: str | None, language: str | None) -> str | VoicePrompt | VoiceBlend | None:
        """Find what `SpeechRequest.voice` takes for a name, or for a blend of names; None is left to the language.

        Raises:
            VoiceError: nobody has that name, or a blend breaks a rule.
        """
        if name is None:
            return None
        blend = parse_blend(name)
        if blend is None:
            return self._resolve_one(name, language)
        return VoiceBlend(tuple((self._resolve_one(str(part), language), weight) for part, weight in blend.parts))

    def _resolve_one(self, name: str, language: str | None) -> str | VoicePrompt:
        folded = fold_name(name)
        if name in self._presets or folded in self._folded_presets:
            return name if name in self._presets else self._folded_presets[folded]
        stored = self.store.find(name)
        if stored is not None:
            return self.store.load(stored.id, self._config)
        if folded in OPENAI_VOICES and self._presets:
            return self.preset_for(folded, language)
        if self.store.is_reserved(name):
            raise VoiceError(
                f"voice {quoted(name)} is still being made; GET /v1/audio/voices/{{id}} tells how far it is; try again "
                "when it is ready"
            )
        known = ", ".join(self._presets) or "none"
        raise VoiceError(
            f"voice {quoted(name)} is unknown; this checkpoint has: {known}; the names of OpenAI's voices stand for "
            "some of them; GET /v1/audio/voices lists all, with those that were added"
        )

    def find(self, name_or_id: str) -> VoiceInfo | StoredVoice | None:
        """Find a preset by its name, or a stored voice by its name or id; OpenAI's names are no voices of their own."""
        name = self._folded_presets.get(fold_name(name_or_id), name_or_id)
        return self._presets.get(name_or_id) or self._presets.get(name) or self.store.find(name_or_id)

    def check_new(self, name: str) -> str:
        """Check that a voice of that name may be stored, and return the name as it would be kept.

        OpenAI's names may: a stored voice goes before what they stand for.

        Raises:
            VoiceError: as `VoiceStore.check_new`; also if a preset has the name.
        """
        self._check_no_preset(name)
        return self.store.check_new(name)

    def reserve(self, name: str) -> str:
        """Keep a name for a voice that is still being made; return the id that it will have.

        Raises:
            VoiceError: as `check_new`.
        """
        self._check_no_preset(name)
        return self.store.reserve(name)

    def add(self, voice: VoicePrompt, facts: VoiceFacts, voice_id: str | None = None) -> StoredVoice:
        """Store a voice, under the id that `reserve` gave for it or a new one.

        Raises:
            VoiceError: as `check_new`.
            VoiceStoreError: the folder of voices cannot be written.
        """
        self._check_no_preset(facts.name)
        return self.store.add(voice, facts, voice_id)

    def change(self, voice_id: str, *, name: str | None, language: str | None, description: str | None) -> StoredVoice:
        """Change what is given of a stored voice.

        Raises:
            VoiceError: as `VoiceStore.change`; also if a preset has the name.
            VoiceStoreError: the folder of voices cannot be written.
        """
        if name is not None:
            self._check_no_preset(name)
        return self.store.change(voice_id, self._config, name=name, language=language, description=description)

    def _check_no_preset(self, name: str) -> None:
        if fold_name(name) in self._folded_presets:
            raise VoiceNameTakenError("a preset has that name, but for the case; choose another name")

    def preset_for(self, openai_name: str, language: str | None) -> str:
        """Choose the preset that stands for an OpenAI name, in a language where there is one."""
        wanted = resolve_language(language) if language else "en"
        fitting = [voice for voice in self.presets if voice.language == wanted] or list(self.presets)
        gender = OPENAI_VOICES[openai_name]
        choices = [voice.name for voice in fitting if gender_of(voice.name) == gender] or [fitting[0].name]
        namesakes = [name for name, other in OPENAI_VOICES.items() if other == gender]
        return choices[namesakes.index(openai_name) % len(choices)]


def gender_of(name: str) -> Gender:
    """Read the gender out of a preset's name, such as casual_female or en_m1.

    >>> gender_of("casual_female"), gender_of("en_m1"), gender_of("robot")
    ('female', 'male', '')
    """
    for part in name.lower().split("_"):
        if part == "female" or (part[:1] == "f" and part[1:].isdigit()):
            return "female"
        if part == "male" or (part[:1] == "m" and part[1:].isdigit()):
            return "male"
    return ""
