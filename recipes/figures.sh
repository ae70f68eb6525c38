#!/usr/bin/env bash
# All figures and files that depend on which nano there is, made anew for one. `recipes/figures.sh --help` says how to
# choose stages.
set -euo pipefail

STAGES=(align quality times checks spoken numbers letters cuts segments blends cloning quantisation outside pictures)

usage() {
    cat <<'HELP'
usage: recipes/figures.sh [STAGE ...]

Makes anew what depends on a nano, MODEL, in stages. Without STAGE, all that are not done yet, in this order:

  align         which heads follow the text, thresholds and pace, into MODEL/alignment.json
  quality       the figures of docs/QUALITY.md, and the page; pictures of teacher, copy and nano
  times         how near word times are
  checks        how often the checks of speech are right
  spoken        how much of odd texts is said, offline and streamed
  numbers       how numbers are said, with and without rules
  letters       whether it has sounds for the names of letters
  cuts          how often the measure of spoken is right
  segments      texts that are too long for one segment
  blends        whether two of its voices can be blended, and how
  cloning       what its clones are worth (voxtral evaluate-encoder --fast), and the page
  quantisation  what fewer bits cost, and the page
  outside       how strangers' instruments hear it (recipes/speech.sh judge), and the page
  pictures      a page of spectrograms: the teacher, OLD, and MODEL saying the same

Reports go into RESULTS with the date, pages are written in place; what is prose in a document, and what else has to be
looked at, says CONTRIBUTING.md ("Replacing nano"). A stage that is done leaves WORK/STAGE.done, one that is named runs
again. What was spoken is kept in WORK and not spoken again, so a stage that was stopped goes on; a folder WORK is for
one MODEL and one RECOGNISER.

Variables, with their defaults:
HELP
    cat <<HELP
  MODEL=$MODEL         the checkpoint
  RUN=$RUN                the training of MODEL, with its codes (recipes/nano.sh calls it OUTPUT)
  RECOGNISER=$RECOGNISER
  SPEECH                         the corpus of shards that MODEL learned from; RUN/data without
  TAKES                          what its teachers said (recipes/speech.sh takes); espeak-ng speaks without, and where a
                                 recogniser of shards judges, what needs their speech is left out
  TEACHERS_OUTPUT=$TEACHERS_OUTPUT     of recipes/speech.sh: the environment and the recogniser of outside
  NAME=$NAME                      of MODEL in tables
  OLD                            a checkpoint for pictures, to compare with; without, the teacher and MODEL alone
  OLD_NAME=$OLD_NAME
  WORK=$WORK
  RESULTS=$RESULTS
  DATE=$DATE                of the reports
  PROCESSES=$PROCESSES                    that speak at the same time
  PYTHON                         the interpreter with the product; .venv/bin/python if there is one
HELP
}

: "${MODEL:=build/nano/export}" "${RUN:=$(dirname "$MODEL")}" "${RECOGNISER:=$RUN/recogniser.safetensors}"
: "${TEACHERS_OUTPUT:=build/nano4}" "${NAME:=nano}" "${OLD_NAME:=before}"
: "${WORK:=build/figures}" "${RESULTS:=benchmarks/results}" "${DATE:=$(date -u +%F)}" "${PROCESSES:=2}"

chosen=()
for argument in "$@"; do
    case "$argument" in
        -h | --help)
            usage
            exit
            ;;
        *)
            if [[ " ${STAGES[*]} " != *" $argument "* ]]; then
                echo "figures.sh: no stage or option is called '$argument'; stages: ${STAGES[*]}" >&2
                exit 2
            fi
            chosen+=("$argument")
            ;;
    esac
done

cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [[ -z "${PYTHON:-}" ]]; then
    PYTHON=python3
    if [[ -x .venv/bin/python ]]; then
        PYTHON=.venv/bin/python
    fi
fi
for path in "$MODEL/consolidated.safetensors" "$RECOGNISER"; do
    if [[ ! -e "$path" ]]; then
        echo "figures.sh: $path is missing; MODEL must be a checkpoint and RECOGNISER what train.recogniser made" >&2
        exit 2
    fi
done

# Figures of two models, or of two ears, in one folder would be mixed up.
mkdir -p "$WORK" "$RESULTS"
of="$(cat "$MODEL/consolidated.safetensors" "$RECOGNISER" | cksum)"
if [[ -e "$WORK/of" && "$(cat "$WORK/of")" != "$of" ]]; then
    echo "figures.sh: $WORK is of another model or recogniser; use another WORK, or remove it" >&2
    exit 2
fi
echo "$of" >"$WORK/of"

model=(--model "$MODEL") ears=(--recogniser "$RECOGNISER") teacher=()
[[ -z "${TAKES:-}" ]] || teacher=(--takes "$TAKES")
corpus=(--corpus "${SPEECH:-$RUN/data}" --codes "$RUN")

# Speak pieces of some work, all at the same time; each goes on where it was stopped.
speak() {
    local piece pieces=()
    for ((piece = 1; piece <= PROCESSES; piece++)); do
        "$PYTHON" -m "$@" --shard "$piece/$PROCESSES" &
        pieces+=($!)
    done
    # Each is waited for, so that one that fails fails the stage.
    for piece in "${pieces[@]}"; do
        wait "$piece"
    done
}

run_stage() {
    local quality="$RESULTS/quality-$DATE.json" path state set
    case "$1" in
        align)
            "$PYTHON" -m voxtral align calibrate "${model[@]}" --output "$MODEL/alignment.json"
            ;;
        quality)
            "$PYTHON" -m benchmarks.quality "${model[@]}" "${ears[@]}" "${teacher[@]}" "${corpus[@]}" \
                --pictures "$WORK/pictures" --json "$quality"
            "$PYTHON" -m benchmarks.quality.page "$quality"
            for path in "$WORK"/pictures/{en,es,hi}.png; do
                [[ ! -e "$path" ]] || cp "$path" "docs/pictures/nano-$(basename "$path")"
            done
            ;;
        times)
            "$PYTHON" -m benchmarks.quality.times "${model[@]}" "${ears[@]}" "${teacher[@]}" --calibration \
                --json "$RESULTS/times-$DATE.json"
            ;;
        checks)
            state="$WORK/checks"
            for set in judging judging-joined long; do
                speak benchmarks.quality.checks speak "$state" "$set" "${model[@]}" "${ears[@]}"
            done
            "$PYTHON" -m benchmarks.quality.checks report "$state" "${model[@]}" "${ears[@]}" \
                --json "$RESULTS/checks-nano-$DATE.json"
            ;;
        spoken)
            local way stream
            for way in offline stream; do
                state="$WORK/spoken-$way" stream=()
                [[ $way == offline ]] || stream=(--stream)
                speak benchmarks.quality.spoken speak "$state" "${model[@]}" "${ears[@]}" "${stream[@]}"
                "$PYTHON" -m benchmarks.quality.spoken report "$state" "${ears[@]}" \
                    --json "$RESULTS/spoken-$DATE-$way.json" --markdown "$RESULTS/spoken-$DATE-$way.md"
            done
            ;;
        numbers)
            state="$WORK/numbers"
            "$PYTHON" -m benchmarks.quality.numbers speak "$state" "${model[@]}" "${ears[@]}"
            "$PYTHON" -m benchmarks.quality.numbers report "$state" "${ears[@]}" \
                --json "$RESULTS/numbers-$DATE.json" --markdown "$WORK/numbers.md"
            ;;
        letters)
            "$PYTHON" -m benchmarks.quality.letters "${model[@]}" "${ears[@]}" "${teacher[@]}" \
                --json "$RESULTS/letters-$DATE.json"
            ;;
        cuts)
            state="$WORK/cuts"
            speak benchmarks.quality.cuts hear "$state" "${model[@]}" "${ears[@]}" "${teacher[@]}"
            "$PYTHON" -m benchmarks.quality.cuts report "$state" --split test --json "$RESULTS/cuts-$DATE.json"
            ;;
        segments)
            state="$WORK/segments"
            mkdir -p "$state"
            # A set, and how many of its sentences are one text.
            for set in "long 1" "judging 4" "judging 5"; do
                speak benchmarks.quality.one_segment "$state" --set "${set% *}" --join "${set#* }" "${model[@]}" \
                    "${ears[@]}"
            done
            find "$state" -name '*.jsonl' | sort | xargs -r cat >"$RESULTS/one-segment-$DATE.jsonl"
            ;;
        blends)
            "$PYTHON" -m benchmarks.quality.blends speak "$WORK/blends.jsonl" concat concat_turned interleave \
                interleave_6 mean mean_rescaled mean_cut "${model[@]}" "${ears[@]}" --seconds 36000
            "$PYTHON" -m benchmarks.quality.blends report "$WORK/blends.jsonl" "${model[@]}" \
                --json "$RESULTS/blends-$DATE.json"
            ;;
        cloning)
            "$PYTHON" -m benchmarks.quality.cloning "$WORK/cloning" "${model[@]}" "${ears[@]}" "${teacher[@]}" --fast \
                --json "$RESULTS/cloning-nano-fast-$DATE.json"
            "$PYTHON" -m benchmarks.quality.cloning_page --results "$RESULTS"
            ;;
        quantisation)
            "$PYTHON" -m benchmarks.quantisation "${model[@]}" "${ears[@]}" "${teacher[@]}" \
                --json "$RESULTS/quantisation-$DATE.json"
            "$PYTHON" -m benchmarks.quantisation --page "$RESULTS/quantisation-$DATE.json"
            ;;
        outside)
            local report="$WORK/outside.json" earlier="" phonemes=()
            # Other systems are shown beside it, as the last report has them.
            for path in "$RESULTS"/outside-*.json; do
                [[ ! -e "$path" ]] || earlier="$path"
            done
            OUTPUT="$TEACHERS_OUTPUT" CLIPS="$WORK/clips" REPORT="$report" EARLIER="$earlier" TAKES="${TAKES:-}" \
                MODEL="$MODEL" NAME="$NAME" PYTHON="$PYTHON" recipes/speech.sh judge
            [[ ! -e "$quality" ]] || phonemes=(--phonemes "$NAME" "$quality")
            "$PYTHON" -m benchmarks.quality.outside --json "$report" "${phonemes[@]}" --page
            [[ ! -e "$report" ]] || cp "$report" "$RESULTS/outside-$DATE.json"
            ;;
        pictures)
            local systems=("$NAME")
            "$PYTHON" -m benchmarks.quality.clips "$WORK/clips" "${model[@]}" --system "$NAME" --limit 1
            if [[ -n "${OLD:-}" ]]; then
                "$PYTHON" -m benchmarks.quality.clips "$WORK/clips" --model "$OLD" --system "$OLD_NAME" --limit 1
                systems=("$OLD_NAME" "${systems[@]}")
            fi
            if [[ -n "${TAKES:-}" ]]; then
                "$PYTHON" -m benchmarks.quality.clips "$WORK/clips" "${teacher[@]}" --system teacher --limit 1
            fi
            if [[ -e "$WORK/clips/teacher.jsonl" ]]; then
                systems=(teacher "${systems[@]}")
            fi
            "$PYTHON" -m benchmarks.quality.pictures "$WORK/clips" docs/pictures --systems "${systems[@]}"
            ;;
    esac
}

is_wanted() {
    if [[ ${#chosen[@]} -gt 0 ]]; then
        [[ " ${chosen[*]} " == *" $1 "* ]]
    elif [[ -e "$WORK/$1.done" ]]; then
        echo "figures.sh: $1 is done ($WORK/$1.done)"
        return 1
    elif [[ -z "${TAKES:-}" && -n "${SPEECH:-}" && " times letters cuts cloning " == *" $1 "* ]]; then
        echo "figures.sh: $1 is left out, for it needs the teachers' speech; give TAKES (recipes/speech.sh takes)"
        return 1
    elif [[ $1 == outside && ! -x "$TEACHERS_OUTPUT/tools/bin/python" ]]; then
        echo "figures.sh: outside is left out, for its tools are not there; run recipes/speech.sh tools teachers"
        return 1
    fi
}

for stage in "${STAGES[@]}"; do
    is_wanted "$stage" || continue
    echo "figures.sh: $stage, begun $(date -u +%H:%M:%S) UTC"
    rm -f "$WORK/$stage.done"
    run_stage "$stage"
    touch "$WORK/$stage.done"
done
echo "figures.sh: reports are in $RESULTS; prose that states figures, and tests that state facts, are not made anew:"
echo "figures.sh: see CONTRIBUTING.md, \"Replacing nano\""
