"""Pages that are generated, or that promise something a test can look at."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest

from pinned import needs_pinned
from voxtral.server.application import create_app
from voxtral.server.options import ServerOptions

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("writer", "page"), [pytest.param("write_cli", "CLI", marks=needs_pinned("typer")), ("write_options", "OPTIONS")]
)
def test_a_page_that_is_written_by_code_is_what_the_code_says(writer: str, page: str) -> None:
    spec = importlib.util.spec_from_file_location(writer, ROOT / "docs" / f"{writer}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    assert module.render() == written, "run `make docs`"


def test_links_between_pages_lead_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_readme_opens_with_the_two_commands() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert [line.split("#")[0].strip() for line in lines[:4]] == ["```", "make speak", "make test", "```"]


def test_ci_calls_make_check_and_then_the_readmes_test_command() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert re.findall(r"^make (\w+)$", script, re.MULTILINE) == ["check", "test"]
    # A failure of either must end the script.
    assert "set -euo pipefail" in script.splitlines()


def test_the_map_names_every_module() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    lines = page.split("## Map")[1].split("```")[1].strip().splitlines()
    named: set[str] = set()
    folder = ""
    for line in lines:
        if not line.startswith(" "):  # a folder or a module, and what it is
            folder = line.split()[0]
            named.add(folder)
            continue
        inner, _, names = line.rpartition(":")
        named |= {"/".join(filter(None, (folder, inner.strip(), name))) for name in names.split()}
    package = ROOT / "src" / "voxtral"
    modules = [path.relative_to(package) for path in package.rglob("*.py") if not path.stem.startswith("__")]
    there = {path.with_suffix("").as_posix().removesuffix("_triton") for path in modules}
    there |= {path.parts[0] for path in modules if len(path.parts) > 1}
    assert there == named, f"it lacks {sorted(there - named)}, and names {sorted(named - there)}, which are not there"


def test_sizes_live_in_config_alone() -> None:
    """No published size in the code: all of it takes them from a ModelConfig, which is read from params.json."""
    source = ROOT / "src" / "voxtral"
    numbers = re.compile(r"(?<![\w.])(1920|8192|8194|8320|9088|24000|37|36|292|3072)(?![\w.])")
    # Defaults of keys that a params.json may leave out, ids of tokens, and rates that file formats know.
    others = {source / "loading" / "params.py", source / "bench.py", source / "audio" / "encode.py"}
    others.add(source / "server" / "dialects" / "elevenlabs" / "speech.py")
    others |= set((source / "book" / "output").glob("*.py"))
    # Numbers as people write them.
    others |= set((source / "text" / "reading").glob("*.py"))
    for path in set(source.rglob("*.py")) - others:
        code = re.sub(r'""".*?"""|#[^\n]*', "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        assert not numbers.search(code), f"{path.name}: {numbers.search(code)}"


def test_nothing_large_is_tracked() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        return  # an unpacked archive has no index
    names = [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
    sizes = {name: (ROOT / name).lstat().st_size for name in names}
    assert sum(sizes.values()) < 50 * 2**20
    nano = sum(size for name, size in sizes.items() if name.startswith("src/voxtral/data/nano/"))
    assert nano < 25e6
    assert max(size for name, size in sizes.items() if not name.startswith("src/voxtral/data/nano/")) < 8 * 2**20


def test_the_servers_page_names_every_route_variable_and_error() -> None:
    page = (ROOT / "docs" / "SERVER.md").read_text(encoding="utf-8")
    app = create_app(ServerOptions())
    paths = app.openapi()["paths"]
    assert {"/synthesize", "/v1/audio/speech"} <= set(paths)
    for path in paths:
        shown = path.replace("{model_id}", "{id}").replace("{voice_id}", "{id}")
        assert re.search(rf"[` ]{re.escape(shown)}`", page), f"SERVER.md lacks {shown}"
    for option in fields(ServerOptions):
        assert f"`VOXTRAL_{option.name.upper()}`" in page, f"SERVER.md lacks {option.name}"
    for file in (ROOT / "src" / "voxtral" / "server").rglob("*.py"):
        for code in re.findall(r'code="(\w+)"', file.read_text(encoding="utf-8")):
            assert f"`{code}`" in page, f"SERVER.md lacks the code {code} of {file.name}"
