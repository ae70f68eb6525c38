"""Downloads that go on where they broke off.

The downloads of huggingface_hub are not used: they remove an unfinished file when a transfer fails, put a small file
in place without looking at its hash, and take a file that is here for whole whatever its size (seen with 2.4.0). Its
transfer function is used alone, with files that outlive the call.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from voxtral.errors import DownloadError
from voxtral.loading.hub.cache import find_cached
from voxtral.loading.hub.messages import (
    broken_off,
    disk_errors,
    explain,
    human_size,
    not_as_announced,
    transport_error,
)
from voxtral.loading.hub.plan import DownloadPlan, plan_download
from voxtral.loading.hub.source import Source, is_offline
from voxtral.loading.hub.store import HubFile, size_of

if TYPE_CHECKING:
    from huggingface_hub.utils import tqdm


def download(
    model_id: str,
    *,
    revision: str | None = None,
    token: str | None = None,
    local_dir: Path | None = None,
    announce: Callable[[str], None] = lambda message: None,
) -> Path:
    """Download a checkpoint, or the part of it that is missing.

    What was fetched before a broken connection is kept, and the next call goes on from there. Each
    new file is checked against the size and the hash that the hub states before it is put in place.

    Args:
        model_id: an alias or a hub id.
        revision: as in `plan_download`.
        token: as in `plan_download`.
        local_dir: a folder to fill instead of the Hugging Face cache.
        announce: called with size and licence before the first byte of a file is fetched.

    Returns:
        The folder that holds the checkpoint.

    Raises:
        ModelNotFoundError: `model_id` is neither an alias nor a hub id.
        DownloadError: the hub is switched off, cannot be reached, refuses, breaks off or sends
            something else than it announced; or the disk is full or cannot be written.
    """
    if is_offline() and local_dir is None and (cached := find_cached(model_id, revision=revision)) is not None:
        announce(f"HF_HUB_OFFLINE is set: {model_id} is taken from {cached}")
        return cached
    plan = plan_download(model_id, revision=revision, token=token, local_dir=local_dir)
    announce(plan.announcement())
    with disk_errors(plan.store.folder):
        _check_free_space(plan.store.folder, plan.total_bytes - plan.cached_bytes)
        with _progress_bar(plan) as bar:
            for file in plan.missing:
                with _locked(plan.store.lock(file), f"waiting for another download of {file.name}", announce):
                    _fetch(plan, file, bar)
        plan.store.publish(plan.files, plan.source.revision)
        wrong = [file.name for file in plan.files if size_of(plan.store.folder / file.name) != file.size_bytes]
    if wrong:
        raise DownloadError(
            f"{', '.join(wrong)} in {plan.store.folder} changed during the download; every file must have the size "
            "that the hub states; run the same command again, with nothing else writing there"
        )
    return plan.store.folder


def _check_free_space(folder: Path, needed_bytes: int) -> None:
    existing = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    free_bytes = shutil.disk_usage(existing).free
    if free_bytes < needed_bytes:
        raise DownloadError(
            f"{human_size(needed_bytes)} are to be downloaded and the disk of {existing} has {human_size(free_bytes)} "
            f"free; all must fit, so nothing was fetched; free {human_size(needed_bytes - free_bytes)}, or choose a "
            "folder on another disk (HF_HOME)"
        )


def _progress_bar(plan: DownloadPlan) -> tqdm:
    from huggingface_hub.utils import tqdm

    return tqdm(
        total=plan.total_bytes,
        initial=plan.cached_bytes,
        desc=plan.source.repo.rpartition("/")[2],
        unit="B",
        unit_scale=True,
        # None leaves the bar out where stderr is not a terminal.
        disable=None if plan.missing else True,
    )


@contextmanager
def _locked(path: Path, waiting: str, say: Callable[[str], None]) -> Generator[None]:
    """Hold a lock between processes, and say what is waited for where another one holds it."""
    from huggingface_hub.utils import WeakFileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(WeakFileLock(path, timeout=0.1))
        except TimeoutError:
            say(waiting)
            stack.enter_context(WeakFileLock(path))
        yield


def _fetch(plan: DownloadPlan, file: HubFile, bar: tqdm) -> None:
    """Fetch one file, going on from what an earlier call left, and put it into the store."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError

    # The library leaves the parameters of its own types open.
    from huggingface_hub.file_download import http_get  # pyright: ignore[reportUnknownVariableType]

    source, store = plan.source, plan.store
    part, start = store.part(file), store.part_bytes(file)
    if store.has(file):
        # Another process was faster while this one waited for the lock.
        bar.update(file.size_bytes - start)
        return
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        with part.open("ab" if start else "wb") as out:
            http_get(
                hf_hub_url(source.repo, file.name, revision=plan.commit, endpoint=source.endpoint),
                cast(BinaryIO, _BoundedFile(out, file.size_bytes)),
                resume_size=start,
                # A compressed answer has another length than the file and cannot be continued.
                headers={**source.headers, "Accept-Encoding": "identity"},
                expected_size=file.size_bytes,
                displayed_filename=file.name,
                _tqdm_bar=bar,
            )
    except _TooLongError as exc:
        raise _discard(source, file, part) from exc
    except HfHubHTTPError as exc:
        # "Range not satisfiable": the hub's file ends where this one does, before the size that was announced.
        if exc.response.status_code == 416:
            raise _discard(source, file, part) from exc
        raise explain(source, exc, file) from exc
    except transport_error() as exc:
        raise broken_off(source, file, part.stat().st_size, exc) from exc
    except OSError as exc:
        # The library's complaint about a wrong length has no errno; the length is looked at below.
        if exc.errno is not None:
            raise
    num_bytes = part.stat().st_size
    if num_bytes < file.size_bytes:
        raise broken_off(source, file, num_bytes)
    if not file.matches(part):
        raise _discard(source, file, part)
    store.keep(file)


class _TooLongError(Exception):
    """More came than the hub has announced."""


class _BoundedFile:
    """A file that takes no more than was announced: an answer may have no end, or unfold to any size."""

    def __init__(self, file: BinaryIO, max_bytes: int) -> None:
        self._file = file
        self._max_bytes = max_bytes

    def write(self, data: bytes) -> int:
        room = self._max_bytes - self._file.tell()
        if len(data) > room:
            # One byte more, so that the length tells what happened.
            self._file.write(data[: room + 1])
            raise _TooLongError
        return self._file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _discard(source: Source, file: HubFile, part: Path) -> DownloadError:
    """Remove content that cannot become the file that was announced, and explain."""
    num_bytes = part.stat().st_size
    part.unlink()
    return not_as_announced(source, file, num_bytes)
