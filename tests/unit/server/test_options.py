"""What can be set about a server, and by which variables."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from voxtral.errors import OptionError
from voxtral.server.options import ServerOptions

# A value that is not the default, of each option that a variable sets.
VARIABLES: dict[str, tuple[str, Any]] = {
    "host": ("0.0.0.0", "0.0.0.0"),
    "port": ("81", 81),
    "device": ("cpu", "cpu"),
    "dtype": ("float32", "float32"),
    "wyoming_port": ("10200", 10200),
    "model_alias": ("a-model, org/other:2", ("a-model", "org/other:2")),
    "quantize": ("int4", "int4"),
    "max_memory": ("4GB", "4GB"),
    "max_batch": ("3", 3),
    "flow_dtype": ("float8", "float8"),
    "activations": ("int8", "int8"),
    "encoder": ("/srv/codec_encoder.safetensors", Path("/srv/codec_encoder.safetensors")),
    "batch_invariant": ("Yes", True),
    "data_dir": ("/srv/voices", Path("/srv/voices")),
    "api_key": ("0123456789abcdef", "0123456789abcdef"),
    "api_key_file": ("/etc/keys", Path("/etc/keys")),
    "insecure": ("1", True),
    "allowed_hosts": ("a.example, b.example,", ("a.example", "b.example")),
    "allowed_origins": ("https://a.example", ("https://a.example",)),
    "proxies": ("10.0.0.5, fd00::/8", ("10.0.0.5", "fd00::/8")),
    "max_streams": ("5", 5),
    "max_queue": ("0", 0),
    "max_wait_s": ("2.5", 2.5),
    "max_streams_per_key": ("1", 1),
    "deadline_s": ("9", 9.0),
    "stall_timeout_s": ("8", 8.0),
    "body_timeout_s": ("7", 7.0),
    "max_lead_s": ("20", 20.0),
    "head_timeout_s": ("6", 6.0),
    "max_connections": ("100", 100),
    "drain_s": ("0", 0.0),
    "unload_after_s": ("600", 600.0),
    "max_chars": ("10", 10),
    "max_upload_bytes": ("2048", 2048),
    "max_voices": ("0", 0),
    "cloning": ("off", False),
    "refine": ("300", 300),
    "normalize": ("auto", "auto"),
    "log_format": ("json", "json"),
}


def test_every_option_has_a_variable() -> None:
    assert {option.name for option in fields(ServerOptions)} == {*VARIABLES, "model"}


@pytest.mark.parametrize("name", VARIABLES)
def test_a_variable_sets_its_option_and_no_other(name: str) -> None:
    text, value = VARIABLES[name]
    assert getattr(ServerOptions(), name) != value
    read = ServerOptions.from_environment({f"VOXTRAL_{name.upper()}": f" {text} "})
    assert read == ServerOptions(**{name: value})


def test_what_is_given_comes_before_the_variables() -> None:
    read = ServerOptions.from_environment(
        {"VOXTRAL_PORT": "81", "VOXTRAL_HOST": "::"}, port=0, host=None, insecure=False
    )
    assert (read.port, read.host, read.insecure) == (0, "::", False)


def test_an_empty_variable_is_none() -> None:
    assert ServerOptions.from_environment({f"VOXTRAL_{name.upper()}": " " for name in VARIABLES}) == ServerOptions()


def test_the_model_is_left_to_those_who_choose_it() -> None:
    assert ServerOptions.from_environment({"VOXTRAL_MODEL": "4b"}).model is None


def test_a_folder_may_be_that_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unit files and compose files have no shell that would replace the tilde."""
    monkeypatch.setenv("HOME", "/home/me")
    assert ServerOptions.from_environment({"VOXTRAL_DATA_DIR": "~/voices"}).data_dir == Path("/home/me/voices")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("port", "eighty"),
        ("port", "-1"),
        ("port", "65536"),
        ("max_streams", "0"),
        ("max_streams", "2.5"),
        ("max_wait_s", "nan"),
        ("max_wait_s", "inf"),
        ("deadline_s", "0"),
        ("drain_s", "-1"),
        ("max_chars", "0"),
        ("max_chars", "9" * 5000),
        ("max_upload_bytes", "1"),
        ("insecure", "maybe"),
        ("cloning", "2"),
        ("refine", "yes"),
        ("refine", "-1"),
        ("refine", "10001"),
        ("normalize", "on"),
        ("log_format", "xml"),
        ("max_lead_s", "0"),
        ("head_timeout_s", "0"),
        ("max_connections", "1"),
        ("proxies", "*"),
        ("proxies", "10.0.0.5, proxy.example"),
        ("proxies", "10.0.0.5/33"),
        ("allowed_hosts", "*"),
        ("allowed_hosts", "a.example:8000"),
        ("allowed_hosts", "a.example,https://b.example"),
        ("model_alias", "two words"),
        ("model_alias", "x" * 129),
        ("allowed_origins", "*"),
        ("allowed_origins", "null"),
        ("allowed_origins", "a.example"),
        ("allowed_origins", "https://a.example/"),
        ("allowed_origins", "https://A.example"),
        ("allowed_origins", "https://a.example b"),
    ],
)
def test_a_wrong_value_is_refused_with_the_name_of_its_variable(name: str, text: str) -> None:
    with pytest.raises(OptionError, match=f"VOXTRAL_{name.upper()}"):
        ServerOptions.from_environment({f"VOXTRAL_{name.upper()}": text})


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("port", "eighty", "int"),
        ("max_batch", "5.0", "int | None"),
        ("max_wait_s", "soon", "float"),
        ("deadline_s", "1,5", "float | None"),
        ("insecure", "t", "bool"),
    ],
)
def test_a_value_of_another_kind_is_refused_with_the_kind_that_it_must_be(name: str, text: str, kind: str) -> None:
    variable = f"VOXTRAL_{name.upper()}"
    with pytest.raises(OptionError) as caught:
        ServerOptions.from_environment({variable: text})
    assert str(caught.value) == f"{variable} is {text!r}; it must be a {kind}; correct or unset it"


def test_a_folder_for_data_that_can_be_none_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / ("n" * 300)):
        with pytest.raises(OptionError, match="data_dir"):
            ServerOptions(data_dir=folder)
    for folder in (tmp_path, tmp_path / "not" / "there" / "yet"):
        assert ServerOptions(data_dir=folder).data_dir == folder
