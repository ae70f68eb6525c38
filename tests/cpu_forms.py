"""The forms of the CPU's own products that this processor runs, for tests that go through all of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from voxtral.model import linear_kernel
from voxtral.model.kernels.cpu.building import NoLibraryError
from voxtral.model.kernels.cpu.library import FORM_NAMES, CpuForm, find_team, open_library
from voxtral.model.linear_kernel import KernelChoice

TORCH = "torch's own"


def form_or_skip(name: str) -> CpuForm:
    """Give a form by its name; skips where this machine has no compiler or no such instructions."""
    try:
        library, origin = open_library(Path(os.environ["VOXTRAL_CACHE"]))
    except NoLibraryError as error:
        pytest.skip(f"no library: {error}")
    names = [library.voxtral_form_name(number).decode() for number in range(library.voxtral_num_forms())]
    assert set(names) <= set(FORM_NAMES)
    if name not in names or not library.voxtral_form_is_supported(names.index(name)):
        pytest.skip(f"this processor has no {name}")
    return CpuForm(library, names.index(name), name, find_team(), origin)


def use_form(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let models that are loaded from now on use a form, or torch's own products."""
    form = None if name == TORCH else form_or_skip(name)
    monkeypatch.setattr(linear_kernel, "kernel_choice", lambda: KernelChoice(form, "chosen by a test"))
