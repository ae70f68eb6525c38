"""`voxtral quantize`: write a checkpoint of few bits."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from voxtral.cli.loading import DeviceOption, fetch_if_agreed
from voxtral.cli.options import QuietOption
from voxtral.cli.terminal import deferred_interrupts, reporter, say

if TYPE_CHECKING:
    from voxtral.loading.convert import Progress


def quantize(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A folder, a hub id, 4b or nano.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="A new folder for the result.")],
    bits: Annotated[
        str,
        typer.Option(
            "--bits",
            metavar="RECIPE",
            help="int4 (the backbone; the acoustic transformer gets int8), int8, or int4-all.",
        ),
    ] = "int4",
    group_size: Annotated[
        int | None,
        typer.Option(
            "--group-size",
            metavar="N",
            help="Inputs that share a scale in int4. Default: 64, or 32 where 64 does not fit.",
            show_default=False,
        ),
    ] = None,
    device: DeviceOption = "auto",
    is_quiet: QuietOption = False,
) -> None:
    """Write a checkpoint whose large matrices have fewer bits.

    The result is a folder like any other model: it takes less memory and loads at once, where --quantize fits the
    weights at every start. What it costs in closeness is in docs/QUANTIZATION.md. Nothing is downloaded
    unasked.

    Examples:
      voxtral quantize 4b -o voxtral-int4
      voxtral quantize ./my-model -o my-model-int8 --bits int8
      voxtral speak "Hello!" --model ./voxtral-int4
    """
    from voxtral.device import resolve_device
    from voxtral.loading.checkpoint import open_checkpoint
    from voxtral.loading.convert import check_conversion, write_quantized
    from voxtral.loading.locate import locate_model
    from voxtral.loading.memory import format_bytes
    from voxtral.quantization.recipes import choose_recipe

    tell = reporter(is_quiet=is_quiet)
    chosen_device, reason = resolve_device(device)
    fetch_if_agreed(model)
    checkpoint = open_checkpoint(locate_model(model, allow_download=False))
    quantization = choose_recipe(bits, checkpoint.config, group_size)
    check_conversion(checkpoint, output)
    tell(f"{model}: {format_bytes(checkpoint.data_bytes)} to {bits}, fitted on {chosen_device} ({reason})")
    with deferred_interrupts(lambda: None) as check_interrupt, _show_bytes(is_quiet=is_quiet) as show_progress:

        def on_progress(done: int, total: int) -> None:
            check_interrupt()
            show_progress(done, total)

        size = write_quantized(checkpoint, quantization, output, device=chosen_device, on_progress=on_progress)
        check_interrupt()
    say(f"{output}: {format_bytes(size)}")
    tell(f'next: voxtral speak "Hello!" --model {shlex.quote(str(output))} -o hello.wav')


@contextmanager
def _show_bytes(*, is_quiet: bool) -> Iterator[Progress]:
    """Show a bar while the block runs."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    bar = Progress(
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=is_quiet or not console.is_terminal,
        redirect_stdout=False,
    )
    with bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
