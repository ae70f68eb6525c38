"""Which hub is asked, and with which token."""

from __future__ import annotations

from pathlib import Path

import pytest

from loopback_hub import FILES, NEEDED, OTHER, LoopbackHub, contents
from voxtral.errors import DownloadError, ModelNotFoundError
from voxtral.loading.hub import download
from voxtral.loading.hub.names import CANONICAL_ID, PINNED_REVISION
from voxtral.loading.hub.plan import plan_download
from voxtral.loading.hub.source import open_source


@pytest.mark.parametrize("origin", ["argument", "environment", "stored"])
def test_token_is_taken_from_argument_environment_or_store(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, origin: str
) -> None:
    hub.add(OTHER, FILES, token="hf_right")
    if origin == "environment":
        monkeypatch.setenv("HF_TOKEN", "hf_right")
    elif origin == "stored":
        (tmp_path / "hf").mkdir()
        (tmp_path / "hf" / "token").write_text("hf_right\n")
    else:
        monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    folder = download(OTHER, token="hf_right" if origin == "argument" else None)
    assert contents(folder) == {name: FILES[name] for name in NEEDED}
    assert {seen.authorization for seen in hub.seen if seen.host == "hub"} == {"Bearer hf_right"}


def test_token_is_not_sent_to_the_storage_host(hub: LoopbackHub) -> None:
    hub.add(OTHER, FILES, token="hf_right")
    download(OTHER, token="hf_right")
    assert {seen.authorization for seen in hub.seen if seen.host == "storage"} == {None}


def test_the_public_hub_is_asked_where_no_other_is_named(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_ENDPOINT")
    source = open_source("4b", None, None)
    assert (source.repo, source.revision) == (CANONICAL_ID, PINNED_REVISION)
    assert (source.endpoint, source.host) == ("https://huggingface.co", "huggingface.co")


def test_token_and_password_are_in_no_repr(monkeypatch: pytest.MonkeyPatch, hub: LoopbackHub) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://user:hf_password@hub.example")
    source = open_source(OTHER, None, "hf_secret")
    assert "hf_secret" in source.headers["authorization"]
    assert "hf_password" in source.endpoint
    assert "hf_" not in repr(source)
    assert source.host == "hub.example"


def test_unknown_names_are_refused_before_the_network(hub: LoopbackHub) -> None:
    for call in (plan_download, download):
        with pytest.raises(ModelNotFoundError, match="'a b' names no model"):
            call("a b")
        with pytest.raises(DownloadError, match="cannot exist"):
            call(OTHER, revision="../x")
    assert not hub.seen
