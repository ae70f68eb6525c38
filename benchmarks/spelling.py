"""Compare number words with the spell-out rules of CLDR, which unicode-rbnf has, value by value.

    pip install unicode-rbnf
    python -m benchmarks.spelling > benchmarks/results/spelling-DATE.json

Neither side is the truth: styles differ ("ciento y uno", hyphens, "e" between thousands). What is left after folding
these is listed, and a person looks at it. Hindi and Arabic are left out, because the rules of CLDR err there.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import random
import re
import unicodedata
from typing import Any

from voxtral.text.spelling import Speller

LANGUAGES = ("de", "en", "es", "fr", "it", "nl", "pt")
SHOWN = 12


def values() -> list[int]:
    """List 3,250 values: all small ones, and some of every size."""
    draw = random.Random(0)
    chosen = set(range(1250))
    while len(chosen) < 3250:
        chosen.add(draw.randrange(10 ** draw.randint(4, 12)))
    return sorted(chosen)


def fold(words: str, language: str) -> str:
    """Fold what is style alone: accents, hyphens, spaces, link words, commas."""
    words = "".join(char for char in unicodedata.normalize("NFD", words) if unicodedata.category(char) != "Mn")
    words = re.sub("[\u00ad\u200b,-]", " ", words.casefold())
    links = {"en": "and", "pt": "e", "it": "e", "fr": "et", "nl": "en"}
    tokens = [token for token in words.split() if token != links.get(language)]
    folded = "".join(tokens)
    if language == "it":
        # "ventunomila" and "ventunmila" are both said.
        folded = re.sub(r"unomila", "unmila", folded)
    return re.sub("^ein(?=hundert|tausend)", "", folded) if language == "de" else folded


def main() -> None:
    """Print the comparison as JSON."""
    rbnf: Any = importlib.import_module("unicode_rbnf")
    found: dict[str, Any] = {}
    for language in LANGUAGES:
        engine, speller = rbnf.RbnfEngine.for_language(language), Speller(language)
        differing: list[tuple[int, str, str]] = []
        for value in values():
            ours, theirs = speller.cardinal(value), engine.format_number(value).text
            if fold(ours, language) != fold(theirs, language):
                differing.append((value, ours, theirs))
        found[language] = {"values": len(values()), "differ": len(differing), "first": differing[:SHOWN]}
    version = importlib.metadata.version("unicode-rbnf")
    print(json.dumps({"unicode_rbnf": version, "languages": found}, ensure_ascii=False, indent=1))


if __name__ == "__main__":
    main()
