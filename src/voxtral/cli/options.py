"""The options of speech for the commands that speak, out of the table in `voxtral.options`; and those that print.

A command marked `with_speech_options` has one parameter, `options`: in its place the command line gets an option for
each entry of the table, and what was given comes as keywords of `make_request`.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Sequence
from enum import StrEnum
from inspect import Parameter, Signature
from typing import Annotated, Any

import typer

from voxtral.options import OPTIONS, Option
from voxtral.switches import SWITCHES

# The parameter that stands for all of them.
_PLACE = "options"

_TYPES: dict[str, type] = {"text": str, "voice": str, "clip": str, "dictionary": str, "number": float, "whole": int}

JsonOption = Annotated[bool, typer.Option("--json", help="Print a JSON object to standard output at the end.")]
TextArgument = Annotated[
    str | None,
    typer.Argument(metavar="TEXT|FILE|-", help="The text; or a file that holds it, UTF-8; or - for standard input."),
]
ForcedTextOption = Annotated[
    str | None,
    typer.Option("--text", metavar="TEXT", help="A text that is never taken for a file name or an option."),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and errors.")]

Command = Callable[..., None]


def with_speech_options(*, changed: Sequence[Option] = ()) -> Callable[[Command], Command]:
    """Give a command the options of speech.

    Args:
        changed: entries that take the place of those of the same name in the table.
    """
    instead = {option.name: option for option in changed}
    options = [instead.get(option.name, option) for option in OPTIONS if option.flag is not None]

    def mark(command: Command) -> Command:
        parameters: list[Parameter] = []
        for parameter in inspect.signature(command, eval_str=True).parameters.values():
            parameters += map(_declare, options) if parameter.name == _PLACE else [parameter]

        @functools.wraps(command)
        def with_options(**values: Any) -> None:
            given = {option.name: _plain(option, values.pop(option.name)) for option in options}
            command(**values, **{_PLACE: given})

        # What typer reads.
        with_options.__dict__["__signature__"] = Signature(parameters)
        with_options.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return with_options

    return mark


def with_switches(command: Command) -> Command:
    """Give a command an option for each entry of `voxtral.switches`, which sets its variable while the command runs."""
    signature = inspect.signature(command, eval_str=True)
    parameters = [*signature.parameters.values(), *(_declare_switch(name) for name in SWITCHES)]

    @functools.wraps(command)
    def with_options(**values: Any) -> None:
        off = [SWITCHES[name].variable for name in SWITCHES if values.pop(f"no_{name}")]
        before = {variable: os.environ.get(variable) for variable in off}
        # Processes that are started see it too.
        os.environ.update(dict.fromkeys(off, "0"))
        try:
            command(**values)
        finally:
            for variable, text in before.items():
                os.environ.pop(variable)
                if text is not None:
                    os.environ[variable] = text

    with_options.__dict__["__signature__"] = Signature(parameters)
    with_options.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return with_options


def _declare_switch(name: str) -> Parameter:
    switch = SWITCHES[name]
    declared = typer.Option(switch.flag, help=f"{switch.help} Or: {switch.variable}=0.")
    return Parameter(f"no_{name}", Parameter.KEYWORD_ONLY, default=False, annotation=Annotated[bool, declared])


def _declare(option: Option) -> Parameter:
    flag = option.flag
    if flag is None:
        raise TypeError(f"the option {option.name} is not for the command line")
    if option.kind == "switch":
        # What is on by itself has a flag that turns it off: given or not is what comes from the command line.
        switch = typer.Option(flag.name, help=flag.help)
        return Parameter(option.name, Parameter.KEYWORD_ONLY, default=False, annotation=Annotated[bool, switch])
    kind: Any = _choices(option) if option.kind == "choice" else _TYPES[option.kind]
    default = kind(option.default) if option.kind == "choice" else option.default
    declared = typer.Option(flag.name, metavar=flag.metavar, help=flag.help)
    return Parameter(
        option.name,
        Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[kind | None if default is None else kind, declared],
    )


@functools.cache
def _choices(option: Option) -> type[StrEnum]:
    made: Any = StrEnum(option.name.title(), {choice.upper(): choice for choice in option.choices})
    return made


def _plain(option: Option, value: Any) -> Any:
    if option.kind == "switch":
        return value != option.default
    return value.value if isinstance(value, StrEnum) else value
