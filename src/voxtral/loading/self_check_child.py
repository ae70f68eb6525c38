"""The process that makes the first self-check of a machine: `python -m voxtral.loading.self_check_child SPECIFICATION`.

After some errors of a GPU a process can compute nothing any more, so paths are tried first where it costs nobody a
model. It writes a JSON line before each path and after it, so that whoever reads knows where it ended if it ends.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from voxtral.engine.rig import ModelRig
from voxtral.engine.self_check import examine
from voxtral.loading.files import PARAMS_FILE
from voxtral.loading.params import load_config
from voxtral.loading.trial_model import make_trial_model
from voxtral.quantization.recipes import choose_recipe


@dataclass(frozen=True)
class Specification:
    """What is to be tried.

    Attributes:
        folder: of the checkpoint; params.json alone is read.
        device: such as cuda:0.
        dtype: of the model, by name.
        codec_dtype: of the codec, by name.
        recipe: of its quantisation, or None.
        max_rows: of the largest step.
        known: paths that are not to be tried, with the reason of each.
    """

    folder: str
    device: str
    dtype: str
    codec_dtype: str
    recipe: str | None
    max_rows: int
    known: dict[str, str]


def main(text: str) -> int:
    """Make the check; returns the exit code."""
    specification = Specification(**json.loads(text))
    device = torch.device(specification.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    config = load_config(Path(specification.folder) / PARAMS_FILE)
    recipe = config.quantization
    if recipe is None and specification.recipe is not None:
        recipe = choose_recipe(specification.recipe, config)
    with torch.inference_mode():
        model = make_trial_model(
            config,
            device=device,
            dtype=getattr(torch, specification.dtype),
            codec_dtype=getattr(torch, specification.codec_dtype),
            quantization=recipe,
        )
        verdict = examine(
            ModelRig(model, max_rows=specification.max_rows),
            known=specification.known,
            on_begin=lambda path: _write(begin=path),
            on_finding=lambda finding: _write(finding=vars(finding)),
        )
    _write(verdict=verdict.to_dict())
    return 0


def _write(**fact: object) -> None:
    sys.stdout.write(f"{json.dumps(fact)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
