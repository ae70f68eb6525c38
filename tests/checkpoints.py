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


def source_filter_params() -> dict[str, Any]:
    """Give the parameters of tiny with a source-filter head and a mel input, the extensions for nano."""
    params = tiny_params()
    codec = params["multimodal"]["audio_tokenizer_args"]
    params["generation"] = {"num_euler_steps": 2}
    codec |= {"mel_input": 20, "source_filter_head": {"harmonic_knots": 24, "noise_knots": 12, "pitch_dim": 32}}
    return params


def write_source_filter(folder: Path) -> Path:
    """Write a checkpoint as tiny is, with a source-filter head and a mel input of random weights."""
    import torch

    from voxtral.loading.inventory import expected_tensors
    from voxtral.loading.params import parse_config

    params, generator = source_filter_params(), torch.Generator().manual_seed(0)
    known, tensors = tiny_tensors(), dict[str, Any]()
    for name, shape in expected_tensors(parse_config(params), with_encoder=True).items():
        if name in known:
            tensors[name] = known[name]
            continue
        drawn = torch.randn(shape, generator=generator) * (1.0 if name.endswith("bias") else shape[-1] ** -0.5)
        if name.startswith("audio_tokenizer.output_proj.linear"):
            # Filters about as loud as speech.
            drawn = drawn - (4.0 if name.endswith("bias") else 0.0)
        tensors[name] = drawn.bfloat16()
    write_checkpoint(folder, tensors, params)
    for path in (TINY / "tekken.json", *(TINY / "voice_embedding").iterdir()):
        target = folder / path.relative_to(TINY)
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, target)
    return folder


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
