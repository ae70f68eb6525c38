"""The wheel with a library for one platform in it, compiled here; without a compiler, or if asked, a pure wheel.

`VOXTRAL_PURE_WHEEL=1` makes the pure one, which compiles at first use where it can. Nothing of Python or torch is in
the library, so one wheel of a platform is for every version of both: py3-none-PLATFORM.
"""

from __future__ import annotations

import os
import platform
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_SOURCE = Path(__file__).with_name("src")

# The oldest glibc that torch's own wheels for Linux run on is newer.
_OLDEST_GLIBC = 17

_MACOS_TARGETS = {"arm64": "11.0", "x86_64": "10.13"}


class KernelHook(BuildHookInterface):
    """Compiles the C of `voxtral.model.kernels.cpu` into a wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and say what the wheel is for; see BuildHookInterface."""
        if version == "editable" or os.environ.get("VOXTRAL_PURE_WHEEL", "") not in ("", "0"):
            return
        sys.path.insert(0, str(_SOURCE))
        try:
            from voxtral.model.kernels.cpu import building
        finally:
            sys.path.remove(str(_SOURCE))
        self._scratch = tempfile.TemporaryDirectory(prefix="voxtral-wheel-")
        library = Path(self._scratch.name) / building.prebuilt_name()
        machine = platform.machine().lower()
        flags = (f"-mmacosx-version-min={_MACOS_TARGETS[machine]}",) if sys.platform == "darwin" else ()
        try:
            building.check_machine()
            building.compile_library(building.find_compiler(), library, flags)
        except building.NoLibraryError as error:
            self.app.display_warning(f"a pure wheel, which compiles at first use where it can: {error}")
            return
        build_data["force_include"][str(library)] = f"voxtral/model/kernels/cpu/prebuilt/{library.name}"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{_platform_tag(library.read_bytes(), machine)}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was compiled; see BuildHookInterface."""
        if hasattr(self, "_scratch"):
            self._scratch.cleanup()


def _platform_tag(library: bytes, machine: str) -> str:
    """Name the platforms that a library runs on, by what it asks of the system."""
    if sys.platform == "darwin":
        return f"macosx_{_MACOS_TARGETS[machine].replace('.', '_')}_{machine}"
    if sys.platform == "win32":
        return {"amd64": "win_amd64", "arm64": "win_arm64"}[machine]
    versions = [int(minor) for minor in re.findall(rb"GLIBC_2\.(\d+)", library)]
    if not versions:
        return f"musllinux_1_2_{machine}"
    return f"manylinux_2_{max(_OLDEST_GLIBC, *versions)}_{machine}"
