"""From the keywords of `synthesize` to a SpeechRequest, and the rules that need no model to be checked.

Everybody who takes options from a person comes here: Python, the command line and batches. What there is to check is
in `voxtral.options`. Read next: `voxtral.speech.planner`, which checks the rest.
"""

# pyright: reportUnnecessaryIsInstance=false
# (callers without a type checker pass anything)

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from voxtral.errors import OptionError, quoted
from voxtral.options import OPTIONS, POSITIONAL, Option, SpeechOptions
from voxtral.text.dictionary import load_dictionary
from voxtral.types import SamplingOptions, SpeechRequest

if TYPE_CHECKING:
    from voxtral.audio.source import AudioSource


def check_options(request: SpeechRequest) -> None:
    """Check what can be checked of a request without a model.

    Raises:
        OptionError: an option is outside its range, or two exclude each other.
    """
    if not isinstance(request.sampling, SamplingOptions):
        raise OptionError(f"sampling is {quoted(request.sampling)}; it must be SamplingOptions")
    for option in OPTIONS:
        check_option(option, option.value_in(request))
    if request.reference_audio is not None and request.voice is not None:
        raise OptionError("both voice and reference_audio are given; a request has one voice; leave one out")


def check_option(option: Option, value: Any) -> None:
    """Refuse a value that an option cannot have.

    Raises:
        OptionError: it is of another kind or outside the range.
        DictionaryError: a dictionary cannot be read, or breaks a rule.
    """
    if option.kind == "choice":
        if value not in option.choices:
            choices = " or ".join(f'"{choice}"' for choice in option.choices)
            raise OptionError(f"{option.name} is {quoted(value)}; it must be {choices}")
    elif option.kind == "switch":
        if not isinstance(value, bool | np.bool_):
            raise OptionError(f"{option.name} is {quoted(value)}; it must be true or false")
    elif option.kind == "dictionary":
        if value is not None:
            load_dictionary(value)
    elif option.low is not None and option.high is not None:
        if value is None and option.default is not None:
            raise OptionError(f"{option.name} is None; it must be a number; leave it out for the default")
        check_number(option.name, value, option.low, option.high, whole=option.kind == "whole")


def make_request(
    text: str,
    language: str | None = None,
    reference_audio: AudioSource | None = None,
    **options: Unpack[SpeechOptions],
) -> SpeechRequest:
    """Build a request from the keywords of `synthesize`.

    Raises:
        OptionError: a keyword is unknown.
    """
    known = [option for option in OPTIONS if option not in POSITIONAL]
    unknown = sorted(set(options) - {option.name for option in known})
    if unknown:
        raise OptionError(
            f"option {quoted(unknown[0])} is unknown; known are {', '.join(option.name for option in known)}; "
            "check the spelling"
        )
    values: dict[str, Any] = {"text": text, "language": language, "reference_audio": reference_audio}
    sampling: dict[str, Any] = {}
    for option in known:
        folder, _, name = (option.place or option.name).rpartition(".")
        (sampling if folder else values)[name] = options.get(option.name, option.default)
    return SpeechRequest(**values, sampling=SamplingOptions(**sampling))


def check_number(name: str, value: Any, low: float, high: float, *, whole: bool = False) -> None:
    """Refuse a value that is no number of a range; None passes, for "not given".

    Raises:
        OptionError: it is of another kind or outside.
    """
    if value is None:
        return
    given: object = value
    kinds = (int, np.integer) if whole else (int, float, np.integer, np.floating)
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        kind = "whole number" if whole else "number"
        raise OptionError(f"{name} is {quoted(given)}; it must be a {kind} from {low} to {high}")
