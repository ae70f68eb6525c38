"""The files of the page as they are sent; tests/browser looks at what they do."""

from __future__ import annotations

import re
from importlib.resources import files
from urllib.parse import urlsplit

from serving import Serving, serving
from voxtral.server.dialects.page import PUBLIC_PATHS
from voxtral.tts import VoxtralTTS

TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".ico": "image/svg+xml"}


def test_each_file_is_sent_with_its_type_and_sent_once(server: Serving) -> None:
    with server.client() as client:
        for path in PUBLIC_PATHS:
            first = client.get(path)
            kind = next((kind for end, kind in TYPES.items() if path.endswith(end)), "text/html")
            assert first.status_code == 200
            assert first.headers["content-type"].split(";")[0] == kind
            assert first.headers["cache-control"] == "no-cache"
            again = client.get(path, headers={"If-None-Match": first.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
            other = client.get(path, headers={"If-None-Match": '"another"'})
            assert other.content == first.content


def test_all_files_of_the_page_are_sent_and_name_each_other_alone(server: Serving) -> None:
    folder = files("voxtral.server") / "page"
    names = {file.name for file in folder.iterdir()}
    assert names <= {path.removeprefix("/") or "index.html" for path in PUBLIC_PATHS} | {"index.html"}
    for name in names:
        text = (folder / name).read_text(encoding="utf-8")
        for named in re.findall(r'(?:src|href|from|import)[= ]"([^"]+)"', text):
            assert named.removeprefix("./") in names, f"{name} names {named}"
        # A namespace is a name, and nothing is fetched by it.
        addresses = [url for url in re.findall(r"https?://[^\s\"'`]+", text) if urlsplit(url).netloc != "www.w3.org"]
        assert not addresses, f"{name} names {addresses}"
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script>", text), f"{name} has code or style inline"


def test_the_policy_of_the_page_forbids_everything_from_elsewhere(server: Serving) -> None:
    with server.client() as client:
        policy = client.get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


def test_the_page_needs_no_key_because_it_asks_for_it(tts: VoxtralTTS) -> None:
    with serving(tts, api_key="a-key-of-this-test") as guarded, guarded.client() as client:
        assert {client.get(path).status_code for path in PUBLIC_PATHS} == {200}
        assert client.get("/v1/models").status_code == 401


def test_it_is_no_part_of_the_described_api(server: Serving) -> None:
    with server.client() as client:
        described = client.get("/openapi.json").json()["paths"]
    assert not set(PUBLIC_PATHS) & set(described)
