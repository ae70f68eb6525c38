"""From the C source to a library: compiled once, kept in a private folder, and never loaded if it is not what was kept.

Runs without torch: the build of a wheel compiles with the same code. A kept file's name says what it was made of and
what is in it: `voxtral-cpu-SOURCE-BUILD-CONTENT.so`, digests of the source, of compiler and flags, and of the file.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from voxtral.disk import read_regular, temporary_beside, write_flushed

SOURCE_FOLDER = Path(__file__).with_name("source")
_MAIN_FILE = "voxtral_cpu.c"

# A library in a wheel; beside the source, so that one that belongs to another source is seen by its name.
PREBUILT_FOLDER = Path(__file__).with_name("prebuilt")

SUFFIX = {"darwin": ".dylib", "win32": ".dll"}.get(sys.platform, ".so")

# No fast-math: what is not finite must stay so. Without contraction all forms round alike.
FLAGS = (
    "-O3",
    "-std=gnu11",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fvisibility=hidden",
    "-Wno-psabi",  # of vectors between functions, which are all inlined
    "-shared",
    *(() if sys.platform == "win32" else ("-fPIC",)),
)

_COMPILERS = ("cc", "gcc", "clang")
_COMPILE_TIMEOUT_S = 120.0
_VERSION_TIMEOUT_S = 10.0
_MAX_LIBRARY_BYTES = 2**24
_MACHINES = frozenset({"x86_64", "amd64", "aarch64", "arm64"})


class NoLibraryError(Exception):
    """There is no library, and none can be made; the message says why, in words that follow a colon."""


@dataclass(frozen=True)
class Compiler:
    """A C compiler of this machine.

    Attributes:
        command: with whatever arguments the user gave it.
        version: the first line of what it says of itself.
    """

    command: tuple[str, ...]
    version: str


def source_digest() -> str:
    """Digest the C source: names and contents of its files."""
    digest = hashlib.sha256()
    for path in sorted(SOURCE_FOLDER.glob("*.[ch]")):
        data = path.read_bytes()
        digest.update(f"{path.name} {len(data)}\n".encode() + data)
    return digest.hexdigest()[:16]


def prebuilt_name() -> str:
    """Name the library of a wheel, for the source that lies beside it."""
    return f"voxtral-cpu-{source_digest()}{SUFFIX}"


def find_compiler() -> Compiler:
    """Find the C compiler: what CC names, or one of the usual names.

    Raises:
        NoLibraryError: there is none that answers.
    """
    named = os.environ.get("CC", "").strip()
    if named:
        command = tuple(shlex.split(named))
        candidates = [(found, *command[1:]) for found in [shutil.which(command[0])] if found]
    else:
        candidates = [(found,) for found in map(shutil.which, _COMPILERS) if found]
    for command in candidates:
        try:
            answer = subprocess.run(
                (*command, "--version"), capture_output=True, text=True, errors="replace", timeout=_VERSION_TIMEOUT_S
            )
        except (OSError, subprocess.SubprocessError):
            continue
        if answer.returncode == 0 and answer.stdout.strip():
            return Compiler(command, answer.stdout.strip().splitlines()[0])
    raise NoLibraryError(f"no C compiler is here (tried {named or ', '.join(_COMPILERS)})")


def check_machine() -> None:
    """Refuse a kind of processor that the source has nothing for, before anything is compiled.

    Raises:
        NoLibraryError: it is neither x86-64 nor 64-bit ARM.
    """
    if platform.machine().lower() not in _MACHINES:
        raise NoLibraryError(f"there is no code for processors of the kind {platform.machine() or 'unknown'}")


def compile_library(compiler: Compiler, target: Path, extra_flags: Sequence[str] = ()) -> None:
    """Compile the source into a file.

    Raises:
        NoLibraryError: the compiler fails; the message has its last line.
    """
    command = (*compiler.command, *FLAGS, *extra_flags, str(SOURCE_FOLDER / _MAIN_FILE), "-o", str(target))
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_COMPILE_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise NoLibraryError(f"the compiler {compiler.command[0]} did not run ({type(error).__name__})") from error
    if done.returncode != 0 or not target.is_file():
        said = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip()[-200:])
        raise NoLibraryError(f"the compiler {compiler.command[0]} failed ({said.strip()})")


def find_library(cache: Path | None) -> tuple[Path, str]:
    """Find a library of this source, or compile it and keep it.

    Args:
        cache: folder of what can be made again; None keeps nothing, and then nothing is compiled either.

    Returns:
        The file, and how it came to be there, in words.

    Raises:
        NoLibraryError: there is none, and none can be made.
    """
    check_machine()
    prebuilt = PREBUILT_FOLDER / prebuilt_name()
    if prebuilt.is_file():
        return prebuilt, "came with the package"
    if cache is None:
        raise NoLibraryError("the package came without it, and VOXTRAL_CACHE is empty, so that none is compiled")
    folder = cache / "kernels"
    source = source_digest()
    try:
        compiler = find_compiler()
    except NoLibraryError:
        # One that was compiled while there was a compiler is as good as before.
        if (kept := _find_kept(folder, f"voxtral-cpu-{source}-")) is not None:
            return kept, "compiled here before"
        raise
    build = hashlib.sha256(repr((compiler, FLAGS, platform.machine())).encode()).hexdigest()[:16]
    prefix = f"voxtral-cpu-{source}-{build}-"
    if (kept := _find_kept(folder, prefix)) is not None:
        return kept, f"compiled here by {compiler.version}"
    _make_private(folder)
    return _compile_and_keep(compiler, folder, prefix), f"compiled here by {compiler.version}"


def _compile_and_keep(compiler: Compiler, folder: Path, prefix: str) -> Path:
    with tempfile.TemporaryDirectory(prefix="voxtral-") as scratch:
        made = Path(scratch) / f"made{SUFFIX}"
        compile_library(compiler, made)
        data = made.read_bytes()
    target = folder / f"{prefix}{_content_digest(data)}{SUFFIX}"
    partial = temporary_beside(target)
    try:
        write_flushed(partial, data)
        partial.chmod(0o700)
        partial.replace(target)
    except OSError as error:
        raise NoLibraryError(f"{folder} cannot be written to ({error.strerror or error})") from error
    finally:
        partial.unlink(missing_ok=True)
    return target


def _content_digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


def _find_kept(folder: Path, prefix: str) -> Path | None:
    """Find a kept library that is whole and that nobody else can have written."""
    try:
        if not _is_private(folder):
            return None
        for path in sorted(folder.glob(f"{prefix}*{SUFFIX}")):
            if (
                _is_private(path)
                and _content_digest(read_regular(path, max_bytes=_MAX_LIBRARY_BYTES))
                == (path.name.removesuffix(SUFFIX).rpartition("-")[2])
            ):
                return path
    except (OSError, ValueError):
        return None
    return None


def _is_private(path: Path) -> bool:
    """Tell whether a file or folder is this user's own, no link, and closed to what others write.

    Raises:
        OSError: that cannot be told.
    """
    found = os.lstat(path)
    if stat.S_ISLNK(found.st_mode):
        return False
    # Windows keeps a user's folder closed in other ways.
    return not hasattr(os, "geteuid") or (found.st_uid == os.geteuid() and not found.st_mode & 0o022)


def _make_private(folder: Path) -> None:
    """Make the folder of kept libraries, closed to others.

    Raises:
        NoLibraryError: it cannot be made, or is not this user's own; what is in it might be anybody's.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        if not _is_private(folder):
            raise NoLibraryError(f"{folder} is open to others, who might put anything there; close it (chmod 700)")
    except OSError as error:
        raise NoLibraryError(f"{folder} cannot be made ({error.strerror or error})") from error
