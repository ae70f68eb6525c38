"""The console script `voxtral`: chooses a command, turns errors into one line and an exit code.

Exit codes: 0 done, 1 error, 2 wrong usage, 129 the terminal went away, 130 interrupted, 141 the reader of standard
output went away, 143 terminated. A command's module is imported only when it is chosen, so that `voxtral --help` is
quick.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from voxtral.cli.process import ENDING, UNHEARD, end_on_signals, exit_code, leave, open_closed_streams
from voxtral.cli.terminal import Stopped, say, tidy_warnings
from voxtral.errors import EngineError, OptionError, VoxtralError

if TYPE_CHECKING:
    import typer

# The module that holds each command as a function of the same name, with _ for -, and the line in `voxtral --help`.
# `doctor` has its own argument parser, because it must run where typer is not installed.
_COMMANDS = {
    "speak": ("voxtral.cli.speak", "Speak a text into a file, a pipe or the loudspeakers."),
    "serve": ("voxtral.cli.serve", "Serve speech over HTTP, with a page to try it."),
    "wyoming": ("voxtral.cli.wyoming", "Speak for Home Assistant."),
    "batch": ("voxtral.cli.batch", "Speak many texts into a folder of files."),
    "join": ("voxtral.cli.join", "Join finished files of audio into one."),
    "voices": ("voxtral.cli.voices", "List the preset voices of a model."),
    "clone": ("voxtral.cli.voices", "Make a voice from a clip and save it."),
    "train-encoder": ("voxtral.cli.train_encoder", "Learn the encoder that a model lacks, from its own speech."),
    "download": ("voxtral.cli.download", "Download a model."),
    "quantize": ("voxtral.cli.quantize", "Write a model of fewer bits."),
    "encode": ("voxtral.cli.codec", "Turn audio into codes."),
    "decode": ("voxtral.cli.codec", "Turn codes into audio."),
    "evaluate-encoder": ("voxtral.cli.evaluate", "Judge ways to make voices of clips."),
    "align": ("voxtral.cli.align", "Find when each word is heard, and what tells."),
    "normalize": ("voxtral.cli.normalize", "Show what would be said for a text."),
    "book": ("voxtral.cli.book", "Look at a book: its chapters, and what would not be read."),
    "bench": ("voxtral.cli.bench", "Measure how fast a model speaks on this machine."),
    "doctor": ("voxtral.doctor.command", "Report on this machine and check the numbers of a model."),
}

# Those that compute with a model, and so can do without graphs or kernels.
_LOAD_A_MODEL = frozenset(
    {
        "speak",
        "serve",
        "wyoming",
        "batch",
        "clone",
        "train-encoder",
        "encode",
        "decode",
        "evaluate-encoder",
        "align",
        "bench",
    }
)

# Those that have commands of their own, in the mapping COMMANDS of their module.
_GROUPS = frozenset({"align", "book"})

_ERROR = 1

# What becomes a line and an exit code. Anything else is a fault of this program, and is shown as such.
_REPORTED = (VoxtralError, KeyboardInterrupt, OSError, MemoryError, ImportError)

# Below this, numpy looks for memory for ever when it is imported; with torch and nano it takes about 1.2 GB.
_LEAST_ADDRESS_SPACE = 256 * 10**6

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
  VOXTRAL_DICTIONARY  files of words that are said otherwise
  VOXTRAL_LOG    debug shows a traceback with each error

\b
Exit codes:
  0    done
  1    error; one line on standard error says which
  2    wrong usage
  129  the terminal went away
  130  interrupted with Ctrl-C
  141  the reader of standard output went away
  143  terminated
"""

_EXAMPLES = "\n\nExamples:\n"


def main() -> None:
    """Run the command line of this process and exit."""
    open_closed_streams()
    end_on_signals()
    leave(run(sys.argv[1:]))


def has_command(name: str) -> bool:
    """Tell whether this version has a command."""
    return name in _COMMANDS


def run(arguments: list[str]) -> int:
    """Run a command line and return its exit code.

    Args:
        arguments: what follows the name of the program.
    """
    try:
        with tidy_warnings():
            try:
                code = _dispatch(arguments)
            except SystemExit as exit:
                # A usage error, or a code of `_reporting`; typer and argparse leave this way.
                code = exit.code if isinstance(exit.code, int) else 0
            # After an error it may be a pipe that is closed, or one that nobody reads.
            if code == 0:
                sys.stdout.flush()
            return code
    except _REPORTED as error:
        return _explain(error)


def _dispatch(arguments: list[str]) -> int:
    # Before typer is imported: `doctor` runs on machines with torch, numpy and safetensors alone.
    if arguments[:1] == ["doctor"]:
        _check_address_space()
        from voxtral.doctor import command

        return command.main(arguments[1:], _fetch)
    try:
        import typer  # noqa: F401 - whether it is there
    except ImportError:
        say("error: typer is not installed; all commands but `voxtral doctor` need it; run pip install typer rich")
        return _ERROR
    chosen = next((argument for argument in arguments if not argument.startswith("-")), None)
    _build_app(chosen)(args=arguments, prog_name="voxtral")
    return 0


def _fetch(name: str) -> None:
    """See that a model is here, for the doctor, as the other commands do it."""
    try:
        from voxtral.cli.loading import fetch_if_agreed
    except ImportError:
        return  # without typer; a model that is not here is refused
    fetch_if_agreed(name)


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
        loaded = importlib.import_module(module)
        if name not in _GROUPS:
            _declare(app, name, getattr(loaded, name.replace("-", "_")), loads_a_model=name in _LOAD_A_MODEL)
            continue
        group = typer.Typer(
            add_completion=False,
            rich_markup_mode=None,
            pretty_exceptions_enable=False,
            no_args_is_help=True,
            help=summary,
        )
        for command, function in loaded.COMMANDS.items():
            _declare(group, command, function, loads_a_model=name in _LOAD_A_MODEL)
        app.add_typer(group, name=name)
    return app


def _declare(app: typer.Typer, name: str, function: Callable[..., None], *, loads_a_model: bool) -> None:
    """Add a command that is loaded."""
    if loads_a_model:
        from voxtral.cli.options import with_switches

        function = with_switches(function)
    text, _, examples = (inspect.getdoc(function) or "").partition(_EXAMPLES)
    app.command(name, help=text, epilog=f"\b\n{_EXAMPLES.strip()}\n{examples}")(_reporting(function))


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
            _check_address_space()
            function(*args, **kwargs)
            # Inside, so that a reader who went away is noticed here and not by the interpreter at exit.
            sys.stdout.flush()
        except (*_REPORTED, RuntimeError) as error:
            # The only one that does not speak of a fault here; typer's own ways out are others.
            if isinstance(error, RuntimeError) and "can't start new thread" not in str(error):
                raise
            if is_debugging:
                traceback.print_exc()
            raise typer.Exit(_explain(error)) from error

    signature = inspect.signature(function, eval_str=True)
    for parameter in signature.parameters.values():
        for declared in getattr(parameter.annotation, "__metadata__", ()):
            # Whether a file may be read is for the commands to say, which do so in one line; click shows the usage.
            if hasattr(declared, "readable"):
                declared.readable = False
    # What typer reads.
    reporting.__dict__["__signature__"] = signature
    reporting.__annotations__ = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    return reporting


def _check_address_space() -> None:
    """Refuse to begin where the process may not even take what its libraries need.

    Raises:
        MemoryError: `ulimit -v` is too low.
    """
    try:
        import resource
    except ImportError:  # Windows has no such module, and no such limit
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < _LEAST_ADDRESS_SPACE:
        raise MemoryError(f"this process may take {limit / 10**6:.0f} MB of address space (ulimit -v)")


def _explain(error: BaseException) -> int:
    """Say in a line what ended a command, and give its exit code."""
    if isinstance(error, KeyboardInterrupt):
        number = error.number if isinstance(error, Stopped) else signal.SIGINT
        say(ENDING[number])
        return exit_code(number)
    if isinstance(error, BrokenPipeError):
        return UNHEARD
    say(f"error: {_what_went_wrong(error)}")
    # Only of the engine's errors: what lies under a download may quote an address with a password.
    if isinstance(error, EngineError) and error.__cause__ is not None and str(error.__cause__) not in str(error):
        say(f"cause: {type(error.__cause__).__name__}: {error.__cause__}")
    return _ERROR


def _what_went_wrong(error: BaseException) -> str:
    if isinstance(error, MemoryError | RuntimeError):
        reason = f" ({error})" if str(error) else ""
        return (
            f"out of memory{reason}; the libraries, the model and what it computes must fit; free some, allow this "
            "process more, or choose --quantize or a smaller model"
        )
    # An OSError is what ctypes makes of a library that does not fit.
    is_library = isinstance(error, OSError) and error.errno is None and ".so" in str(error)
    if isinstance(error, ImportError) or is_library:
        return (
            f"a package cannot be loaded ({error}); all of them must be there and fit the memory; install voxtral-tts "
            "again, or allow more memory"
        )
    if isinstance(error, OSError):
        name = "standard input or output" if error.filename is None else os.fsdecode(error.filename)
        return f"{name} cannot be used ({error.strerror or error}); check the path, its permissions and the disk"
    return str(error)


def _is_debugging() -> bool:
    level = os.environ.get("VOXTRAL_LOG", "")
    if level not in ("", "debug"):
        raise OptionError(f"VOXTRAL_LOG is {level!r}; it must be debug, or not set; correct or unset it")
    return level == "debug"
