"""Checkpoints of the tests, by path and by their parts. Torch is imported when tensors are wanted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

# Random weights at small sizes, with encoder; the golden vectors are its numbers.
TINY = Path(__file__).parent / "golden" / "tiny"

# The same in two steps of the flow instead of seven, for tests that speak and hear no difference: half the time.
BRIEF = Path(__file__).parent / "brief"

WEIGHTS = "consolidated.safetensors"


def write_checkpoint(folder: Path, tensors: dict[str, Tensor], params: dict[str, Any] | None = None) -> Path:
    """Write a checkpoint folder of these tensors, with the parameters of tiny unless others are given."""
    from safetensors.torch import save_file

    folder.mkdir(exist_ok=True)
    if params is None:
        shutil.copyfile(TINY / "params.json", folder / "params.json")
    else:
        (folder / "params.json").write_text(json.dumps(params), encoding="utf-8")
    save_file(tensors, folder / WEIGHTS)
    return folder


def tiny_tensors() -> dict[str, Tensor]:
    """Read all tensors of tiny."""
    from safetensors.torch import load_file

    return load_file(TINY / WEIGHTS)


def tiny_params() -> dict[str, Any]:
    """Read params.json of tiny."""
    return json.loads((TINY / "params.json").read_text(encoding="utf-8"))


def strip_encoder(source: Path, target: Path) -> Path:
    """Copy a checkpoint as the published one is: without the tensors of the codec encoder."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(source, target)
    kept = {
        name: value
        for name, value in load_file(source / WEIGHTS).items()
        if not name.startswith(("audio_tokenizer.input_proj.", "audio_tokenizer.encoder_blocks."))
    }
    save_file(kept, target / WEIGHTS)
    return target
