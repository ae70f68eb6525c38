"""The names of what a checkpoint folder holds."""

PARAMS_FILE = "params.json"
WEIGHTS_FILE = "consolidated.safetensors"
TOKENIZER_FILE = "tekken.json"
VOICE_FOLDER = "voice_embedding"

REQUIRED_FILES = (PARAMS_FILE, TOKENIZER_FILE, WEIGHTS_FILE)
