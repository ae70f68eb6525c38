"""Emoji: where they stand in a text, their names, and how they are left out.

A name is the short name that the Unicode CLDR gives: "grinning face", "flag: Germany". The tone of a skin is not named,
and what stands several times in a row is named once. A digit on a key stays a digit. `normalize.py` uses this before
all else, because variation selectors and joiners tell emoji from text.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from itertools import groupby

from voxtral.errors import LanguageFileError
from voxtral.text.edits import Edit

# Pictographs with an emoji look by default, and symbols that only a variation selector or keycap makes
# emoji. Musical accidentals (U+266D to U+266F) and circled digits (U+2776 to U+2793) are read by people
# as text and stay.
_PICTOGRAPH = (
    "\u231a\u231b\u2328\u23cf\u23e9-\u23f3\u23f8-\u23fa\u2600-\u266c\u2670-\u2775\u2794-\u27bf"
    "\u2b05-\u2b07\u2b1b\u2b1c\u2b50\u2b55\U0001f000-\U0001faff"
)
_EMOJI_PART = rf"(?:[{_PICTOGRAPH}]|[0-9#*]\ufe0f?\u20e3|[^\w\s]\ufe0f)[\ufe0e\ufe0f\u200d\u20e3\U000e0020-\U000e007f]*"
_EMOJI = re.compile(rf"{_EMOJI_PART}(?:[ \t]*{_EMOJI_PART})*")

_KEYCAP = re.compile("([0-9])\ufe0f?\u20e3|\U0001f51f")

# What changes the look and not the name.
_LOOK = re.compile("[\ufe0e\ufe0f\U0001f3fb-\U0001f3ff]")
_MODIFIERS = "[\ufe0e\ufe0f\u20e3\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]*"
_ONE = re.compile(
    rf"(?P<key>[0-9#*]\ufe0f?\u20e3|\U0001f51f)|[\U0001f1e6-\U0001f1ff]{{2}}"
    rf"|[^\s\u200d]{_MODIFIERS}(?:\u200d[^\s\u200d]{_MODIFIERS})*\u200d?"
)
# In a sequence that has no name of its own these say who does something.
_SIGNS = "\u2640\u2642\u26a7"

_COMMAS, _STOPS = {"ar": "، ", "ja": "、"}, {"ja": "。", "hi": "। "}
_ENDS = ".!?…؟।॥。！？｡"
_PAUSES = _ENDS + ",;:،؛、，；："
_OPENERS = "([{«“„‘‚\"'¿¡「『【（《〈>#|•-–—"
_CLOSES_AFTER = ".,!?;:…)]}»”"


def has_emoji(text: str) -> bool:
    """Tell whether a text has an emoji, or a key with a digit."""
    # Most texts are plain, and that is quickly seen.
    return not text.isascii() and _EMOJI.search(text) is not None


def unspoken_edits(text: str) -> Iterator[Edit]:
    """Remove emoji; leave no space before punctuation, and one where words would grow together.

    A digit on a key stays: it numbers what follows.
    """
    taken = 0
    for emoji in _EMOJI.finditer(text):
        start, end = emoji.span()
        following = text[end : end + 1]
        if keycaps := _keycaps(emoji.group()):
            before = "" if start == 0 or text[start - 1].isspace() else " "
            after = "" if following in ".,!?;:…)" else " "
            yield Edit(start, end, before + keycaps + after)
            taken = end
            continue
        if following in _CLOSES_AFTER and following:
            while start > taken and text[start - 1] in " \t":
                start -= 1
            yield Edit(start, end)
        else:
            yield Edit(start, end, " ")
        taken = end


def naming_edits(text: str, language: str) -> Iterator[Edit]:
    """Write the names of emoji for them, set off from the words around them; those without a name stay.

    Args:
        text: any text.
        language: a code of `LANGUAGES`.

    Raises:
        LanguageFileError: the names are missing or damaged.
    """
    taken = 0
    for run in _EMOJI.finditer(text):
        comma = _COMMAS.get(language, ", ")
        said = [name for name, _ in groupby(_names_in(run.group(), language))]
        # Keys and what has no name stay as they are, with what stands around them.
        if all(name in run.group() for name in said):
            continue
        start, end = run.span()
        while start > taken and text[start - 1] in " \t":
            start -= 1
        after = _skip_blanks(text, end)
        before, following = text[max(taken, start - 1) : start], text[after : after + 1]
        lead = _lead(before, text[start : run.start()], comma)
        tail = ""
        if following and following not in _CLOSES_AFTER + _PAUSES and not following.isspace():
            tail = _STOPS.get(language, ". ") if before and before in _ENDS else comma
            end = after
        yield Edit(start, end, lead + comma.join(said) + tail)
        taken = end


def _lead(before: str, blanks: str, comma: str) -> str:
    """Choose what parts a name from the character before it and its blanks."""
    if not before or before.isspace():
        return blanks
    if before in _PAUSES:
        return " "
    # An asterisk or a quote with a blank behind it closes something.
    is_opening = before in _OPENERS or (before in "*_~`" and not blanks)
    return blanks if is_opening else comma


def _skip_blanks(text: str, place: int) -> int:
    while place < len(text) and text[place] in " \t":
        place += 1
    return place


def _names_in(run: str, language: str) -> Iterator[str]:
    """Give the names of a run of emoji, and its keys as they are."""
    names = _load_names(language)
    for one in _ONE.finditer(run):
        if one.lastgroup == "key":
            yield one.group()
            continue
        key = _LOOK.sub("", one.group()).rstrip("\u200d")
        if key in names:
            yield names[key]
        elif "\u200d" in key:
            yield from (names[part] for part in key.split("\u200d") if part in names and part not in _SIGNS)


def _keycaps(emoji: str) -> str:
    """Give the digits on keys; "" for other emoji."""
    return " ".join(found.group(1) or "10" for found in _KEYCAP.finditer(emoji))


@cache
def _load_names(language: str) -> Mapping[str, str]:
    """Read the names of a language, once: without variation selectors and tones of skin."""
    file = files("voxtral.text") / "data" / "cldr" / "emoji" / f"{language}.txt.gz"
    try:
        lines = gzip.decompress(file.read_bytes()).decode("utf-8").splitlines()
        return dict(line.split("\t") for line in lines if not line.startswith("# "))
    except (OSError, EOFError, ValueError) as error:
        raise LanguageFileError(
            f"{file} cannot be read ({error!r}); every language has names of emoji; install voxtral-tts again"
        ) from error
