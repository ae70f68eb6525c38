"""Write docs/OPTIONS.md from the table of options: `make docs`. A test compares the two."""

from __future__ import annotations

from pathlib import Path

from voxtral.options import OPTIONS, Option

_HEAD = """# Options

Written by `make docs` from `src/voxtral/options.py`, where every option of speech is said once. In Python each is a
keyword of `synthesize` and its kin; a batch's JSON lines have the same names as keys. Over HTTP each is a field of
`/synthesize` and `/v1/audio/speech`; `voice` is a name there and no path, and the clip is called `reference` or
`ref_audio`. A server takes at most the checkpoint's own number of Euler steps, because more would slow others down.

| option | what it does | values | default | command line | HTTP | batch line |
|---|---|---|---|---|---|---|
"""

_TAIL = """
## Clean text

Weights have learnt texts that people typed. A no-break space or an invisible mark looks like nothing to a reader and is
another token to the model, which may lose the rest of the text over it: with `off` nano lost more than 30 % of the
speech in 5 of 12 cases where a no-break space followed a full stop (six texts, two seeds), once all but a fifth. So
`clean`, the default, makes of each such character its plain twin, and the speech is that of the plain text, to the
sample:

| what | becomes |
|---|---|
| no-break, thin, ideographic and all other spaces, tabs, runs of them | a space; none at the edges |
| CR LF, CR, NEL, vertical tab, form feed, U+2028 | a line feed |
| two line ends, U+2029 | a blank line, which ends a paragraph |
| zero-width characters, soft hyphens, BOM, marks of direction, variation selectors, tags | nothing |
| joiners between letters that they shape (Indic scripts, Arabic, Persian) | themselves; nothing elsewhere |
| full-width, mathematical and presentation forms of letters and digits | the letters and digits |
| ligatures, digraphs and Roman numerals of one character, half-width kana | the letters |
| full-width marks | the ASCII ones, but in lines with kana, ideographs or Hangul, where they are at home |
| letters with combining marks | composed letters (NFC) |

Superscripts, fractions, circled numbers, units and signs (`²`, `½`, `①`, `℃`, `™`) stay, because a plain form would
mean something else; so do single line feeds, emoji and all words. Controls are refused. Offsets of segments and marks
are those of the text as given. `auto` does all of this to letters and invisible characters, and writes the white space
of a paragraph as single spaces. `off` is for parity with the official code: the model gets the text byte for byte.

Words in capitals stay words in capitals, for weights that read them. nano does not, and is given them in small letters
([ALIGN.md](ALIGN.md#words-in-capitals)) unless the text is verbatim (`off`), or `clean` without `keep_to_text`.
"""

_KINDS = {
    "text": "text",
    "switch": "true or false",
    "voice": "name or path",
    "clip": "path, bytes or samples",
    "dictionary": "path, or rules",
}


def render() -> str:
    """Return the page."""
    return _HEAD + "".join(f"| {' | '.join(_row(option))} |\n" for option in OPTIONS) + _TAIL


def _row(option: Option) -> list[str]:
    http = {"voice": "by name", "reference_audio": "`reference`, `ref_audio`"}
    return [
        f"`{option.name}`",
        option.about,
        _values(option),
        "" if option.default is None else f"`{option.default}`",
        f"`{f'{option.flag.name} {option.flag.metavar}'.strip()}`".replace("|", "\\|") if option.flag else "",
        "yes" if option.is_field else http.get(option.name, ""),
        "yes" if option.is_key else "",
    ]


def _values(option: Option) -> str:
    if option.choices:
        *first, last = (f"`{choice}`" for choice in option.choices)
        return f"{', '.join(first)} or {last}"
    if option.low is None or option.high is None:
        return _KINDS[option.kind]
    kind = "whole, " if option.kind == "whole" else ""
    return f"{kind}{option.low:g} to {_number(option.high)}"


def _number(value: float) -> str:
    exponent = int(value).bit_length() - 1
    if value in (2**exponent, 2 ** (exponent + 1) - 1) and exponent > 20:
        return f"2^{exponent}" if value == 2**exponent else f"2^{exponent + 1} - 1"
    return f"{value:g}"


if __name__ == "__main__":
    Path(__file__).with_name("OPTIONS.md").write_text(render(), encoding="utf-8")
