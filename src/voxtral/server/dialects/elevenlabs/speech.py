"""What ElevenLabs' clients ask for, as an order; formats by their names; characters with their times."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from voxtral.audio.writers import bit_rates_of
from voxtral.captions.alignment import Alignment
from voxtral.server.errors import HttpError
from voxtral.server.schema import OptionalInt, OptionalStr, unknown_fields
from voxtral.server.service import SpeechOrder, SpeechService
from voxtral.speech.request import make_request
from voxtral.text.dictionary import Dictionary, joined
from voxtral.types import Normalize

DEFAULT_FORMAT = "mp3_44100_128"

# The rates that each kind may have in a name.
_RATES: Mapping[str, tuple[int, ...]] = {
    "mp3": (22050, 24000, 44100),
    "pcm": (8000, 16000, 22050, 24000, 32000, 44100, 48000),
    "wav": (8000, 16000, 22050, 24000, 32000, 44100, 48000),
    "ulaw": (8000,),
    "alaw": (8000,),
    "opus": (48000,),
}
# The bit rates behind them, in kbit/s, of the kinds that have one; below 32 kHz mp3 ends at 160.
_BIT_RATES: Mapping[str, tuple[int, ...]] = {"mp3": (32, 48, 64, 96, 128, 192), "opus": (32, 64, 96, 128, 192)}
_FORMAT = re.compile(r"([a-z0-9]+)_([0-9]{4,5})(?:_([0-9]{2,3}))?")
_MAX_DICTIONARIES = 3

# What is accepted, says nothing to this model, and is named as ignored.
_SETTINGS_WITHOUT_EFFECT = ("stability", "similarity_boost", "style", "use_speaker_boost")


class VoiceSettings(BaseModel):
    """How a voice is to speak; only its speed has an effect."""

    model_config = ConfigDict(extra="allow")

    speed: float | None = Field(None, ge=0.25, le=4.0)


class DictionaryLocator(BaseModel):
    """A dictionary of GET /v1/dictionaries; versions are not kept."""

    model_config = ConfigDict(extra="allow")

    pronunciation_dictionary_id: str = Field(max_length=256)
    version_id: OptionalStr = None


class ElevenFields(BaseModel):
    """The body of a request; fields that are not here have no effect, and are named in a header."""

    model_config = ConfigDict(extra="allow")

    text: str = Field(description="What to speak.")
    model_id: OptionalStr = Field(None, description="Accepted; the loaded model speaks.")
    language_code: OptionalStr = Field(None, description="Two letters.")
    voice_settings: VoiceSettings | None = None
    seed: OptionalInt = Field(None, ge=0, le=2**32 - 1)
    apply_text_normalization: Literal["auto", "on", "off"] | None = Field(
        None, description="auto and on write numbers out; off leaves all but white space as it is."
    )
    pronunciation_dictionary_locators: list[DictionaryLocator] | None = Field(None, max_length=_MAX_DICTIONARIES)

    def order(
        self, service: SpeechService, voice_id: str, output_format: str, *, is_held: bool, timestamps: bool
    ) -> SpeechOrder:
        """Make an order of it; the text may be empty, where it comes in pieces.

        Raises:
            HttpError: 400, there is no such format; 404, there is no such dictionary.
            RequestError: an option breaks a rule.
        """
        format, rate, bit_rate = parse_format(output_format)
        settings = self.voice_settings or VoiceSettings(speed=None)
        ignored = [name for name in _SETTINGS_WITHOUT_EFFECT if (settings.model_extra or {}).get(name) is not None]
        request = make_request(
            self.text,
            self.language_code,
            voice=voice_id,
            seed=self.seed,
            speed=1.0 if settings.speed is None else settings.speed,
            normalize=self._normalize(service),
            dictionary=self._dictionary(service),
            timestamps=timestamps,
        )
        return SpeechOrder(
            request,
            format=format,
            sample_rate=rate,
            bit_rate=bit_rate,
            is_held=is_held,
            ignored=(*ignored, *(["model_id"] if self.model_id else []), *unknown_fields(self)),
        )

    def _normalize(self, service: SpeechService) -> Normalize:
        if self.apply_text_normalization is None:
            return service.options.normalize
        return "clean" if self.apply_text_normalization == "off" else "auto"

    def _dictionary(self, service: SpeechService) -> Dictionary | None:
        whole: Dictionary | None = None
        for locator in self.pronunciation_dictionary_locators or ():
            whole = joined(whole, service.dictionaries.get(locator.pronunciation_dictionary_id).dictionary)
        return whole


def parse_format(name: str) -> tuple[str, int, int | None]:
    """Read the name of a format: ours, its rate, and its bit rate in bit/s, where it names one.

    Raises:
        HttpError: 400, there is none of that name: clients take what comes for what they have named.

    >>> parse_format("mp3_44100_128"), parse_format("ulaw_8000")
    (('mp3', 44100, 128000), ('ulaw', 8000, None))
    """
    found = _FORMAT.fullmatch(name)
    if found is None or int(found[2]) not in _RATES.get(found[1], ()) or not _has_bit_rate(found):
        known = "; ".join(f"{kind} at {', '.join(map(str, rates))}" for kind, rates in _RATES.items())
        known += "".join(f"; {kind} of {', '.join(map(str, rates))} kbit/s" for kind, rates in _BIT_RATES.items())
        raise HttpError(
            400,
            f"the output_format is none that is known here; there are {known}, named such as {DEFAULT_FORMAT}",
            code="unsupported_format",
            param="output_format",
        )
    return found[1], int(found[2]), 1000 * int(found[3]) if found[3] else None


def _has_bit_rate(found: re.Match[str]) -> bool:
    """Tell whether the bit rate in a name is one of its kind and rate; ours is taken where there is none."""
    if found[3] is None:
        return True
    known = bit_rates_of(found[1], int(found[2]))
    return known is not None and int(found[3]) in _BIT_RATES[found[1]] and 1000 * int(found[3]) <= known[1]


def in_seconds(alignment: Alignment) -> dict[str, Any] | None:
    """Write it as over HTTP; None where there is none."""
    return alignment.to_dict() if alignment.characters else None


def in_milliseconds(alignment: Alignment, since_s: float = 0.0) -> dict[str, Any] | None:
    """Write it as over sockets, from a moment on; None where there is none."""
    if not alignment.characters:
        return None
    starts = [max(0, round(1000 * (start - since_s))) for start in alignment.start_times_s]
    ends = [max(0, round(1000 * (end - since_s))) for end in alignment.end_times_s]
    return {
        "chars": list(alignment.characters),
        "charStartTimesMs": starts,
        "charDurationsMs": [end - start for start, end in zip(starts, ends, strict=True)],
    }
