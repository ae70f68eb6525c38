"""Letters one by one, and short words of as many phonemes to compare them with."""

from __future__ import annotations

_LETTERS = {"ar": "أبتثجحخد", "hi": "कखगघचछजझ", "ja": "あいうえおかきく"}
_LATIN_LETTERS = "ABCDEFGH"
_WORDS = {
    "en": "bee see day if key tea", "fr": "bain ces dé elle gai hache", "de": "Bär See Tee Reh Kuh Haar",
    "es": "pez sed té él fe ir", "it": "bei ci dì re già ho", "pt": "bem sei dê fé já pá",
    "nl": "beer zee twee ree koe haar", "ar": "باب بيت في من عن دم", "hi": "को घर चल जब हम पर",
    "ja": "はい いえ うみ えき かお きく",
}  # fmt: skip


def list_probes(language: str) -> list[tuple[str, str]]:
    """List what is spoken of a language: "letter" or "word", and the text."""
    letters = [("letter", f"{letter}.") for letter in _LETTERS.get(language, _LATIN_LETTERS)]
    return letters + [("word", f"{word}.") for word in _WORDS[language].split()]
