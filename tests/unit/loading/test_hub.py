from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopback_hub import LoopbackHub, client_of, etag, fake_checkpoint, git_blob_id, sha256
from voxtral.errors import DownloadError, ModelNotFoundError, OptionError
from voxtral.loading import hub as hub_module
from voxtral.loading.hub import (
    ALIASES,
    CANONICAL_ID,
    PINNED_REVISION,
    PlannedFile,
    canonical_id,
    download,
    find_cached,
    plan_download,
    resolve_model,
)

ALIAS = "mistralai/Voxtral-TTS"
OTHER = "someone/finetune"
FILES = fake_checkpoint()
NEEDED = {name for name in FILES if name not in {".gitattributes", "assets/picture.png"}}
COMMIT = "c" * 40


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    loopback = LoopbackHub()
    with loopback.serve(), client_of(loopback, monkeypatch, tmp_path / "hf"):
        yield loopback


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, offline: whoever asks for the network gets an error."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path / "cache"


def put_in_cache(
    cache: Path, repo: str, commit: str, *, ref: str | None = None, files: dict[str, bytes] = FILES
) -> Path:
    """Write a snapshot the way huggingface_hub lays it out."""
    home = cache / f"models--{repo.replace('/', '--')}"
    snapshot = home / "snapshots" / commit
    for name, content in files.items():
        blob = home / "blobs" / etag(content)
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).symlink_to(os.path.relpath(blob, (snapshot / name).parent))
    if ref is not None:
        (home / "refs" / ref).parent.mkdir(parents=True, exist_ok=True)
        (home / "refs" / ref).write_text(commit)
    return snapshot


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".cache" not in path.parts
    }


# --- names


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("4b", CANONICAL_ID),
        ("4B", CANONICAL_ID),
        (ALIAS, CANONICAL_ID),
        (CANONICAL_ID, CANONICAL_ID),
        (OTHER, OTHER),
        ("a/b", "a/b"),
        ("mistralai/voxtral-tts", "mistralai/voxtral-tts"),
        ("", None),
        ("4bit", None),
        ("Voxtral-TTS", None),
        ("a/b/c", None),
        ("a/", None),
        ("/b", None),
        ("./a", None),
        ("../a", None),
        ("a/..", None),
        ("a/b--c", None),
        ("a/b.git", None),
        ("a/b c", None),
        ("a/b\n", None),
        ("ä/b", None),
        ("a\\b", None),
    ],
)
def test_canonical_id(model: str, expected: str | None) -> None:
    assert canonical_id(model) == expected


@given(
    st.text(alphabet="ab4B-._/~ \n", max_size=12)
    | st.from_regex(r"[a4_.-]{1,3}/[a4_.-]{1,3}(\.git)?", fullmatch=True)
    | st.text(max_size=12)
    | st.builds(lambda owner, name: "a" * owner + "/" + "b" * name, st.integers(90, 99), st.integers(90, 99))
)
def test_ids_are_what_the_hub_allows(model: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(model)
        is_id = "/" in model
    except HFValidationError:
        is_id = False
    expected = model if is_id else None
    assert canonical_id(model) == ALIASES.get(model, expected)


def test_aliases_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        ALIASES["4c"] = OTHER  # type: ignore[index]


# --- the cache


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
from voxtral.loading.hub import _cache_folder
for environment in json.loads(sys.argv[1]):
    os.environ.update(environment)
    importlib.reload(constants)
    assert str(_cache_folder()) == constants.HF_HUB_CACHE, (environment, _cache_folder(), constants.HF_HUB_CACHE)
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


# --- the plan


def test_plan_names_commit_sizes_hashes_and_licence(hub: LoopbackHub) -> None:
    hub.add(OTHER, FILES)
    plan = plan_download(OTHER)
    assert (plan.model_id, plan.revision, plan.licence) == (OTHER, COMMIT, "CC BY-NC 4.0")
    assert {file.name for file in plan.files} == NEEDED
    assert plan.total_bytes == sum(len(FILES[name]) for name in NEEDED)
    assert plan.cached_bytes == 0
    assert all(file.size_bytes == len(FILES[file.name]) for file in plan.files)
    assert plan.files[-1] == PlannedFile("consolidated.safetensors", 50_000, sha256(FILES["consolidated.safetensors"]))
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


# --- downloads


def test_download_fetches_what_is_needed_and_nothing_else(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.add(OTHER, FILES)
    folder = download(OTHER)
    assert folder == tmp_path / "hf" / "hub" / "models--someone--finetune" / "snapshots" / COMMIT
    assert contents(folder) == {name: FILES[name] for name in NEEDED}
    assert find_cached(OTHER) == folder
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".incomplete")]
    # A compressed answer could not be continued after a break.
    assert {seen.accept_encoding for seen in hub.seen[1:]} == {"identity"}


def test_size_and_licence_are_announced_before_any_file_is_asked_for(hub: LoopbackHub) -> None:
    hub.add(CANONICAL_ID, FILES, commit=PINNED_REVISION)
    told: list[tuple[str, int]] = []
    download("4b", announce=lambda message: told.append((message, len(hub.seen))))
    expected = (
        "mistralai/Voxtral-4B-TTS-2603 at b81be46c: 83.0 kB to download, weights licensed CC BY-NC 4.0 "
        "(no commercial use)"
    )
    assert told == [(expected, 1)]


@pytest.mark.parametrize(
    ("licence", "terms"),
    [("apache-2.0", "weights licensed apache-2.0"), (None, "weights under a licence that the hub does not name")],
)
def test_announcement_of_other_licences(hub: LoopbackHub, licence: str | None, terms: str) -> None:
    hub.add(OTHER, FILES, licence=licence)
    told: list[str] = []
    download(OTHER, announce=told.append)
    assert told == [f"{OTHER} at cccccccc: 83.0 kB to download, {terms}"]


def test_second_download_fetches_nothing(hub: LoopbackHub) -> None:
    hub.add(OTHER, FILES)
    folder = download(OTHER)
    hub.seen.clear()
    told: list[str] = []
    assert download(OTHER, announce=told.append) == folder
    assert len(hub.seen) == 1
    assert told == [f"{OTHER} at cccccccc: nothing to download, weights licensed CC BY-NC 4.0 (no commercial use)"]


@pytest.mark.parametrize("name", [CANONICAL_ID, ALIAS, "4b", "4B"])
def test_aliases_download_the_canonical_model_at_the_pinned_revision(hub: LoopbackHub, name: str) -> None:
    repo = hub.add(CANONICAL_ID, FILES, commit=PINNED_REVISION, branch=None)
    repo.revisions["main"] = "d" * 40
    repo.files["d" * 40] = fake_checkpoint(seed=1)
    folder = download(name)
    assert folder.name == PINNED_REVISION
    assert contents(folder) == {name: FILES[name] for name in NEEDED}
    assert download(name, revision="main").name == "d" * 40
    assert find_cached(name) == folder


def test_a_new_commit_fetches_only_what_changed(hub: LoopbackHub) -> None:
    repo = hub.add(OTHER, FILES)
    old = download(OTHER)
    repo.revisions["main"] = "d" * 40
    repo.files["d" * 40] = FILES | {"params.json": b"{}"}
    hub.seen.clear()
    new = download(OTHER)
    assert new.name == "d" * 40
    assert find_cached(OTHER) == new
    assert [seen.path.rpartition("/")[2] for seen in hub.seen] == ["main", "params.json"]
    assert contents(old)["params.json"] == FILES["params.json"]


def test_huggingface_hub_finds_and_reads_what_was_downloaded(hub: LoopbackHub, tmp_path: Path) -> None:
    from huggingface_hub import scan_cache_dir, snapshot_download

    hub.add(OTHER, FILES)
    folder = download(OTHER)
    cache = tmp_path / "hf" / "hub"
    assert snapshot_download(OTHER, cache_dir=cache, local_files_only=True) == str(folder)
    report = scan_cache_dir(cache)
    assert not report.warnings
    (repo,) = report.repos
    assert (repo.repo_id, repo.size_on_disk) == (OTHER, sum(len(FILES[name]) for name in NEEDED))
    assert {name: revision.commit_hash for name, revision in repo.refs.items()} == {"main": COMMIT}


def test_what_huggingface_hub_downloaded_is_used_as_it_is(hub: LoopbackHub, tmp_path: Path) -> None:
    from huggingface_hub import snapshot_download

    hub.add(OTHER, FILES)
    snapshot_download(OTHER, cache_dir=tmp_path / "hf" / "hub", endpoint=hub.endpoint)
    folder = find_cached(OTHER)
    assert folder is not None
    assert contents(folder) == FILES
    hub.seen.clear()
    assert download(OTHER) == folder
    assert len(hub.seen) == 1


def test_voices_that_are_missing_from_a_complete_looking_snapshot_are_fetched(hub: LoopbackHub) -> None:
    hub.add(OTHER, FILES)
    folder = download(OTHER)
    voice = folder / "voice_embedding" / "casual_male.pt"
    voice.resolve().unlink()
    voice.unlink()
    assert find_cached(OTHER) == folder
    hub.seen.clear()
    assert contents(download(OTHER)) == {name: FILES[name] for name in NEEDED}
    assert len(hub.seen) == 2


def test_file_systems_without_links_get_copies(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: object) -> None:
        raise OSError(1, "A required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    hub.add(OTHER, FILES | {"voice_embedding/twin.pt": FILES["voice_embedding/casual_male.pt"]})
    folder = download(OTHER)
    assert not any(path.is_symlink() for path in folder.rglob("*"))
    assert contents(folder) == {name: FILES[name] for name in NEEDED} | {
        "voice_embedding/twin.pt": FILES["voice_embedding/casual_male.pt"]
    }


def test_local_dir_gets_plain_files_and_leaves_the_cache_alone(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.add(OTHER, FILES)
    target = tmp_path / "models" / "mine"
    assert download(OTHER, local_dir=target) == target
    assert contents(target) == {name: FILES[name] for name in NEEDED}
    assert not any(path.is_symlink() for path in target.rglob("*"))
    assert not (tmp_path / "hf").exists()
    assert resolve_model(target, allow_download=False) == target


def test_local_dir_is_checked_by_content(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.add(OTHER, FILES)
    target = download(OTHER, local_dir=tmp_path / "mine")
    (target / "tekken.json").write_bytes(bytes(len(FILES["tekken.json"])))
    (target / "params.json").write_bytes(FILES["params.json"][:-1])
    (target / "notes.txt").write_bytes(b"mine")
    hub.seen.clear()
    download(OTHER, local_dir=target)
    assert contents(target) == {name: FILES[name] for name in NEEDED} | {"notes.txt": b"mine"}
    assert len(hub.requests_for("tekken.json")) == len(hub.requests_for("params.json")) == 1
    assert not hub.requests_for("consolidated.safetensors")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stderr", "progress", "shown"),
    [(Terminal(), True, True), (Terminal(), False, False), (io.StringIO(), True, False)],
)
def test_progress_is_shown_on_a_terminal_only(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, stderr: io.StringIO, progress: bool, shown: bool
) -> None:
    hub.add(OTHER, FILES)
    monkeypatch.setattr(sys, "stderr", stderr)
    download(OTHER, progress=progress)
    assert ("100%" in stderr.getvalue()) is shown
    assert ("83.0k/83.0k" in stderr.getvalue()) is shown


# --- tokens


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
    source = hub_module._open_source("4b", None, None)
    assert (source.repo, source.revision) == (CANONICAL_ID, PINNED_REVISION)
    assert (source.endpoint, source.host) == (None, "huggingface.co")


def test_token_is_in_no_repr(hub: LoopbackHub) -> None:
    source = hub_module._open_source(OTHER, None, "hf_secret")
    assert "hf_secret" not in repr(source)


# --- resolving


def test_an_existing_folder_is_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "owner" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for model in (tmp_path, str(tmp_path), "owner/name", "./owner/name/", "."):
        assert resolve_model(model, allow_download=False) == Path(model)
    assert resolve_model("~/owner", allow_download=False) == tmp_path / "owner"
    with pytest.raises(OptionError, match="'v1' was given with the folder owner/name"):
        resolve_model("owner/name", revision="v1", allow_download=True)


@pytest.mark.parametrize(
    "model", ["./x", "/nowhere/x", "x/", "../x", "~/x", "~nobody-of-this-name/x", "a\\b", Path("a/b")]
)
def test_a_path_that_does_not_exist_is_named(cache: Path, model: str | Path) -> None:
    with pytest.raises(ModelNotFoundError, match="does not exist") as caught:
        resolve_model(model, allow_download=True)
    assert f"the folder {model} " in str(caught.value)


def test_a_file_is_not_a_model(tmp_path: Path) -> None:
    (tmp_path / "consolidated.safetensors").write_bytes(b"")
    with pytest.raises(ModelNotFoundError, match="is not a folder"):
        resolve_model(tmp_path / "consolidated.safetensors", allow_download=True)


@pytest.mark.parametrize("model", ["", "8b", "voxtral", "a b/c", "a/b/c", "x" * 5000, "\0"])
def test_a_name_that_is_nothing_lists_what_is_possible(cache: Path, model: str) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        resolve_model(model, allow_download=True)
    assert repr(model) in str(caught.value)
    for possible in ("folder", CANONICAL_ID, "`4b`"):
        assert possible in str(caught.value)


@pytest.mark.parametrize("model", ["4b", ALIAS, CANONICAL_ID])
def test_a_cached_model_is_resolved_without_network(cache: Path, model: str) -> None:
    snapshot = put_in_cache(cache, CANONICAL_ID, PINNED_REVISION)
    assert resolve_model(model, allow_download=False) == snapshot
    assert resolve_model(model, allow_download=True) == snapshot


def test_a_missing_model_says_where_it_was_looked_for_and_how_to_get_it(cache: Path) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        resolve_model(ALIAS, revision="v1", allow_download=False)
    message = str(caught.value)
    assert message.startswith(f"{ALIAS} at revision v1 is not on this machine")
    assert str(cache / "models--mistralai--Voxtral-4B-TTS-2603") in message
    assert str(cache / "models--mistralai--Voxtral-TTS") in message
    assert f"`voxtral download {ALIAS} --revision v1`" in message


def test_no_other_model_stands_in_for_the_one_asked_for(cache: Path) -> None:
    put_in_cache(cache, CANONICAL_ID, PINNED_REVISION, ref="main")
    with pytest.raises(ModelNotFoundError, match=OTHER):
        resolve_model(OTHER, allow_download=False)


def test_a_missing_model_is_downloaded_where_that_is_allowed(hub: LoopbackHub) -> None:
    hub.add(CANONICAL_ID, FILES, commit=PINNED_REVISION)
    told: list[str] = []
    with pytest.raises(ModelNotFoundError):
        resolve_model("4b", allow_download=False)
    assert not hub.seen
    folder = resolve_model("4b", allow_download=True, announce=told.append)
    assert contents(folder) == {name: FILES[name] for name in NEEDED}
    assert len(told) == 1
    hub.seen.clear()
    assert resolve_model("4b", allow_download=False) == folder
    assert not hub.seen


def test_unknown_names_are_refused_before_the_network(hub: LoopbackHub) -> None:
    for call in (plan_download, download):
        with pytest.raises(ModelNotFoundError, match="'a b' names no model"):
            call("a b")
        with pytest.raises(DownloadError, match="cannot exist"):
            call(OTHER, revision="../x")
    assert not hub.seen


def test_a_cached_revision_that_is_not_the_pinned_one_is_named(cache: Path) -> None:
    other = put_in_cache(cache, CANONICAL_ID, "a" * 40, ref="main")
    told: list[str] = []
    assert resolve_model("4b", allow_download=False, announce=told.append) == other
    assert len(told) == 1
    assert "aaaaaaaa" in told[0]
    assert PINNED_REVISION[:8] in told[0]
    pinned = put_in_cache(cache, CANONICAL_ID, PINNED_REVISION)
    told.clear()
    assert resolve_model("4b", allow_download=False, announce=told.append) == pinned
    assert told == []
