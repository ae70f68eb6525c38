#!/usr/bin/env bash
# The CPU rows of docs/BENCHMARKS.md. Run it while nothing else runs.
#
#   benchmarks/cpu.sh                 all steps
#   benchmarks/cpu.sh nano            one stream and 1, 4, 8, 16 streams of nano, its memory, and its server
#   benchmarks/cpu.sh kernels         products with the matrices of the published shape
#   benchmarks/cpu.sh 4b              the published shape with random weights made on the spot (10 GB of memory)
#
#   OUT=FOLDER       where the results go; default benchmarks/results
#   PYTHON=PROGRAM   default .venv/bin/python
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-.venv/bin/python}
OUT=${OUT:-benchmarks/results}
TODAY=$(date -u +%F)
export PYTHONPATH="src${PYTHONPATH:+:$PYTHONPATH}"
STEPS=(nano kernels 4b)
(($# == 0)) || STEPS=("$@")

# bench NAME SCRIPT OPTION...: one benchmark, its report in cpu-NAME-DATE.json
bench() {
    local name=$1 script=$2
    shift 2
    "$PYTHON" -m "benchmarks.$script" --device cpu --json "$OUT/cpu-$name-$TODAY.json" "$@" >/dev/null
}

step_nano() {
    bench nano-latency latency --model nano --loops engine,engine:batch_invariant=true,eager --rounds 7
    bench nano-throughput throughput --model nano --streams 1,4,8,16 --threads 1,2 --rounds 5 --open-loop --real-time \
        --most-streams 64
    bench nano-memory memory --model nano --frames 375
    # The official modules, where they have been fetched: python -m benchmarks.official --fetch
    [[ ! -d build/official ]] || bench nano-official official --model nano --streams 1,8
    bench nano-http http --model nano --streams 1,4,8
    bench nano-batch batch --model nano --in-flight 1,4,8,16
    bench nano-profile profile_frame --model nano --table "$OUT/cpu-nano-profile-$TODAY.txt"
}

step_kernels() {
    bench kernels kernels --model 4b-random --precision bfloat16 --rows 1,2,6,8,16,32,48,128
}

step_4b() {
    local precision
    for precision in int4 bfloat16; do
        bench "4b-latency-$precision" latency --model 4b-random --precision "$precision" --frames 25 --rounds 3
    done
    bench 4b-memory memory --model 4b-random --precisions int4,int8,bfloat16 --frames 25
}

for step in "${STEPS[@]}"; do
    declare -F "step_$step" >/dev/null || { echo "step $step is unknown; known are nano, kernels and 4b" >&2; exit 2; }
    echo "== $step" >&2
    "step_$step"
done
"$PYTHON" -m benchmarks.page
