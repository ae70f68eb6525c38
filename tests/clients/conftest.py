"""The environment of real clients, which `make clients` installs, and how their programs are run in it.

They stand in an environment of their own, since they want other versions of what this package needs.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# They run in the other environment.
collect_ignore_glob = ["programs/*"]

_ROOT = Path(__file__).parents[2]
_PYTHON = _ROOT / "build" / "clients" / "bin" / "python"
_PROGRAMS = Path(__file__).parent / "programs"

Run = Callable[..., Any]


@pytest.fixture(scope="session")
def run() -> Run:
    """Run a program of `programs`: arguments go in as JSON, and the last line that it prints comes back."""
    if not _PYTHON.is_file():
        pytest.skip(
            "build/clients is missing: make clients installs the real clients, from tests/clients/requirements.txt"
        )

    def run_program(name: str, *arguments: str, patience_s: float = 60.0) -> Any:
        done = subprocess.run(
            [str(_PYTHON), str(_PROGRAMS / f"{name}.py")],
            input=json.dumps(arguments),
            capture_output=True,
            text=True,
            timeout=patience_s,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1])

    return run_program
