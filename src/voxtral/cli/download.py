"""`voxtral download`: fetch a model and say where it is and what to do next."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from voxtral.cli.terminal import say
from voxtral.loading import hub
from voxtral.loading.locate import is_built_in


def download(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="4b, or a hub id (owner/name).")] = "4b",
    revision: Annotated[
        str | None,
        typer.Option(
            "--revision", metavar="REV", help="A branch, tag or commit. Default: a fixed commit of 4b, main of others."
        ),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="DIR", help="A folder to fill instead of the Hugging Face cache."),
    ] = None,
) -> None:
    """Download a model.

    Size and licence are shown before anything is fetched. A download that broke off goes on where it stopped when
    the same command is run again. Every file is checked against the hash that the hub states. HF_TOKEN, HF_HOME
    and HF_ENDPOINT work as everywhere.

    Examples:
      voxtral download
      voxtral download 4b --to ./voxtral-4b
      voxtral download owner/name --revision main
    """
    if is_built_in(model):
        say(f'{model} is part of this package, nothing is downloaded; next: voxtral speak "Hello!" --model {model}')
        return
    folder = hub.download(model, revision=revision, local_dir=to, announce=say)
    # A folder or a revision is found again only by its path.
    name = model if to is None and revision is None else str(folder)
    say(f"{model} is in {folder}")
    say(f'next: voxtral speak "Hello!" --model {shlex.quote(name)} -o hello.wav')
