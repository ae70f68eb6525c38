"""Write docs/CLI.md from the help texts: `make docs`. A test compares the two."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

COMMANDS = ("", "speak", "voices", "clone", "download", "encode", "decode", "bench", "doctor")


def render() -> str:
    """Return the page."""
    parts = ["# Commands\n\nWritten by `make docs` from the help texts.\n"]
    for command in COMMANDS:
        title = f"voxtral {command}".strip()
        parts.append(f"## {title}\n\n```text\n{help_text(command).rstrip()}\n```\n")
    return "\n".join(parts)


def help_text(command: str) -> str:
    """Run one help command at a fixed width, without colours."""
    env = os.environ | {"COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1", "TERM": "dumb"}
    words = [sys.executable, "-m", "voxtral", *command.split(), "--help"]
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=True, timeout=60)
    return "\n".join(line.rstrip() for line in done.stdout.splitlines())


if __name__ == "__main__":
    Path(__file__).with_name("CLI.md").write_text(render(), encoding="utf-8")
