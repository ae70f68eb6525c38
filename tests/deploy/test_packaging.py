"""What pyproject.toml says is needed: all that is imported, from versions on that the pinned ones meet."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]

# Brought by torch where there is a GPU, and looked for before it is imported.
FROM_ELSEWHERE = {"triton"}

_IMPORT = re.compile(r"^\s*(?:from|import) ([A-Za-z_]\w*)", re.MULTILINE)
_FLOOR = re.compile(r"([\w.-]+)\s*>=\s*([0-9.]+)")


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def floors(requirements: list[str]) -> dict[str, str]:
    found = (_FLOOR.match(line) for line in requirements)
    return {normal(match[1]): match[2] for match in found if match}


def imported(folders: list[str]) -> set[str]:
    """List the distributions that the files of some folders import."""
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    own = {path.stem for path in files} | {part for path in files for part in path.relative_to(ROOT).parts}
    names = {name for path in files for name in _IMPORT.findall(path.read_text(encoding="utf-8"))}
    providers = metadata.packages_distributions()
    distributions = {name: providers.get(name) for name in names - own - set(sys.stdlib_module_names)}
    return {normal(found[0]) for found in distributions.values() if found} - {"voxtral-tts"}


@pytest.mark.parametrize(
    ("folders", "extras"),
    [(["src"], ["av", "play", "ja"]), (["tests", "train", "benchmarks", "docs"], list(EXTRAS))],
    ids=["package", "tests"],
)
def test_what_is_imported_is_asked_for(folders: list[str], extras: list[str]) -> None:
    """Not left to a library that happens to want it, too, and may stop."""
    asked_for = floors(PROJECT["dependencies"]) | floors([line for extra in extras for line in EXTRAS[extra]])
    used = imported(folders)
    assert len(used) > 10
    assert used - asked_for.keys() - FROM_ELSEWHERE == set()


def test_the_pinned_versions_are_above_the_floors() -> None:
    pins = dict(re.findall(r"^([\w.-]+)==([0-9.]+)", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.M))
    pins = {normal(name): version for name, version in pins.items()}
    wanted = floors(PROJECT["dependencies"] + EXTRAS["dev"])
    assert len(wanted) == len(PROJECT["dependencies"] + EXTRAS["dev"]), "a requirement without a floor"
    assert wanted.keys() <= pins.keys()

    def parts(version: str) -> list[int]:
        return [int(part) for part in version.split(".")]

    assert {name: pins[name] for name, floor in wanted.items() if parts(pins[name]) < parts(floor)} == {}


def test_the_script_for_other_pythons_explains_itself_and_names_no_host() -> None:
    script = ROOT / "deploy" / "pythons.sh"
    subprocess.run(["bash", "-n", str(script)], check=True, timeout=30)
    said = subprocess.run([str(script), "--help"], capture_output=True, text=True, check=True, timeout=30).stdout
    assert said.startswith("usage: deploy/pythons.sh")
    assert "://" not in script.read_text(encoding="utf-8")
    for name in ("lowest", "newest", "trixie", "sid"):
        assert re.search(rf"^  {name} ", said, re.MULTILINE)
