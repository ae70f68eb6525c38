"""What computers are told: addresses of mail and of the web, paths, file names, handles, IPs, versions, hashes.

Their signs are said by name ("dot", "slash"), what can be said as a word is one, and the rest is spelled. A claim here
is whole: of an address that is read in part, nobody can find the other part.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from voxtral.text.reading.claims import Claim, Strength
from voxtral.text.reading.numerals import to_ascii
from voxtral.text.reading.spelled import Piece, claim_pieces, name_letters, say_digits, say_number, spell_pieces
from voxtral.text.reading.written import Written
from voxtral.text.tables.spelled import SpelledWords

# Letters of addresses: ASCII and the accented ones of Latin; other scripts begin the next word without a space.
_L = "A-Za-zÀ-ÖØ-öø-ɏ"
_NAME = rf"[{_L}0-9](?:[{_L}0-9_-]{{0,62}}+)"
_TAIL = rf"[{_L}0-9\-._~:/?#\[\]@!$&'()*+,;=%|{{}}\\^]"

# Top-level domains that nothing else ends in. A country's that is a small word of the language is left out below.
_DOMAINS = """
com net org edu gov mil info biz io ai app dev blog shop online site tech xyz cloud wiki
eu uk de fr es it pt nl be ch at us ca mx br ar cl co pe ve in pk bd ir sa ae eg ma jp cn kr tw hk sg au nz
za ie se no dk fi pl cz sk hu ro bg gr tr ru ua il is lu li me tv fm ly gg to sm cat
"""
_FILES = """
txt md rst pdf doc docx odt rtf tex epub csv tsv xls xlsx ods ppt pptx odp jpg jpeg png gif svg webp bmp tif tiff ico
heic psd mp3 mp4 wav flac ogg opus aac m4a avi mkv mov webm wmv zip tar gz bz2 xz 7z rar tgz iso dmg exe msi deb
rpm apk jar dll bat sh ps1 py ipynb js ts jsx tsx css scss html htm php rb rs go c h cpp hpp cc java kt swift cs
lua pl r sql db sqlite json jsonl yaml yml toml xml ini cfg conf log env bak tmp srt vtt ttf otf woff woff2
safetensors gguf onnx pt pth ckpt bin dat
"""
_ROOTS = "etc usr var home tmp opt bin sbin dev proc sys mnt media root srv lib boot run Users Library Applications"

_HEX = "0-9A-Fa-f"
_OCTETS = r"\d{1,3}(?:\.\d{1,3}){3}"
_WORD_BEFORE = rf"(?<![{_L}0-9_.@/\\#&=-])"
_WORD_AFTER = rf"(?![{_L}0-9_])"


@cache
def _pattern(language: str, small_words: frozenset[str]) -> re.Pattern[str]:
    """Build what a language may have of these; every part is bounded or possessive."""
    # A single letter before a point is an abbreviation: "p.es", "d.h"; hence two.
    named = rf"[{_L}0-9]{_NAME}"
    domains = "|".join(sorted((d for d in _DOMAINS.split() if d not in small_words), key=len, reverse=True))
    every_domain = "|".join(sorted(_DOMAINS.split(), key=len, reverse=True))
    files = "|".join(sorted(_FILES.split(), key=len, reverse=True))
    # After a host: a port, and a path, a query or a fragment.
    rest = rf"(?::\d{{1,5}})?(?:[/?#]{_TAIL}{{0,2000}}+)?"
    # A letter of another script may follow where there are no spaces.
    before = _WORD_BEFORE if language == "ja" else rf"{_WORD_BEFORE}(?<!\w)"
    # Most words are none of these, and are not tried.
    told = rf"(?=[^\s@./:\\]{{0,63}}+(?:[@/:\\]|[.]{{1,60}}+[\w%+'@-])|[{_HEX}]{{7}}|0x|[{_HEX}]{{2}}-[{_HEX}]{{2}}-)"
    # Two numbers with a point are a decimal, unless something stands beside them.
    release = (
        r"(?=[vV]|\d{1,4}\.\d{1,6}(?:[.]\d|[-+.]?(?:alpha|beta|rc|dev|post|pre|a|b|SNAPSHOT))|(?<=[ =:])\d{1,4}\.\d{3})"
    )
    ending = rf"(?!\d{{1,4}}\.\d{{1,6}}(?![\w%°€$£]|[.,:/-]\d))(?=[{_L}0-9_./-]{{0,800}}?\.[a-z7])"
    return re.compile(
        rf"""
          {before}{told}(?:
          (?P<url>(?:[a-zA-Z][a-zA-Z0-9+]{{1,11}}://|mailto:(?=[^\s@]{{1,64}}@)){_TAIL}{{1,2000}}+
              |[wW]{{3}}\.{_NAME}\.{_TAIL}{{2,2000}}+)
        | (?P<rate>[$€£]?\d{{1,6}}@[$€£]?\d{{1,6}}%?(?![\w.,:%-]))
        | (?P<email>[{_L}0-9_][{_L}0-9._%+'-]{{0,63}}+@{_NAME}(?:\.{_NAME}){{0,8}}+{rest})
        | (?P<uuid>[{_HEX}]{{8}}-(?:[{_HEX}]{{4}}-){{3}}[{_HEX}]{{12}}{_WORD_AFTER})
        | (?P<mac>[{_HEX}]{{2}}(?P<join>[:-])(?:[{_HEX}]{{2}}(?P=join)){{4}}[{_HEX}]{{2}}{_WORD_AFTER}(?!(?P=join)))
        | (?P<ipv6>(?:[{_HEX}]{{0,4}}:){{2,7}}(?:[{_HEX}]{{1,4}}|(?<=::))(?:/\d{{1,3}})?(?![\w:]))
        | (?P<ip>{_OCTETS}(?::\d{{1,5}}(?!\d))?(?:/\d{{1,2}}(?!\d))?(?![\w/]|[.,:]\d))
        | (?P<version>{release}[vV]?\d{{1,4}}(?:\.\d{{1,6}}){{1,5}}
              (?:[-+.]?(?:alpha|beta|rc|dev|post|pre|a|b|SNAPSHOT)[.-]?\d{{0,4}}(?:\.\d{{1,4}})?)?(?![\w%°€$£]|[.,:/-]\d))
        | (?P<hash>
              (?=[{_HEX}]{{0,40}}?[A-Fa-f])(?=[{_HEX}]{{0,40}}?\d)(?:[0-9a-f]{{7,128}}+|[0-9A-F]{{7,128}}+){_WORD_AFTER}
              |0x[{_HEX}]{{1,64}}+{_WORD_AFTER})
        | (?P<domain>{ending}(?:{named}(?:\.{_NAME}){{0,6}}?\.(?:{domains})(?:\.(?:{every_domain}))?
              (?![{_L}0-9_-]|\.[{_L}0-9]){rest}
              |{_NAME}(?:\.{_NAME}){{1,6}}?\.(?:{every_domain})(?![{_L}0-9_-]|\.[{_L}0-9]){rest}
              |{_NAME}(?:\.{_NAME}){{0,6}}?\.(?:{every_domain})/{_TAIL}{{0,2000}}+))
        | (?P<file>{ending}
              (?:{_NAME}/){{0,12}}{named}(?:\.{_NAME}){{0,4}}?\.(?:{files})(?![{_L}0-9_-]|\.[{_L}0-9]))
          )
        | (?P<handle>@(?<![\w.@/\\#&=-]@)
              (?:(?=[0-9_.]{{0,20}}[A-Za-z_])[A-Za-z0-9_]{{1,40}}+(?:\.[A-Za-z0-9_]{{1,40}}+){{0,3}}+
              |\d{{1,6}}(?![\w%]|[.,:/-]\d)))
        | (?P<tag>\#(?<![\w.@/\\#&=]\#)
              (?=[0-9_]{{0,20}}[^\W\d_])[\w\u0900-\u0903\u093a-\u094d]{{2,100}}+(?:\.[a-z]{{2,12}}+(?![\w.]))?)
        | (?<![\w.@/\\#&=~)\]>])
              (?P<unix>(?:~|\.{{1,2}})?/(?=[{_L}0-9._~-])[{_L}0-9._~+@%-]{{1,100}}+
              (?:/[{_L}0-9._~+@%-]{{1,100}}+){{0,20}}+/?)
        | (?<![\w\\/])(?P<windows>(?:[A-Za-z]:\\|\\\\[\w.-]{{1,60}}+\\)
              (?:[^\s\\/:*?"<>|,;]{{1,100}}+(?:[ ][^\s\\/:*?"<>|,;]{{1,60}}+(?=\\)){{0,3}}\\?){{0,20}}+)
        """,
        re.VERBOSE,
    )


# What one of these has at least.
_SOME = re.compile(rf"[@#/\\]|[.][\w@]|[{_HEX}]{{7}}|0x[{_HEX}]|[{_HEX}:]:[{_HEX}:]|[{_HEX}]-[{_HEX}]{{2}}-")
_TRAILING = ".,;:!?'\"*~|&=+"
_PAIRS = {")": "(", "]": "[", "}": "{"}
_GROUP_LIKE = re.compile(r"\d{1,3}(?:\.\d{3})+")
_PHONE_LIKE = re.compile(r"0\d(?:\.\d\d){4}|(?:1\.)?\d{3}\.\d{3}\.\d{4}")
_DATE_LIKE = re.compile(r"\d{1,2}\.\d{1,2}\.(?:\d{4}|\d{2})|\d{4}\.\d{1,2}\.\d{1,2}")
_RELEASE = re.compile(
    r"(?:version|versión|versione|versão|versie|release|build|rev|firmware|python|ios|ipados|macos|android|linux|kernel|"
    r"ubuntu|debian|windows|java|node|npm|pip|pytorch|cuda|driver|update|patch|bluetooth|usb|http|tls|ssl|"
    r"वर्ज़न|संस्करण|الإصدار|إصدار|バージョン)[ =:]{1,3}$",
    re.IGNORECASE,
)
# Words of all languages that an IP address follows.
_ADDRESS_BEFORE = re.compile(
    r"(?:\bips?\b|ipv4|addres|adress|adres|direcci|endere|indirizz|host|serve|dns|ping|gateway|router|عنوان|पता|"
    r"アドレス|サーバ)[^.!?]{0,15}$",
    re.IGNORECASE,
)
_HUMP = re.compile(
    r"[A-ZÀ-ÖØ-Þ]{2,}(?![a-zß-öø-ÿ])|[A-ZÀ-ÖØ-Þ]?[a-zß-öø-ÿ]+|\d+"
    r"|[^\W\d_a-zß-öø-ÿ]+(?:[\u0900-\u0903\u093a-\u094f][^\W\d_]*)*"
)


def electronic_claims(written: Written) -> Iterator[Claim]:
    """Claim addresses, paths, file names, handles, hashtags, versions and hashes."""
    spelled = written.data.spelled
    if spelled is None:
        return
    if not _SOME.search(written.text):
        return
    small_words = written.data.recognition.stop_words if written.data.recognition else frozenset[str]()
    reader = _Reader(written, spelled)
    for found in _pattern(written.language, small_words).finditer(written.text):
        if claimed := reader.read(found):
            yield claimed


class _Reader:
    """Reads what was found in one text."""

    def __init__(self, written: Written, spelled: SpelledWords) -> None:
        self._written = written
        self._text = written.text
        self._spelled = spelled

    def read(self, found: re.Match[str]) -> Claim | None:
        """Say what was found; None if it is something else after all."""
        kind = found.lastgroup or ""
        start, end = found.span(kind)
        if kind in {"url", "email", "domain", "unix", "windows"}:
            end = self._trimmed(start, end)
        pieces: list[Piece] = []
        match kind:
            case "ip" if self._is_section(start, end):
                kind = "version"
                pieces = self._version(start, end)
            case "ip":
                pieces = self._ip(start, end)
            case "version":
                pieces = self._version(start, end)
            case "uuid" | "mac" | "hash" | "ipv6":
                pieces = self._hexadecimal(start, end, kind)
            case "handle" if self._text[start + 1 : end].isdecimal():
                number = say_number(self._written, self._text[start + 1 : end])
                pieces = [Piece(start, end, f"{self._spelled.signs['@']} {number}")]
            case "rate":
                pieces = [
                    Piece(run.start(), run.end(), self._count_or_sign(run.group()))
                    for run in re.compile(r"\d+|\D").finditer(self._text, start, end)
                ]
            case "tag":
                pieces = self._tag(start, end)
            case "unix" if not self._is_path(start, end):
                pieces = []
            case "email" if self._text[end - 1] == "@":
                pieces = []
            case _:
                pieces = list(spell_pieces(self._written, start, end))
        if not pieces:
            return None
        name = {"ipv6": "ip", "unix": "path", "windows": "path", "tag": "hashtag"}.get(kind, kind)
        return claim_pieces(pieces, name, Strength.WHOLE, end=end)

    def _trimmed(self, start: int, end: int) -> int:
        """Leave the punctuation of the sentence behind an address, and brackets that were opened before it."""
        while end > start:
            last = self._text[end - 1]
            opener = _PAIRS.get(last)
            is_alone = opener and self._text.count(opener, start, end) < self._text.count(last, start, end)
            if last not in _TRAILING and not is_alone:
                break
            end -= 1
        return end

    def _is_path(self, start: int, end: int) -> bool:
        path = self._text[start:end]
        parts = [part for part in path.split("/") if part]
        if path[0] in "~." and parts:
            return True
        if not parts or not any(map(str.isalpha, path)):
            return False
        return len(parts) >= 2 or parts[0] in _ROOTS.split()

    def _is_section(self, start: int, end: int) -> bool:
        """Tell whether four small numbers are rather those of a section or a version, "12.3.2.1"."""
        octets = self._text[start:end].split(".")
        is_small = all(octet.isdecimal() and len(octet) <= 2 and octet.strip("0٠०") for octet in octets)
        return is_small and _ADDRESS_BEFORE.search(self._text, max(0, start - 30), start) is None

    def _ip(self, start: int, end: int) -> list[Piece]:
        address = re.compile(_OCTETS).match(self._text, start)
        octets = address.group().split(".") if address else []
        later = [to_ascii(octet) for octet in octets[1:]]
        # 1.000.000.000 and 2.500.000.000 are grouped thousands.
        is_grouped = all(len(octet) == 3 for octet in later)
        if is_grouped and any(octet == "000" or int(octet) > 255 for octet in later):
            return []
        point = self._spelled.signs["."]
        return [
            Piece(run.start(), run.end(), self._digits_or_sign(run.group(), point))
            for run in re.compile(r"\d+|\D").finditer(self._text, start, end)
        ]

    def _digits_or_sign(self, run: str, point: str) -> str:
        if run[0].isdecimal():
            return say_digits(self._written, run)
        return point if run == "." else self._spelled.signs.get(run, run)

    def _count_or_sign(self, run: str) -> str:
        return say_number(self._written, run) if run[0].isdecimal() else self._spelled.signs.get(run, run)

    def _version(self, start: int, end: int) -> list[Piece]:
        written = self._text[start:end]
        numbers = re.match(r"[vV]?([\d.]+)", written)
        chain = to_ascii(numbers.group(1).rstrip(".")) if numbers else ""
        is_named = written[0] in "vV" or self._is_after_release(start)
        has_suffix = numbers is not None and numbers.end() < len(written)
        if not (is_named or has_suffix):
            others = (_GROUP_LIKE, _DATE_LIKE, _PHONE_LIKE)
            if chain.count(".") < 2 or any(other.fullmatch(chain) for other in others):
                return []
        elif chain.count(".") < 2 and not has_suffix and written[0] not in "vV" and not re.search(r"\.\d{3}", chain):
            return []  # "Python 3.10" is for the rule of numbers, but 2.100 after such a word is no thousand.
        pieces: list[Piece] = []
        for run in re.compile(r"\d+|[^\W\d_]+|.").finditer(self._text, start, end):
            word = run.group()
            if word[0].isdecimal():
                spoken = say_number(self._written, word) if len(word) <= 4 else say_digits(self._written, word)
            elif word in "vV":
                is_said = self._written.word_before(start) == self._spelled.version.casefold()
                spoken = "" if is_said else self._spelled.version
            elif word == ".":
                spoken = self._spelled.version_point
            elif word[0].isalpha():
                spoken = name_letters(self._written, word) if len(word) <= 2 else word
            else:
                spoken = "" if word == "-" else self._spelled.signs.get(word, word)
            pieces.append(Piece(run.start(), run.end(), spoken))
        return pieces

    def _is_after_release(self, start: int) -> bool:
        """Tell whether the word before a number is of something that has versions."""
        before = self._text[max(0, start - 2) : start]
        is_word = before[-1:] in tuple(" =:") and not before[0].isdigit()
        return is_word and _RELEASE.search(self._text, max(0, start - 16), start) is not None

    def _hexadecimal(self, start: int, end: int, kind: str) -> list[Piece]:
        text = self._text[start:end]
        if kind == "ipv6" and not self._is_ipv6(text):
            return []
        if kind == "hash" and not text.startswith("0x") and _looks_spoken(text):
            return []
        pieces: list[Piece] = []
        for run in re.compile(r"::|[0-9A-Za-z]{1,4}|.").finditer(self._text, start, end):
            part = run.group()
            if part.isalnum():
                spoken = " ".join(
                    say_digits(self._written, char) if char.isdecimal() else name_letters(self._written, char)
                    for char in part
                )
            elif kind == "ipv6":
                spoken = " ".join(self._spelled.signs[char] for char in part if char in self._spelled.signs)
            else:
                spoken = ""
            if not spoken and pieces:
                pieces[-1] = pieces[-1]._replace(spoken=pieces[-1].spoken + ",")
            elif spoken:
                pieces.append(Piece(run.start(), run.end(), spoken))
        return pieces

    @staticmethod
    def _is_ipv6(text: str) -> bool:
        address = text.partition("/")[0]
        groups = address.split(":")
        if "::" in address:
            is_long = len([group for group in groups if group]) >= 3 or address.startswith("::")
            has_digit = any(map(str.isdecimal, address))
            return address.count("::") == 1 and has_digit and (is_long or any(map(str.isalpha, address)))
        return len(groups) == 8 and all(groups)

    def _tag(self, start: int, end: int) -> list[Piece]:
        body = self._text[start + 1 : end]
        if re.fullmatch(rf"(?:[{_HEX}]{{6}}|[{_HEX}]{{8}})", body) and any(map(str.isdecimal, body)):
            sign = Piece(start, start + 1, self._spelled.signs["#"])
            return [sign, *self._hexadecimal(start + 1, end, "color")]
        pieces = [Piece(start, start + 1, self._spelled.hashtag)]
        for run in _HUMP.finditer(self._text, start + 1, end):
            part = run.group()
            pieces.append(Piece(run.start(), run.end(), self._number_in_tag(part) if part[0].isdecimal() else part))
        if "." in body:
            # A channel or a domain: "#debian.de".
            place = start + 1 + body.index(".")
            pieces = [piece for piece in pieces if piece.end <= place]
            pieces += spell_pieces(self._written, place, end)
        return pieces

    def _number_in_tag(self, digits: str) -> str:
        years = self._written.data.numbers.years if self._written.data.numbers else None
        if years and len(digits) == 4 and digits.isascii() and int(digits) in years:
            return self._written.speller.year(int(digits))
        return say_number(self._written, digits) if len(digits) <= 4 else say_digits(self._written, digits)


def _looks_spoken(text: str) -> bool:
    """Tell whether a run of hexadecimal digits is rather a number with a letter: 1000000b, 2e10."""
    return re.fullmatch(r"\d+[a-fA-F]|\d+[eE]\d+|[a-fA-F]\d+", text) is not None
