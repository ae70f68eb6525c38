"""Bytes of a document to characters; never fails."""

from __future__ import annotations

import codecs
import re

_DECLARED = re.compile(rb"(?:encoding|charset)\s*=\s*[\"']?\s*([A-Za-z0-9_.:-]+)", re.IGNORECASE)
_LOOKED_AT = 1024
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
# What browsers take for the names of its smaller relatives.
_AS_WINDOWS = {"iso8859-1": "cp1252", "ascii": "cp1252", "iso8859-9": "cp1254"}


def decode(data: bytes) -> str:
    """Decode by the mark at the beginning, else UTF-8 where it is that, else as declared, else as Windows-1252.

    UTF-8 comes before what is declared, because text of another encoding is hardly ever valid UTF-8, and files whose
    declaration was forgotten when they were converted are common.

    >>> decode("é".encode("latin-1"))
    'é'
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "replace")
    declared = _DECLARED.search(data[:_LOOKED_AT])
    candidates = ["utf-8"]
    if declared is not None:
        try:
            name = codecs.lookup(declared.group(1).decode("ascii")).name
        except LookupError:
            name = "utf-8"
        candidates.append(_AS_WINDOWS.get(name, name))
    for encoding in candidates:
        try:
            return data.decode(encoding)
        except (UnicodeError, LookupError, ValueError):
            continue
    # Damage in a text that is UTF-8 otherwise must not turn all of its letters into others.
    as_utf8 = data.decode("utf-8", "replace")
    if as_utf8.count("\ufffd") * 100 < sum(char > "\x7f" for char in as_utf8):
        return as_utf8
    return data.decode("cp1252", "replace")
