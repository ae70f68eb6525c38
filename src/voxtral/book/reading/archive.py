"""The archive of an EPUB: bounded, by names as authors write them, and as far as it goes where it is damaged."""

from __future__ import annotations

import io
import posixpath
import re
import struct
import zipfile
import zlib
from pathlib import Path
from urllib.parse import unquote

from voxtral.book.types import BookLimits
from voxtral.errors import BookError, quoted

_LOCAL_HEADER = b"PK\x03\x04"
_FIELDS = struct.Struct("<4s5H3I2H")
_STORED, _DEFLATED = 0, 8
_IS_ENCRYPTED = 1
# Below this a file that shrinks much is a page of blanks, and harmless.
_LEAST_CHECKED = 2**20
_PIECE = 2**18


class Archive:
    """Files of a book by name.

    Args:
        data: of the whole archive.
        limits: see there.

    Raises:
        BookError: it is no archive at all, is protected, or breaks a limit.
    """

    def __init__(self, data: bytes, limits: BookLimits) -> None:
        self.warnings: list[str] = []
        self._limits = limits
        self._left = limits.num_text_bytes
        self._packed: zipfile.ZipFile | None = None
        self._found: dict[str, bytes] = {}
        try:
            self._packed = zipfile.ZipFile(io.BytesIO(data))
            names = self._packed.namelist()
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error) as error:
            self._packed = None
            self._found = _recover(data, limits)
            names = list(self._found)
            if not names:
                raise BookError(
                    "the file is no EPUB: it is no zip archive; give an .epub, .md, .html or .txt"
                ) from error
            self.warnings.append(f"the archive is damaged ({error}); {len(names)} files were found in it")
        if self._packed is not None:
            self._check(self._packed.infolist())
        self.names = names
        self._by_name: dict[str, str] = {}
        for name in names:
            for form in (name, name.lower()):
                self._by_name.setdefault(posixpath.normpath(form), name)

    @classmethod
    def open(cls, path: Path, limits: BookLimits) -> Archive:
        """Read a file."""
        return cls(path.read_bytes(), limits)

    def _check(self, members: list[zipfile.ZipInfo]) -> None:
        if len(members) > self._limits.num_members:
            raise BookError(f"the book has {len(members)} files; at most {self._limits.num_members} are read")
        for member in members:
            name = member.filename.replace("\\", "/")
            if name.startswith("/") or re.match(r"[A-Za-z]:", name) or ".." in name.split("/"):
                raise BookError(f"the archive has a file {quoted(name)}, which lies outside of it; it is refused")
            if member.file_size > max(_LEAST_CHECKED, self._limits.ratio * member.compress_size):
                raise BookError(
                    f"{quoted(name)} unpacks to {member.file_size} bytes, more than {self._limits.ratio} times of what "
                    "it takes; it is refused"
                )

    def find(self, name: str) -> str | None:
        """Find a file as a document names it: percent-encoded or not, and at last without regard to case."""
        for form in (name, unquote(name)):
            plain = posixpath.normpath(form.replace("\\", "/"))
            for each in (plain, plain.lower()):
                if each in self._by_name:
                    return self._by_name[each]
        return None

    def read(self, name: str, most: int | None = None) -> bytes | None:
        """Read a file; None if there is none. Of a damaged one what can be read.

        Args:
            name: as a document has it.
            most: bytes; None for a text, which counts towards the limit of all of them.

        Raises:
            BookError: it is encrypted, or too large.
        """
        found = self.find(name)
        if found is None:
            return None
        bound = self._left if most is None else most
        data = self._unpack(found, bound)
        if len(data) > bound:
            raise BookError(
                f"{quoted(found)} and what was read before have more than {self._limits.num_text_bytes} bytes; at most "
                "so many are read"
                if most is None
                else f"{quoted(found)} has more than {most} bytes"
            )
        if most is None:
            self._left -= len(data)
        return data

    def _unpack(self, name: str, bound: int) -> bytes:
        if self._packed is None:
            return self._found[name]
        pieces: list[bytes] = []
        size = 0
        try:
            with self._packed.open(name) as file:
                while size <= bound and (piece := file.read(_PIECE)):
                    pieces.append(piece)
                    size += len(piece)
        except RuntimeError as error:  # how zipfile says that a password is wanted
            raise BookError(f"this book is protected: {quoted(name)} is encrypted; it cannot be read") from error
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, ValueError) as error:
            self.warnings.append(f"{name} is damaged ({error}); {size} bytes of it were read")
        return b"".join(pieces)


def _recover(data: bytes, limits: BookLimits) -> dict[str, bytes]:
    """Find files by the headers before them, in an archive whose end is missing."""
    found: dict[str, bytes] = {}
    left = limits.num_text_bytes
    at = data.find(_LOCAL_HEADER)
    while at >= 0 and len(found) < limits.num_members and at + _FIELDS.size <= len(data):
        _, _, flags, method, _, _, _, packed_size, size, name_size, extra_size = _FIELDS.unpack_from(data, at)
        start = at + _FIELDS.size + name_size + extra_size
        name = data[at + _FIELDS.size : at + _FIELDS.size + name_size].decode("utf-8", "replace")
        following = data.find(_LOCAL_HEADER, start)
        stop = start + packed_size if packed_size else (following if following >= 0 else len(data))
        content = b""
        if not flags & _IS_ENCRYPTED and method in (_STORED, _DEFLATED):
            packed = data[start:stop]
            content = packed[: size or None] if method == _STORED else _inflate(packed, left)
        is_inside = not name.startswith("/") and ".." not in name.split("/") and not name.endswith("/")
        if content and is_inside and name:
            found.setdefault(name, content)
            left -= len(content)
        at = data.find(_LOCAL_HEADER, max(stop if packed_size else start, at + 4))
    return found


def _inflate(packed: bytes, most: int) -> bytes:
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    pieces: list[bytes] = []
    left = max(1, most)
    try:
        for start in range(0, len(packed), _PIECE):
            piece = unpacker.decompress(packed[start : start + _PIECE], left)
            pieces.append(piece)
            left -= len(piece)
            if left <= 0 or unpacker.eof:
                break
    except zlib.error:
        pass  # what came before is good
    return b"".join(pieces)
