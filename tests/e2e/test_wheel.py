"""The wheel: built, installed in an empty environment without network, it speaks."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
import soundfile

from voxtral.text.language import LANGUAGES

ROOT = Path(__file__).parents[2]

# Loaded at start-up of the new environment: whoever tries to leave the machine fails loudly.
NO_NETWORK = """
import atexit, gc, socket
atexit.register(gc.freeze)  # as tests/at_start has it
def refuse(self, address, *rest):
    raise OSError(f"this test has no network, and something connects to {address}")
socket.socket.connect = socket.socket.connect_ex = refuse
"""


def run(*command: object, cwd: Path, **env: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("VOXTRAL", "PYTHON"))}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=clean | env,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_package_model_and_licences(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for part in (
        "voxtral/py.typed",
        "voxtral/data/nano/consolidated.safetensors",
        *(f"voxtral/text/data/{code}.toml" for code in LANGUAGES),
        "voxtral/server/page/index.html",
        "voxtral/server/page/page.js",
        "licenses/LICENSE",
        "licenses/NOTICE",
    ):
        assert any(name.endswith(part) for name in names), part
    assert not [name for name in names if "tests" in name or "benchmarks" in name or "__pycache__" in name]
    assert {name.split("/")[2] for name in names if name.startswith("voxtral/data/")} == {"nano"}
    assert wheel.stat().st_size < 30e6


def test_it_speaks_in_an_empty_environment_without_network(wheel: Path, tmp_path: Path) -> None:
    home = tmp_path / "env"
    venv.create(home)
    python = home / "bin" / "python"
    # With the pip of this environment: setting up another takes longer than all the rest.
    pip = (sys.executable, "-m", "pip", "--python", python)
    run(*pip, "install", "--quiet", "--no-index", "--no-deps", wheel, cwd=tmp_path)
    # The dependencies come from this environment by path; its editable voxtral does not, as no .pth is read.
    block = tmp_path / "block"
    block.mkdir()
    (block / "sitecustomize.py").write_text(NO_NETWORK)
    paths = os.pathsep.join((str(block), sysconfig.get_path("purelib")))
    env = {"PYTHONPATH": paths, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "none")}
    where = run(python, "-c", "import voxtral; print(voxtral.__file__)", cwd=tmp_path, **env)
    assert where.strip().startswith(str(home))
    run(home / "bin" / "voxtral", "speak", "It speaks.", "--max-frames", "12", "-o", "out.wav", cwd=tmp_path, **env)
    assert soundfile.info(str(tmp_path / "out.wav")).frames >= 1920
