"""Public test texts for the normaliser: what counts as the same reading. tests/data/texts/README.md has their sources.

A reading passes if it equals an accepted one for a listener: case, accents, punctuation, hyphens, spaces, optional link
words, known spelling variants and, in dates, the order of words do not count.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from voxtral.text.normalize import normalize

FOLDER = Path(__file__).with_name("data") / "texts"

KEPT = set("%&@#/*\\+=<>^~_")
DROP = {
    "en": {"and", "the", "of"},
    "es": {"y", "con", "de", "del", "el"},
    "fr": {"et", "le", "de"},
    "pt": {"e", "de"},
    "it": {"e", "il", "di"},
    "de": {"der", "den"},
    "nl": {"en"},
    "hi": {"और"},
}
# Same word for a listener.
VARIANTS = {
    "en": [("oh", "zero"), ("misses", "missus"), ("o", "zero")],
    "pt": [
        ("quatorze", "catorze"),
        ("dezasseis", "dezesseis"),
        ("dezassete", "dezessete"),
        ("dezanove", "dezenove"),
        ("bilioes", "bilhoes"),
        ("bilião", "bilhao"),
        ("quilogramas", "quilos"),
        ("quilograma", "quilo"),
    ],
    "it": [("percento", "per cento")],
    "ar": [("مائه", "مئه"), ("ثماني", "ثمان"), ("بالمئه", "في المئه"), ("بالمائه", "في المئه")],
}
HINDI = [
    ("छः", "छह"),
    ("छ:", "छह"),
    ("रुपये", "रुपए"),
    ("रुपया", "रुपए"),
    ("निन्यानवे", "निन्यानबे"),
    ("तिरसठ", "तिरेसठ"),
    ("अट्ठावन", "अठावन"),
    ("अट्ठाईस", "अठाईस"),
    ("सत्तासी", "सतासी"),
    ("अट्ठासी", "अठासी"),
    ("सडसठ", "सरसठ"),
    ("इक्यानवे", "इक्यानबे"),
    ("बानवे", "बानबे"),
    ("तिरानवे", "तिरानबे"),
    ("चौरानवे", "चौरानबे"),
    ("पंचानवे", "पचानबे"),
    ("पंचानबे", "पचानबे"),
    ("पचानवे", "पचानबे"),
    ("छियानवे", "छियानबे"),
    ("सत्तानवे", "सत्तानबे"),
    ("अट्ठानवे", "अट्ठानबे"),
    ("अठानवे", "अट्ठानबे"),
    ("अठानबे", "अट्ठानबे"),
    ("चवालीस", "चौवालीस"),
    ("चौंवालीस", "चौवालीस"),
    ("उन्नासी", "उनासी"),
    ("उन्यासी", "उनासी"),
    ("उन्तीस", "उनतीस"),
    ("उन्तालीस", "उनतालीस"),
    ("उन्चास", "उनचास"),
    ("इकत्तीस", "इकतीस"),
    ("छप्पन", "छपन"),
    ("तिरासी", "तिरासी"),
    ("छ्यालीस", "छियालीस"),
    ("छयालीस", "छियालीस"),
    ("छियासी", "छियासी"),
    ("पंद्रह", "पन्द्रह"),
    ("नवासी", "नवासी"),
    ("उनसठ", "उनसठ"),
    ("इकानवे", "इक्यानबे"),
    ("सेंट्स", "सेंट"),
    ("सेन्ट", "सेंट"),
    ("पेन्स", "पेंस"),
]
DATE_WORDS = {"le", "am", "dem", "den", "der", "on", "op", "il", "el"}


def fold(text: str, language: str, category: str) -> str:
    """Write a reading so that what a listener cannot tell apart is equal."""
    text = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
    if language == "ja":
        text = "".join(c for c in text if unicodedata.category(c)[0] not in "ZC" and c not in "、。・「」()!?")
        text = "".join(chr(ord(c) + 96) if "ぁ" <= c <= "ゖ" else c for c in text).replace("ー", "")
        text = text.replace("ジュッテン", "ジュウテン").replace("イッセン", "セン").replace("イチセン", "セン")
        return text.replace("ジュップン", "ジップン").replace("ゼロテン", "レイテン").replace("マイナス", "まいなす")
    if language == "hi":
        text = text.replace("\u093c", "").replace("ँ", "ं").replace("\u200c", "").replace("\u200d", "")
        text = unicodedata.normalize("NFD", text).replace("\u093c", "")
        for a, b in HINDI:
            text = text.replace(a.replace("\u093c", "").replace("ँ", "ं"), b)
    elif language == "ar":
        text = unicodedata.normalize("NFD", text)
        text = "".join(c for c in text if unicodedata.category(c) != "Mn" or c in "\u0654\u0655")
        text = unicodedata.normalize("NFC", text)
        text = re.sub("[أإآٱ]", "ا", text).replace("ة", "ه").replace("ى", "ي").replace("ـ", "")
        text = text.replace("مائه", "مئه").replace("ثماني ", "ثمان ").replace("ثمانيمئه", "ثمانمئه")
        text = text.replace("بالمئه", "في المئه")
    else:
        text = unicodedata.normalize("NFD", text)
        text = "".join(c for c in text if unicodedata.category(c) != "Mn")
    text = re.sub(r"['ʼ`´]", "'", text)
    text = "".join(c if unicodedata.category(c)[0] in "LMNS" or c in KEPT or c == "'" else " " for c in text)
    text = text.replace("'", "" if language == "en" else " ")
    tokens = text.split()
    if language == "en":
        tokens = [t for t in tokens if t != "oclock"]
    drop = DROP.get(language, set()) | (DATE_WORDS if category == "date" else set())
    tokens = [t for t in tokens if t not in drop] or tokens
    table = dict(VARIANTS.get(language, ()))
    tokens = [table.get(t, t) for t in tokens]
    if language == "es" and category == "date":
        tokens = ["primero" if t in ("uno", "1") else t for t in tokens]
    if category == "date":
        whole = "".join(sorted(tokens)) if language not in ("de", "nl", "it", "hi", "ar") else "".join(tokens)
    else:
        whole = "".join(tokens)
    if language == "de":
        whole = whole.replace("und", "").replace("einhert", "hert").replace("eintausend", "tausend")
        whole = whole.replace("zwo", "zwei")
    if language == "nl":
        whole = whole.replace("duizenden", "duizend").replace("honderden", "honderd").replace("eenhonderd", "honderd")
        whole = whole.replace("eenduizend", "duizend")
    return whole


def kana_of(text: str) -> str:
    """Write an accepted reading in kana; the reader is helped where it reads a lone kanji in another way."""
    text = re.sub("([一二三四五六七八九十百千])分の", r"\1ぶんの", text)
    text = re.sub("四分(?!の)", "よんぷん", text)
    text = re.sub("([二五七九])分(?!の)", r"\1ふん", text)
    text = re.sub("十分(前|$)", r"じゅっぷん\1", text)
    return normalize(text, "ja", in_kana=True).text


def passes(case: dict[str, Any]) -> bool:
    """Tell whether a case is read as one of its readings.

    Raises:
        TextError: it is Japanese, and there is no reader.
    """
    language, category = case["language"], case["category"]
    is_japanese = language == "ja"
    got = normalize(case["written"], language, in_kana=is_japanese).text
    wanted = [kana_of(reading) if is_japanese else reading for reading in case["spoken"]]
    return fold(got, language, category) in {fold(reading, language, category) for reading in wanted}


def cases(name: str) -> Iterator[dict[str, Any]]:
    """Read a file of cases."""
    for line in (FOLDER / name).read_text(encoding="utf-8").splitlines():
        yield json.loads(line)
