"""`voxtral normalize`: what would be said for a text, without saying it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, cast

import typer

from voxtral.cli.options import ForcedTextOption, JsonOption, TextArgument
from voxtral.cli.speak import choose_text
from voxtral.cli.terminal import one_line, say, show
from voxtral.options import EMOJI, NORMALIZE

if TYPE_CHECKING:
    from voxtral.types import Emoji, Normalize

# Digits and signs that are told of one by one; of more only how many there are.
_MAX_TOLD = 20


def normalize(  # noqa: PLR0913 - each parameter is an option
    *,
    text: TextArgument = None,
    forced_text: ForcedTextOption = None,
    language: Annotated[
        str | None,
        typer.Option(
            "--language",
            metavar="LANGUAGE",
            help="Chooses the rules, with its region: en, en-GB, German. Default: by the text, or English.",
            show_default=False,
        ),
    ] = None,
    level: Annotated[str, typer.Option("--normalize", metavar="off|clean|auto", help="As for voxtral speak.")] = "auto",
    dictionary: Annotated[
        str | None,
        typer.Option("--dictionary", metavar="FILE", help="What is said for words of yours: .json, .csv or .pls."),
    ] = None,
    ssml: Annotated[
        bool, typer.Option("--ssml", help="The text is SSML, also where it does not begin with <speak.")
    ] = False,
    emoji: Annotated[str, typer.Option("--emoji", metavar="off|name", help="As for voxtral speak.")] = "off",
    edits: Annotated[bool, typer.Option("--edits", help="List what is said otherwise than it is written.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what would be said for a text, without saying it.

    The text as it is said comes on standard output; what stays digits or signs, and may be said wrong, on standard
    error. It needs no model. --json has every edit with its place in the text as given.

    Examples:
      voxtral normalize "On 3/4 we pay $1.5M." --language en-GB
      voxtral normalize book.txt --dictionary names.csv --edits
      voxtral normalize letter.txt --language de --json
    """
    from voxtral.speech.request import check_option
    from voxtral.text.clean import clean
    from voxtral.text.dictionary import joined, load_dictionary, user_dictionary
    from voxtral.text.guess import guess_language
    from voxtral.text.preview import normalize_text

    check_option(NORMALIZE, level)
    check_option(EMOJI, emoji)
    words = joined(None if dictionary is None else load_dictionary(dictionary), user_dictionary())
    given = choose_text(text, forced_text)
    tag = language or guess_language(clean(given).text) or "en"
    found = normalize_text(
        given, tag, normalize=cast("Normalize", level), dictionary=words, ssml=ssml or None, emoji=cast("Emoji", emoji)
    )
    if as_json:
        show(json.dumps(found.to_dict(given), ensure_ascii=False))
        return
    if edits:
        for edit in found.edits:
            written = one_line(given[edit.start : edit.end])
            show(f"{edit.start}-{edit.end}\t{edit.kind}\t{written}\t{one_line(edit.spoken)}")
    else:
        show(found.normalized)
    for left in found.left[:_MAX_TOLD]:
        say(f"warning: {one_line(left.written)} at {left.start} stays as it is written, and may be said wrong")
    if len(found.left) > _MAX_TOLD:
        say(f"warning: so do {len(found.left) - _MAX_TOLD} more; --json lists all")
