"""A `voxtral` that starts at once, for shells: a process that has imported the package forks itself for each call.

The shell, the pipes, the folder, the variables and the exit status are those of a call; what is spared is the second in
which torch is imported. That the program starts by itself is the matter of tests/e2e. Of signals it knows nothing.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

# Run by each call in its shell: hands over what a process has, and waits for the status.
_CLIENT = """#!{python} -SE
import json, os, socket, sys
call = socket.socket(socket.AF_UNIX)
call.connect({address!r})
said = json.dumps([sys.argv, os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(call, [len(said).to_bytes(4, "big")], [0, 1, 2])
call.sendall(said)
status = call.recv(1)
sys.exit(status[0] if status else "the program broke off")
"""


@contextlib.contextmanager
def warm_program(folder: Path) -> Iterator[Path]:
    """Put a `voxtral` into a folder, for the PATH, that can be called within the context."""
    address = str(folder / "calls")
    client = folder / "voxtral"
    client.write_text(_CLIENT.format(python=sys.executable, address=address))
    client.chmod(0o755)
    with subprocess.Popen([sys.executable, __file__, address], stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == b"ready\n"
            yield folder
        finally:
            server.terminate()


def _serve(address: str) -> None:
    # What the commands import once they have been chosen; of what is left out each call pays for itself.
    for name in (
        "cli.main",
        "cli.speak",
        "cli.batch",
        "doctor.command",
        "jobs.run",
        "audio.encode",
        "text.clean",
        "tts",
    ):
        importlib.import_module(f"voxtral.{name}")
    # It reads its variables when it is imported, and they are the call's.
    assert "huggingface_hub" not in sys.modules

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen()
        print("ready", flush=True)
        while True:
            call, _ = listening.accept()
            if os.fork() == 0:
                break
            call.close()
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
    _answer(call)


def _answer(call: socket.socket) -> None:
    """Take a call, be the program in a process of its own, and tell how that has ended."""
    size, files, *_ = socket.recv_fds(call, 4, 3)
    with call.makefile("rb") as said:
        sys.argv, folder, variables = json.loads(said.read(int.from_bytes(size, "big")))
    if (program := os.fork()) != 0:
        code = os.waitstatus_to_exitcode(os.waitpid(program, 0)[1])
        # As a shell has it of a signal.
        call.sendall(bytes([code if code >= 0 else 128 - code]))
        # At once, and without what an end has to clear up: pipes are read until nobody holds them.
        os._exit(0)
    call.close()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    from voxtral.__main__ import main

    main()


if __name__ == "__main__":
    _serve(sys.argv[1])
