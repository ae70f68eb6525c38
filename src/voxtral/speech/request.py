"""From the keywords of `synthesize` to a SpeechRequest, and the rules that need no model to be checked.

Everybody who takes options from a person comes here: Python, the command line and batches. Read next:
`voxtral.tts`, which checks the rest and speaks.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from voxtral.engine.noise import MAX_SEED
from voxtral.errors import OptionError
from voxtral.types import SamplingOptions, SpeechRequest

# A deadline of nothing could never be met; one of more than a day is a slip.
_MIN_DEADLINE_S, _MAX_DEADLINE_S = 0.001, 86400.0


def check_options(request: SpeechRequest) -> None:
    """Check what can be checked of a request without a model.

    Raises:
        OptionError: an option is outside its range, or two exclude each other.
    """
    sampling = request.sampling
    if not isinstance(sampling, SamplingOptions):
        raise OptionError(f"sampling is {sampling!r}; it must be SamplingOptions")
    check_number("guidance_scale", sampling.guidance_scale, 0.0, 10.0)
    check_number("noise_scale", sampling.noise_scale, 0.0, 2.0)
    check_number("num_euler_steps", sampling.num_euler_steps, 1, 100, whole=True)
    check_number("max_frames", sampling.max_frames, 1, 2**31, whole=True)
    check_number("seed", request.seed, 0, MAX_SEED, whole=True)
    check_number("speed", _present("speed", request.speed), 0.25, 4.0)
    check_number("pause", _present("pause", request.pause_s), 0.0, 60.0)
    check_number("deadline_s", request.deadline_s, _MIN_DEADLINE_S, _MAX_DEADLINE_S)
    if request.normalize not in ("off", "auto"):
        raise OptionError(f'normalize is {request.normalize!r}; it must be "off" or "auto"')
    if request.reference_audio is not None and request.voice is not None:
        raise OptionError("both voice and reference_audio are given; a request has one voice; leave one out")


def make_request(  # noqa: PLR0913 - each is an option of its own
    text: str,
    language: str | None = None,
    reference_audio: Any = None,
    *,
    voice: Any = None,
    seed: int | None = None,
    speed: float = 1.0,
    pause: float = 0.25,
    normalize: Any = "off",
    deadline_s: float | None = None,
    **sampling: Any,
) -> SpeechRequest:
    """Build a request from the keywords of `synthesize`.

    Raises:
        OptionError: a keyword is unknown.
    """
    known = ("guidance_scale", "noise_scale", "num_euler_steps", "max_frames")
    unknown = sorted(set(sampling) - set(known))
    if unknown:
        raise OptionError(
            f"option {unknown[0]!r} is unknown; known are voice, seed, speed, pause, normalize, deadline_s, "
            f"{', '.join(known)}; check the spelling"
        )
    return SpeechRequest(
        text=text,
        language=language,
        voice=voice,
        reference_audio=reference_audio,
        normalize=normalize,
        sampling=SamplingOptions(**sampling),
        seed=seed,
        speed=speed,
        pause_s=pause,
        deadline_s=deadline_s,
    )


def check_number(name: str, value: Any, low: float, high: float, *, whole: bool = False) -> None:
    """Refuse a value that is no number of a range; None passes, for "not given".

    Raises:
        OptionError: it is of another kind or outside.
    """
    if value is None:
        return
    kinds = (int, np.integer) if whole else (int, float, np.integer, np.floating)
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        kind = "whole number" if whole else "number"
        raise OptionError(f"{name} is {value!r}; it must be a {kind} from {low} to {high}")


def _present(name: str, value: Any) -> Any:
    if value is None:
        raise OptionError(f"{name} is None; it must be a number; leave it out for the default")
    return value
