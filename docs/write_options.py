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

_KINDS = {"text": "text", "switch": "true or false", "voice": "name or path", "clip": "path, bytes or samples"}


def render() -> str:
    """Return the page."""
    return _HEAD + "".join(f"| {' | '.join(_row(option))} |\n" for option in OPTIONS)


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
        return " or ".join(f"`{choice}`" for choice in option.choices)
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
