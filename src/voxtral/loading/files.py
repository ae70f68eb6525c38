"""The names of what a checkpoint folder holds, and the folders of what is kept between processes."""

from __future__ import annotations

import os
from pathlib import Path

from voxtral.disk import cache_folder as cache_folder

# Names an encoder file, as `--encoder` does.
ENCODER_VARIABLE = "VOXTRAL_ENCODER"

PARAMS_FILE = "params.json"
WEIGHTS_FILE = "consolidated.safetensors"
TOKENIZER_FILE = "tekken.json"
VOICE_FOLDER = "voice_embedding"
# What is known of the attention of the weights (`voxtral.align`); a folder may be without.
ALIGNMENT_FILE = "alignment.json"
# The codec encoder that the weights lack (`voxtral.loading.encoder_file`); a folder may be without.
ENCODER_FILE = "codec_encoder.safetensors"

REQUIRED_FILES = (PARAMS_FILE, TOKENIZER_FILE, WEIGHTS_FILE)


def data_folder() -> Path:
    """Return where things are kept that cannot be made again quickly, by XDG_DATA_HOME."""
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "voxtral"
