"""API keys: what is accepted as one, and what is said about it."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxtral.errors import OptionError
from voxtral.server.keys import Client, KeyRing, load_keys, remote_client
from voxtral.server.options import ServerOptions

A, B = "0123456789abcdef", "fedcba9876543210"

KEYS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=16, max_size=40)


def ring_of(tmp_path: Path, text: str, **options: object) -> KeyRing:
    path = tmp_path / "keys"
    path.write_text(text, encoding="utf-8")
    return load_keys(ServerOptions(api_key_file=path, **options))  # type: ignore[arg-type]


def test_several_keys_of_a_variable(tmp_path: Path) -> None:
    ring = load_keys(ServerOptions(api_key=f" {A} , {B},", max_streams_per_key=2))
    assert ring.find(A) == Client("key1", 2)
    assert ring.find(B) == Client("key2", 2)
    assert ring.find("") is None


def test_a_file_names_keys_and_limits(tmp_path: Path) -> None:
    text = f"# clients\n\n{A}\r\n  open-webui\t{B}   # the kitchen\nphone {A}{B} 3\nhash abc#defghijklmnop 1\n"
    ring = ring_of(tmp_path, text, max_streams_per_key=5)
    assert ring.find(A) == Client("line3", 5)
    assert ring.find(B) == Client("open-webui", 5)
    assert ring.find(A + B) == Client("phone", 3)
    assert ring.find("abc#defghijklmnop") == Client("hash", 1), "a # within a key is part of it"
    assert ring.find("abc") is None


@pytest.mark.parametrize(
    ("address", "home"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
    ],
)
def test_who_has_no_key_is_named_by_the_address(address: str, home: str) -> None:
    assert remote_client(ipaddress.ip_address(address), 2) == Client("remote", 2, home)


def test_variable_and_file_go_together(tmp_path: Path) -> None:
    ring = ring_of(tmp_path, A, api_key=B)
    assert ring.find(A) == Client("line1")
    assert ring.find(B) == Client("key1")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no key"),
        ("# none\n", "holds no key"),
        ("brief", "line 1"),
        (f"a {A} 3 4", "line 1"),
        (f"ok {A}\na {B} many", "line 2"),
        (f"a {A} 0", "line 1"),
        (f"a {A} -1", "line 1"),
        (f"a {A} 12345", "line 1"),
        (f"a {A}\nb {A}", "twice"),
        ("a 0123456789abcdé0", "line 1"),
        (f"a/b {A}", "name"),
        (f"{'0123456789abcdef' * 3} {A}", "name"),
    ],
)
def test_a_file_that_breaks_the_rules_is_refused_without_quoting_it(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(OptionError, match=said) as caught:
        ring_of(tmp_path, text)
    for word in text.split():
        assert len(word) < 5 or word not in str(caught.value)


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="cannot be read"):
        load_keys(ServerOptions(api_key_file=tmp_path / "missing"))
    with pytest.raises(OptionError, match="cannot be read"):
        load_keys(ServerOptions(api_key_file=tmp_path))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(OptionError, match="cannot be read"):
        load_keys(ServerOptions(api_key_file=tmp_path / "binary"))


@pytest.mark.parametrize("value", ["", ",", " , ", "short", f"{A},short", "0123456789abcdé0", "0123456789abc\x00ef"])
def test_a_variable_without_a_proper_key_is_not_taken_for_none(value: str) -> None:
    """Whoever set it meant the server to be closed."""
    with pytest.raises(OptionError):
        load_keys(ServerOptions(api_key=value, insecure=True))


def test_no_keys_is_an_empty_ring() -> None:
    assert not load_keys(ServerOptions())


@given(st.lists(KEYS, min_size=1, max_size=5, unique=True), st.text(max_size=40))
def test_a_ring_finds_its_keys_and_nothing_else(keys: list[str], other: str) -> None:
    ring = KeyRing({key: Client(str(number)) for number, key in enumerate(keys)})
    assert [ring.find(key) for key in keys] == [Client(str(number)) for number in range(len(keys))]
    assert (ring.find(other) is None) == (other not in keys)


def test_options_and_ring_do_not_show_keys() -> None:
    options = ServerOptions(api_key=A)
    assert A not in repr(options)
    assert A not in repr(vars(load_keys(options)))


def test_a_key_file_without_an_end_is_refused() -> None:
    with pytest.raises(OptionError, match="must be a list of keys"):
        load_keys(ServerOptions(api_key_file=Path("/dev/zero")))
