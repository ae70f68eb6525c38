"""The fields that speech can be asked for, as pydantic models, and what is said when they are wrong.

Dialects share these; each adds what its clients call otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, TypeVar, cast

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from voxtral import options
from voxtral.audio.source import InlineClip
from voxtral.errors import shortened
from voxtral.options import Option
from voxtral.server.errors import HttpError
from voxtral.speech.request import make_request
from voxtral.text.dictionary import MAX_CHARS, Dictionary, dictionary_of
from voxtral.types import Emoji, Normalize, SpeechRequest, Verify

if TYPE_CHECKING:
    from voxtral.server.dictionary_store import DictionaryStore

# More problems at once than these help nobody, and neither do more names of fields.
_MAX_PROBLEMS = 8
_MAX_NAMES = 64

# Characters of a field that is neither what is to be spoken nor a clip.
_MAX_FIELD_CHARS = 4096
_LONG_FIELDS = ("input", "text", "ref_audio", "instructions")

# Rates that may be asked for, in Hz: those of telephones to those of studios.
_LOWEST_RATE, _HIGHEST_RATE = 8000, 48000

Model = TypeVar("Model", bound=BaseModel)

AudioFormat = Literal["mp3", "opus", "aac", "flac", "wav", "pcm"]


def _empty_is_none(value: Any) -> Any:
    """Take the empty string of a form for a field that was left out."""
    return None if value == "" else value


def _no_truth(value: Any) -> Any:
    """Refuse true and false for numbers, which Python takes for 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("it must be a number, not true or false")
    return value


def _truth(value: Any) -> Any:
    """Take true and false, in JSON as they are and in forms and queries as words, and nothing that is like them."""
    word = value.lower() if isinstance(value, str) else value
    if not isinstance(value, bool) and word not in ("true", "false"):
        raise ValueError("it must be true or false")
    return word in (True, "true")


def _auto_is_none(value: Any) -> Any:
    """Take "Auto", by which vLLM-Omni's clients leave a language open, for a field that was left out."""
    return None if isinstance(value, str) and value.strip().lower() in ("", "auto") else value


_EmptyIsNone = BeforeValidator(_empty_is_none)
_NoTruth = BeforeValidator(_no_truth)

OptionalStr = Annotated[str | None, _EmptyIsNone]
OptionalFloat = Annotated[float | None, _EmptyIsNone, _NoTruth]
OptionalInt = Annotated[int | None, _EmptyIsNone, _NoTruth]
Switch = Annotated[bool, BeforeValidator(_truth)]


def _field(option: Option, default: Any = None) -> Any:
    """Make the field of an option: its range and what is said of it are in `voxtral.options`."""
    return Field(default, ge=option.low, le=option.high, description=option.field_help)


def _default_for(option: Option) -> BeforeValidator:
    """Take what was left empty for the option's default."""
    return BeforeValidator(lambda value: option.default if value in ("", None) else value)


def or_default(default: Any) -> BeforeValidator:
    """Take null and the empty string for a default."""
    return BeforeValidator(lambda value: default if value in ("", None) else value)


class DictionaryRule(BaseModel):
    """What is said for a word."""

    model_config = ConfigDict(extra="forbid")

    written: str = Field(max_length=MAX_CHARS, description="As it stands in the text.")
    spoken: str = Field(max_length=MAX_CHARS, description="What is said for it, in words.")
    language: str | None = Field(None, description="Where it holds, such as en or en-GB; everywhere without it.")
    match: Literal["word", "anywhere"] | None = Field(None, description="word: not inside of a longer word.")
    case: Literal["exact", "ignore"] | None = Field(None, description="ignore: capitals and small letters alike.")


RuleList: TypeAlias = list[DictionaryRule] | dict[str, str]


def rules_of(rules: RuleList) -> Dictionary:
    """Make a dictionary of rules that came over HTTP.

    Raises:
        DictionaryError: they break a rule.
    """
    if isinstance(rules, dict):
        return dictionary_of(rules)
    return dictionary_of([rule.model_dump(exclude_none=True) for rule in rules])


class TextFields(BaseModel):
    """How a text is read."""

    language: Annotated[str | None, BeforeValidator(_auto_is_none)] = _field(options.LANGUAGE)
    normalize: Annotated[Normalize | None, _EmptyIsNone] = _field(options.NORMALIZE)
    ssml: Annotated[Switch, _default_for(options.SSML)] = _field(options.SSML, False)
    dictionary: Annotated[RuleList | str | None, _EmptyIsNone] = _field(options.DICTIONARY)
    emoji: Annotated[Emoji, _default_for(options.EMOJI)] = _field(options.EMOJI, options.EMOJI.default)

    def dictionary_given(self, store: DictionaryStore | None) -> Dictionary | None:
        """Find the rules that came with the request, or those that it names.

        Raises:
            HttpError: 404, no dictionary has that name.
            DictionaryError: rules break a rule.
        """
        if isinstance(self.dictionary, str):
            if store is None:
                raise HttpError(404, "no dictionaries are kept here; send the rules", code="dictionary_not_found")
            return store.get(self.dictionary).dictionary
        return None if self.dictionary is None else rules_of(self.dictionary)


class SpeechFields(TextFields):
    """What every dialect may set besides the text and the voice; unknown fields are kept, to be named in a header."""

    model_config = ConfigDict(extra="allow")

    speed: Annotated[float, _default_for(options.SPEED), _NoTruth] = _field(options.SPEED, options.SPEED.default)
    pause: Annotated[float, _default_for(options.PAUSE), _NoTruth] = _field(options.PAUSE, options.PAUSE.default)
    seed: OptionalInt = _field(options.SEED)
    guidance_scale: OptionalFloat = _field(options.GUIDANCE_SCALE)
    noise_scale: OptionalFloat = _field(options.NOISE_SCALE)
    num_euler_steps: OptionalInt = _field(options.NUM_EULER_STEPS)
    max_frames: OptionalInt = _field(options.MAX_FRAMES)
    timestamps: Annotated[Switch, _default_for(options.TIMESTAMPS)] = _field(options.TIMESTAMPS, False)
    verify: Annotated[Verify, _default_for(options.VERIFY)] = _field(options.VERIFY, options.VERIFY.default)
    max_attempts: Annotated[int, _default_for(options.MAX_ATTEMPTS), _NoTruth] = _field(
        options.MAX_ATTEMPTS, options.MAX_ATTEMPTS.default
    )
    keep_to_text: Annotated[Switch, _default_for(options.KEEP_TO_TEXT)] = _field(options.KEEP_TO_TEXT, True)
    sample_rate: OptionalInt = Field(
        None, ge=_LOWEST_RATE, le=_HIGHEST_RATE, description="Of the sound that is sent, in Hz; the model's by default."
    )
    stream: Annotated[bool | None, _EmptyIsNone] = Field(
        None, description="false makes all of it first, and tells length and statistics in headers."
    )

    def speech_request(
        self,
        text: str,
        voice: str | None,
        reference: bytes | None,
        normalize: Normalize,
        store: DictionaryStore | None = None,
    ) -> SpeechRequest:
        """Build what the library takes.

        Args:
            text: what is to be spoken.
            voice: who speaks.
            reference: a clip instead.
            normalize: for a request that does not say.
            store: where the dictionaries are that a request may name.

        Raises:
            HttpError: 404, no dictionary has that name.
            DictionaryError: rules break a rule.
        """
        return make_request(
            text,
            self.language,
            None if reference is None else InlineClip(reference),
            voice=voice,
            seed=self.seed,
            speed=self.speed,
            pause=self.pause,
            normalize=self.normalize or normalize,
            guidance_scale=self.guidance_scale,
            noise_scale=self.noise_scale,
            num_euler_steps=self.num_euler_steps,
            max_frames=self.max_frames,
            timestamps=self.timestamps,
            verify=self.verify,
            max_attempts=self.max_attempts,
            keep_to_text=self.keep_to_text,
            ssml=self.ssml,
            dictionary=self.dictionary_given(store),
            emoji=self.emoji,
        )

    @property
    def unknown_fields(self) -> tuple[str, ...]:
        """Names that were sent and mean nothing here."""
        return unknown_fields(self)


def unknown_fields(fields: BaseModel) -> tuple[str, ...]:
    """Name what was sent and means nothing here, each name no longer than names are, and no more than a form has."""
    return tuple(shortened(name) for name in islice(fields.model_extra or (), _MAX_NAMES))


def validate(model: type[Model], fields: Mapping[str, Any]) -> Model:
    """Make a model of fields that came as a form, as a query or as JSON.

    Raises:
        HttpError: 400, they break its rules.
    """
    _check_lengths(model, fields)
    try:
        return model.model_validate(dict(fields))
    except ValidationError as error:
        raise invalid(error.errors(include_url=False, include_context=False, include_input=False)) from error


def _check_lengths(model: type[BaseModel], fields: Mapping[str, Any]) -> None:
    """Refuse what is longer than a field can be before anything is done with it; texts and clips have other rules."""
    for name, field in model.model_fields.items():
        alias = field.validation_alias
        for given in alias.choices if isinstance(alias, AliasChoices) else (name,):
            value = fields.get(str(given))
            longest = max((len(text) for text in _texts_in(value)), default=0)
            if name not in _LONG_FIELDS and longest > _MAX_FIELD_CHARS:
                raise HttpError(
                    400,
                    f"{given} has {longest} characters; it may have {_MAX_FIELD_CHARS} at most; correct the request",
                    code="invalid_request",
                    param=str(given),
                )


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from (text for text in cast(dict[str, Any], value).values() if isinstance(text, str))


def invalid(problems: Iterable[Mapping[str, Any]]) -> HttpError:
    """Say what is wrong with fields, without quoting them.

    >>> invalid([{"loc": ("body", "speed"), "msg": "Input should be a valid number", "type": ""}]).detail
    'speed: Input should be a valid number; correct the request'
    """
    said: list[str] = []
    places: list[str] = []
    for problem in problems:
        if problem["type"] == "json_invalid":
            return HttpError(400, "the body is no JSON; it must be an object of fields", code="invalid_json")
        place = ".".join(shortened(str(part)) for part in problem["loc"] if part not in ("body", "query", "path"))
        places.append(place)
        said.append(f"{place or 'the body'}: {problem['msg']}")
    message = f"{'; '.join(said[:_MAX_PROBLEMS])}; correct the request"
    return HttpError(400, message, code="invalid_request", param=places[0] if places else None)
