"""Words with digits in them, and what else is written in letters and digits together: B2B, MIG-25, H2O, SW1A 1AA.

Letters are named unless they make a word; digits are said as one number up to three, as models of planes and papers
are, and one by one beyond. Ordinals (1st), decades (1990s) and units (5 km) are for other rules.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from voxtral.text.edits import Edit
from voxtral.text.reading.claims import Claim, Strength
from voxtral.text.reading.numerals import to_ascii
from voxtral.text.reading.spelled import Piece, claim_pieces, name_letters, say_digits, say_number, say_word
from voxtral.text.reading.written import Written

_L = "A-Za-zÀ-ÖØ-öø-ɏ"
_H = "\\-\u2010\u2011"
_BEFORE = rf"(?<![{_L}0-9_.,:/@#\\&'’+%{_H}$€£°])"
_TOKEN = (
    rf"(?=[{_L}{_H}]{{0,40}}\d)(?=[\d{_H}]{{0,40}}[{_L}])[{_L}\d]{{1,40}}+(?:[{_H}][{_L}\d]{{1,40}}+){{0,8}}+"
    rf"(?:(?<=\d)\.\d{{1,3}})?(?![{_L}\d_@\\%°€$£]|[.,:/'’][\d]|[./][{_L}])"
)
_FORMS = (
    # Postal codes of Britain and Canada, and of the continent with the sign of the country; bank accounts.
    (r"postcode", rf"[A-Z]{{1,2}}\d[A-Z\d]?[ ]\d[A-Z]{{2}}(?![{_L}\d])"),
    (r"dutch", r"[1-9]\d{3}[ ](?!S[ADS]|BC|AD|CE|EU|VN)[A-Z]{2}(?=[ ][A-Z][a-z]|[,.;)\n]|$)"),
    (r"canadian", rf"[A-Z]\d[A-Z][ -]?\d[A-Z]\d(?![{_L}\d])"),
    (r"continental", rf"(?:D|A|CH|F|I|L|B|NL|DK|E|P)-\d{{4,5}}(?=[ ][{_L}])"),
    (r"iban", rf"[A-Z]{{2}}\d{{2}}(?:[ ]?[A-Z\d]{{4}}){{2,7}}(?:[ ]?[A-Z\d]{{1,3}})?(?![{_L}\d])"),
    (r"plan", r"\d{3}(?:\([a-z0-9]\)){1,3}+"),
    (r"chain", r"\d{1,12}+(?:/\d{1,12}+){2,6}+(?![\w%/])"),
    # Flights and orders, after their word: "flight LH 454".
    (r"spaced", rf"[A-Z]{{1,3}}[ ]\d{{2,12}}(?![{_L}\d])"),
    (r"token", _TOKEN),
)
_PATTERN = re.compile(_BEFORE + "(?:" + "|".join(f"(?P<{name}>{form})" for name, form in _FORMS) + ")")
_RUN = re.compile(rf"\d+|[{_L}]+|[{_H}.]")
_SPELLED_RUN = re.compile(rf"\d+|[{_L}]+")
_ORDINAL = re.compile(
    r"\d+(?:st|ST|nd|ND|rd|RD|th|TH|ers?|res?|e|es|[eè]mes?|ste|de|do|[oa]s?|s|nds?|ndes?|te[nrms]?|ième)"
)
_COUNTED_WORD = re.compile(rf"\d+(?:[{_H}][{_L}]+)+")
_DECADE = re.compile(r"\d0s(?![^\W_])")
_DATE = re.compile(r"\d{1,2}/\d{1,2}/(?:\d{2}|\d{4})|\d{4}/\d{1,2}/\d{1,2}")
_GERMAN_WORD = re.compile(r"(\d{1,4})(er[ns]?|fach|mal|[a-zäöüß]{4,20})")
_LESS = re.compile(r"([nN])[-\u2010\u2011]([1-9])")
_ITALIAN_WORD = re.compile(r"(\d{1,4})(esim[oaie]|enn[ei]|ennal[ei]|mila)")
_DUTCH_WORD = re.compile(r"([A-Z]{0,3})(\d{1,3})(tjes?)")
_FIRST_YEAR, _LAST_YEAR = 1100, 2099
_DOLLARS = re.compile(r"(?<=[a-z])\$+(?![\d.,])|(?<![\w$.,])\$+(?=[a-zA-Z]{2})")


def code_claims(written: Written) -> Iterator[Claim]:
    """Claim what is written in letters and digits together."""
    if written.data.spelled is None or written.language == "ja" or not (written.has_digits or "$" in written.text):
        return  # Japanese reads letters and digits where they stand; see kana.py.
    reader = _Reader(written)
    for found in _PATTERN.finditer(written.text):
        if claimed := reader.read(found):
            yield claimed
    yield from _dollars(written)


def _dollars(written: Written) -> Iterator[Claim]:
    """Name a dollar that is part of a word or of a name: test$, $HOME."""
    spelled = written.data.spelled
    if spelled is None or "$" not in written.text:
        return
    for found in _DOLLARS.finditer(written.text):
        said = " ".join([spelled.signs["$"]] * len(found.group()))
        before = " " if found.start() and written.text[found.start() - 1].isalnum() else ""
        after = " " if written.text[found.end() : found.end() + 1].isalnum() else ""
        yield claim_pieces([Piece(*found.span(), before + said + after)], "sign", Strength.WORD)


class _Reader:
    """Reads the codes of one text."""

    def __init__(self, written: Written) -> None:
        self._written = written
        self._text = written.text

    def read(self, found: re.Match[str]) -> Claim | None:
        """Say what was found; None if another rule knows better."""
        kind = found.lastgroup or ""
        start, end = found.span()
        if not self._is_alone(start, end):
            return None
        match kind:
            case "token":
                pieces = self._token(start, end)
            case "chain":
                return self._chain(start, end)
            case "dutch" if not self._is_dutch(start):
                return None
            case "spaced" if not self._is_asked_for(start):
                return None
            case "iban" if sum(map(str.isdecimal, found.group())) < 8:
                pieces = self._token(start, end) if " " not in found.group() else []
            case _:
                pieces = self._spelled(start, end, pauses=kind != "spaced")
        strength = Strength.NUMBER if kind == "token" else Strength.COMPOSED
        return claim_pieces(pieces, "code", strength, end=end) if pieces else None

    def _is_dutch(self, start: int) -> bool:
        """Tell whether four digits and two letters are a Dutch postal code: "1234 AB Amsterdam", not "in 2024 EU"."""
        before = self._text[max(0, start - 12) : start].rstrip(" ")
        is_line = not before or before[-1] in ",\n" or before.lower().endswith(("postcode", "postcode:"))
        return self._written.language == "nl" and (is_line or self._text[start] not in "12")

    def _is_alone(self, start: int, end: int) -> bool:
        """Tell whether no letter or mark of another script is joined."""
        before = self._text[start - 1] if start else " "
        return not (before.isalnum() or before == "_") and self._written.ends_apart(end)

    def _spelled(self, start: int, end: int, *, pauses: bool) -> list[Piece]:
        """Say letters and digits one by one, with a pause where a space stands."""
        pieces: list[Piece] = []
        for run in _SPELLED_RUN.finditer(self._text, start, end):
            is_number = run.group()[0].isdecimal()
            say = say_digits if is_number else name_letters
            pause = "," if pauses and run.end() < end and self._text[run.end()] == " " else ""
            pieces.append(Piece(*run.span(), say(self._written, run.group()) + pause))
        return pieces

    def _chain(self, start: int, end: int) -> Claim | None:
        """Say numbers with slashes between that are no date, and keep the slashes."""
        if _DATE.fullmatch(to_ascii(self._text[start:end])) or not self._written.has_number_words:
            return None
        edits: list[Edit] = []
        for run in re.compile(r"\d+").finditer(self._text, start, end):
            say = say_number if len(run.group()) <= 4 else say_digits
            edits.append(Edit(*run.span(), say(self._written, run.group())))
        return Claim(start, end, tuple(edits), "code", Strength.COMPOSED)

    def _token(self, start: int, end: int) -> list[Piece]:
        token = self._text[start:end]
        if _ORDINAL.fullmatch(token) or _COUNTED_WORD.fullmatch(token) or _DECADE.search(token):
            return []
        german = _GERMAN_WORD.fullmatch(token) if self._written.language == "de" else None
        if german:
            return [Piece(start, end, self._german_word(german.group(1), german.group(2)))]
        if (own := self._own_word(start, end)) is not None:
            return own
        is_asked = self._is_asked_for(start)
        pieces: list[Piece] = []
        joint = ""
        for run in _RUN.finditer(self._text, start, end):
            part = run.group()
            if part == ".":
                spelled = self._written.data.spelled
                pieces.append(Piece(*run.span(), spelled.version_point if spelled else part))
            elif part[0].isdecimal():
                said = say_digits(self._written, part) if is_asked else self._number(part, run.start(), start)
                if joint and self._text[run.start() - 2].isdecimal():
                    pieces[-1] = pieces[-1]._replace(spoken=pieces[-1].spoken + ",")
                pieces.append(Piece(*run.span(), said))
            elif part[0].isalpha():
                said = self._word(part, run.end())
                if joint and self._text[run.start() - 2].isalpha():
                    # Two words stay joined: "3D-Drucker".
                    pieces[-1] = Piece(pieces[-1].start, run.end(), f"{pieces[-1].spoken}-{said}")
                else:
                    pieces.append(Piece(*run.span(), said))
            joint = part if part not in "." and not part[0].isalnum() else ""
        return pieces

    def _own_word(self, start: int, end: int) -> list[Piece] | None:
        """Say what a language makes words of: "23esimo", "29enne", "A4tje", and "N-1"; None for other tokens."""
        token, speller = self._text[start:end], self._written.speller
        if (less := _LESS.fullmatch(token)) and self._written.data.maths is not None:
            minus = self._written.data.maths.operators["-"]
            return [Piece(start, end, f"{less.group(1)} {minus} {say_number(self._written, less.group(2))}")]
        if self._written.language == "it" and (word := _ITALIAN_WORD.fullmatch(token)):
            value, ending = int(to_ascii(word.group(1))), word.group(2)
            if ending.startswith("esim"):
                spoken = speller.ordinal(value)[:-1] + ending[-1] if value else None
            elif ending == "mila":
                spoken = speller.cardinal(value) + ending
            else:
                # "ventinovenne", "diciottenne": the last vowel is that of the ending.
                spoken = re.sub("[aeioé]$", "", speller.cardinal(value)) + ending
            return [Piece(start, end, spoken)] if spoken else None
        if self._written.language == "nl" and (word := _DUTCH_WORD.fullmatch(token)):
            letters, digits, ending = word.groups()
            said = f"{say_number(self._written, digits)}{ending}"
            named = f"{name_letters(self._written, letters)} " if letters else ""
            return [Piece(start, end, named + said)]
        return None

    def _word(self, letters: str, end: int) -> str:
        is_prefix = letters.islower() and len(letters) >= 3 and self._text[end : end + 1] in {"-", "\u2010", "\u2011"}
        if len(letters) <= 2 and letters.isupper():
            return name_letters(self._written, letters)  # "CO2", whatever "co" is elsewhere.
        return letters if is_prefix else say_word(self._written, letters, in_own_letters=False)

    def _number(self, digits: str, place: int, start: int) -> str:
        """Say the digits of a code."""
        plain = to_ascii(digits)
        if plain[0] == "0" and len(plain) > 1:
            return say_digits(self._written, plain)
        if len(plain) == 3 and self._written.language == "en" and not plain.endswith("00"):
            last = (
                f"oh {say_number(self._written, plain[2])}" if plain[1] == "0" else say_number(self._written, plain[1:])
            )
            return f"{say_number(self._written, plain[0])} {last}"
        if len(plain) == 4 and self._is_year(plain, place, start):
            return self._written.speller.year(int(plain))
        if len(plain) <= 3 or (len(plain) == 4 and plain.endswith("00")):
            return say_number(self._written, plain)
        return say_digits(self._written, plain)

    def _is_year(self, plain: str, place: int, start: int) -> bool:
        """Tell whether four digits after a word and its hyphen are a year: "pre-2000", "Euro-2024"."""
        word = self._text[start : place - 1] if place > start else ""
        is_joined = place > start and self._text[place - 1] in "-\u2010\u2011"
        is_word = word[1:].islower() and word.isalpha()
        if plain and start < place and self._text[start:place] in {"FY", "CY"} and self._written.has_number_words:
            return _FIRST_YEAR <= int(plain) <= _LAST_YEAR
        return is_joined and is_word and self._written.has_number_words and _FIRST_YEAR <= int(plain) <= _LAST_YEAR

    def _german_word(self, digits: str, ending: str) -> str:
        """Join a number and the word that it is written with: "18jährig", "1990er"."""
        plain = to_ascii(digits)
        if plain[0] == "0":
            return f"{say_digits(self._written, plain)} {say_word(self._written, ending)}"
        is_year = ending.startswith("er") and len(plain) == 4
        said = self._written.speller.year(int(plain)) if is_year else self._written.speller.cardinal(int(plain))
        return said.removesuffix("s") + ending if plain == "1" else said + ending

    def _is_asked_for(self, start: int) -> bool:
        """Tell whether a word before says that this is a code, to be read out sign by sign."""
        words = self._written.data.phones
        if words is None:
            return False
        before = self._text[max(0, start - 30) : start].rpartition("\n")[2].casefold()
        near = re.findall(r"[^\s,;:=()\[\]!?.]+", before)
        while near and near[-1] in words.links and near[-1] not in words.codes:
            near.pop()
        return bool(near) and near[-1] in words.codes and near[-1] != "pnr"
