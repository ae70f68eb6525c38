"""What `make speak` says before gigabytes come: a real pip, an environment without torch, and a folder for an index."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "deploy" / "torch_ahead.py"
[VERSION] = re.findall(r"^torch==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
PASTED = 'make speak PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"'

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere PyPI's torch has no CUDA")


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an environment that has pip and nothing else."""
    folder = tmp_path_factory.mktemp("bare") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=60)
    [packages] = folder.glob("lib/python*/site-packages")
    (packages / "pip").symlink_to(metadata.distribution("pip").locate_file("pip"))
    return folder


def wheel(folder: Path, version: str, name: str = "torch") -> Path:
    """Write a package without content."""
    info = f"{name}-{version}.dist-info"
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


def offline(folder: Path | None = None) -> dict[str, str]:
    """Give variables under which pip asks no network and no configuration, but that folder for packages."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON", "MAKE"))}
    found = {} if folder is None else {"PIP_FIND_LINKS": str(folder)}
    return {**kept, "PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", **found}


def said(venv: Path, *arguments: str, folder: Path | None = None) -> str:
    finished = subprocess.run(
        [str(venv / "bin" / "python"), str(SCRIPT), *arguments],
        env=offline(folder),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (finished.returncode, finished.stderr) == (0, "")
    return finished.stdout


@pytest.mark.parametrize(
    ("builds", "is_said"),
    [
        ([""], True),
        (["", "+cu130", "+cpu"], True),  # pip takes the label that sorts last
        (["", "+cpu"], False),
    ],
)
def test_it_is_said_unless_pip_would_take_a_cpu_build(
    bare: Path, tmp_path: Path, builds: list[str], is_said: bool
) -> None:
    for build in builds:
        wheel(tmp_path, VERSION + build)
    wheel(tmp_path, f"{VERSION}.1+cpu")  # not the one that the constraints want
    text = said(bare, "speak", folder=tmp_path)
    assert bool(text) == is_said
    if is_said:
        assert PASTED in text.splitlines()[-2].strip()
        assert re.search(r"about \d\.\d GB", text)
        assert "CUDA" in text
        assert "Ctrl-C" in text


def test_the_words_for_pip_are_heard(bare: Path, tmp_path: Path) -> None:
    wheel(tmp_path / "cpu", f"{VERSION}+cpu")
    assert said(bare, "speak", "--find-links", str(tmp_path / "cpu")) == ""
    # What `pip index` does not know, `pip install` may: in doubt it is said.
    text = said(bare, "test", "--no-compile", "--find-links", str(tmp_path / "cpu"))
    assert PASTED.replace("speak", "test") in text


@pytest.mark.parametrize(("installed", "is_said"), [("", False), ("+cpu", False), ("+cu130", False), (".1", True)])
def test_nothing_is_said_where_the_very_torch_is_there(
    bare: Path, tmp_path: Path, installed: str, is_said: bool
) -> None:
    [packages] = bare.glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel(tmp_path, VERSION + installed)) as archive:
        archive.extractall(packages)
    try:
        assert bool(said(bare, "speak")) == is_said
    finally:
        shutil.rmtree(next(packages.glob("torch-*.dist-info")))


def test_make_speak_says_it_before_pip_starts_and_lets_pip_show_its_progress(bare: Path, tmp_path: Path) -> None:
    """With a folder that has torch and nothing else, so that pip fails at the first thing it has not got."""
    wheel(tmp_path, VERSION)
    finished = subprocess.run(
        ["make", "speak", f"VENV={bare}"],
        cwd=ROOT,
        env=offline(tmp_path),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert finished.returncode != 0
    notice, _, rest = finished.stdout.partition("pip install")
    assert PASTED in notice
    assert "--quiet" not in finished.stdout
    assert "Looking in links" in rest
    assert not (bare / ".ready").exists()
