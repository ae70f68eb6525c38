"""What went wrong between here and a hub, in words that say what to do.

An answer's own text and address are left out: they may quote the request, and with it a token.
"""

from __future__ import annotations

import errno
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from voxtral.errors import DownloadError
from voxtral.loading.hub.names import CANONICAL_ID
from voxtral.loading.hub.source import Source, offline
from voxtral.loading.hub.store import HubFile

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError


def human_size(num_bytes: int) -> str:
    """Write a size with a decimal unit.

    >>> human_size(8_040_000_000), human_size(1_500), human_size(12)
    ('8.0 GB', '1.5 kB', '12 bytes')
    """
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if num_bytes >= scale:
            return f"{num_bytes / scale:.1f} {unit}"
    return f"{num_bytes} bytes"


def transport_error() -> type[Exception]:
    """Return the base class of the errors of the HTTP client below huggingface_hub.

    That client is requests, httpx or httpx2, depending on the version; the library's own HTTP error
    derives from the client's in all of them.
    """
    from huggingface_hub.errors import HfHubHTTPError

    own = ("builtins", "huggingface_hub")
    return [cls for cls in HfHubHTTPError.__mro__ if cls.__module__.partition(".")[0] not in own][-1]


def explain(source: Source, exc: Exception, file: HubFile | None = None) -> DownloadError:
    """Explain what huggingface_hub raised when it asked for a file, or for the repository."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if isinstance(exc, OfflineModeIsEnabled):
        return offline(source.repo, source.revision)
    if isinstance(exc, HfHubHTTPError):
        return _refused(source, exc, file)
    return DownloadError(
        f"{source.host} cannot be reached ({_reason(exc)}); {source.repo} is downloaded from there; check the network, "
        "proxy and HF_ENDPOINT and run the same command again"
    )


def _refused(source: Source, exc: HfHubHTTPError, file: HubFile | None) -> DownloadError:
    """Explain an HTTP status."""
    from huggingface_hub.errors import RevisionNotFoundError

    status = exc.response.status_code
    page = f"https://huggingface.co/{source.repo}"
    if status in {401, 403} and "authorization" not in source.headers:
        return DownloadError(
            f"{source.host} refused {source.repo} (HTTP {status}) and no token was sent; the repository does not "
            f"exist, is private, or wants its licence accepted first; check the id, accept the licence on {page}, "
            "and set HF_TOKEN to a token of that account"
        )
    if status in {401, 403}:
        return DownloadError(
            f"{source.host} refused {source.repo} (HTTP {status}) to the token that was sent; the token must be valid "
            f"and its account must have accepted the licence; set HF_TOKEN to a valid token and accept the licence "
            f"on {page}"
        )
    if isinstance(exc, RevisionNotFoundError):
        return DownloadError(
            f"{source.repo} has no revision {source.revision!r}; a revision is a branch, a tag or a commit; see the "
            f"history on {page}, or leave the revision out"
        )
    if status == 404:
        what = f"file {file.name} of {source.repo}" if file else f"model {source.repo}"
        return DownloadError(
            f"{source.host} has no {what} (HTTP 404); a hub id is owner/name, exactly as on the model page; check the "
            f"id (the original model is {CANONICAL_ID})"
        )
    return DownloadError(
        f"{source.host} answered HTTP {status} for {file.name if file else source.repo}; the hub is overloaded or out "
        "of order; wait a while and run the same command again, which goes on where this one stopped"
    )


def broken_off(source: Source, file: HubFile, num_bytes: int, exc: Exception | None = None) -> DownloadError:
    """Explain that a file ended after `num_bytes`, through an error of the connection or without one."""
    reason = _reason(exc) if exc else "the answer ended early"
    return DownloadError(
        f"the connection to {source.host} broke off at {human_size(num_bytes)} of {human_size(file.size_bytes)} of "
        f"{file.name} ({reason}); an unfinished file is never used, but what came is kept; run the same command "
        "again, which goes on from there"
    )


def not_as_announced(source: Source, file: HubFile, num_bytes: int) -> DownloadError:
    """Explain that content came, and was discarded, which is not that of the file."""
    got = "content with another hash" if num_bytes == file.size_bytes else f"{num_bytes} bytes"
    return DownloadError(
        f"{source.host} sent {got} for {file.name} of {source.repo}, announced with {file.size_bytes} bytes; only a "
        "file of exactly that size and hash is used, so what came was discarded; run the same command again, and if "
        "it fails again, report it on the model page"
    )


def not_a_hub(source: Source) -> DownloadError:
    """Explain that a page answered which is no hub."""
    return DownloadError(
        f"{source.host} did not answer like a Hugging Face hub when asked for {source.repo}; the answer must list the "
        "commit and the files with size and hash; check HF_ENDPOINT, and whether a proxy or login page is in between"
    )


def too_much(source: Source) -> DownloadError:
    """Explain that the answer to what there is has no end in sight."""
    return DownloadError(
        f"{source.host} answered without end, or too slowly, when asked for {source.repo}; the answer is a short list "
        "of files; check HF_ENDPOINT and the network, and run the same command again"
    )


@contextmanager
def disk_errors(folder: Path) -> Generator[None]:
    """Explain what the disk of `folder` refuses.

    Raises:
        DownloadError: it is full, or something on it cannot be read or written.
    """
    try:
        yield
    except OSError as exc:
        if exc.errno == errno.ENOSPC:
            raise DownloadError(
                f"the disk of {folder} is full; the download needs the size that was announced; free space there and "
                "run the same command again, which goes on where this one stopped"
            ) from exc
        raise DownloadError(
            f"{exc.filename or folder} cannot be read or written ({exc.strerror}); the download needs a folder that "
            "this user may write; correct its permissions, or choose another one with HF_HOME"
        ) from exc


def _reason(exc: BaseException) -> str:
    """Name the innermost cause. The client's own message may hold an address with credentials."""
    reason = type(exc).__name__
    cause: BaseException | None = exc
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            reason = cause.strerror
        cause = cause.__cause__ or cause.__context__
    return reason
