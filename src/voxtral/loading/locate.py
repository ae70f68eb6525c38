"""Which model: the one that is asked for, or a choice that is stated with its reason.

An id that was asked for is never replaced by another model.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

from voxtral.errors import ModelNotFoundError, OptionError
from voxtral.loading import hub

# Checkpoints inside the package.
_BUILT_IN = {"nano": ("data", "nano")}

_NANO_IS = "a small robotic demo voice, part of this package"


def locate_model(
    model: str | os.PathLike[str],
    *,
    revision: str | None = None,
    token: str | None = None,
    allow_download: bool,
    announce: Callable[[str], None] | None = None,
) -> Path:
    """Find the folder of a model: built in, a folder, in the hub cache, or downloaded.

    Raises:
        ModelNotFoundError: there is no such model, or it would have to be downloaded.
        DownloadError: the hub refused or broke off.
    """
    if not isinstance(model, str | os.PathLike):
        raise ModelNotFoundError(f"model is {model!r}; it must be a folder, a hub id, 4b or nano; name one of them")
    if is_built_in(model):
        if revision is not None:
            raise OptionError(f"revision {revision!r} of {model}; a model of this package has none; leave it out")
        return Path(str(files("voxtral").joinpath(*_BUILT_IN[str(model)])))
    return hub.resolve_model(model, revision=revision, token=token, allow_download=allow_download, announce=announce)


def is_built_in(model: str | os.PathLike[str]) -> bool:
    """Tell whether a name means a checkpoint of this package; a folder of that name comes first."""
    return str(model) in _BUILT_IN and not Path(model).is_dir()


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
    if hub.find_cached(hub.CANONICAL_ID) is None:
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
