"""`voxtral serve`: the HTTP server, with its address, model and every automatic choice said at the start."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from voxtral.cli.loading import (
    ActivationsOption,
    DeviceOption,
    DtypeOption,
    EncoderOption,
    FlowDtypeOption,
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


def serve(  # noqa: PLR0913 - each parameter is an option
    host: Annotated[
        str | None, typer.Option("--host", metavar="HOST", help="Address to listen on. Default: 127.0.0.1.")
    ] = None,
    port: Annotated[int | None, typer.Option("--port", "-p", metavar="PORT", help="Default: 8000.")] = None,
    wyoming: Annotated[
        int | None,
        typer.Option("--wyoming", metavar="PORT", help="Answer Home Assistant there as well, over Wyoming: 10200."),
    ] = None,
    model: ModelOption = None,
    model_alias: Annotated[
        list[str] | None,
        typer.Option(
            "--model-alias", metavar="NAME", help="A further name that stands for the loaded model; repeatable."
        ),
    ] = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    quantize: QuantizeOption = None,
    max_memory: MaxMemoryOption = None,
    flow_dtype: FlowDtypeOption = "model",
    activations: ActivationsOption = "exact",
    encoder: EncoderOption = None,
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            "--api-key-file", metavar="FILE", help="Lines `KEY`, `NAME KEY` or `NAME KEY STREAMS`. Or: VOXTRAL_API_KEY."
        ),
    ] = None,
    insecure: Annotated[
        bool | None,
        typer.Option("--insecure", help="Answer other machines without any key, on a network that you trust."),
    ] = None,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option("--allowed-host", metavar="NAME", help="A name of this server besides localhost; repeatable."),
    ] = None,
    allowed_origin: Annotated[
        list[str] | None,
        typer.Option(
            "--allowed-origin", metavar="URL", help="A site whose pages may use this server (CORS); repeatable."
        ),
    ] = None,
    proxy: Annotated[
        list[str] | None,
        typer.Option(
            "--proxy",
            metavar="ADDRESS",
            help="A proxy or network that many ask through; it has no share of one address. Repeatable.",
        ),
    ] = None,
    max_streams: Annotated[
        int | None,
        typer.Option(
            "--max-streams", metavar="N", help="Utterances at a time. Default: as many as the engine takes at once."
        ),
    ] = None,
    max_queue: Annotated[
        int | None, typer.Option("--max-queue", metavar="N", help="Requests that wait. Default: twice --max-streams.")
    ] = None,
    max_wait: Annotated[
        float | None, typer.Option("--max-wait", metavar="S", help="Longest wait for a turn. Default: 30.")
    ] = None,
    max_chars: Annotated[
        int | None, typer.Option("--max-chars", metavar="N", help="Characters of one text. Default: 100000.")
    ] = None,
    deadline: Annotated[
        float | None, typer.Option("--deadline", metavar="S", help="Longest time for one request. Default: none.")
    ] = None,
    max_lead: Annotated[
        float | None,
        typer.Option(
            "--max-lead", metavar="S", help="Make audio no further ahead of what is heard by now. Default: no limit."
        ),
    ] = None,
    max_connections: Annotated[
        int | None,
        typer.Option(
            "--max-connections", metavar="N", help="Open at a time. Default: as many as ulimit -n has room for."
        ),
    ] = None,
    drain: Annotated[
        float | None,
        typer.Option("--drain", metavar="S", help="Time for what runs to finish after SIGTERM. Default: 30."),
    ] = None,
    unload_after: Annotated[
        float | None,
        typer.Option("--unload-after", metavar="S", help="Free the model after so many idle seconds. Default: never."),
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", metavar="FOLDER", help="Where voices made over HTTP are kept.")
    ] = None,
    no_cloning: Annotated[bool | None, typer.Option("--no-cloning", help="Refuse to make voices from audio.")] = None,
    refine: Annotated[
        int | None,
        typer.Option(
            "--refine",
            metavar="STEPS",
            help="Let uploads be searched for with up to so many steps, which needs no encoder and takes a while. "
            "Default: 0, none.",
        ),
    ] = None,
    log_format: Annotated[
        str | None, typer.Option("--log-format", metavar="text|json", help="Of the access log. Default: text.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No access log.")] = False,
) -> None:
    """Serve speech over HTTP: the users' guide's API, OpenAI's, and a page to try it.

    Every option also has a variable, such as VOXTRAL_MAX_STREAMS for --max-streams; docs/SERVER.md lists them.

    Examples:
      voxtral serve
      voxtral serve --model 4b --quantize int4 --unload-after 600
      voxtral serve --model 4b --refine 300
      VOXTRAL_API_KEY=$(openssl rand -hex 24) voxtral serve --host 0.0.0.0 --allowed-host speech.example
    """
    from voxtral.server.options import ServerOptions

    options = ServerOptions.from_environment(
        host=host,
        port=port,
        wyoming_port=wyoming,
        model=model,
        model_alias=tuple(model_alias) if model_alias else None,
        device=None if device == "auto" else device,
        dtype=None if dtype == "auto" else dtype,
        quantize=quantize,
        max_memory=max_memory,
        flow_dtype=None if flow_dtype == "model" else flow_dtype,
        activations=None if activations == "exact" else activations,
        encoder=encoder,
        api_key_file=api_key_file,
        insecure=insecure,
        allowed_hosts=tuple(allowed_host) if allowed_host else None,
        allowed_origins=tuple(allowed_origin) if allowed_origin else None,
        proxies=tuple(proxy) if proxy else None,
        max_streams=max_streams,
        max_queue=max_queue,
        max_wait_s=max_wait,
        max_chars=max_chars,
        deadline_s=deadline,
        max_lead_s=max_lead,
        max_connections=max_connections,
        drain_s=drain,
        unload_after_s=unload_after,
        data_dir=data_dir,
        cloning=False if no_cloning else None,
        refine=refine,
        log_format=log_format,
    )
    _check_exposure(options)
    fetch_if_agreed(choose_model(options.model, options.device)[0], options.max_memory)
    from voxtral.server.run import run

    run(options, announce=reporter(is_quiet=quiet), is_quiet=quiet)


def _check_exposure(options: ServerOptions) -> None:
    """Refuse to listen where others could ask and nobody may, and warn where everybody may.

    Raises:
        OptionError: the address is open to others, and there is neither a key nor the word that it is meant so.
    """
    from voxtral.server.keys import load_keys

    is_open = options.host not in ("127.0.0.1", "::1", "localhost")
    if load_keys(options):
        return
    if is_open and not options.insecure:
        raise OptionError(
            f"host {options.host} lets other machines ask, and there is no API key; set VOXTRAL_API_KEY or "
            "--api-key-file (openssl rand -hex 24 makes a key), or say --insecure on a network that you trust"
        )
