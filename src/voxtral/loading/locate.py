"""Which model: the one that is asked for, or a choice that is stated with its reason.

An id that was asked for is never replaced by another model.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

from voxtral.disk import look, why
from voxtral.errors import CheckpointError, ModelNotFoundError, OptionError
from voxtral.loading import hub
from voxtral.loading.files import REQUIRED_FILES, VOICE_FOLDER

# Checkpoints inside the package.
_BUILT_IN = {"nano": ("data", "nano")}

_NANO_IS = "a small demo voice, part of this package"


def locate_model(
    model: str | os.PathLike[str],
    *,
    revision: str | None = None,
    token: str | None = None,
    allow_download: bool,
    announce: Callable[[str], None] = lambda message: None,
) -> Path:
    """Find the folder of the model that was asked for, and no other one.

    Args:
        model: the name of a built-in model, a folder, an alias or a hub id.
        revision: a branch, tag or commit of a hub id.
        token: as in `hub.plan_download`.
        allow_download: download what is not in the cache.
        announce: as in `hub.download`.

    Returns:
        The folder as it was given, a complete snapshot in the cache, or the result of the download.

    Raises:
        ModelNotFoundError: nothing has this name, or it is not here and must not be downloaded.
        OptionError: a revision was given for a model that has none.
        CheckpointError: the local cache cannot be read.
        DownloadError: the hub refused or broke off.
    """
    if not isinstance(model, str | os.PathLike):
        raise ModelNotFoundError(f"model is {model!r}; it must be a folder, a hub id, 4b or nano; name one of them")
    if is_built_in(model):
        if revision is not None:
            raise OptionError(f"revision {revision!r} of {model}; a model of this package has none; leave it out")
        return Path(str(files("voxtral").joinpath(*_BUILT_IN[str(model)])))
    name = os.fspath(model)
    folder = Path(os.path.expanduser(name))
    is_path = isinstance(model, os.PathLike) or _is_path(name)
    if name and _is_folder(folder, name, is_path=is_path):
        if revision is not None:
            raise OptionError(
                f"revision {revision!r} was given with the folder {name}; a folder has no revisions; "
                "leave the revision out, or name the model by its hub id"
            )
        return folder
    if is_path:
        state = "is not a folder" if look(folder) is not None else "does not exist"
        raise ModelNotFoundError(
            f"the folder {name} {state}; a model folder holds {', '.join(REQUIRED_FILES)} and {VOICE_FOLDER}/; "
            "check the path, or name a model by its hub id or as `4b`"
        )
    repo = hub.require_id(name)
    cached = hub.find_cached(name, revision=revision)
    if cached is None and allow_download:
        return hub.download(name, revision=revision, token=token, announce=announce)
    if cached is None:
        raise _not_here(name, revision)
    if repo == hub.CANONICAL_ID and revision is None and cached.name != hub.PINNED_REVISION:
        announce(
            f"{name}: revision {cached.name[:8]} is in the local cache and used; {hub.PINNED_REVISION[:8]} is expected"
        )
    return cached


def is_built_in(model: str | os.PathLike[str]) -> bool:
    """Tell whether a name means a checkpoint of this package; a folder of that name comes first."""
    return str(model) in _BUILT_IN and not Path(model).is_dir()


def is_fetchable(model: str) -> bool:
    """Tell whether a name is that of a model on a hub, which a download would get."""
    return not is_built_in(model) and not _is_path(model) and hub.canonical_id(model) is not None


def choose_model(asked_for: str | None, device: str = "auto") -> tuple[str, str]:
    """Choose the model of a command and say why: (name, reason).

    In this order: what was asked for, VOXTRAL_MODEL, the published checkpoint if it is in the local
    cache and would run on a GPU, else nano. Nothing is downloaded.

    Args:
        asked_for: the value of --model, or None.
        device: where the model is to run, as `voxtral.device.resolve_device` takes it.

    Raises:
        DeviceError: the choice depends on a device that is not there.
    """
    if asked_for is not None:
        return asked_for, "it was asked for"
    if from_environment := os.environ.get("VOXTRAL_MODEL"):
        return from_environment, "VOXTRAL_MODEL names it"
    try:
        cached = hub.find_cached(hub.CANONICAL_ID)
    except CheckpointError as error:
        return "nano", f"{_NANO_IS}; whether 4b, the real model, is here is not known: {error}"
    if cached is None:
        return "nano", f"{_NANO_IS}; `voxtral download 4b` gets the real model (8 GB, CC BY-NC 4.0; wants a GPU)"
    # Here, because it imports torch, and only a downloaded 4B makes a GPU matter.
    from voxtral.device import resolve_device

    resolved, device_reason = resolve_device(device)
    if resolved.type != "cpu":
        return hub.CANONICAL_ID, f"it is in the local cache and a GPU is here; `--model nano` is {_NANO_IS}"
    return "nano", (
        f"{_NANO_IS}; 4b, the real model, is in the local cache but has no GPU (device cpu: {device_reason}); "
        "`--model 4b` uses it all the same, slowly"
    )


def _is_folder(folder: Path, name: str, *, is_path: bool) -> bool:
    """Tell whether a folder is there.

    Raises:
        ModelNotFoundError: it cannot be looked at, which is something else than not being there.
    """
    try:
        return stat.S_ISDIR(os.stat(folder).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        is_no_name = isinstance(error, ValueError) or error.errno == errno.ENAMETOOLONG
        if is_no_name and not is_path:
            return False
        raise ModelNotFoundError(
            f"the folder {name} cannot be looked at ({why(error)}); a model folder must be one that this user may "
            "read; check the path and its permissions"
        ) from error


def _is_path(name: str) -> bool:
    return name.startswith((".", "/", "~")) or name.endswith("/") or "\\" in name or Path(name).is_absolute()


def _not_here(name: str, revision: str | None) -> ModelNotFoundError:
    at = f" at revision {revision}" if revision else ""
    option = f" --revision {revision}" if revision else ""
    fits = " (8 GB; docs/GPU.md says what fits which card)" if hub.canonical_id(name) == hub.CANONICAL_ID else ""
    return ModelNotFoundError(
        f"{name}{at} is not on this machine: no folder has that name, and no complete copy is in "
        f"{hub.describe_search(name)}; nothing is downloaded unless asked for; run "
        f"`voxtral download {name}{option}`{fits}, or give a model folder"
    )
