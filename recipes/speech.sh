#!/usr/bin/env bash
# The speech that nano 4 learns from, and the judge from outside. `recipes/speech.sh --help` says how to choose stages.
#
# Needs Python, npm, espeak-ng's library and the word lists. On Debian and Ubuntu:
#   apt-get install libespeak-ng1 espeak-ng-data npm wamerican wfrench wngerman wspanish witalian wportuguese wdutch \
#       hunspell-ar hunspell-hi
set -euo pipefail

STAGES=(tools teachers speak)

usage() {
    cat <<'HELP'
usage: recipes/speech.sh [STAGE ...]

Makes shards of natural speech (train/shards.py says what is in one) for nano 4, in stages. Without STAGE, all of the
first three, each of which skips what is there:

  tools      an environment of its own, from recipes/tools.txt
  teachers   the teachers and the judge's recogniser, from the packages of recipes/teachers.txt, checked by digest
  speak      OUTPUT/data, until there are DATA_HOURS and COVERAGE_HOURS of it; may be stopped or killed and run
             again at any time
  takes      only if it is named: what the teachers say of the sentences of the tests, into OUTPUT/takes, for judges
             where they cannot speak (TAKES of recipes/nano.sh and recipes/figures.sh); goes on where it was stopped
  judge      only if it is named: sentences of the tests by MODEL and by the teachers, with the negative controls, as
             whisper-base, DNSMOS and WORLD hear them, into OUTPUT/outside.json

Variables, with their defaults:
HELP
    cat <<HELP
  OUTPUT=$OUTPUT           from the root of the repository
  PROCESSES=$PROCESSES                    one for each core
  DATA_HOURS=$DATA_HOURS
  COVERAGE_HOURS=$COVERAGE_HOURS            more words, by teachers that are a hundred times as fast
  MODEL=$MODEL     for judge
  WORD_LISTS=$WORD_LISTS                   the root below which the system's word lists lie
  PYTHON                         the interpreter with the product; .venv/bin/python if there is one
HELP
}

: "${OUTPUT:=build/nano4}" "${PROCESSES:=2}" "${DATA_HOURS:=24}" "${COVERAGE_HOURS:=15}" "${MODEL:=src/voxtral/data/nano}" "${WORD_LISTS:=/}"

chosen=()
for argument in "$@"; do
    case "$argument" in
        -h | --help)
            usage
            exit
            ;;
        tools | teachers | speak | takes | judge) chosen+=("$argument") ;;
        *)
            echo "speech.sh: no stage or option is called '$argument'; stages: ${STAGES[*]} takes judge" >&2
            exit 2
            ;;
    esac
done
[[ ${#chosen[@]} -gt 0 ]] || chosen=("${STAGES[@]}")

cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [[ -z "${PYTHON:-}" ]]; then
    PYTHON=python3
    if [[ -x .venv/bin/python ]]; then
        PYTHON=.venv/bin/python
    fi
fi
mkdir -p "$OUTPUT"
TOOLS="$OUTPUT/tools/bin/python"
export PYTHONPATH="$PWD/src:$PWD${PYTHONPATH:+:$PYTHONPATH}" OMP_NUM_THREADS=1

# Run a command of the teachers' environment once for each core, as --part of --parts.
run_parts() {
    local part processes=()
    for ((part = 0; part < PROCESSES; part++)); do
        "$TOOLS" "$@" --part "$part" --parts "$PROCESSES" &
        processes+=($!)
    done
    # Each is waited for, so that one that fails fails the stage.
    for part in "${processes[@]}"; do
        wait "$part"
    done
}

run_stage() {
    case "$1" in
        tools)
            # A mark, since an environment that is half made has an interpreter already.
            if [[ ! -e "$OUTPUT/tools/made" ]]; then
                python3 -m venv "$OUTPUT/tools"
                "$TOOLS" -m pip install --quiet --no-deps --requirement recipes/tools.txt
                touch "$OUTPUT/tools/made"
            fi
            ;;
        teachers)
            "$TOOLS" -m train.packages "$OUTPUT/teachers"
            ;;
        speak)
            run_parts -m train.speak "$OUTPUT/data" --teachers "$OUTPUT/teachers" --word-lists "$WORD_LISTS" \
                --hours "$DATA_HOURS" --coverage "$COVERAGE_HOURS"
            ;;
        takes)
            run_parts -m benchmarks.quality.takes "$OUTPUT/takes" --teachers "$OUTPUT/teachers"
            ;;
        judge)
            "$PYTHON" -m benchmarks.quality.clips "$OUTPUT/clips" --model "$MODEL" --system nano --controls
            "$TOOLS" -m benchmarks.quality.clips "$OUTPUT/clips" --teachers "$OUTPUT/teachers" --system teacher
            "$TOOLS" -m benchmarks.quality.outside "$OUTPUT/clips" --whisper "$OUTPUT/teachers/whisper" \
                --json "$OUTPUT/outside.json"
            ;;
    esac
}

for stage in "${chosen[@]}"; do
    echo "speech.sh: $stage, begun $(date -u +%H:%M:%S) UTC"
    run_stage "$stage"
done
