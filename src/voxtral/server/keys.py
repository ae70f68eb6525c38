"""API keys: who may ask from another machine, and how much at a time.

Only digests are kept, and a presented key is compared with all of them in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path

from voxtral.errors import OptionError
from voxtral.server.options import ServerOptions

_MIN_CHARS = 16
_NAME = re.compile(r"[A-Za-z0-9._-]{1,32}")
_HOW = "make one with: openssl rand -hex 24"


@dataclass(frozen=True)
class Client:
    """Who asks.

    Attributes:
        name: of the key, for logs; "local" without one.
        max_streams: utterances under way or waiting that this client may have; None for no limit of its own.
        peer: the address that it asks from, where that and no key tells it from others.
    """

    name: str
    max_streams: int | None = None
    peer: str = ""


LOCAL = Client("local")


def remote_client(address: ipaddress.IPv4Address | ipaddress.IPv6Address, max_streams: int | None) -> Client:
    """Name a client without a key by its address; who has one in IPv6 has as many as there are in a /64."""
    if address.version == 4:
        return Client("remote", max_streams, str(address))
    home = ipaddress.ip_network((address.packed[:8] + bytes(8), 64))
    return Client("remote", max_streams, str(home))


class KeyRing:
    """The keys that are accepted."""

    def __init__(self, clients: dict[str, Client]) -> None:
        self._clients = [(_digest(key), client) for key, client in clients.items()]

    def __bool__(self) -> bool:
        return bool(self._clients)

    def find(self, presented: str) -> Client | None:
        """Find whose key this is; None if nobody's. Takes as long whichever key fits."""
        digest = _digest(presented)
        found = None
        for known, client in self._clients:
            if hmac.compare_digest(known, digest):
                found = client
        return found


_MAX_KEY_FILE = 2**20


def load_keys(options: ServerOptions) -> KeyRing:
    """Read the keys of `api_key` and `api_key_file`.

    Raises:
        OptionError: the file cannot be read, or a line or key breaks the rules; no key is quoted.
    """
    clients: dict[str, Client] = {}
    limit = options.max_streams_per_key
    for number, key in enumerate((options.api_key or "").split(","), start=1):
        if key := key.strip():
            _add(clients, key, Client(f"key{number}", limit), "VOXTRAL_API_KEY")
    if options.api_key is not None and not clients:
        raise OptionError(f"VOXTRAL_API_KEY holds no key; it must have at least one; {_HOW}, or unset it")
    if options.api_key_file is not None:
        _read_file(clients, options.api_key_file, limit)
    return KeyRing(clients)


def _read_file(clients: dict[str, Client], path: Path, limit: int | None) -> None:
    try:
        # A pipe is as good as a file, for whoever keeps keys elsewhere; one that never ends is none.
        with path.open(encoding="utf-8") as file:
            text = file.read(_MAX_KEY_FILE + 1)
        if len(text) > _MAX_KEY_FILE:
            raise OptionError(
                f"the key file {path} has more than {_MAX_KEY_FILE} characters; it must be a list of keys"
            )
        lines = text.splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"the key file {path} cannot be read ({error}); it must be a text file of keys") from error
    before = len(clients)
    for number, line in enumerate(lines, start=1):
        words = re.split(r"(?:^|\s)#", line)[0].split()
        where = f"{path}, line {number}"
        if not words:
            continue
        if len(words) > 3 or (len(words) == 3 and not re.fullmatch("[1-9][0-9]{0,3}", words[2])):
            raise OptionError(f"{where} is not `KEY`, `NAME KEY` or `NAME KEY STREAMS`; correct the line")
        name, key = (f"line{number}", words[0]) if len(words) == 1 else (words[0], words[1])
        if not _NAME.fullmatch(name):
            # Names are logged: one as long as a key may be the key, in the wrong place.
            raise OptionError(f"{where} has a name that is too long or odd; it must be up to 32 of A-Z a-z 0-9 . _ -")
        _add(clients, key, Client(name, int(words[2]) if len(words) == 3 else limit), where)
    if len(clients) == before:
        raise OptionError(f"the key file {path} holds no key; it must have at least one; {_HOW}")


def _add(clients: dict[str, Client], key: str, client: Client, where: str) -> None:
    if len(key) < _MIN_CHARS or not key.isascii() or not key.isprintable():
        raise OptionError(f"a key of {where} is too short or odd; it must be {_MIN_CHARS} plain characters; {_HOW}")
    if key in clients:
        raise OptionError(f"a key of {where} is there twice; each client needs its own; {_HOW}")
    clients[key] = client


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
