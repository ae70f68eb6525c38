"""Which folder of the Hugging Face cache is found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from loopback_hub import COMMIT, FILES, OTHER, put_in_cache
from voxtral.loading.hub.cache import find_cached
from voxtral.loading.hub.names import CANONICAL_ID, PINNED_REVISION

ALIAS = "mistralai/Voxtral-TTS"


def test_cache_folder_is_where_huggingface_hub_puts_it(tmp_path: Path) -> None:
    environments: list[dict[str, str]] = [
        {},
        {"HF_HOME": "/a"},
        {"HF_HOME": "~/a"},
        {"XDG_CACHE_HOME": "/x"},
        {"HF_HOME": "/a", "XDG_CACHE_HOME": "/x"},
        {"HF_HUB_CACHE": "/c", "HF_HOME": "/a", "HUGGINGFACE_HUB_CACHE": "/l"},
        {"HUGGINGFACE_HUB_CACHE": "/l", "HF_HOME": "/a"},
        {"HF_HUB_CACHE": "$HOME/c"},
        {"HF_HOME": "$HOME/a"},
    ]
    script = """
import importlib, json, os, sys
from huggingface_hub import constants
from voxtral.loading.hub.cache import cache_folder
for environment in json.loads(sys.argv[1]):
    os.environ.update(environment)
    importlib.reload(constants)
    assert str(cache_folder()) == constants.HF_HUB_CACHE, (environment, cache_folder(), constants.HF_HUB_CACHE)
    for name in environment:
        del os.environ[name]
print("compared")
"""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING", "XDG_"))}
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(environments)],
        env=clean | {"HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "compared\n", done.stderr


def test_finding_needs_no_huggingface_hub(cache: Path) -> None:
    snapshot = put_in_cache(cache, CANONICAL_ID, PINNED_REVISION)
    script = (
        "import sys; sys.modules['huggingface_hub'] = None; import voxtral.loading.hub as h; print(h.find_cached('4b'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == f"{snapshot}\n", done.stderr


def test_nothing_is_found_in_an_empty_cache(cache: Path) -> None:
    assert [find_cached(name) for name in ("4b", ALIAS, CANONICAL_ID, OTHER, "no id")] == [None] * 5


def test_pinned_revision_comes_before_main(cache: Path) -> None:
    main = put_in_cache(cache, CANONICAL_ID, COMMIT, ref="main")
    assert find_cached("4b") == main
    pinned = put_in_cache(cache, CANONICAL_ID, PINNED_REVISION)
    assert find_cached("4b") == find_cached(CANONICAL_ID) == find_cached(ALIAS) == pinned


def test_folder_under_the_alias_name_is_found_by_that_name_only(cache: Path) -> None:
    own = put_in_cache(cache, ALIAS, COMMIT, ref="main")
    assert find_cached(ALIAS) == own
    assert find_cached(CANONICAL_ID) is None
    assert find_cached("4b") is None
    canonical = put_in_cache(cache, CANONICAL_ID, "d" * 40, ref="main")
    assert find_cached(ALIAS) == canonical


def test_alias_folder_without_main_gives_the_newest_complete_snapshot(cache: Path) -> None:
    old, new, broken = (put_in_cache(cache, ALIAS, letter * 40) for letter in "abd")
    for age, folder in enumerate((broken, new, old)):
        os.utime(folder, (1_000_000 - age, 1_000_000 - age))
    (broken / "params.json").unlink()
    assert find_cached(ALIAS) == new
    (new.parent.parent / "refs").mkdir()
    (new.parent.parent / "refs" / "main").write_text("a" * 40)
    assert find_cached(ALIAS) == old


def test_other_repositories_are_found_at_main_only(cache: Path) -> None:
    snapshot = put_in_cache(cache, OTHER, COMMIT)
    assert find_cached(OTHER) is None
    assert find_cached(OTHER, revision=COMMIT) == snapshot
    put_in_cache(cache, OTHER, "d" * 40, ref="main")
    assert find_cached(OTHER) == snapshot.parent / ("d" * 40)


def test_an_explicit_revision_is_never_replaced(cache: Path) -> None:
    put_in_cache(cache, CANONICAL_ID, PINNED_REVISION, ref="main")
    tagged = put_in_cache(cache, CANONICAL_ID, COMMIT, ref="v1/x")
    own = put_in_cache(cache, ALIAS, "e" * 40, ref="dev")
    assert find_cached("4b", revision="d" * 40) is None
    assert find_cached("4b", revision="v2") is None
    assert find_cached("4b", revision="v1/x") == tagged
    assert find_cached(ALIAS, revision=COMMIT) == tagged
    assert find_cached(ALIAS, revision="dev") == own


@pytest.mark.parametrize("revision", ["../../x", "..", "/etc", "", "a b", "x/../y"])
def test_a_revision_cannot_leave_the_cache(cache: Path, revision: str) -> None:
    snapshot = put_in_cache(cache, OTHER, COMMIT, ref="y")
    (snapshot.parent.parent / "refs" / "x").mkdir()
    (cache / "x").write_text(COMMIT)
    assert find_cached(OTHER, revision="y") == snapshot
    assert find_cached(OTHER, revision=revision) is None


@pytest.mark.parametrize("ref", [b"", b"main", b"../../elsewhere", b"\xff" * 40])
def test_a_damaged_ref_finds_nothing(cache: Path, ref: bytes) -> None:
    snapshot = put_in_cache(cache, OTHER, COMMIT, ref="main")
    assert find_cached(OTHER) == snapshot
    (snapshot.parent.parent / "refs" / "main").write_bytes(ref)
    assert find_cached(OTHER) is None


@pytest.mark.parametrize(
    "name", ["params.json", "tekken.json", "consolidated.safetensors", "voice_embedding/casual_male.pt"]
)
@pytest.mark.parametrize("damage", ["dangling", "removed"])
def test_an_incomplete_snapshot_is_not_found(cache: Path, name: str, damage: str) -> None:
    files = {key: value for key, value in FILES.items() if key != "voice_embedding/cheerful_female.pt"}
    snapshot = put_in_cache(cache, OTHER, COMMIT, ref="main", files=files)
    assert find_cached(OTHER) == snapshot
    ((snapshot / name).resolve() if damage == "dangling" else snapshot / name).unlink()
    assert find_cached(OTHER) is None


def test_one_dangling_voice_among_others_makes_a_snapshot_incomplete(cache: Path) -> None:
    snapshot = put_in_cache(cache, OTHER, COMMIT, ref="main")
    (snapshot / "voice_embedding" / "casual_male.pt").resolve().unlink()
    assert find_cached(OTHER) is None
