"""Fixtures of the training tests: an exported checkpoint of random weights, and the same weights to train."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from exported import Exported
from stand_in_teacher import STAND_IN, StandInTeacher
from train import export
from train.codec_network import TrainableCodec
from train.data import trim
from train.language_model import SpeechModel
from train.shape import NUM_SPECIAL_TOKENS, nano_config
from train.teacher import Speaker
from train.tokenizer import build_vocabulary
from voxtral.loading.checkpoint import open_checkpoint
from voxtral.loading.files import WEIGHTS_FILE
from voxtral.loading.load import load_model


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Shared, so tests must not change the weights."""
    folder = tmp_path_factory.mktemp("exported")
    export.main([str(folder), "--untrained", "--output", str(folder)], source=STAND_IN)
    config = nano_config(len(build_vocabulary()) + NUM_SPECIAL_TOKENS)
    codec, model = TrainableCodec(config), SpeechModel(config)
    export.split_checkpoint(load_file(folder / WEIGHTS_FILE), codec, model)
    dtype = torch.float32
    runtime = load_model(open_checkpoint(folder), device=torch.device("cpu"), dtype=dtype, codec_dtype=dtype)
    return Exported(folder, codec.eval(), model.eval(), runtime)


@pytest.fixture(scope="session")
def clip() -> Tensor:
    """About 3 s of the stand-in teacher, [S] float32."""
    text = "A clip to copy, with a few words in it, and then some."
    samples, _ = trim(StandInTeacher().say(text, "en", Speaker("low", 50, 165)))
    return torch.from_numpy(samples)
