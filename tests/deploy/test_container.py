"""Image, compose file and unit, as far as they can be looked at without Docker: they fit the package and each other.

`deploy/rehearse.sh` goes through the steps of the Dockerfile; it needs a package index, so it is run by hand.
"""

from __future__ import annotations

import fnmatch
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from serving import serving
from voxtral.cli.download import download
from voxtral.cli.serve import serve
from voxtral.server.options import PREFIX, ServerOptions
from voxtral.tts import VoxtralTTS

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "Dockerfile"
COMPOSE = ROOT / "compose.yaml"
UNIT = ROOT / "deploy" / "voxtral.service"
EXAMPLE = ROOT / "deploy" / "voxtral.env.example"
REHEARSAL = ROOT / "deploy" / "rehearse.sh"


def read_instructions() -> list[tuple[str, str]]:
    """Read the Dockerfile: (name, arguments) of each instruction, comments and continuations gone."""
    lines = [line for line in DOCKERFILE.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    text = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    pairs = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    return [(name, arguments) for name, arguments in pairs]


def instructions(name: str) -> list[str]:
    return [arguments for found, arguments in read_instructions() if found == name]


def is_ignored(path: str) -> bool:
    """Tell whether .dockerignore keeps a path out: the last pattern that fits it or a folder above it decides."""
    ignored = False
    parts = path.split("/")
    above = ["/".join(parts[:number]) for number in range(1, len(parts) + 1)]
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!")
        names = [name.rpartition("/")[2] for name in above] if pattern.startswith("**/") else above
        if any(fnmatch.fnmatchcase(name, pattern.removeprefix("**/")) for name in names):
            ignored = not line.startswith("!")
    return ignored


def copied_paths() -> list[str]:
    return [source for arguments in instructions("COPY") for source in arguments.split()[:-1]]


def health_check() -> list[str]:
    return json.loads(instructions("HEALTHCHECK")[0].partition("CMD ")[2])


def command_line(function: Callable[..., None]) -> Any:
    app = typer.Typer()
    app.command()(function)
    return typer.main.get_command(app)


def serve_options(words: list[str]) -> dict[str, Any]:
    """Read the words after `voxtral serve` as the command itself does."""
    return command_line(serve).make_context("serve", words).params


def unit_settings(name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", UNIT.read_text(encoding="utf-8"), re.MULTILINE)


def composed() -> dict[str, Any]:
    return yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))


def test_what_the_image_copies_is_there_and_reaches_the_build() -> None:
    assert "src" in copied_paths()
    for path in copied_paths():
        assert (ROOT / path).exists(), path
        assert not is_ignored(path), path
    for path in (ROOT / "src").rglob("*"):
        name = path.relative_to(ROOT).as_posix()
        assert is_ignored(name) == ("__pycache__" in name), name


def test_the_wheel_can_be_built_from_what_is_copied() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for named in re.findall(r'"(README\.md|LICENSE|NOTICE)"', project):
        assert named in copied_paths()


@pytest.mark.parametrize("path", [".git/config", ".venv/bin/python", ".env", "keys.txt", "tests/serving.py", "build/x"])
def test_nothing_else_reaches_the_build(path: str) -> None:
    assert is_ignored(path)


def test_the_image_holds_no_weights_unless_it_is_told_to() -> None:
    assert "MODEL=" in instructions("ARG")
    [download] = [command for command in instructions("RUN") if "voxtral download" in command]
    assert download.startswith('if [ -n "$MODEL" ]; then')


def test_the_image_runs_without_rights() -> None:
    names = [name for name, _ in read_instructions()]
    assert instructions("USER") == ["10001:10001"]
    assert set(names[names.index("USER") + 1 :]) == {"CMD"}


def test_the_image_serves_on_the_port_that_it_exposes() -> None:
    command = json.loads(instructions("CMD")[0])
    assert command[:2] == ["voxtral", "serve"]
    options = serve_options(command[2:])
    assert options["host"] == "0.0.0.0"
    assert instructions("EXPOSE") == [str(options["port"])]


def test_what_the_image_writes_goes_to_its_volumes() -> None:
    volumes = json.loads(instructions("VOLUME")[0])
    written = re.findall(r"(?:HF_HOME|TRITON_CACHE_DIR|VOXTRAL_DATA_DIR)=(\S+)", " ".join(instructions("ENV")))
    assert len(written) == 3
    assert all("/" + path.split("/")[1] in volumes for path in written)


def run_health_check(port: int) -> int:
    name, *words = [word.replace("8000", str(port)) for word in health_check()]
    assert name == "python"
    proxy = {"http_proxy": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    return subprocess.run([sys.executable, *words], env=proxy, capture_output=True, timeout=30, check=False).returncode


def test_the_health_check_tells_a_server_from_none(tts: VoxtralTTS) -> None:
    with serving(tts, api_key="a key that the check has not got") as running:
        assert run_health_check(running.port) == 0
    assert run_health_check(running.port) != 0


@pytest.mark.parametrize("path", [DOCKERFILE, COMPOSE, UNIT, EXAMPLE, REHEARSAL], ids=lambda path: path.name)
def test_every_variable_is_one_of_the_server(path: Path) -> None:
    known = {PREFIX + option.name.upper() for option in fields(ServerOptions)}
    used = set(re.findall(r"\bVOXTRAL_\w+", path.read_text(encoding="utf-8")))
    assert used
    assert used <= known


@pytest.mark.parametrize("function", [serve, download])
def test_every_option_of_a_command_is_known(function: Callable[..., None]) -> None:
    known = {name for parameter in command_line(function).params for name in parameter.opts}
    used = set()
    for path in (DOCKERFILE, COMPOSE, UNIT, EXAMPLE, REHEARSAL):
        for rest in re.findall(rf'voxtral"?,? "?{function.__name__}\b(.*)', path.read_text(encoding="utf-8")):
            used |= set(re.findall(r"(?<![\w-])--[\w-]+", rest))
    assert used
    assert used <= known


@pytest.mark.parametrize("path", [DOCKERFILE, COMPOSE, UNIT, EXAMPLE, REHEARSAL], ids=lambda path: path.name)
def test_no_host_of_a_package_index_is_named(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert set(re.findall(r"https?://[^/:\"' ]+", text)) <= {"http://127.0.0.1"}


def test_compose_publishes_to_this_machine_alone_and_wants_a_key() -> None:
    port = instructions("EXPOSE")[0]
    services = composed()["services"]
    assert set(services) == {"cpu", "gpu"}
    for name, service in services.items():
        assert service["profiles"] == [name]
        assert service["ports"] == [f"${{PUBLISH_ON:-127.0.0.1}}:{port}:{port}"]
        assert service["environment"]["VOXTRAL_API_KEY"].startswith("${VOXTRAL_API_KEY:?")
        assert service["environment"]["VOXTRAL_INSECURE"] == "0"
        assert "network_mode" not in service


def test_neighbours_reach_it_by_the_names_that_docker_gives_it(tts: VoxtralTTS) -> None:
    """By the alias in compose, the names of services and containers, and the host's name in containers."""
    names = {"host.docker.internal", "gateway.docker.internal", "host.containers.internal"}
    for name, service in composed()["services"].items():
        [alias] = service["networks"]["default"]["aliases"]
        assert alias == "voxtral"
        names |= {name, alias, f"voxtral-tts-{name}-1", f"voxtral-tts_{name}_1"}
    port = instructions("EXPOSE")[0]
    with serving(tts, insecure=True) as running, running.client() as client:
        answers = {name: client.get("/v1/models", headers={"host": f"{name}:{port}"}).status_code for name in names}
        stranger = client.get("/v1/models", headers={"host": f"voxtral.example:{port}"})
    assert answers == dict.fromkeys(names, 200)
    assert stranger.status_code == 421


def test_compose_takes_rights_away() -> None:
    for service in composed()["services"].values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert "privileged" not in service
        assert "cap_add" not in service


def test_compose_and_image_agree() -> None:
    arguments = {argument.partition("=")[0] for argument in instructions("ARG")}
    volumes = json.loads(instructions("VOLUME")[0])
    for service in composed()["services"].values():
        assert set(service["build"]["args"]) <= arguments
        assert [volume.partition(":")[2] for volume in service["volumes"]] == volumes
        assert {volume.partition(":")[0] for volume in service["volumes"]} == set(composed()["volumes"])


def test_supervisors_wait_longer_than_the_drain() -> None:
    drain_s = ServerOptions().drain_s
    assert float(unit_settings("TimeoutStopSec")[0]) > drain_s
    for service in composed()["services"].values():
        assert float(service["stop_grace_period"].removesuffix("s")) > drain_s


def test_the_unit_starts_a_command_that_exists_and_is_closed() -> None:
    [start] = unit_settings("ExecStart")
    program, command, *words = shlex.split(start)
    assert (Path(program).name, command) == ("voxtral", "serve")
    options = serve_options(words)
    assert (options["host"], options["insecure"]) == (None, None)
    assert unit_settings("DynamicUser") == ["yes"]
    assert unit_settings("Restart") == ["on-failure"]


def test_the_example_is_harmless_and_every_line_of_it_can_be_used() -> None:
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    assert all(not line or line.startswith("#") for line in lines)
    settings = dict(line[1:].split("=", 1) for line in lines if re.match(r"#[A-Z_]+=", line))
    options = ServerOptions.from_environment(settings)
    assert options.host == "0.0.0.0"
    assert options.unload_after_s == 600
    for name, default in (("port", 8000), ("drain_s", 30)):
        assert getattr(options, name) == default, "the example shows another value than the default"


def test_the_rehearsal_takes_the_health_check_and_the_user_of_the_image() -> None:
    text = REHEARSAL.read_text(encoding="utf-8")
    subprocess.run(["bash", "-n", str(REHEARSAL)], check=True, timeout=30)
    [user] = instructions("USER")
    assert f"USER_ID={user.partition(':')[0]}" in text
    [found] = re.findall(r're\.search\(r"(.*?)", pathlib', text)
    found_words = re.search(found, DOCKERFILE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert found_words is not None
    assert json.loads(found_words[1]) == health_check()
