"""What a plan says before anything is fetched."""

from __future__ import annotations

import pytest

from loopback_hub import COMMIT, FILES, NEEDED, OTHER, LoopbackHub, git_blob_id, sha256
from voxtral.loading.hub import download
from voxtral.loading.hub.names import CANONICAL_ID, PINNED_REVISION
from voxtral.loading.hub.plan import plan_download
from voxtral.loading.hub.store import HubFile


def test_plan_names_commit_sizes_hashes_and_licence(hub: LoopbackHub) -> None:
    hub.add(OTHER, FILES)
    plan = plan_download(OTHER)
    assert (plan.source.repo, plan.commit, plan.licence) == (OTHER, COMMIT, "CC BY-NC 4.0")
    assert {file.name for file in plan.files} == NEEDED
    assert plan.total_bytes == sum(len(FILES[name]) for name in NEEDED)
    assert plan.cached_bytes == 0
    assert all(file.size_bytes == len(FILES[file.name]) for file in plan.files)
    assert plan.files[-1] == HubFile("consolidated.safetensors", 50_000, sha256(FILES["consolidated.safetensors"]))
    assert {file.digest for file in plan.files if file.name == "params.json"} == {git_blob_id(FILES["params.json"])}
    assert [seen.method + seen.path for seen in hub.seen] == [f"GET/api/models/{OTHER}/revision/main"]


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        (None, ""),
        ({"license": "apache-2.0"}, "apache-2.0"),
        ({"license": "cc-by-sa-4.0"}, "CC BY-SA 4.0"),
        ({"license": "other", "license_name": "house-licence"}, "house-licence"),
        ({"license": "other"}, "other"),
        ({"license": ["mit", "cc0-1.0"]}, "mit, cc0-1.0"),
    ],
)
def test_licence_is_taken_from_the_card(hub: LoopbackHub, card: dict[str, object] | None, expected: str) -> None:
    hub.add(OTHER, FILES).card = card
    assert plan_download(OTHER).licence == expected


def test_canonical_model_has_its_licence_even_without_a_card(hub: LoopbackHub) -> None:
    hub.add(CANONICAL_ID, FILES, commit=PINNED_REVISION, licence=None)
    assert plan_download("4b").licence == "CC BY-NC 4.0"


def test_plan_counts_what_is_in_the_cache(hub: LoopbackHub) -> None:
    hub.add(OTHER, FILES)
    download(OTHER)
    plan = plan_download(OTHER)
    assert plan.cached_bytes == plan.total_bytes > 50_000


@pytest.mark.parametrize(
    ("licence", "terms"),
    [("apache-2.0", "weights licensed apache-2.0"), (None, "weights under a licence that the hub does not name")],
)
def test_announcement_of_other_licences(hub: LoopbackHub, licence: str | None, terms: str) -> None:
    hub.add(OTHER, FILES, licence=licence)
    told: list[str] = []
    download(OTHER, announce=told.append)
    assert told == [f"{OTHER} at cccccccc: 83.0 kB to download, {terms}"]
