#!/usr/bin/env bash
# Run the suite with other libraries and Pythons than CI's: see usage.
set -euo pipefail

usage() {
    cat <<'HELP'
usage: deploy/pythons.sh [--folder FOLDER] [NAME | TEST]...

Runs the suite, without its slow and browser tests, once in each environment, and prints of each: Python, the versions
of what the package depends on, counts, seconds, and the tests that failed. Environments, by NAME (default: all):

  lowest   this machine's Python, the lowest versions that pyproject.toml allows (uv's lowest-direct)
  newest   this machine's Python, the newest of everything
  trixie   Debian 13 with its Python (3.13) in a chroot, the newest of everything
  sid      Debian unstable with its Python, the newest of everything

A TEST is a file or folder under tests; without any, all are run. Environments, and a log of each, lie in FOLDER
(default: a new one under /tmp, removed at the end; one that is kept is used again); 28 GB with CUDA builds of torch.

Chroots need root, and debootstrap with its keyring; mirror and name server are this machine's (apt, resolv.conf), the
package index is pip's (`pip config`). uv is taken from that index. UV_* variables go to uv: UV_TORCH_BACKEND=cpu takes
torch's CPU builds from PyTorch's own index.

Variables:
  PYTHON   default: python3
HELP
}

PYTHON=${PYTHON:-python3}
TESTS_LEFT_OUT=(-m "not slow" --ignore tests/browser)

main() {
    local names=() tests=()
    folder=
    while [ $# -gt 0 ]; do
        case "$1" in
        --help) usage && return ;;
        --folder) folder=$2 && shift ;;
        lowest | newest | trixie | sid) names+=("$1") ;;
        *) tests+=("$1") ;;
        esac
        shift
    done
    [ ${#names[@]} -gt 0 ] || names=(lowest newest trixie sid)
    cd "$(dirname "$0")/.."
    if [ -z "$folder" ]; then
        folder=$(mktemp --directory)
        trap 'rm -rf "$folder"' EXIT
    fi
    mkdir -p "$folder"
    folder=$(realpath "$folder")
    prepare
    local name failed=0
    for name in "${names[@]}"; do
        run_in "$name" "${tests[@]}" || failed=1
    done
    return $failed
}

prepare() {
    # A copy of the tracked files as they are now, which a chroot sees, too.
    rm -rf "$folder/source"
    mkdir "$folder/source"
    git ls-files -z | xargs -0 cp --parents --target-directory "$folder/source"
    if ! [ -x "$folder/uv" ]; then
        "$PYTHON" -m venv "$folder/tools"
        "$folder/tools/bin/python" -m pip --quiet install uv
        cp "$folder/tools/bin/uv" "$folder/uv"
    fi
    local index certificates
    index=$("$folder/tools/bin/python" -m pip config get global.index-url 2>/dev/null || true)
    certificates=$("$folder/tools/bin/python" -m pip config get global.cert 2>/dev/null || true)
    certificates=${certificates:-/etc/ssl/certs/ca-certificates.crt}
    cp "$certificates" "$folder/certificates.crt"
    # One cache in one folder, so that environments share what they install by links.
    settings=(UV_CACHE_DIR="$folder/cache" SSL_CERT_FILE="$folder/certificates.crt" UV_NO_PROGRESS=1)
    if [ -n "$index" ]; then
        settings+=(UV_DEFAULT_INDEX="$index")
    fi
}

# Runs one environment: NAME [TEST]...
run_in() {
    local name=$1 log="$folder/$1.log" resolution=highest enter=() python
    shift
    python=$(command -v "$PYTHON")
    : >"$log"
    rm -f "$folder/$name.xml" "$folder/$name.versions"
    if [ "$name" = lowest ]; then
        resolution=lowest-direct
    elif [ "$name" != newest ]; then
        if ! make_chroot "$name" >>"$log" 2>&1; then
            echo "$name: no chroot, see $log" >&2
            return 1
        fi
        # In a mount namespace of its own, so that nothing stays mounted whatever happens.
        enter=(unshare --mount --pid --fork bash -euc 'mount --bind "$1" "$0$1"; mount -t proc proc "$0/proc"; mount -t tmpfs tmpfs "$0/dev/shm"
            exec chroot "$0" "${@:2}"' "$folder/$name" "$folder")
        python=/usr/bin/python3
        mkdir -p "$folder/$name$folder"
    fi
    "${enter[@]}" env "${settings[@]}" bash -c "$INSIDE" "$name" "$folder" "$python" "$resolution" \
        "${TESTS_LEFT_OUT[@]}" "$@" >>"$log" 2>&1 || true
    summarise "$name" "$resolution"
}

# What happens in an environment: installation, then the suite. Both may fail; what was reached is summarised.
# shellcheck disable=SC2016 # expanded there, not here
INSIDE='
set -eu
name=$0 folder=$1 python=$2 resolution=$3
shift 3
export VIRTUAL_ENV=$folder/venv-$name HOME=$folder/home PYTHONDONTWRITEBYTECODE=
mkdir -p "$HOME"
cd "$folder/source"
"$folder/uv" venv --quiet --allow-existing --seed --python "$python" "$VIRTUAL_ENV"
PATH=$VIRTUAL_ENV/bin:$PATH
# What the package itself names is resolved alone: a tool of the tests may want more than it.
"$folder/uv" pip compile --quiet --resolution "$resolution" --annotation-style line pyproject.toml |
    grep "(pyproject.toml)" >"$folder/$name.runtime"
"$folder/uv" pip install --resolution "$resolution" --upgrade --override "$folder/$name.runtime" --editable ".[dev]"
"$folder/uv" pip freeze >"$folder/$name.versions"
voxtral --help
voxtral speak --help
voxtral doctor
python -m pytest -n 1 -p no:cacheprovider --junitxml "$folder/$name.xml" "$@"
'

# As a whole a condition of its caller, so each step says for itself that it must not fail.
make_chroot() {
    local suite=$1 mirror
    if [ -e "$folder/$suite/usr/bin/python3" ]; then
        return
    fi
    # The mirror of the release that this machine runs has the others, too.
    mirror=$(. /etc/os-release &&
        apt-get indextargets --format '$(RELEASE) $(REPO_URI)' | awk -v release="$VERSION_CODENAME" '$1 == release { print $2; exit }')
    debootstrap --variant=minbase \
        --include=python3,python3-venv,python3-dev,gcc,g++,libc6-dev,make,git,curl,ca-certificates \
        "$suite" "$folder/$suite" "$mirror" &&
        cp /etc/resolv.conf /etc/hosts "$folder/$suite/etc/"
}

summarise() {
    "$folder/tools/bin/python" - "$1" "$2" "$folder" <<'PYTHON'
import pathlib, re, sys, tomllib
import xml.etree.ElementTree as tree

name, resolution, folder = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
versions, results = folder / f"{name}.versions", folder / f"{name}.xml"
if not versions.exists():
    sys.exit(f"{name}: not installed, see {folder / name}.log")
project = tomllib.loads((folder / "source" / "pyproject.toml").read_text())["project"]
wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
names = {re.match(r"[\w.-]+", line)[0].lower().replace("_", "-") for line in wanted}
found = dict(re.findall(r"^([\w.-]+)==(\S+)$", versions.read_text(), re.M))
shown = [f"{key} {value}" for key, value in sorted(found.items()) if key.lower().replace("_", "-") in names]
[python] = (folder / f"venv-{name}" / "pyvenv.cfg").read_text().split("version_info = ")[1].splitlines()[:1]
print(f"{name}: Python {python}, {resolution}: {', '.join(shown)}")
if not results.exists():
    sys.exit(f"  the suite did not run, see {folder / name}.log")
suite = tree.parse(results).find("testsuite")
count = {key: int(suite.get(key)) for key in ("tests", "failures", "errors", "skipped")}
failed = count["failures"] + count["errors"]
passed = count["tests"] - failed - count["skipped"]
print(f"  {passed} passed, {failed} failed, {count['skipped']} skipped in {float(suite.get('time')):.0f} s")
bad = [case for case in suite.iter("testcase") if case.find("failure") is not None or case.find("error") is not None]
for case in bad:
    print(f"  failed: {case.get('classname')}::{case.get('name')}")
sys.exit(bool(bad) or not passed)
PYTHON
}

main "$@"
