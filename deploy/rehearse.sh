#!/usr/bin/env bash
# Do by hand what the Dockerfile does, where there is no Docker: see usage.
set -euo pipefail

usage() {
    cat <<'HELP'
usage: deploy/rehearse.sh [FOLDER]

Builds the wheel, installs it with the constraints into a new environment in FOLDER (default: a new one under /tmp,
removed at the end), serves with it on a free port of 127.0.0.1 as an unprivileged user, runs the HEALTHCHECK of the
Dockerfile, has one sentence spoken through curl, sends SIGTERM and wants exit code 0.

Variables:
  TORCH_INDEX   a package index with a CPU-only torch, as the build argument of the Dockerfile; else the usual index
  PYTHON        default: python3; a user without rights must be able to run it, so it cannot be in the home of root
HELP
}

# The user of the image; nobody by that number need exist here.
USER_ID=10001
PYTHON=${PYTHON:-python3}
PATIENCE_S=120

main() {
    if [ "${1:-}" = --help ]; then
        usage
        return
    fi
    cd "$(dirname "$0")/.."
    folder=${1:-$(mktemp --directory)}
    server=
    trap 'clean_up "$#"' EXIT
    mkdir -p "$folder/cache" "$folder/data"
    install_package
    chmod 755 "$folder"
    prepare_user
    port=$("$PYTHON" -c "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); print(s.getsockname()[1])")
    start_server
    wait_until_healthy
    speak
    stop_server
    say "all is well"
}

say() {
    echo "rehearse: $*"
}

clean_up() {
    if [ -n "$server" ]; then
        kill -KILL "$server" 2>/dev/null || true
    fi
    if [ "$1" = 0 ]; then
        rm -rf "$folder"
    fi
}

install_package() {
    say "installing into $folder"
    local pip="$folder/venv/bin/python -m pip --disable-pip-version-check"
    "$PYTHON" -m venv "$folder/venv"
    # Not quiet: with CUDA it is gigabytes.
    if [ -n "${TORCH_INDEX:-}" ]; then
        $pip install --constraint constraints.txt --no-deps torch --index-url "$TORCH_INDEX"
    else
        $pip install --constraint constraints.txt torch
    fi
    "$PYTHON" -m venv "$folder/build"
    "$folder/build/bin/python" -m pip --disable-pip-version-check --quiet install --constraint constraints.txt hatchling
    "$folder/build/bin/python" -m pip --quiet wheel --no-deps --no-build-isolation --wheel-dir "$folder/wheel" .
    $pip install --quiet --constraint constraints.txt "$folder"/wheel/*.whl
    $pip check
}

# A command after these words runs as a user without rights, in an environment with nothing but what the image sets.
prepare_user() {
    as_user=()
    if [ "$(id --user)" = 0 ]; then
        chown -R "$USER_ID:$USER_ID" "$folder/cache" "$folder/data"
        as_user+=(setpriv --reuid "$USER_ID" --regid "$USER_ID" --clear-groups --no-new-privs --bounding-set=-all)
    fi
    as_user+=(
        env --ignore-environment --chdir=/
        PATH="$folder/venv/bin:/usr/bin:/bin" HOME="$folder/cache" HF_HOME="$folder/cache/huggingface"
        TRITON_CACHE_DIR="$folder/cache/triton" VOXTRAL_DATA_DIR="$folder/data" VOXTRAL_INSECURE=1
    )
}

start_server() {
    # Not on all addresses, as in a container: this machine's network is not ours to open.
    say "serving on 127.0.0.1:$port"
    "${as_user[@]}" voxtral serve --host 127.0.0.1 --port "$port" &
    server=$!
}

wait_until_healthy() {
    local words=()
    mapfile -d '' words < <("$PYTHON" -c '
import json, pathlib, re
command = re.search(r"^HEALTHCHECK.*?CMD (\[.*?\])$", pathlib.Path("Dockerfile").read_text(), re.M | re.S)[1]
print(*json.loads(command), sep="\0", end="\0")')
    words=("${words[@]//8000/$port}")
    local deadline=$((SECONDS + PATIENCE_S))
    until "${as_user[@]}" "${words[@]}" 2>/dev/null; do
        still_serving "$deadline"
        sleep 0.2
    done
    say "the health check passes"
    until curl --silent --fail --output /dev/null "http://127.0.0.1:$port/readyz"; do
        still_serving "$deadline"
        sleep 0.2
    done
    say "a request would be spoken"
}

still_serving() {
    if ! kill -0 "$server" 2>/dev/null || [ $SECONDS -ge "$1" ]; then
        say "failed: the server has ended, or is not ready after $PATIENCE_S s"
        exit 1
    fi
}

speak() {
    local file="$folder/hello.wav"
    curl --silent --show-error --fail --request POST --output "$file" \
        "http://127.0.0.1:$port/synthesize?text=Hello%20world.&language=en"
    "$folder/venv/bin/python" -c '
import soundfile, sys
samples, rate = soundfile.read(sys.argv[1])
assert abs(samples).max() > 0.01, "silence"
print(f"rehearse: {len(samples) / rate:.2f} s of speech at {rate} Hz")' "$file"
}

stop_server() {
    local code=0
    kill -TERM "$server"
    wait "$server" || code=$?
    server=
    say "exit code $code after SIGTERM"
    [ "$code" = 0 ]
}

main "$@"
