"""Languages and scripts: names to codes, warnings for texts that do not fit, refusal of what cannot be spoken.

Knows nothing of voices or checkpoints: which of these languages a checkpoint speaks stands in its
configuration. Read `normalize.py` next, which writes a text out in one of these languages.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from functools import cache
from types import MappingProxyType

from voxtral.errors import LanguageError, TextError, quoted
from voxtral.text.language_data import load_language

# The nine languages of the model card, and Japanese, which the users' guide lists and the published weights do not
# know; a checkpoint that does says so in its configuration. What else is known of each stands in its file in `data/`.
LANGUAGES: Mapping[str, str] = MappingProxyType(
    {
        "en": "English",
        "fr": "French",
        "es": "Spanish",
        "de": "German",
        "it": "Italian",
        "pt": "Portuguese",
        "nl": "Dutch",
        "ar": "Arabic",
        "hi": "Hindi",
        "ja": "Japanese",
    }
)

# The first word of the Unicode name of a letter is its script, once compatibility forms are folded.
_SCRIPT_NAMES: Mapping[str, str] = MappingProxyType({"CJK": "Han"})

_MAX_NAME_CHARS = 256
_TAG = re.compile(r"([a-z]{2,3})(?:[-_][a-z0-9]{2,8})*(?:\.[a-z0-9-]+)?")
_REGION = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z]{4})?[-_]([A-Za-z]{2}|[0-9]{3})(?:[-_.@].*)?")
_SPEAKABLE = re.compile(r"[^\W_]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def _fold(name: str) -> str:
    """Drop case and accents, so that "Français" and "francais" are one name."""
    decomposed = unicodedata.normalize("NFD", name.strip().casefold())
    return "".join(char for char in decomposed if unicodedata.category(char) != "Mn")


def resolve_language(value: str) -> str:
    """Find the code of a language.

    Args:
        value: a code ("en", "eng"), a tag with a region ("en-US", "pt_BR.UTF-8"), or the name in
            English or in the language itself; case and accents do not matter.

    Returns:
        A key of `LANGUAGES`.

    Raises:
        LanguageError: no language of `LANGUAGES` is called that.

    >>> resolve_language("en-US"), resolve_language("Deutsch"), resolve_language("francais")
    ('en', 'de', 'fr')
    """
    # What is longer than any name would be folded for nothing.
    wanted = _fold(value) if len(value) <= _MAX_NAME_CHARS else ""
    tag = _TAG.fullmatch(wanted)
    primary = tag.group(1) if tag else wanted
    if primary in LANGUAGES:
        return primary
    names = _codes_by_name()
    if code := names.get(wanted) or names.get(primary):
        return code
    known = ", ".join(f"{code} ({name})" for code, name in LANGUAGES.items())
    raise LanguageError(
        f"unknown language {quoted(value)}; the known ones are {known}; pass one of these codes or names, "
        "or leave the language out"
    )


def region_of(value: str) -> str:
    """Find the region in a tag of a language.

    Args:
        value: as `resolve_language` takes it.

    Returns:
        Two capital letters or three digits, as in a BCP 47 tag; "" where there is none.

    >>> region_of("en-gb"), region_of("es_419"), region_of("zh-Hant-TW"), region_of("German")
    ('GB', '419', 'TW', '')
    """
    wanted = value.strip() if len(value) <= _MAX_NAME_CHARS else ""
    found = _REGION.fullmatch(wanted)
    return found.group(1).upper() if found else ""


@cache
def _codes_by_name() -> dict[str, str]:
    return {_fold(name): code for code in LANGUAGES for name in (LANGUAGES[code], *load_language(code).names)}


def sample_sentence(code: str) -> str:
    """Give the sentence that a voice says to be heard, in the language of a key of `LANGUAGES`."""
    return load_language(code).sample


def script_mismatch(text: str, language: str) -> str | None:
    """Say in a sentence that most letters of a text are of a script which its language does not use.

    Args:
        text: any text; what is not a letter does not count.
        language: any spelling that `resolve_language` takes.

    Returns:
        A sentence for a warning where more than half of the letters do not fit, else None.

    Raises:
        LanguageError: the language is unknown.
    """
    code = resolve_language(language)
    fitting = {script.upper() for script in load_language(code).scripts}
    letters = count_scripts(text)
    strange = sum(count for script, count in letters.items() if script not in fitting)
    if strange * 2 <= letters.total():
        return None
    script = max((name for name in letters if name not in fitting), key=letters.__getitem__)
    wanted = " or ".join(_script_name(name) for name in sorted(fitting))
    share = 100 * strange // letters.total()
    return (
        f"{share} % of the letters, mostly {_script_name(script)}, are not of a script of {LANGUAGES[code]} "
        f"({wanted}), and the speech may be unusable; pass the language and a voice that fit the text"
    )


def unknown_script(text: str, languages: Collection[str]) -> str | None:
    """Say in a sentence that most letters of a text are of a script in which none of some languages is written.

    Args:
        text: any text; what is not a letter does not count.
        languages: keys of `LANGUAGES`.

    Returns:
        A sentence for a warning, else None. Chinese characters without kana are no Japanese.
    """
    letters = count_scripts(text)
    fitting = {script.upper() for code in languages for script in load_language(code).scripts}
    if not letters["HIRAGANA"] + letters["KATAKANA"]:
        fitting.discard("CJK")
    strange = {name: count for name, count in letters.items() if name not in fitting}
    if sum(strange.values()) * 2 <= letters.total():
        return None
    script = max(strange, key=strange.__getitem__)
    hint = "; if it is Japanese, pass the language ja" if script == "CJK" and "ja" in languages else ""
    return (
        f"{100 * sum(strange.values()) // letters.total()} % of the letters, mostly {_script_name(script)}, are of no "
        f"script of this checkpoint's languages ({', '.join(languages)}), and the speech may be unusable; write the "
        f"text in one of these{hint}"
    )


def count_scripts(text: str) -> Counter[str]:
    """Count the letters of each script, by the first word of their Unicode names."""
    letters: Counter[str] = Counter()
    # Counting characters first keeps the slow look-up of names to one per distinct character.
    for char, count in Counter(text).items():
        script = _script(char)
        if script is not None:
            letters[script] += count
    return letters


@cache
def _script(char: str) -> str | None:
    """Name the script of a letter; None for anything else and for modifiers that all scripts share."""
    if not unicodedata.category(char).startswith("L"):
        return None
    name = unicodedata.name(unicodedata.normalize("NFKC", char)[0], "")
    script = re.split("[ -]", name, maxsplit=1)[0]
    return None if script in {"", "MODIFIER"} else script


def _script_name(script: str) -> str:
    return _SCRIPT_NAMES.get(script, script.capitalize())


def is_speakable(text: str) -> bool:
    """Tell whether a text has at least one letter or digit (Unicode categories L and N).

    >>> is_speakable("***"), is_speakable("H2O")
    (False, True)
    """
    return _SPEAKABLE.search(text) is not None


def check_speakable(text: str, source_of: Callable[[int], int] | None = None) -> None:
    """Refuse a text that the model cannot speak.

    Args:
        text: what is about to be spoken.
        source_of: gives the offset in the text as given of a character of a text that was rewritten.

    Raises:
        TextError: the text is empty or only whitespace, holds half of a surrogate pair or a control
            character other than tab and line breaks, or has neither letter nor digit.
    """
    if not text and source_of is not None:
        raise TextError("the text has only whitespace and what is not spoken; speech needs words; pass some")
    if not text or text.isspace():
        raise TextError(f"the text is {'only whitespace' if text else 'empty'}; speech needs words; pass some")
    offset = source_of or int
    if surrogate := _SURROGATE.search(text):
        raise TextError(
            f"the text holds the lone surrogate U+{ord(surrogate.group()):04X} at offset {offset(surrogate.start())}, "
            "which is half a character and cannot be written as UTF-8; read the text again with the right encoding"
        )
    if control := _CONTROL.search(text):
        raise TextError(
            f"the text holds the control character U+{ord(control.group()):04X} at offset {offset(control.start())}; "
            'only tabs and line breaks are allowed; remove it, or pass normalize="auto", which does that'
        )
    if not is_speakable(text):
        raise TextError(
            f"the text {quoted(text)} has no letter and no digit; symbols alone make the model babble; "
            "write it in words"
        )
