"""The console script `voxtral`: chooses a command, turns errors into one line and an exit code.

Exit codes: 0 done, 1 error, 2 wrong usage, 130 interrupted, 141 the reader of standard output went
away, 143 terminated. A command's module is imported only when it is chosen, so that `voxtral --help` is quick.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from voxtral.cli.terminal import Terminated, say, tidy_warnings
from voxtral.errors import EngineError, OptionError, VoxtralError

if TYPE_CHECKING:
    import typer

# The module that holds each command as a function of the same name, and the line in `voxtral --help`.
# `doctor` has its own argument parser, because it must run where typer is not installed.
_COMMANDS = {
    "speak": ("voxtral.cli.speak", "Speak a text into a file, a pipe or the loudspeakers."),
    "serve": ("voxtral.cli.serve", "Serve speech over HTTP, with a page to try it."),
    "batch": ("voxtral.cli.batch", "Speak many texts into a folder of files."),
    "voices": ("voxtral.cli.voices", "List the preset voices of a model."),
    "clone": ("voxtral.cli.voices", "Make a voice from a clip and save it."),
    "download": ("voxtral.cli.download", "Download a model."),
    "quantize": ("voxtral.cli.quantize", "Write a model of fewer bits."),
    "encode": ("voxtral.cli.codec", "Turn audio into codes."),
    "decode": ("voxtral.cli.codec", "Turn codes into audio."),
    "bench": ("voxtral.cli.bench", "Measure how fast a model speaks on this machine."),
    "doctor": ("voxtral.doctor.command", "Report on this machine and check the numbers of a model."),
}

# Those that compute with a model, and so can do without graphs or kernels.
_LOAD_A_MODEL = frozenset({"speak", "serve", "batch", "clone", "encode", "decode", "bench"})

_ERROR = 1
# 128 and the number of the signal, as shells say it: SIGINT, SIGPIPE, SIGTERM.
_INTERRUPTED, _UNHEARD, _TERMINATED = 130, 141, 143

_HELP = "Voxtral TTS on your own machine: text to speech, from the command line."

# The marker \b keeps the lines that follow as they are.
_EPILOG = """\b
Examples:
  voxtral speak "Hello!" -o hello.wav
  voxtral speak book.txt -o book.mp3
  voxtral batch chapter1.txt -o book
  voxtral COMMAND --help

\b
Environment:
  VOXTRAL_MODEL  the model that is used without --model
  VOXTRAL_LOG    debug shows a traceback with each error

\b
Exit codes:
  0    done
  1    error; one line on standard error says which
  2    wrong usage
  130  interrupted with Ctrl-C
  141  the reader of standard output went away
  143  terminated
"""

_EXAMPLES = "\n\nExamples:\n"


def main() -> None:
    """Run the command line of this process and exit."""
    try:
        code = run(sys.argv[1:])
    except KeyboardInterrupt as error:
        code = _interrupted(error)
    if code in (_INTERRUPTED, _UNHEARD, _TERMINATED):
        # The interpreter flushes at exit: into a closed pipe, which fails, or into one that nobody reads, which hangs.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run a command line and return its exit code.

    Args:
        arguments: what follows the name of the program.
    """
    try:
        with tidy_warnings():
            return _dispatch(arguments)
    except SystemExit as exit:
        # A usage error, or a code of `_reporting`; typer and argparse leave this way.
        return exit.code if isinstance(exit.code, int) else 0


def _dispatch(arguments: list[str]) -> int:
    # Before typer is imported: `doctor` runs on machines with torch, numpy and safetensors alone.
    if arguments[:1] == ["doctor"]:
        from voxtral.doctor import command

        return command.main(arguments[1:])
    try:
        import typer  # noqa: F401 - whether it is there
    except ImportError:
        say("error: typer is not installed; all commands but `voxtral doctor` need it; run pip install typer rich")
        return _ERROR
    chosen = next((argument for argument in arguments if not argument.startswith("-")), None)
    _build_app(chosen)(args=arguments, prog_name="voxtral")
    return 0


def _build_app(chosen: str | None) -> typer.Typer:
    """Declare all commands, and load the one that is chosen."""
    import typer

    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

    def show_version(is_wanted: bool) -> None:
        if is_wanted:
            from voxtral import __version__

            print(f"voxtral {__version__}")
            raise typer.Exit

    # Plain defaults instead of Annotated: annotations cannot name what is local to a function.
    def root(
        version: bool = typer.Option(
            False, "--version", callback=show_version, is_eager=True, help="Show the version."
        ),
    ) -> None:
        """Hold the options that come before a command."""

    app.callback(help=_HELP, epilog=_EPILOG, no_args_is_help=True)(root)
    for name, (module, summary) in _COMMANDS.items():
        if name != chosen or name == "doctor":
            app.command(name, short_help=summary, add_help_option=False)(_not_loaded)
            continue
        function = getattr(importlib.import_module(module), name)
        if name in _LOAD_A_MODEL:
            from voxtral.cli.options import with_switches

            function = with_switches(function)
        text, _, examples = (inspect.getdoc(function) or "").partition(_EXAMPLES)
        app.command(name, help=text, epilog=f"\b\n{_EXAMPLES.strip()}\n{examples}")(_reporting(function))
    return app


def _not_loaded() -> None:
    """Stand for a command in the list of commands."""


def _reporting(function: Callable[..., None]) -> Callable[..., None]:
    """Wrap a command, so that what goes wrong becomes a line and an exit code."""
    import typer

    @functools.wraps(function)
    def reporting(*args: Any, **kwargs: Any) -> None:
        is_debugging = False
        try:
            is_debugging = _is_debugging()
            function(*args, **kwargs)
            # Inside, so that a reader who went away is noticed here and not by the interpreter at exit.
            sys.stdout.flush()
        except VoxtralError as error:
            if is_debugging:
                traceback.print_exc()
            raise typer.Exit(_failed(error)) from error
        except KeyboardInterrupt as error:
            raise typer.Exit(_interrupted(error)) from error
        except BrokenPipeError as error:
            raise typer.Exit(_UNHEARD) from error

    return reporting


def _failed(error: VoxtralError) -> int:
    say(f"error: {error}")
    # Only of the engine's errors: what lies under a download may quote an address with a password.
    if isinstance(error, EngineError) and error.__cause__ is not None and str(error.__cause__) not in str(error):
        say(f"cause: {type(error.__cause__).__name__}: {error.__cause__}")
    return _ERROR


def _interrupted(error: KeyboardInterrupt) -> int:
    is_terminated = isinstance(error, Terminated)
    say("terminated" if is_terminated else "interrupted")
    return _TERMINATED if is_terminated else _INTERRUPTED


def _is_debugging() -> bool:
    level = os.environ.get("VOXTRAL_LOG", "")
    if level not in ("", "debug"):
        raise OptionError(f"VOXTRAL_LOG is {level!r}; it must be debug, or not set; correct or unset it")
    return level == "debug"
