"""What this server makes voices of: clips at once, clips that are searched for, or none; and what it says then.

An encoder makes a voice of a clip at once, in an upload and in a request that speaks. A search takes minutes, so only
an upload may ask for one. Read next: `voxtral.server.voice_jobs`.
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Literal

from voxtral.cloning.options import STEPS_FROM_ENCODER, STEPS_FROM_NOTHING
from voxtral.errors import EncoderFileError, EncoderMissingError
from voxtral.server.errors import HttpError
from voxtral.server.model_host import ModelCard
from voxtral.server.options import ServerOptions

_log = logging.getLogger("voxtral.server")

# How a clip came: to be kept as a voice, or with a text that is spoken in it.
Way = Literal["upload", "inline"]


def describe_cloning(card: ModelCard | None, options: ServerOptions) -> dict[str, Any] | None:
    """Say what voices are made of; None while nothing is known of the model.

    Returns:
        `encoder`, where it is from, or None where no clip is made a voice of at once; `refine`, the steps of the
        longest search, or False; `licence` of the encoder or the weights, or None where it is not known.
    """
    if card is None:
        return None
    return {
        "encoder": card.encoder if options.cloning else None,
        "refine": options.refine_steps or False,
        "licence": card.voice_licence or None,
    }


def check_cloning_is_on(options: ServerOptions) -> None:
    """Refuse to make a voice where that is switched off.

    Raises:
        HttpError: 403.
    """
    if not options.cloning:
        raise HttpError(403, "cloning is switched off on this server; name a voice", code="cloning_disabled")


def check_steps(refine: bool | int, options: ServerOptions) -> None:
    """Refuse a search where there are none, or one that is longer than they may be.

    Raises:
        HttpError: 403, there are none; 400, it is too long.
    """
    most = options.refine_steps
    if not most:
        raise HttpError(
            403,
            "refine is asked for, and this server searches for no voices; leave it out, or ask whoever runs the "
            "server to start it with --refine STEPS",
            code="refine_disabled",
            param="refine",
        )
    if refine is not True and refine > most:
        raise HttpError(
            400,
            f"refine is {refine} steps; this server makes {most} at most; send fewer, or true for as many as are usual",
            code="invalid_option",
            param="refine",
        )


def choose_steps(refine: bool | int, options: ServerOptions, *, has_encoder: bool) -> int:
    """Count the steps of a search: those that were asked for, or as many as are usual and allowed."""
    usual = STEPS_FROM_ENCODER if has_encoder else STEPS_FROM_NOTHING
    return min(usual, options.refine_steps) if refine is True else refine


@contextmanager
def encoder_problems(card: ModelCard, options: ServerOptions, way: Way) -> Generator[None]:
    """Say what clients can do about an encoder that is missing or of no use.

    Raises:
        EncoderMissingError: there is none; the message names the ways out that this server has.
        HttpError: 500, there is one that cannot be used; where it lies is nobody's business.
    """
    try:
        yield
    except EncoderMissingError as error:
        raise EncoderMissingError(_without_encoder(card, options.refine_steps, way)) from error
    except EncoderFileError as error:
        _log.error("the codec encoder cannot be used: %s", error)
        raise HttpError(
            500,
            "the encoder file of this server cannot be used, so no voice can be made from audio at once; use a preset; "
            "whoever runs this server finds more in its log",
            code="invalid_encoder",
        ) from error


def _without_encoder(card: ModelCard, most_steps: int, way: Way) -> str:
    problem = f"{card.id} holds no codec encoder, so no voice can be made from audio at once"
    if not most_steps:
        return (
            f"{problem}; use a preset or a stored voice; whoever runs this server can start it with --refine STEPS, "
            "so that a clip can be uploaded with the field refine, or with an encoder file (--encoder FILE)"
        )
    elsewhere = "or use a server with an encoder file (--encoder FILE) or a checkpoint that has one, such as nano"
    if way == "inline":
        return (
            f"{problem}; upload the clip with the field refine (true, or up to {most_steps} steps) to "
            f"POST /v1/audio/voices and name the voice when it is ready, {elsewhere}"
        )
    return (
        f"{problem}; send the field refine (true, or up to {most_steps} steps) to let the voice be searched for, "
        f"{elsewhere}"
    )
