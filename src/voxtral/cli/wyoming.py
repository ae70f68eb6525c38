"""`voxtral wyoming`: a voice for Home Assistant, and nothing else."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from voxtral.cli.loading import (
    DeviceOption,
    DtypeOption,
    MaxMemoryOption,
    ModelOption,
    QuantizeOption,
    fetch_if_agreed,
)
from voxtral.cli.terminal import reporter
from voxtral.errors import OptionError
from voxtral.loading.locate import choose_model

if TYPE_CHECKING:
    from voxtral.server.options import ServerOptions


def wyoming(  # noqa: PLR0913 - each parameter is an option
    host: Annotated[str, typer.Option("--host", metavar="HOST", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", "-p", metavar="PORT", help="As Home Assistant expects it.")] = 10200,
    model: ModelOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    quantize: QuantizeOption = None,
    max_memory: MaxMemoryOption = None,
    insecure: Annotated[
        bool | None, typer.Option("--insecure", help="Answer other machines, on a network that you trust.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and errors.")] = False,
) -> None:
    """Speak for Home Assistant, over the Wyoming protocol.

    There are no keys in that protocol, so other machines are answered with --insecure alone. `voxtral serve --wyoming
    PORT` does the same beside HTTP.

    Examples:
      voxtral wyoming
      voxtral wyoming --host 0.0.0.0 --insecure
    """
    from voxtral.server.options import ServerOptions

    options = ServerOptions.from_environment(
        host=host,
        wyoming_port=port,
        model=model,
        device=None if device == "auto" else device,
        dtype=None if dtype == "auto" else dtype,
        quantize=quantize,
        max_memory=max_memory,
        insecure=insecure,
    )
    if host not in ("127.0.0.1", "::1", "localhost") and not options.insecure:
        raise OptionError(
            f"host {host} lets other machines ask, and Wyoming has no keys; say --insecure on a network that you trust"
        )
    fetch_if_agreed(choose_model(options.model, options.device)[0], options.max_memory)
    asyncio.run(_serve(options, reporter(is_quiet=quiet)))


async def _serve(options: ServerOptions, announce: Callable[[str], None]) -> None:
    """Listen until SIGTERM or SIGINT."""
    from voxtral.server.application import create_app

    app = create_app(options, announce=announce)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    async with app.router.lifespan_context(app):
        await ended.wait()
