"""Finding a voice where many are stored, here and in another checkout of this package, in turn.

    python -m benchmarks.voices --stored 1000 --against ../other-checkout --json FILE

Each checkout has a process of its own, and both look at one folder. `find` is a look-up in the folder alone; `resolve`
is what every request over HTTP does with the voice that it names, and reads the file where a stored voice is meant.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).parents[1]

# As of a clip of 10 s.
_ROWS = 126

# Longer than a folder that has just changed is mistrusted.
_SETTLE_S = 3.0

# Calls of a round take at least so long, so that the clock is fine enough.
_LEAST_SECONDS = 0.02

_ID = f"voice_{7:016x}"
_LOOK_UPS = (
    ("find", "an OpenAI name", "alloy"),
    ("find", "a name", "Voice 7"),
    ("find", "an id", _ID),
    ("resolve", "a preset", "preset"),
    ("resolve", "an OpenAI name", "alloy"),
    ("resolve", "a name", "Voice 7"),
)


def main(words: Sequence[str] | None = None) -> None:
    """Measure and report."""
    from benchmarks.report import Report
    from voxtral.bench import Spread

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stored", type=int, default=1000, help="voices; at least 8")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument("--json", type=Path, help="written after every cell")
    parser.add_argument("--short", action="store_true", help="few and small rounds: to see that it runs")
    arguments = parser.parse_args(words)
    if arguments.short:
        arguments.stored, arguments.rounds = 8, 2
    checkouts = {"this": ROOT} | ({"other": arguments.against} if arguments.against else {})
    report = Report("voices", arguments)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        store_voices(Path(name), arguments.stored)
        workers = {side: stack.enter_context(_Worker(path, Path(name))) for side, path in checkouts.items()}
        for worker in workers.values():
            worker.ask("find", "nobody", 1)
        if not arguments.short:
            time.sleep(_SETTLE_S)
        for what, kind, voice in _LOOK_UPS:
            repeats = {side: worker.repeats(what, voice) for side, worker in workers.items()}
            found: dict[str, list[float]] = {side: [] for side in workers}
            for _ in range(arguments.rounds):
                for side, worker in workers.items():
                    found[side].append(worker.ask(what, voice, repeats[side]))
            for side, seconds in found.items():
                report.add(
                    what=what, voice=kind, checkout=side, stored=arguments.stored, ms=Spread.of(seconds).to_dict(1e3)
                )
    report.finish()


def store_voices(folder: Path, num_voices: int) -> None:
    """Write voices as the store does, without waiting for the disk."""
    import torch
    from safetensors.torch import save

    from voxtral.loading.params import load_config

    rows = torch.zeros(_ROWS, load_config(_params()).backbone.dim, dtype=torch.bfloat16)
    facts = dict.fromkeys(("language", "description", "ref_text", "mime_type"), "") | {"consent": "true"}
    facts |= {"file_size": "0", "duration_s": "10.0", "created_at": "0"}
    for number in range(num_voices):
        header = {"format": "voxtral-voice-1", "name": f"Voice {number}", "metadata": json.dumps(facts)}
        (folder / f"voice_{number:016x}.safetensors").write_bytes(save({"rows": rows}, header))


def _params() -> Path:
    return ROOT / "src" / "voxtral" / "data" / "nano" / "params.json"


class _Worker:
    """The parent's end of a process that has one checkout; a context manager that ends it."""

    def __init__(self, checkout: Path, folder: Path) -> None:
        path = os.pathsep.join((str(checkout.resolve() / "src"), str(ROOT)))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.voices", "--serve", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": path},
            cwd=ROOT,
        )

    def ask(self, what: str, voice: str, num_calls: int) -> float:
        """Return the seconds of one call, as a mean.

        Raises:
            RuntimeError: the process ended.
        """
        assert self._process.stdin is not None  # noqa: S101
        assert self._process.stdout is not None  # noqa: S101
        self._process.stdin.write(json.dumps([what, voice, num_calls]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process ended with code {self._process.wait()}; see its last words above")
        return float(line) / num_calls

    def repeats(self, what: str, voice: str) -> int:
        """Choose how many calls make a round, after one that does not count."""
        self.ask(what, voice, 1)
        return max(1, min(1000, round(_LEAST_SECONDS / self.ask(what, voice, 1))))

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()


def serve(folder: Path) -> None:
    """Answer what comes on standard input: a look-up, a voice and a number of calls; the seconds that they took."""
    ways = _open(folder)
    for line in sys.stdin:
        what, voice, num_calls = json.loads(line)
        way = ways[what]
        started = time.perf_counter()
        for _ in range(num_calls):
            way(voice)
        sys.stdout.write(f"{time.perf_counter() - started}\n")
        sys.stdout.flush()


def _open(folder: Path) -> dict[str, Callable[[str], Any]]:
    """Open the folder with whatever version of the package is here."""
    try:
        reader = import_module("voxtral.loading.params")
    except ModuleNotFoundError:
        reader = import_module("voxtral.config")
    config = reader.load_config(_params())
    presets = [SimpleNamespace(name="preset", language="en", is_default=True, description="")]
    try:
        store = import_module("voxtral.voices.store").VoiceStore(folder)
        book = import_module("voxtral.voices.book").VoiceBook(config, presets, store)
    except ModuleNotFoundError:  # where they were before the folders
        store = import_module("voxtral.server.voice_store").VoiceStore(folder)
        book = import_module("voxtral.server.voice_book").VoiceBook(
            SimpleNamespace(config=config, voices=presets), store
        )
    return {"find": store.find, "resolve": lambda voice: book.resolve(voice, None)}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(Path(sys.argv[2]))
    else:
        main()
