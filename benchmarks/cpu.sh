#!/usr/bin/env bash
# The CPU rows of docs/BENCHMARKS.md. Run it while nothing else runs.
#
#   benchmarks/cpu.sh                 all steps
#   benchmarks/cpu.sh nano            one stream and 1, 4, 8, 16 streams of nano, and its memory
#   benchmarks/cpu.sh kernels         products with the matrices of the published shape
#   benchmarks/cpu.sh 4b              the published shape with random weights, bfloat16 and int4
#
#   OUT=FOLDER       where the results go; default benchmarks/results
#   PYTHON=PROGRAM   default .venv/bin/python
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-.venv/bin/python}
OUT=${OUT:-benchmarks/results}
TODAY=$(date -u +%F)
RANDOM_4B=build/random-4b
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
    bench nano-latency latency --model nano --loops engine,eager --rounds 7
    bench nano-throughput throughput --model nano --streams 1,4,8,16 --threads 1,2 --rounds 5 --open-loop --real-time \
        --most-streams 64
    bench nano-memory memory --model nano --frames 375
    # The official modules, where they have been fetched: python -m benchmarks.official --fetch
    [[ ! -d build/official ]] || bench nano-official official --model nano --streams 1,8
    bench nano-batch batch --model nano --in-flight 1,4,8,16
    bench nano-profile profile_frame --model nano --table "$OUT/cpu-nano-profile-$TODAY.txt"
}

step_kernels() {
    bench kernels kernels --model 4b-random --precision bfloat16 --rows 1,2,6,8,16,32,48,128
}

step_4b() {
    [[ -f $RANDOM_4B/consolidated.safetensors ]] || "$PYTHON" -m benchmarks.random_checkpoint "$RANDOM_4B"
    bench 4b-latency-bfloat16 latency --model "$RANDOM_4B" --precision bfloat16 --loops engine --frames 25 --rounds 3
    [[ -d $RANDOM_4B-int4 ]] || "$PYTHON" -m voxtral quantize "$RANDOM_4B" -o "$RANDOM_4B-int4" --bits int4
    bench 4b-latency-int4 latency --model "$RANDOM_4B-int4" --precision int4 --loops engine --frames 25 --rounds 3
    bench 4b-memory-int4 memory --model "$RANDOM_4B-int4" --precision int4 --frames 50
}

for step in "${STEPS[@]}"; do
    declare -F "step_$step" >/dev/null || { echo "step $step is unknown; known are nano, kernels and 4b" >&2; exit 2; }
    echo "== $step" >&2
    "step_$step"
done
"$PYTHON" -m benchmarks.page
