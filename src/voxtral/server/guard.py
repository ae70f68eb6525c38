"""The door: who may ask, from where, and what is written down about it.

Pure ASGI, so that it holds for every route and every later protocol, and never stands between a stream and its client.
The log has the route and not the path, never a query, a text or a key.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import re
import secrets
import socket
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from voxtral.server.connections import Connections
from voxtral.server.errors import HttpError, as_http_error, busy, hushed
from voxtral.server.keys import LOCAL, Client, KeyRing, remote_client
from voxtral.server.metrics import Metrics
from voxtral.server.options import ServerOptions

_log = logging.getLogger("voxtral.server.access")
_errors = logging.getLogger("voxtral.server")

# What a client may choose as the id of its request.
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

# The name and the port in a Host header; an IPv6 address stands in brackets.
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+?)\.?)(?::[0-9]*)?")

# What proxies add. Whom such a request comes from is only a claim.
_PROXY_HEADERS = ("forwarded", "via", "x-forwarded-for", "x-real-ip")

# What a supervisor asks, by whatever name it has for this machine.
_PROBES = frozenset(("/livez", "/readyz", "/health"))
_OFTEN_ASKED = _PROBES | {"/metrics"}

# Top-level names that public DNS never has, because they are kept for local use: .internal by ICANN's resolution of
# July 2024, .local by RFC 6762 (also Kubernetes' cluster.local), home.arpa by RFC 8375, .localhost by RFC 6761.
_LOCAL_SUFFIXES = (".internal", ".local", ".home.arpa", ".localhost")

# Browsers send twenty, and a chain of proxies adds as many.
_MAX_HEADERS = 128

# The status of a websocket, and what its messages say where they leave out the code.
_ACCEPTED = 101
_CLOSE_CODES = {"websocket.close": 1000, "websocket.disconnect": 1005}

# What servers call it that a handshake can be refused as a request is: with a status and a body.
_DENIAL = "websocket.http.response"

_SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
        "media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
}

_HOW_TO_OPEN = (
    "set VOXTRAL_API_KEY (or --api-key-file) and send the key as a Bearer token, or start it with --insecure "
    "(VOXTRAL_INSECURE=1) on a network that you trust"
)


@dataclass
class Visit:
    """What is known of a request or websocket: found as scope["state"]["visit"], written into the log at its end.

    Attributes:
        request_id: the client's if it is harmless, else ours.
        client: whose key it has.
        started_at: on the clock of time.perf_counter.
        status: of the response, 101 for a websocket that was accepted; 0 while there is none.
        close_code: of a websocket, by the side that closed it; None while it is open, and where it was refused.
        num_bytes: of the response's body, or of all that went into a websocket.
        facts: more for the log, such as the length of the text and the time to the first audio; never text.
    """

    request_id: str
    client: Client = LOCAL
    started_at: float = field(default_factory=time.perf_counter)
    status: int = 0
    close_code: int | None = None
    num_bytes: int = 0
    facts: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def is_answered(self) -> bool:
        """Whether it is too late for a refusal."""
        return self.status not in (0, _ACCEPTED) or self.close_code is not None

    def note(self, message: Message) -> None:
        """Take note of a message on its way, in either direction."""
        kind = message["type"]
        if kind in ("http.response.start", "websocket.http.response.start"):
            self.status = message["status"]
        elif kind in ("http.response.body", "websocket.http.response.body"):
            self.num_bytes += len(message.get("body", b""))
        elif kind == "websocket.accept":
            self.status = _ACCEPTED
        elif kind == "websocket.send":
            self.num_bytes += len(message.get("bytes") or (message.get("text") or "").encode())
        elif kind == "websocket.close" and self.status != _ACCEPTED:
            self.status = self.status or 403  # what servers answer then, unless there was a better reason
        elif kind in _CLOSE_CODES and self.close_code is None:
            self.close_code = message.get("code", _CLOSE_CODES[kind])


class Guard:
    """Middleware that refuses who may not ask, and writes the access log.

    Args:
        app: the application behind it.
        options: of the server.
        keys: that are accepted.
        metrics: gets each response.
        public_paths: that need no key.
        peer_share: utterances under way or waiting that one address may have where there are no keys; None for any.
    """

    def __init__(
        self,
        app: ASGIApp,
        options: ServerOptions,
        keys: KeyRing,
        metrics: Metrics,
        public_paths: Iterable[str],
        peer_share: int | None = None,
    ) -> None:
        self._app = app
        self._options = options
        self._keys = keys
        self._metrics = metrics
        self._public_paths = frozenset(public_paths)
        self._peer_share = peer_share
        self._proxies = [ipaddress.ip_network(proxy, strict=False) for proxy in options.proxies]
        own_names = ("localhost", socket.gethostname(), options.host, *options.allowed_hosts)
        self._hosts = frozenset(name for name in map(_host_name, own_names) if name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        visit = Visit(_request_id(headers))
        scope.setdefault("state", {})["visit"] = visit

        async def send_noted(message: Message) -> None:
            visit.note(message)
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                _add_headers(message, visit)
            await send(message)

        async def receive_noted() -> Message:
            message = await receive()
            visit.note(message)
            return message

        try:
            visit.client = self._admit(scope, headers)
            await self._app(scope, receive_noted, send_noted)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is answered and not shown
            if not isinstance(error, HttpError):
                # Frames and the kind, not the message: it may quote what somebody wants spoken.
                _errors.error("request %s failed: %s", visit.request_id, type(error).__name__, exc_info=hushed(error))
            if visit.is_answered:
                # The server breaks the connection, and writes into its log what it is given.
                raise hushed(error) from None
            refusal = as_http_error(error)
            visit.status = visit.status or refusal.status_code
            await _refuse(refusal, scope, receive, send_noted)
        finally:
            self._note(scope, visit)

    def _admit(self, scope: Scope, headers: Headers) -> Client:
        """Check size, peer, Host, Origin and key; return whose key it is."""
        if len(scope["headers"]) > _MAX_HEADERS:
            # Each look at one of them goes through all.
            raise HttpError(
                431,
                f"the request has {len(scope['headers'])} headers; it may have {_MAX_HEADERS} at most; send fewer",
                code="too_many_headers",
            )
        connections: Connections | None = scope["state"].get("connections")  # of `voxtral serve`
        if connections is not None and connections.is_crowded and scope["path"] not in _OFTEN_ASKED:
            raise busy("too many connections have a request under way", code="server_busy")
        if not (self._keys or self._options.insecure or _is_local(scope, headers)):
            raise HttpError(
                403,
                "this server answers only this machine, because it has no API keys; to open it to others "
                f"{_HOW_TO_OPEN}",
                code="remote_access_refused",
            )
        if scope["path"] not in _PROBES:
            self._check_host(headers)
        self._check_origin(scope, headers)
        # A browser asks before it sends a key along; whether it may is answered behind this.
        is_preflight = scope.get("method") == "OPTIONS" and "access-control-request-method" in headers
        if not self._keys:
            return self._peer_of(scope)
        if scope["path"] in self._public_paths or is_preflight:
            return LOCAL
        client = self._keys.find(_presented_key(headers))
        if client is None:
            raise HttpError(
                401,
                "the API key is missing or unknown; send a key of this server as `Authorization: Bearer KEY`",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return client

    def _peer_of(self, scope: Scope) -> Client:
        """Tell clients without keys apart by address; this machine and named proxies stand for any number of them."""
        address = _address_of(scope)
        if address is None or address.is_loopback or any(address in proxy for proxy in self._proxies):
            return LOCAL
        return remote_client(address, self._peer_share)

    def _check_host(self, headers: Headers) -> None:
        """Refuse names that a stranger may have let point at this machine.

        The trick (DNS rebinding): a page of evil.example is loaded, then evil.example points at this machine, and the
        page may read what it asks here, for the browser takes both for one site. The browser says the name as Host,
        and that gives it away. It takes a name in public DNS, so these are harmless: an address, this machine's own
        names, and those that public DNS cannot have (see `_is_local_name`), by which containers and machines next to
        this one call it.
        """
        name = _host_name(headers.get("host", ""))
        if name in self._hosts or _is_address(name) or _is_local_name(name):
            return
        raise HttpError(
            421,
            "the Host header names a host that this server does not know as itself; start it with "
            "--allowed-host NAME (VOXTRAL_ALLOWED_HOSTS), or use its IP address or a name without a dot",
            code="unknown_host",
        )

    def _check_origin(self, scope: Scope, headers: Headers) -> None:
        """Refuse what the page of another site sends."""
        origin = headers.get("origin")
        if origin is None:
            is_cross_site = headers.get("sec-fetch-site") in ("cross-site", "same-site")
            is_visit = scope.get("method") == "GET" and headers.get("sec-fetch-mode") == "navigate"
            if not is_cross_site or is_visit:
                return
        elif origin in self._options.allowed_origins or _same_host(origin, headers.get("host", "")):
            return
        raise HttpError(
            403,
            "the request comes from a page of another site; pages of other sites may not use this server unless it is "
            "started with --allowed-origin (VOXTRAL_ALLOWED_ORIGINS)",
            code="cross_site_refused",
        )

    def _note(self, scope: Scope, visit: Visit) -> None:
        seconds = time.perf_counter() - visit.started_at
        route = route_of(scope)
        self._metrics.count_response(route, visit.status)
        facts = {
            "request_id": visit.request_id,
            "client": visit.client.name,
            "method": scope.get("method", "WEBSOCKET"),
            "route": route,
            "status": visit.status,
            **({} if visit.close_code is None else {"close_code": visit.close_code}),
            "seconds": round(seconds, 4),
            "bytes": visit.num_bytes,
            **visit.facts,
        }
        # What asks every few seconds whether all is well would bury the rest.
        level = logging.DEBUG if route in _OFTEN_ASKED and visit.status == 200 else logging.INFO
        if self._options.log_format == "json":
            _log.log(level, "%s", json.dumps({"time": round(time.time(), 3), **facts}))
        else:
            _log.log(level, "%s", " ".join(f"{name}={value}" for name, value in facts.items()))


class RedactPaths(logging.Filter):
    """Cuts out of uvicorn's own logs what somebody typed: queries, and paths that are not among those named.

    Args:
        paths: of routes without parameters.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        super().__init__()
        self._paths = frozenset(paths)

    @contextmanager
    def of_uvicorn(self) -> Generator[None]:
        """Filter its logs until the block ends: requests are in the one, handshakes of web sockets in the other."""
        logs = (logging.getLogger("uvicorn.access"), logging.getLogger("uvicorn.error"))
        for log in logs:
            log.addFilter(self)
        try:
            yield
        finally:
            for log in logs:
                log.removeFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record, and let it pass."""
        if isinstance(record.args, tuple):
            record.args = tuple(self._redact(value) for value in record.args)
        return True

    def _redact(self, value: object) -> object:
        if not isinstance(value, str) or not value.startswith("/"):
            return value
        path, query, _ = value.partition("?")
        return (path if path in self._paths else "/...") + ("?..." if query else "")


def route_of(scope: Scope) -> str:
    """Name the route of a request by its pattern, because a path may hold what somebody typed."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else "(none)"


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else f"req_{secrets.token_hex(8)}"


def _presented_key(headers: Headers) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    return headers.get("x-api-key") or headers.get("xi-api-key") or ""


def _is_local(scope: Scope, headers: Headers) -> bool:
    """Tell whether the peer is this machine: its loopback address, or a Unix socket, and no proxy in between."""
    if any(name in headers for name in _PROXY_HEADERS):
        return False
    if scope.get("client") is None:
        server = scope.get("server")
        return server is not None and server[1] is None
    address = _address_of(scope)
    return address is not None and address.is_loopback


def _address_of(scope: Scope) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Find the address of the peer; None where it has none, or what it has is none."""
    client = scope.get("client")
    if client is None:
        return None
    try:
        address = ipaddress.ip_address(client[0].split("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _host_name(host: str) -> str:
    """Take the name out of a Host header, in lower case and without port; "" if there is none.

    >>> _host_name("Example.org.:8000"), _host_name("[::1]:8000"), _host_name("[::1].example.org")
    ('example.org', '::1', '')
    """
    match = _HOST.fullmatch(host.strip().lower())
    return (match[1] or match[2]) if match else ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_local_name(name: str) -> bool:
    """Tell whether only the local network, or this machine, can have said where a name points.

    Names of one label (a service of compose, a machine of the household) are not sold: ICANN forbids addresses at the
    top level, and the few countries that have one there run it themselves. The rest is kept for local use.

    >>> _is_local_name("voxtral"), _is_local_name("host.docker.internal"), _is_local_name("internal.example")
    (True, True, False)
    """
    return bool(name) and ("." not in name or name.endswith(_LOCAL_SUFFIXES))


def _same_host(origin: str, host: str) -> bool:
    return origin.lower().partition("://")[2] == host.strip().lower() != ""


def _add_headers(message: Message, visit: Visit) -> None:
    headers = MutableHeaders(scope=message)
    headers["X-Request-Id"] = visit.request_id
    for name, value in _SECURITY_HEADERS.items():
        headers.setdefault(name, value)


async def _refuse(error: HttpError, scope: Scope, receive: Receive, send: Send) -> None:
    is_open = scope["type"] == "websocket" and scope["state"]["visit"].status == _ACCEPTED
    if scope["type"] == "websocket" and (is_open or _DENIAL not in scope.get("extensions", {})):
        await send({"type": "websocket.close", "code": 1008, "reason": error.code})
        return
    response = error.response()
    # Whatever else this client sends is not read, so that it cannot go on for ever.
    response.headers["Connection"] = "close"
    await response(scope, receive, send)
