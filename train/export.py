"""Stage 6: a checkpoint in the published format, which the runtime loads as it loads the 4B file.

    python -m train.export build/nano -o build/nano/export

Weights in bfloat16, gains and codebook usage in float32; presets from clips that the teacher speaks. With
`--from-checkpoint` the other way: weights of an exported checkpoint become the start of stages 3 and 5.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from train.codec import TrainableCodec, initialise
from train.data import SAMPLE_RATE, Voice, list_voices, trim
from train.language_model import SpeechModel
from train.loop import load_weights, save_weights
from train.shape import NUM_SPECIAL_TOKENS, make_params
from train.teacher import ESPEAK, SpeakingTeacher, TeacherSource
from train.texts import load_texts
from train.tokenizer import build_vocabulary, write_tekken
from voxtral.loading.checkpoint import open_checkpoint
from voxtral.loading.files import PARAMS_FILE, TOKENIZER_FILE, VOICE_FOLDER, WEIGHTS_FILE
from voxtral.loading.inventory import AUDIO_EMBEDDINGS, CODEBOOK, DIRECTION, GAIN, TEXT_EMBEDDINGS
from voxtral.loading.load import load_model
from voxtral.loading.params import parse_config
from voxtral.model.voxtral import VoxtralModel

_IN_FLOAT32 = (GAIN, "cluster_usage")

_REFERENCE_SECONDS = (3.3, 4.1)

# What a preset is called in lists; the languages' own names come from `voxtral.text.language`.
_LANGUAGE_NAMES = {
    "en": "American English", "fr": "French", "de": "German", "es": "Spanish", "it": "Italian",
    "pt": "Brazilian Portuguese", "nl": "Dutch", "ar": "Arabic", "hi": "Hindi", "ja": "Japanese (kana)",
}  # fmt: skip


def _named_weights(codec: TrainableCodec, model: SpeechModel) -> dict[str, Tensor]:
    """Name what is trained by the names of the file, weight norm folded: the tensors themselves, no copies."""
    weights: dict[str, Tensor] = {
        TEXT_EMBEDDINGS: model.text_embeddings.weight,
        AUDIO_EMBEDDINGS: model.audio_embeddings.weight,
    }
    weights |= dict(model.backbone.named_parameters())
    weights |= {f"acoustic_transformer.{name}": value for name, value in model.acoustic_transformer.named_parameters()}
    for network in (codec.encoder, codec.decoder):
        weights |= {f"audio_tokenizer.{name}": value for name, value in network.named_parameters()}
    for name in ("embedding_sum", "cluster_usage"):
        weights[f"{CODEBOOK}{name}"] = codec.codebook.get_buffer(name)
    return weights


def checkpoint_tensors(codec: TrainableCodec, model: SpeechModel) -> dict[str, Tensor]:
    """Name all weights as the published file does; weight norm is split into gain and direction."""
    tensors: dict[str, Tensor] = {}
    for name, value in _named_weights(codec, model).items():
        if name.endswith(".conv.weight"):
            stem = name.removesuffix(".weight")
            rounded = value.detach().bfloat16().float()
            tensors[f"{stem}{GAIN}"] = rounded.flatten(1).norm(dim=1)[:, None, None]
            tensors[f"{stem}{DIRECTION}"] = rounded
        else:
            tensors[name] = value
    return {
        name: value.detach().to(torch.float32 if name.endswith(_IN_FLOAT32) else torch.bfloat16).contiguous().cpu()
        for name, value in tensors.items()
    }


def split_checkpoint(tensors: dict[str, Tensor], codec: TrainableCodec, model: SpeechModel) -> None:
    """Fill both with the weights of a checkpoint; the phoneme heads, for training alone, start anew."""
    named = checkpoint_tensors(codec, model)
    missing = set(named) ^ set(tensors)
    if missing:
        raise SystemExit(f"the checkpoint does not have the sizes of train/shape.py: {sorted(missing)[:3]}")
    with torch.no_grad():
        for name, target in _named_weights(codec, model).items():
            stem = name.removesuffix(".weight")
            target.copy_(tensors[f"{stem}{DIRECTION}"] if f"{stem}{DIRECTION}" in tensors else tensors[name])


def reference_clip(teacher: SpeakingTeacher, voice: Voice, seed: int = 0) -> np.ndarray:
    """Let the teacher speak about 4 s in a preset's voice and language: [S] float32 at 24 kHz."""
    language = voice.language or "en"
    sentences = [text for text in load_texts(language).sentences if 2 <= len(text.split()) <= 10]
    rng = random.Random(seed)
    low, high = (round(seconds * SAMPLE_RATE) for seconds in _REFERENCE_SECONDS)
    for _ in range(500):
        text = " ".join(rng.sample(sentences, rng.choice((1, 2, 3))))
        samples, _ = trim(teacher.say(text, language, voice.speaker))
        if low <= len(samples) <= high:
            return samples
    raise SystemExit(f"no sentences of {language} last {_REFERENCE_SECONDS} s in voice {voice.name}")


def write_checkpoint(
    folder: Path,
    codec: TrainableCodec,
    model: SpeechModel,
    vocabulary: list[bytes],
    *,
    source: TeacherSource = ESPEAK,
) -> None:
    """Write the checkpoint and its presets, which the teacher of `source` speaks."""
    (folder / VOICE_FOLDER).mkdir(parents=True, exist_ok=True)
    presets = [voice for voice in list_voices(source=source) if voice.split == "preset"]
    params = make_params(len(vocabulary) + NUM_SPECIAL_TOKENS, {voice.name: row for row, voice in enumerate(presets)})
    (folder / PARAMS_FILE).write_text(json.dumps(params, indent=2) + "\n", encoding="utf-8")
    metadata = {"format": "pt", "license": "Apache-2.0", "name": "voxtral-tts nano"}
    save_file(checkpoint_tensors(codec, model), folder / WEIGHTS_FILE, metadata=metadata)
    runtime = _load(folder)
    teacher = source.make()
    voice_rows: dict[str, int] = {}
    for voice in presets:
        codes = runtime.encode_audio(torch.from_numpy(reference_clip(teacher, voice)))
        rows = runtime.embed_codes(codes).bfloat16()
        voice_rows[voice.name] = len(rows)
        save_file({"rows": rows}, folder / VOICE_FOLDER / f"{voice.name}.safetensors", metadata=_describe(voice))
    write_tekken(folder / TOKENIZER_FILE, vocabulary, voice_rows)
    for path in folder.rglob("*.safetensors"):
        path.chmod(0o644)  # safetensors writes for the owner alone, and a wheel carries that along


def _load(folder: Path) -> VoxtralModel:
    dtype = torch.float32
    return load_model(open_checkpoint(folder), device=torch.device("cpu"), dtype=dtype, codec_dtype=dtype)


def _describe(voice: Voice) -> dict[str, str]:
    sex = "female" if "_f" in voice.name else "male"
    description = f"{_LANGUAGE_NAMES[str(voice.language)]}, {sex}, synthetic"
    inner: dict[str, Any] = {"language": voice.language, "description": description}
    return {"format": "voxtral-voice-1", "name": voice.name, "metadata": json.dumps(inner)}


def main(arguments: Sequence[str] | None = None, *, source: TeacherSource = ESPEAK) -> None:
    """Export, or start from an export."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument(
        "--from-checkpoint", type=Path, help="turn a checkpoint back into the weights of stages 3 and 5"
    )
    parser.add_argument("--untrained", action="store_true", help="random weights, as a control")
    options = parser.parse_args(arguments)
    vocabulary = build_vocabulary()
    config = parse_config(make_params(len(vocabulary) + NUM_SPECIAL_TOKENS, {"en_f1": 0}))
    torch.manual_seed(0)
    codec, model = TrainableCodec(config), SpeechModel(config)
    if options.from_checkpoint is not None:
        split_checkpoint(load_file(options.from_checkpoint / WEIGHTS_FILE), codec, model)
        options.folder.mkdir(parents=True, exist_ok=True)
        save_weights(options.folder / "codec.safetensors", codec.state_dict())
        save_weights(options.folder / "language_model.safetensors", model.state_dict())
        return
    if options.untrained:
        model.initialise()
        initialise(codec, torch.randn(8, 48000) * 0.1)
        codec.codebook.get_buffer("embedding_sum").normal_()
        codec.codebook.get_buffer("cluster_usage").fill_(1.0)
    else:
        codec.load_state_dict(load_weights(options.folder / "codec.safetensors"))
        model.load_state_dict(load_weights(options.folder / "language_model.safetensors"))
    write_checkpoint(options.output or options.folder / "export", codec, model, vocabulary, source=source)


if __name__ == "__main__":
    main()
