"""ServerOptions: all that can be set about a server, as fields, as VOXTRAL_ variables and as options of a command.

No FastAPI and no torch. `voxtral serve` and plain `uvicorn voxtral.server:app` both end here.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Literal, get_type_hints

from voxtral.cloning.options import MAX_STEPS
from voxtral.disk import look
from voxtral.errors import OptionError, quoted
from voxtral.options import NORMALIZE
from voxtral.switches import parse_truth
from voxtral.types import Normalize

PREFIX = "VOXTRAL_"


def default_data_dir() -> Path:
    """Return where users' voices are kept unless something else is said, by the custom of the system."""
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "voxtral"


@dataclass(frozen=True)
class ServerOptions:
    """What a server is set up with. The variable of a field is VOXTRAL_ and its name in capitals.

    Attributes:
        host: address to listen on; plain uvicorn takes its own.
        port: 0 takes a free one.
        wyoming_port: where Home Assistant is answered, over the Wyoming protocol; None for nowhere, 0 takes a free one.
        model: a folder, a hub id, 4b or nano; None chooses as every command does.
        model_alias: further names that stand for whatever model is loaded, such as one that a client has built in.
        device: auto, cpu, cuda, cuda:N or mps.
        dtype: auto, float32, bfloat16 or float16.
        quantize: see `VoxtralTTS.from_pretrained`.
        max_memory: see `VoxtralTTS.from_pretrained`.
        flow_dtype: see `EngineOptions`.
        activations: see `EngineOptions`.
        encoder: a file of the codec encoder; None looks for one as every command does.
        max_batch: sequences that make frames side by side; None takes the engine's own number.
        batch_invariant: the same samples under any load; costs speed.
        data_dir: where voices made over HTTP are kept.
        api_key: one key or several, with commas between; each at least 16 characters.
        api_key_file: a file of lines `KEY`, `NAME KEY` or `NAME KEY STREAMS`.
        insecure: answer peers that are not this machine without any key.
        allowed_hosts: names in public DNS that a Host header may have; local names and IP addresses need no mention.
        proxies: addresses or networks of proxies, such as 10.0.0.5 or 172.16.0.0/12, through which many ask: without
            keys, one address has half of all streams, and these have no such limit.
        allowed_origins: other sites whose pages may use this server, such as https://app.example; "CORS".
        max_streams: utterances under way at a time; None takes as many as the engine computes side by side.
        max_queue: requests that wait for their turn; None takes twice `max_streams`.
        max_wait_s: longest wait for a turn, and for a model that is still loading, in seconds.
        max_streams_per_key: utterances under way or waiting of one API key; None for no limit but the others.
        deadline_s: longest time for one utterance, in seconds; None for no limit.
        stall_timeout_s: a client that takes nothing for so many seconds is given up, and so is one that takes audio at
            less than half of the speed at which it is heard, by a margin of as many seconds.
        max_lead_s: no stream is made further ahead of what is heard by now than so many seconds of audio; None for no
            limit. For proxies that take all there is, whether their client reads or not.
        body_timeout_s: longest time to receive a request's body, in seconds.
        head_timeout_s: longest time to receive a request's head, in seconds; of `voxtral serve`.
        max_connections: open at a time; None takes as many as there are descriptors for, up to 4096; of
            `voxtral serve`.
        drain_s: time for what runs to finish after SIGTERM, in seconds.
        unload_after_s: free the model after so many idle seconds; None keeps it.
        max_chars: characters of one text.
        max_upload_bytes: of one clip.
        max_voices: voices that may be stored.
        cloning: whether voices may be made from audio at all.
        refine: steps that a search for a voice may take at most; 0 lets none be made.
        normalize: "off", "clean" or "auto" where a request does not say.
        log_format: "text" or "json".
    """

    host: str = "127.0.0.1"
    port: int = 8000
    wyoming_port: int | None = None
    model: str | None = None
    model_alias: tuple[str, ...] = ()
    device: str = "auto"
    dtype: str = "auto"
    quantize: str | None = None
    max_memory: str | None = None
    flow_dtype: Literal["model", "float8"] = "model"
    activations: Literal["exact", "int8"] = "exact"
    encoder: Path | None = None
    max_batch: int | None = None
    batch_invariant: bool = False
    data_dir: Path = field(default_factory=default_data_dir)
    api_key: str | None = field(default=None, repr=False)
    api_key_file: Path | None = None
    insecure: bool = False
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ()
    max_streams: int | None = None
    max_queue: int | None = None
    max_wait_s: float = 30.0
    max_streams_per_key: int | None = None
    deadline_s: float | None = None
    stall_timeout_s: float = 60.0
    max_lead_s: float | None = None
    body_timeout_s: float = 30.0
    head_timeout_s: float = 15.0
    max_connections: int | None = None
    drain_s: float = 30.0
    unload_after_s: float | None = None
    max_chars: int = 100_000
    max_upload_bytes: int = 10 * 2**20
    max_voices: int = 1000
    cloning: bool = True
    refine: int = 0
    normalize: Normalize = NORMALIZE.default
    log_format: Literal["text", "json"] = "text"

    def __post_init__(self) -> None:
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise OptionError(f"{name} is {quoted(value)}; it must be from {low} to {high}; {_where(name)}")
        for name, choices in (
            ("flow_dtype", ("model", "float8")),
            ("activations", ("exact", "int8")),
            ("normalize", NORMALIZE.choices),
            ("log_format", ("text", "json")),
        ):
            if getattr(self, name) not in choices:
                raise OptionError(
                    f"{name} is {quoted(getattr(self, name))}; it must be one of {', '.join(choices)}; {_where(name)}"
                )
        for name, (rule, example) in _RULES.items():
            for value in getattr(self, name):
                if not rule.fullmatch(value):
                    raise OptionError(f"{name} has {quoted(value)}; each must look like {example}; {_where(name)}")
        self._check_data_dir()
        for value in self.proxies:
            try:
                ip_network(value, strict=False)
            except ValueError as error:
                raise OptionError(
                    f"proxies has {quoted(value)}; each must be an address or network, such as 10.0.0.5 or "
                    f"172.16.0.0/12; {_where('proxies')}"
                ) from error

    @property
    def refine_steps(self) -> int:
        """Steps that a search may take at most; 0 where none is made."""
        return self.refine if self.cloning else 0

    def _check_data_dir(self) -> None:
        """Refuse what can never be a folder; one that is not there yet, or not now, is a matter of each voice."""
        for folder in (self.data_dir, *self.data_dir.parents):
            try:
                found = look(folder)
            except OSError as error:
                if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
                    raise OptionError(
                        f"data_dir is {quoted(str(self.data_dir))}, which can be no folder ({error.strerror}); "
                        f"{_where('data_dir')}"
                    ) from error
                return
            if found is not None and not stat.S_ISDIR(found.st_mode):
                raise OptionError(
                    f"data_dir is {quoted(str(self.data_dir))}, and {quoted(str(folder))} is no folder; voices "
                    f"are kept in one; {_where('data_dir')}"
                )
            if found is not None:
                return

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None, **given: Any) -> ServerOptions:
        """Read the VOXTRAL_ variables; what is given and not None comes before them.

        VOXTRAL_MODEL is left to `voxtral.loading.locate.choose_model`: a model that only a variable names is not
        downloaded.

        Raises:
            OptionError: a value has the wrong kind or is out of range.
        """
        environment = os.environ if environment is None else environment
        values: dict[str, Any] = {}
        for name, kind in get_type_hints(cls).items():
            if given.get(name) is not None:
                values[name] = given[name]
            elif name != "model" and (text := environment.get(PREFIX + name.upper(), "").strip()):
                values[name] = _parse(name, kind, text)
        return cls(**values)


# Lowest and highest value of each number.
_RANGES: tuple[tuple[str, float, float], ...] = (
    ("port", 0, 65535),
    ("wyoming_port", 0, 65535),
    ("max_batch", 1, 4096),
    ("max_streams", 1, 4096),
    ("max_queue", 0, 65536),
    ("max_wait_s", 0, 3600),
    ("max_streams_per_key", 1, 4096),
    ("deadline_s", 0.1, 86400),
    ("stall_timeout_s", 0.1, 86400),
    ("max_lead_s", 0.5, 86400),
    ("body_timeout_s", 0.1, 3600),
    ("head_timeout_s", 0.1, 3600),
    ("max_connections", 8, 65536),
    ("drain_s", 0, 3600),
    ("unload_after_s", 0.1, 31_536_000),
    ("max_chars", 1, 10_000_000),
    ("max_upload_bytes", 1024, 2**30),
    ("max_voices", 0, 1_000_000),
    ("refine", 0, MAX_STEPS),
)


# What never fits a header as browsers write it would be a silent no: a name with a port, a site with a path, a star.
_RULES: dict[str, tuple[re.Pattern[str], str]] = {
    "allowed_hosts": (re.compile(r"[A-Za-z0-9._-]+"), "speech.example"),
    "model_alias": (re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:-]{0,127}"), "voxtral-mini-tts-3-0"),
    "allowed_origins": (re.compile(r"[a-z][a-z0-9+.-]*://[a-z0-9._-]+(:[0-9]+)?"), "https://app.example"),
}


def _where(name: str) -> str:
    flag = {"proxies": "proxy", "max_lead_s": "max-lead"}.get(name, name.replace("_", "-"))
    return f"see --{flag} or {PREFIX}{name.upper()}"


def _parse(name: str, kind: Any, text: str) -> Any:
    """Read the value of a variable by the type of its field; what has no parser is a text."""
    try:
        return _PARSERS.get(kind, str)(text)
    except ValueError as error:
        called = kind.__name__ if isinstance(kind, type) else str(kind)
        raise OptionError(
            f"{PREFIX}{name.upper()} is {quoted(text)}; it must be a {called}; correct or unset it"
        ) from error


def _parse_list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _parse_path(text: str) -> Path:
    return Path(text).expanduser()


# Not pydantic, which takes more for a number ("5.0") and for yes or no ("t") than the variables ever did.
_PARSERS: dict[Any, Callable[[str], Any]] = {
    int: int,
    int | None: int,
    float: float,
    float | None: float,
    bool: parse_truth,
    Path: _parse_path,
    Path | None: _parse_path,
    tuple[str, ...]: _parse_list,
}
