"""The code blocks of the README, docs/BATCH.md, docs/FIRST_HOUR.md and the users' guide run as they stand.

A hub cache is prepared that holds the tiny checkpoint under the guide's own id, so that the blocks
need no network; a block that names no model gets nano, as its reader does. Where no GPU is present,
"cuda" in a block is read as "cpu". Skips are counted and their reasons printed.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
import soundfile
import torch
import uvicorn

from serving import serving, wait_for
from spoken_clips import spoken_file
from voxtral.errors import VoxtralWarning
from warm_program import warm_program

pytestmark = pytest.mark.clients

ROOT = Path(__file__).parents[2]
GUIDE = Path(__file__).parent / "data" / "guide_blocks.zh.md"
# Of a server in a document; the tests' own is elsewhere.
ADDRESS = "localhost:8000"
REVISION = "0123456789abcdef0123456789abcdef01234567"


@dataclass(frozen=True)
class Block:
    source: str
    number: int
    language: str
    code: str

    @property
    def skip_reason(self) -> str | None:
        if self.language == "dockerfile":
            return "builds an image"
        if self.language == "bash" and self.source == "guide":
            return "installs packages, downloads weights or builds an image"
        if self.language == "":
            return "installs or downloads, or runs this test suite"
        return None


def read_blocks(path: Path, source: str) -> list[Block]:
    text = path.read_text(encoding="utf-8")
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [Block(source, number, language, code) for number, (language, code) in enumerate(found)]


BLOCKS = [
    *read_blocks(ROOT / "README.md", "readme"),
    *read_blocks(ROOT / "docs" / "BATCH.md", "batch"),
    *read_blocks(ROOT / "docs" / "FIRST_HOUR.md", "first_hour"),
    *read_blocks(GUIDE, "guide"),
]
# Blocks that have run: two documents start the server with the same words.
SERVED: set[str] = set()


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a `voxtral` that starts at once; the blocks call it a dozen times."""
    with warm_program(tmp_path_factory.mktemp("bin")) as folder:
        yield folder


@pytest.fixture
def workplace(tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a reference clip, and a hub cache under the guide's id."""
    repository = tmp_path / "hub" / "models--mistralai--Voxtral-TTS"
    shutil.copytree(tiny_folder, repository / "snapshots" / REVISION)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(REVISION)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ("reference.wav", "reference_speaker.wav"):
        (folder / name).write_bytes(spoken_file(4.0))
    return folder


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"{block.source}-{block.number}-{block.language or 'text'}")
def test_block_runs(block: Block, workplace: Path, program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if block.skip_reason:
        pytest.skip(block.skip_reason)
    if "voxtral serve" in block.code:
        if block.code not in SERVED:
            SERVED.add(block.code)
            serve_and_stop(block.code, workplace)
        return
    with contextlib.ExitStack() as stack:
        code = block.code
        if ADDRESS in code:
            running = stack.enter_context(serving(model="nano"))
            code = code.replace(ADDRESS, running.url.removeprefix("http://"))
        if block.language == "bash":
            run_shell(code, workplace, program, monkeypatch)
        else:
            run_python(continued(block, code))
    written = [
        path for path in workplace.rglob("*") if path.suffix in (".wav", ".flac") and "reference" not in path.name
    ]
    for path in written:
        assert soundfile.info(str(path)).frames > 0


def continued(block: Block, code: str) -> str:
    """Put the first block of the document before one that goes on from it."""
    if "import VoxtralTTS" in code or "import OpenAI" in code:
        return code
    first = next(b for b in BLOCKS if b.source == block.source and b.language == "python")
    return first.code + code


def serve_and_stop(code: str, workplace: Path) -> None:
    """Run the command as it stands but for its port, until it says that it is ready; it then ends by SIGTERM, well."""
    command = [sys.executable, "-m", *code.split(), "--port", "0", "--data-dir", str(workplace)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        told = iter(process.stderr.readline, "")
        try:
            line = next(line for line in told if "ready on http://127.0.0.1:" in line)
            port = line.split("127.0.0.1:")[1].split()[0]
            assert httpx2.get(f"http://127.0.0.1:{port}/readyz").json() == {"status": "ready"}
        finally:
            process.terminate()
        assert process.wait(30) == 0


def run_shell(code: str, workplace: Path, program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(program), prepend=os.pathsep)
    for line in code.strip().splitlines():
        done = subprocess.run(
            ["bash", "-c", line], cwd=workplace, capture_output=True, text=True, timeout=100, check=False
        )
        assert done.returncode == 0, f"{line}\n{done.stderr}"


def run_python(code: str) -> None:
    if not torch.cuda.is_available():
        code = code.replace('"cuda"', '"cpu"')
    namespace: dict[str, object] = {"__name__": "block"}
    with warnings.catch_warnings():
        # Chinese text with language="en", Japanese, voices of other languages: told, never refused.
        warnings.simplefilter("ignore", VoxtralWarning)
        exec(compile(code, "block", "exec"), namespace)
        if "app" in namespace:
            call_the_guides_server(namespace["app"])
        if "stream_synthesis" in namespace:
            pieces = asyncio.run(drain(namespace["stream_synthesis"]("Hello, this is a stream.")))  # type: ignore[operator]
            assert pieces
            # chunk_size=4096 samples of float32; the last may be shorter.
            assert all(len(piece) == 4096 * 4 for piece in pieces[:-1])


def call_the_guides_server(app: object) -> None:
    """Run the server that the guide writes, which holds the model itself, and ask it as its curl line does."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None))  # type: ignore[arg-type]
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_for(lambda: server.started)
        url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        answer = httpx2.post(f"{url}/synthesize?text=Hello%20world&language=en", timeout=60)
        samples, rate = soundfile.read(io.BytesIO(answer.content))
        assert rate == 24000
        assert len(samples) > 0
        assert httpx2.get(f"{url}/health").json()["status"] == "ok"
    finally:
        server.should_exit = True
        thread.join()


async def drain(stream: object) -> list[bytes]:
    return [piece async for piece in stream]  # type: ignore[attr-defined]


def test_a_line_that_fails_is_seen(workplace: Path, program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AssertionError, match=r"voxtral sing\n(.|\n)*No such command 'sing'"):
        run_shell("true\nvoxtral sing", workplace, program, monkeypatch)


def test_how_many_blocks_run() -> None:
    """Count them, so that a block that stops running is noticed."""
    counts = {
        source: sum(1 for block in BLOCKS if block.source == source and not block.skip_reason)
        for source in ("readme", "batch", "guide")
    }
    assert counts == {"readme": 7, "batch": 3, "guide": 6}
