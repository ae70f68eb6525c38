"""What vLLM-Omni's clients may ask for, in a batch and over the socket."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from voxtral import options
from voxtral.server.body import decode_clip
from voxtral.server.errors import HttpError
from voxtral.server.schema import AudioFormat, OptionalInt, OptionalStr, SpeechFields, Switch, or_default
from voxtral.server.service import SpeechOrder, SpeechService

MAX_ITEMS = 32

Granularity = Literal["none", "sentence", "clause"]


class OmniFields(SpeechFields):
    """What an utterance may be asked for in a batch and over the socket."""

    voice: OptionalStr = Field(None, validation_alias=AliasChoices("voice", "speaker"), description="Who speaks.")
    response_format: Annotated[AudioFormat, or_default("wav")] = "wav"
    max_frames: OptionalInt = Field(
        None,
        validation_alias=AliasChoices("max_frames", "max_new_tokens"),
        ge=options.MAX_FRAMES.low,
        le=options.MAX_FRAMES.high,
        description=options.MAX_FRAMES.field_help,
    )
    ref_audio: OptionalStr = Field(None, description="A clip to clone, in base64 or as a data: URL; never fetched.")
    speaker_embedding: list[float] | None = Field(None, description="Refused: voices are no vectors here.")

    def order(self, service: SpeechService, text: str, *, is_held: bool) -> SpeechOrder:
        """Make an order of it.

        Raises:
            HttpError: 400, the clip is none, or a vector is given.
        """
        if self.speaker_embedding is not None:
            raise HttpError(
                400,
                "speaker_embedding is given; voices of this model are no vectors; send voice or ref_audio",
                code="invalid_option",
                param="speaker_embedding",
            )
        clip = None
        if self.ref_audio:
            clip = decode_clip(self.ref_audio, service.options.max_upload_bytes, "ref_audio").data
        asked = self.speech_request(text, self.voice, clip, service.options.normalize, service.dictionaries)
        return SpeechOrder(
            asked,
            format=self.response_format,
            sample_rate=self.sample_rate,
            is_held=is_held,
            ignored=self.unknown_fields,
        )


class BatchFields(BaseModel):
    """The body of POST /v1/audio/speech/batch: items, and beside them what holds for all."""

    model_config = ConfigDict(extra="allow")

    items: list[dict[str, Any]] = Field(
        min_length=1, max_length=MAX_ITEMS, description="Each with its input, and what it wants otherwise."
    )
    model: OptionalStr = Field(None, description="A name of GET /v1/models.")


class SessionFields(OmniFields):
    """The first message over the socket, and any between two utterances."""

    model: OptionalStr = None
    stream_audio: Annotated[Switch, or_default(False)] = False
    word_timestamps: Annotated[Switch, or_default(False)] = False
    split_granularity: Annotated[Granularity, or_default("none")] = "none"
