"""Texts to train on: those of `voxtral.cloning.texts`, and the word lists of the system.

Every source and its licence is in docs/QUALITY.md, "Sources". Read next: `train.data`.
"""

from __future__ import annotations

import re
from pathlib import Path

from voxtral.cloning import texts
from voxtral.cloning.texts import LANGUAGES, TextSource, TextSourceError

__all__ = ["LANGUAGES", "TextSource", "TextSourceError", "load_texts", "missing_word_lists"]

# Word lists that Debian packages install (wamerican, wfrench, ..., hunspell-ar, hunspell-hi); Japanese
# has none in kana and lives on `[common]` and on made-up words.
_WORD_LISTS = {
    "en": "/usr/share/dict/american-english",
    "fr": "/usr/share/dict/french",
    "de": "/usr/share/dict/ngerman",
    "es": "/usr/share/dict/spanish",
    "it": "/usr/share/dict/italian",
    "pt": "/usr/share/dict/portuguese",
    "nl": "/usr/share/dict/dutch",
    "ar": "/usr/share/hunspell/ar_EG.dic",
    "hi": "/usr/share/hunspell/hi_IN.dic",
}

_LETTERS = {
    "en": "a-z'",
    "fr": "a-zàâæçéèêëîïôœùûüÿ'-",
    "de": "a-zäöüß",
    "es": "a-záéíóúüñ",
    "it": "a-zàèéìíîòóùú'",
    "pt": "a-záâãàçéêíóôõúü-",
    "nl": "a-zéëïóöüè'-",
    "ar": "\u0621-\u063a\u0641-\u064a",
    "hi": "\u0901-\u0903\u0905-\u0939\u093c\u093e-\u094d\u095c\u095d",
}

_MAX_WORD_CHARS = 14


def load_texts(language: str, *, with_word_list: bool = False, root: Path = Path("/")) -> TextSource:
    """Read the material of a language; the system's word list, below `root`, only if asked for, since few need it.

    Raises:
        TextSourceError: a file is missing, or lacks a section.
    """
    return texts.load_texts(language, _read_word_list(language, root) if with_word_list else ())


def missing_word_lists() -> list[Path]:
    """Name the word lists of the system that are not installed."""
    return [Path(path) for path in _WORD_LISTS.values() if not Path(path).is_file()]


def _read_word_list(language: str, root: Path) -> tuple[str, ...]:
    if language not in _WORD_LISTS:
        return ()
    path = root / _WORD_LISTS[language].lstrip("/")
    if not path.is_file():
        raise TextSourceError(f"{path} is missing; training needs the word list; install its package (recipes/nano.sh)")
    pattern = re.compile(f"[{_LETTERS[language]}]{{2,{_MAX_WORD_CHARS}}}", re.IGNORECASE)
    lines = path.read_text(encoding="utf-8", errors="ignore").splitlines()
    words = {line.split("/")[0].strip() for line in lines}
    return tuple(sorted(word for word in words if pattern.fullmatch(word)))
