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

from voxtral.model.kernels.cpu import building
from voxtral.text.language import LANGUAGES

pytestmark = pytest.mark.clients

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
    assert [name for name in names if "/prebuilt/" in name] == [
        f"voxtral/model/kernels/cpu/prebuilt/{building.prebuilt_name()}"
    ]
    # Neither a version of Python nor one of torch is asked for.
    assert "-py3-none-manylinux_2_" in wheel.name


@pytest.fixture(scope="module")
def pure_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pure")
    build = (sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT)
    run(*build, cwd=folder, VOXTRAL_PURE_WHEEL="1")
    return next(folder.glob("*-py3-none-any.whl"))


def install(wheel: Path, tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """Install a wheel in an empty environment; returns its folder, and variables without compiler and network."""
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
    env = {"PYTHONPATH": paths, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "none"), "PATH": str(block)}
    return home, env | {"VOXTRAL_CACHE": str(tmp_path / "cache")}


SAY_WHERE = """
import voxtral, torch
from voxtral.model.linear import describe_products
print(voxtral.__file__, describe_products(torch.device("cpu")), sep="\\n")
"""


def speak(home: Path, tmp_path: Path, env: dict[str, str]) -> None:
    command = (home / "bin" / "voxtral", "speak", "It speaks.", "--quantize", "int8", "--max-frames", "12")
    run(*command, "-o", "out.wav", cwd=tmp_path, **env)
    assert soundfile.info(str(tmp_path / "out.wav")).frames >= 1920
    (tmp_path / "out.wav").unlink()


def test_it_speaks_in_an_empty_environment_without_network_and_compiler(wheel: Path, tmp_path: Path) -> None:
    home, env = install(wheel, tmp_path)
    where, products = run(home / "bin" / "python", "-c", SAY_WHERE, cwd=tmp_path, **env).splitlines()
    assert where.startswith(str(home))
    assert "by own kernels" in products
    assert "came with the package; torch's threads" in products
    speak(home, tmp_path, env)
    assert not (tmp_path / "cache" / "kernels").exists()


@pytest.mark.slow
def test_a_pure_wheel_speaks_with_a_compiler_without_one_and_with_a_broken_cache(
    pure_wheel: Path, tmp_path: Path
) -> None:
    home, env = install(pure_wheel, tmp_path)
    python = home / "bin" / "python"
    products = run(python, "-c", SAY_WHERE, cwd=tmp_path, **env)
    assert "not by own kernels: no C compiler is here" in products
    speak(home, tmp_path, env)
    with_compiler = env | {"PATH": os.environ["PATH"]}
    assert "compiled here by" in run(python, "-c", SAY_WHERE, cwd=tmp_path, **with_compiler)
    speak(home, tmp_path, with_compiler)
    assert "compiled here before" in run(python, "-c", SAY_WHERE, cwd=tmp_path, **env)
    (kept,) = (tmp_path / "cache" / "kernels").iterdir()
    data = kept.read_bytes()
    for broken in (b"", data[: len(data) // 2], bytes(len(data))):
        kept.write_bytes(broken)
        assert "not by own kernels: no C compiler is here" in run(python, "-c", SAY_WHERE, cwd=tmp_path, **env)
        speak(home, tmp_path, env)
    (tmp_path / "cache" / "kernels").chmod(0o777)
    speak(home, tmp_path, with_compiler)
