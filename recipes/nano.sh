#!/usr/bin/env bash
# Train nano from nothing: the whole run, top to bottom. `recipes/nano.sh --help` says how to shorten, choose
# and resume it.
#
# Needs espeak-ng and word lists. On Debian and Ubuntu:
#   apt-get install espeak-ng wamerican wfrench wngerman wspanish witalian wportuguese wdutch hunspell-ar hunspell-hi
set -euo pipefail

PACKAGES="espeak-ng wamerican wfrench wngerman wspanish witalian wportuguese wdutch hunspell-ar hunspell-hi"
STAGES=(data recogniser codec encode language_model decoder export align quality)

usage() {
    cat <<'HELP'
usage: recipes/nano.sh [--smoke] [STAGE ...]

Trains nano in stages and measures the result. Without STAGE, all that are not done yet, in this order:

  data            speech of the teacher (espeak-ng), with the times of phonemes and words
  recogniser      the phoneme recogniser that judges the result; with SPEECH its own figures, too, into
                  OUTPUT/validity.json
  codec           encoder and decoder together
  encode          the corpus as codes
  language_model  backbone and acoustic transformer
  decoder         the decoder alone, its codes frozen; needs the codec only
  export          the checkpoint that the runtime loads, into OUTPUT/export
  align           which heads follow the text, into OUTPUT/export/alignment.json
  quality         the figures of the result, into OUTPUT/quality.json

A stage that is done leaves OUTPUT/STAGE.done. A stage that is named runs again, and what depends on it is no
longer done. Training goes on from the stage's last weights for the whole length that is asked for; a stage that
was stopped, whatever stopped it, goes on where it was, which is saved every few minutes in
OUTPUT/STAGE-state.safetensors. Complete parts of the data are kept, and those that have
come since are encoded; remove OUTPUT/data to make others. A GPU is used if there is one.

  --smoke   two minutes for everything but quality, into build/nano-smoke; the result only mumbles
  --help    this text

Variables, with their defaults:
HELP
    cat <<HELP
  OUTPUT=$OUTPUT              from the root of the repository
  PROCESSES=$PROCESSES                    on a CPU: one for each core
  DATA_HOURS=$DATA_HOURS
  RECOGNISER_MINUTES=$RECOGNISER_MINUTES
  CODEC_MINUTES=$CODEC_MINUTES
  LANGUAGE_MODEL_MINUTES=$LANGUAGE_MODEL_MINUTES
  DECODER_MINUTES=$DECODER_MINUTES
  RECOGNISER_OPTIONS, CODEC_OPTIONS, LANGUAGE_MODEL_OPTIONS, DECODER_OPTIONS
                                 more options for the stage, such as "--rate 5e-4"
  SPEECH                         a corpus of shards (train/shards.py) in place of OUTPUT/data, which may still grow;
                                 data is left out then
  TAKES                          with SPEECH: what its teachers said for the judges (recipes/speech.sh takes); without,
                                 quality leaves out what is measured on their speech
  PYTHON                         the interpreter; .venv/bin/python if there is one
HELP
}

is_smoke=false
wants_help=false
chosen=()
for argument in "$@"; do
    case "$argument" in
        --smoke) is_smoke=true ;;
        -h | --help) wants_help=true ;;
        *)
            if [[ " ${STAGES[*]} " != *" $argument "* ]]; then
                echo "nano.sh: no stage or option is called '$argument'; stages: ${STAGES[*]}" >&2
                exit 2
            fi
            chosen+=("$argument")
            ;;
    esac
done

if $is_smoke; then
    : "${OUTPUT:=build/nano-smoke}" "${DATA_HOURS:=0.3}" "${RECOGNISER_MINUTES:=0.5}" "${CODEC_MINUTES:=0.6}"
    : "${LANGUAGE_MODEL_MINUTES:=0.6}" "${DECODER_MINUTES:=0.1}"
fi
: "${OUTPUT:=build/nano}" "${PROCESSES:=2}" "${DATA_HOURS:=32}" "${RECOGNISER_MINUTES:=22}" "${CODEC_MINUTES:=48}"
: "${LANGUAGE_MODEL_MINUTES:=65}" "${DECODER_MINUTES:=60}"
: "${RECOGNISER_OPTIONS:=}" "${CODEC_OPTIONS:=}" "${LANGUAGE_MODEL_OPTIONS:=}" "${DECODER_OPTIONS:=--mean --rate 7e-4}"

if $wants_help; then
    usage
    exit
fi

cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [[ -z "${PYTHON:-}" ]]; then
    PYTHON=python3
    if [[ -x .venv/bin/python ]]; then
        PYTHON=.venv/bin/python
    fi
fi

# What has to be made again once a stage has run: it reads the stage's output, directly or not.
followers() {
    case "$1" in
        data) echo "recogniser codec encode language_model decoder export align quality" ;;
        recogniser) echo "quality" ;;
        codec) echo "encode language_model decoder export align quality" ;;
        encode) echo "language_model export align quality" ;;
        language_model | decoder) echo "export align quality" ;;
        export) echo "align quality" ;;
    esac
}

# Which corpus the stages read that take either kind, and whom the result is judged by.
speech=() judged_by=()
if [[ -n "${SPEECH:-}" ]]; then
    speech=(--data "$SPEECH")
    judged_by=(--corpus "$SPEECH")
    if [[ -n "${TAKES:-}" ]]; then
        judged_by+=(--takes "$TAKES")
    fi
fi

run_stage() {
    # The variables *_OPTIONS are lists of words, so they are not quoted.
    # shellcheck disable=SC2086
    case "$1" in
        data)
            "$PYTHON" -m train.data "$OUTPUT/data" --hours "$DATA_HOURS" --parts "$PROCESSES"
            ;;
        recogniser)
            "$PYTHON" -m train.recogniser "$OUTPUT" "${speech[@]}" --minutes "$RECOGNISER_MINUTES" \
                --processes "$PROCESSES" $RECOGNISER_OPTIONS
            if [[ -n "${SPEECH:-}" ]]; then
                "$PYTHON" -m benchmarks.quality.validity "$OUTPUT/recogniser.safetensors" "${speech[@]}" \
                    --json "$OUTPUT/validity.json"
            fi
            ;;
        codec)
            "$PYTHON" -m train.codec "$OUTPUT" "${speech[@]}" --minutes "$CODEC_MINUTES" --processes "$PROCESSES" \
                $CODEC_OPTIONS
            ;;
        encode)
            "$PYTHON" -m train.encode "$OUTPUT" "${speech[@]}" --processes "$PROCESSES"
            ;;
        language_model)
            "$PYTHON" -m train.language_model "$OUTPUT" "${speech[@]}" --minutes "$LANGUAGE_MODEL_MINUTES" \
                --processes "$PROCESSES" $LANGUAGE_MODEL_OPTIONS
            ;;
        decoder)
            "$PYTHON" -m train.codec "$OUTPUT" "${speech[@]}" --decoder-only --minutes "$DECODER_MINUTES" \
                --processes "$PROCESSES" $DECODER_OPTIONS
            ;;
        export)
            "$PYTHON" -m train.export "$OUTPUT" "${speech[@]}" --output "$OUTPUT/export"
            ;;
        align)
            "$PYTHON" -m voxtral align calibrate --model "$OUTPUT/export" --output "$OUTPUT/export/alignment.json"
            ;;
        quality)
            "$PYTHON" -m benchmarks.quality --model "$OUTPUT/export" --recogniser "$OUTPUT/recogniser.safetensors" \
                "${judged_by[@]}" --split test --json "$OUTPUT/quality.json"
            ;;
    esac
}

# Nearly every stage needs the teacher or the word lists: better told now than after an hour.
if [[ -z "${SPEECH:-}" ]] && ! "$PYTHON" -m train.data "$OUTPUT/data" --check; then
    echo "nano.sh: install what is missing, on Debian and Ubuntu: apt-get install $PACKAGES" >&2
    exit 1
fi

# Whether a stage is to run: those that are named, else those that are not done.
is_wanted() {
    if [[ -n "${SPEECH:-}" && $1 == data ]]; then
        echo "nano.sh: data is left out, for the speech is that of $SPEECH"
        return 1
    elif [[ ${#chosen[@]} -gt 0 ]]; then
        [[ " ${chosen[*]} " == *" $1 "* ]]
    elif $is_smoke && [[ $1 == quality ]]; then
        echo "nano.sh: quality is left out of the smoke run"
        return 1
    elif [[ -e "$OUTPUT/$1.done" ]]; then
        echo "nano.sh: $1 is done ($OUTPUT/$1.done)"
        return 1
    fi
}

# Weights that go on from what is no longer there would be worse than none.
put_aside() {
    if [[ -e "$OUTPUT/$1.safetensors" ]]; then
        mv "$OUTPUT/$1.safetensors" "$OUTPUT/$1.old.safetensors"
        rm -f "$OUTPUT/$1-state.safetensors"
        echo "nano.sh: $2 is new, so $1 starts anew; its old weights are in $OUTPUT/$1.old.safetensors"
    fi
}

mkdir -p "$OUTPUT"
for stage in "${STAGES[@]}"; do
    is_wanted "$stage" || continue
    if [[ $stage == data && ! -e "$OUTPUT/data/corpus.json" ]]; then
        put_aside recogniser "the corpus"
    elif [[ $stage == codec && ! -e "$OUTPUT/codec.safetensors" ]]; then
        put_aside language_model "the codec"
    fi
    echo "nano.sh: $stage, begun $(date -u +%H:%M:%S) UTC"
    rm -f "$OUTPUT/$stage.done"
    for follower in $(followers "$stage"); do
        rm -f "$OUTPUT/$follower.done"
    done
    run_stage "$stage"
    touch "$OUTPUT/$stage.done"
done
if [[ -e "$OUTPUT/export.done" ]]; then
    echo "nano.sh: try it: voxtral speak --model $OUTPUT/export -o hello.wav \"Hello.\""
fi
