"""The names of what a checkpoint folder holds, and the folder of what is kept between processes."""

from __future__ import annotations

import os
from pathlib import Path

CACHE_VARIABLE = "VOXTRAL_CACHE"

PARAMS_FILE = "params.json"
WEIGHTS_FILE = "consolidated.safetensors"
TOKENIZER_FILE = "tekken.json"
VOICE_FOLDER = "voice_embedding"
# What is known of the attention of the weights (`voxtral.align`); a folder may be without.
ALIGNMENT_FILE = "alignment.json"

REQUIRED_FILES = (PARAMS_FILE, TOKENIZER_FILE, WEIGHTS_FILE)


def cache_folder() -> Path | None:
    """Return where things are kept that can be made again, by VOXTRAL_CACHE; None where it is empty: keep nothing."""
    folder = os.environ.get(CACHE_VARIABLE)
    if folder == "":
        return None
    return Path(folder) if folder else Path.home() / ".cache" / "voxtral"
