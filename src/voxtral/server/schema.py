"""The fields that speech can be asked for, as pydantic models, and what is said when they are wrong.

Dialects share these; each adds what its clients call otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from voxtral.server.errors import HttpError
from voxtral.types import SamplingOptions, SpeechRequest

# More problems at once than these help nobody.
_MAX_PROBLEMS = 8

Model = TypeVar("Model", bound=BaseModel)

AudioFormat = Literal["mp3", "opus", "aac", "flac", "wav", "pcm"]


def _empty_is_none(value: Any) -> Any:
    """Take the empty string of a form for a field that was left out."""
    return None if value == "" else value


OptionalStr = Annotated[str | None, BeforeValidator(_empty_is_none)]


class SpeechFields(BaseModel):
    """What every dialect may set besides the text and the voice; unknown fields are kept, to be named in a header."""

    model_config = ConfigDict(extra="allow")

    language: OptionalStr = Field(None, description="Chooses the default voice; it is no input of the model.")
    speed: Annotated[float, BeforeValidator(lambda value: 1.0 if value in ("", None) else value)] = Field(
        1.0, ge=0.25, le=4.0, description="The pitch stays."
    )
    seed: Annotated[int | None, BeforeValidator(_empty_is_none)] = Field(
        None, ge=0, le=2**63 - 1, description="The same seed gives the same speech."
    )
    guidance_scale: Annotated[float | None, BeforeValidator(_empty_is_none)] = Field(None, ge=0.0, le=10.0)
    max_frames: Annotated[int | None, BeforeValidator(_empty_is_none)] = Field(
        None, ge=1, le=2**31, description="Cuts each part of the text after so many frames of 80 ms."
    )
    normalize: Annotated[Literal["off", "auto"] | None, BeforeValidator(_empty_is_none)] = Field(
        None, description="auto writes numbers as words and drops markup."
    )
    stream: Annotated[bool | None, BeforeValidator(_empty_is_none)] = Field(
        None, description="false makes all of it first, and tells length and statistics in headers."
    )

    def speech_request(
        self, text: str, voice: str | None, reference: bytes | None, normalize: Literal["off", "auto"]
    ) -> SpeechRequest:
        """Build what the library takes; `normalize` is for a request that does not say."""
        return SpeechRequest(
            text=text,
            language=self.language,
            voice=voice,
            reference_audio=reference,
            normalize=self.normalize or normalize,
            sampling=SamplingOptions(guidance_scale=self.guidance_scale, max_frames=self.max_frames),
            seed=self.seed,
            speed=self.speed,
        )

    @property
    def unknown_fields(self) -> tuple[str, ...]:
        """Names that were sent and mean nothing here."""
        return tuple(self.model_extra or ())


def validate(model: type[Model], fields: Mapping[str, Any]) -> Model:
    """Make a model of fields that came as a form, as a query or as JSON.

    Raises:
        HttpError: 400, they break its rules.
    """
    try:
        return model.model_validate(dict(fields))
    except ValidationError as error:
        raise invalid(error.errors()) from error


def invalid(problems: Iterable[Mapping[str, Any]]) -> HttpError:
    """Say what is wrong with fields, without quoting them.

    >>> invalid([{"loc": ("body", "speed"), "msg": "Input should be a valid number", "type": ""}]).detail
    'speed: Input should be a valid number; correct the request'
    """
    said, places = [], []
    for problem in problems:
        if problem["type"] == "json_invalid":
            return HttpError(400, "the body is no JSON; it must be an object of fields", code="invalid_json")
        place = ".".join(str(part) for part in problem["loc"] if part not in ("body", "query", "path"))
        places.append(place)
        said.append(f"{place or 'the body'}: {problem['msg']}")
    message = f"{'; '.join(said[:_MAX_PROBLEMS])}; correct the request"
    return HttpError(400, message, code="invalid_request", param=places[0] if places else None)
