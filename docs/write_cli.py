"""Write docs/CLI.md from the help texts: `make docs`. A test compares the two."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
from unittest.mock import patch

from voxtral.cli.main import run

COMMANDS = (
    "",
    "speak",
    "serve",
    "batch",
    "join",
    "voices",
    "clone",
    "train-encoder",
    "download",
    "quantize",
    "encode",
    "decode",
    "evaluate-encoder",
    "align",
    "align calibrate",
    "align words",
    "align check",
    "bench",
    "doctor",
)


def render() -> str:
    """Return the page."""
    parts = ["# Commands\n\nWritten by `make docs` from the help texts.\n"]
    for command in COMMANDS:
        title = f"voxtral {command}".strip()
        parts.append(f"## {title}\n\n```text\n{help_text(command).rstrip()}\n```\n")
    return "\n".join(parts)


def help_text(command: str) -> str:
    """Run one help command at a fixed width, without colours."""
    fixed = {"COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1", "TERM": "dumb"}
    # In this process: a new one for each command would spend its time on starting.
    with patch.dict(os.environ, fixed), contextlib.redirect_stdout(io.StringIO()) as shown:
        code = run([*command.split(), "--help"])
    if code:
        raise RuntimeError(f"`voxtral {command} --help` ended with exit code {code}; it must end with 0")
    return "\n".join(line.rstrip() for line in shown.getvalue().splitlines())


if __name__ == "__main__":
    Path(__file__).with_name("CLI.md").write_text(render(), encoding="utf-8")
