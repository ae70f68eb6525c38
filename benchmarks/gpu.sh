#!/usr/bin/env bash
# All measurements that want a GPU, in order of worth: short steps, each safe to cut short, each with a JSON of its own.
#
#   benchmarks/gpu.sh first                 the first ten minutes: what works, and the figures that matter most
#   benchmarks/gpu.sh                       all steps; no GPU has run it yet
#   benchmarks/gpu.sh latency throughput    some of them, in the order given
#   benchmarks/gpu.sh --tiny                every step on the CPU with a tiny model, to see that it runs
#
# Needs python with torch, numpy and safetensors; pytest for `kernel-tests`, and the package's own needs too for `tests`,
# which are skipped without them. Weights are random in the published 4B shape, made on the device; lengths are forced.
#
#   OUT=FOLDER       where the results go; default benchmarks/results, or a folder of its own with --tiny
#   PYTHON=PROGRAM   default python3
#   STEP_SECONDS=N   a step is ended after that long; what it had measured stays; default 580, and for those of `first`
#                    a limit of their own, 580 together
set -uo pipefail
cd "$(dirname "$0")/.."

STEPS=(paths tests vectors latency throughput quantized memory kernels realtime profile official)
FIRST=(paths kernel-tests quick-latency quick-throughput vectors)
declare -A FIRST_SECONDS=([paths]=250 [kernel-tests]=90 [quick-latency]=100 [quick-throughput]=100 [vectors]=40)
TODAY=$(date -u +%F)
PYTHON=${PYTHON:-python3}
GIVEN_SECONDS=${STEP_SECONDS:-}
STEP_SECONDS=${STEP_SECONDS:-580}
export PYTHONPATH="src${PYTHONPATH:+:$PYTHONPATH}"
# What the first step compiles, the processes of the others find.
export TRITON_CACHE_DIR=${TRITON_CACHE_DIR:-$PWD/build/triton-cache}

MODEL=4b-random DEVICE=cuda PRECISION=bfloat16 SHORT=() IS_TINY=false
if [[ ${1:-} == --tiny ]]; then
    shift
    IS_TINY=true MODEL=tiny-random DEVICE=cpu PRECISION=float32 SHORT=(--short)
    OUT=${OUT:-benchmarks/results/gpu-sh-tiny-cpu-$TODAY}
fi
OUT=${OUT:-benchmarks/results}
mkdir -p "$OUT"
IS_FIRST=false
if [[ ${1:-} == first && $# == 1 ]]; then
    IS_FIRST=true STEPS=("${FIRST[@]}")
elif (($# > 0)); then
    STEPS=("$@")
fi

# bench NAME SCRIPT OPTION...: one benchmark, its report in gpu-NAME-DATE.json
bench() {
    local name=$1 script=$2
    shift 2
    timeout "$STEP_SECONDS" "$PYTHON" -m "benchmarks.$script" --model "$MODEL" --device "$DEVICE" "${SHORT[@]}" \
        --json "$OUT/gpu-$name-$TODAY.json" "$@" >/dev/null
}

# Not a report of cells, but lines as they come: it must say something whatever breaks.
step_paths() {
    timeout "$STEP_SECONDS" "$PYTHON" -m benchmarks.first --model "$MODEL" --device "$DEVICE" "${SHORT[@]}" \
        --seconds "$((STEP_SECONDS - 20))" | tee "$OUT/gpu-first-$TODAY.jsonl" | tail -n 1
    return "${PIPESTATUS[0]}"
}

step_kernel-tests() {
    if ! "$PYTHON" -c "import pytest, xdist" 2>/dev/null; then
        echo "skipped: pytest or pytest-xdist is not installed"
        return 3
    fi
    # Alone, without what the other tests import.
    PYTHONPATH="$PYTHONPATH:tests" timeout "$STEP_SECONDS" "$PYTHON" -m pytest tests/cuda/test_kernels.py --noconftest \
        -c /dev/null --rootdir . -p no:cacheprovider -q -n 8 | tee "$OUT/gpu-kernel-tests-$TODAY.txt" | tail -n 3
    return "${PIPESTATUS[0]}"
}

step_quick-latency() {
    bench "latency-$PRECISION" latency --precision "$PRECISION" --engine kv_cache_bytes=1000000000 --loops engine,eager \
        --rounds 2
}

step_quick-throughput() {
    bench "throughput-$PRECISION" throughput --precision "$PRECISION" --streams 32,64,1 --rounds 1 --loops engine
}

step_tests() {
    if ! "$PYTHON" -c "import pytest, hypothesis, pytest_timeout, mistral_common, soundfile" 2>/dev/null; then
        echo "skipped: pytest or the package's own needs are not installed"
        return 3
    fi
    timeout "$STEP_SECONDS" "$PYTHON" -m pytest tests/cuda -p no:cacheprovider | tee "$OUT/gpu-tests-$TODAY.txt"
}

step_vectors() {
    timeout "$STEP_SECONDS" "$PYTHON" -m voxtral doctor --model tests/golden/tiny --vectors tests/golden/data \
        --device "$DEVICE" --json >"$OUT/gpu-vectors-$TODAY.txt"
    local code=$?
    tail -n 1 "$OUT/gpu-vectors-$TODAY.txt" >"$OUT/gpu-vectors-$TODAY.json"
    rm "$OUT/gpu-vectors-$TODAY.txt"
    return $code
}

step_latency() {
    # A small cache for each engine: five processes share the device.
    bench "latency-$PRECISION" latency --precision "$PRECISION" --engine kv_cache_bytes=1000000000 \
        --loops "engine,engine:flow=plain,engine:cuda_graphs=false,eager,stand-in"
}

step_throughput() {
    bench "throughput-$PRECISION" throughput --precision "$PRECISION" --streams 1,32,64,8,16,128 --rounds 3 \
        --loops engine,eager --engine max_batch=128
}

step_quantized() {
    local precision result=0
    for precision in int4 int8; do
        bench "latency-$precision" latency --precision "$precision" --loops engine || result=$?
    done
    return $result
}

step_memory() {
    # One stream of 2 minutes, and a cache of 2048 positions and a few blocks for it alone.
    bench memory memory --precisions int4,int4-all,int8,bfloat16 --engine max_batch=1 --engine kv_cache_bytes=240000000
}

step_kernels() {
    bench kernels kernels
}

step_realtime() {
    bench "realtime-$PRECISION" throughput --precision "$PRECISION" --streams 64 --frames 250 --rounds 1 --open-loop \
        --real-time --most-streams 512 --engine max_batch=512
}

step_profile() {
    local loop result=0
    # The engine computes on a thread of its own, which a profiler sees on a GPU alone.
    for loop in eager $([[ $DEVICE == cuda ]] && echo engine); do
        bench "profile-$loop" profile_frame --precision "$PRECISION" --loops "$loop" \
            --table "$OUT/gpu-profile-$loop-$TODAY.txt" || result=$?
    done
    return $result
}

step_official() {
    if [[ ! -d build/official ]]; then
        echo "skipped: build/official is not there; on a machine with a network: python -m benchmarks.official --fetch"
        return 3
    fi
    bench official official --precision "$PRECISION"
}

failed=0
summary="$OUT/gpu-steps-$TODAY.json"
lines=()
for step in "${STEPS[@]}"; do
    if ! declare -F "step_$step" >/dev/null; then
        echo "step $step is unknown; known are ${STEPS[*]}" >&2
        exit 2
    fi
done
for step in "${STEPS[@]}"; do
    echo "== $step" >&2
    $IS_FIRST && STEP_SECONDS=${GIVEN_SECONDS:-${FIRST_SECONDS[$step]}}
    started=$SECONDS
    "step_$step"
    code=$?
    case $code in
        0) outcome=done ;;
        3) outcome=skipped ;;
        124) outcome="ended after $STEP_SECONDS s" ;;
        *) outcome="failed with code $code" ;;
    esac
    ((code == 0 || code == 3)) || failed=1
    lines+=("{\"step\": \"$step\", \"outcome\": \"$outcome\", \"seconds\": $((SECONDS - started))}")
    # Written after each step, so that a run cut short says how far it came.
    (
        IFS=,
        echo "{\"benchmark\": \"gpu.sh\", \"tiny\": $IS_TINY, \"steps\": [${lines[*]}]}"
    ) >"$summary"
done
cat "$summary"
exit $failed
