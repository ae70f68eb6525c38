"""Stage 6: a checkpoint in the published format, which the runtime loads as it loads the 4B file.

    python -m train.export build/nano -o build/nano/export

Weights in bfloat16, gains and codebook usage in float32; presets from clips (`train.presets`). With
`--from-checkpoint` the other way: weights of an exported checkpoint become the start of stages 3 and 5.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from train.codec_network import TrainableCodec, initialise
from train.crops import LABELS_PER_FRAME, Crop
from train.language_model import SpeechModel
from train.loop import load_weights, save_weights
from train.presets import Preset, spoken_presets, taken_presets
from train.shape import NUM_SPECIAL_TOKENS, make_params
from train.speech import ShardedSpeech, open_speech
from train.teacher import ESPEAK, TeacherSource
from train.tokenizer import build_vocabulary, write_tekken
from voxtral.loading.checkpoint import open_checkpoint
from voxtral.loading.files import PARAMS_FILE, TOKENIZER_FILE, VOICE_FOLDER, WEIGHTS_FILE
from voxtral.loading.inventory import AUDIO_EMBEDDINGS, CODEBOOK, DIRECTION, GAIN, TEXT_EMBEDDINGS
from voxtral.loading.load import load_model
from voxtral.loading.params import parse_config
from voxtral.model.source import MIDDLE_PITCH, Pitch
from voxtral.model.voxtral import VoxtralModel

_IN_FLOAT32 = (GAIN, "cluster_usage")

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


def write_checkpoint(
    folder: Path, codec: TrainableCodec, model: SpeechModel, vocabulary: list[bytes], presets: Sequence[Preset]
) -> None:
    """Write the checkpoint and its presets."""
    (folder / VOICE_FOLDER).mkdir(parents=True, exist_ok=True)
    params = make_params(len(vocabulary) + NUM_SPECIAL_TOKENS, {preset.name: row for row, preset in enumerate(presets)})
    (folder / PARAMS_FILE).write_text(json.dumps(params, indent=2) + "\n", encoding="utf-8")
    metadata = {"format": "pt", "license": "Apache-2.0", "name": "voxtral-tts nano"}
    save_file(checkpoint_tensors(codec, model), folder / WEIGHTS_FILE, metadata=metadata)
    runtime = _load(folder)
    voice_rows: dict[str, int] = {}
    for preset in presets:
        codes = runtime.encode_audio(torch.from_numpy(preset.clip))
        rows = runtime.embed_codes(codes).bfloat16()
        voice_rows[preset.name] = len(rows)
        save_file({"rows": rows}, folder / VOICE_FOLDER / f"{preset.name}.safetensors", metadata=_describe(preset))
    write_tekken(folder / TOKENIZER_FILE, vocabulary, voice_rows)
    for path in folder.rglob("*.safetensors"):
        path.chmod(0o644)  # safetensors writes for the owner alone, and a wheel carries that along


def _load(folder: Path) -> VoxtralModel:
    dtype = torch.float32
    return load_model(open_checkpoint(folder), device=torch.device("cpu"), dtype=dtype, codec_dtype=dtype)


def _describe(preset: Preset) -> dict[str, str]:
    sex = "female" if preset.is_female else "male"
    description = f"{_LANGUAGE_NAMES[preset.language]}, {sex}, synthetic"
    inner: dict[str, Any] = {"language": preset.language, "description": description}
    return {"format": "voxtral-voice-1", "name": preset.name, "metadata": json.dumps(inner)}


def _make_presets(data: Path, source: TeacherSource) -> list[Preset]:
    """Take presets from a corpus of shards; where there is none, the teacher speaks them."""
    speech = open_speech(data) if (data / "corpus.json").is_file() else None
    return list(taken_presets(speech.corpus) if isinstance(speech, ShardedSpeech) else spoken_presets(source))


def main(arguments: Sequence[str] | None = None, *, source: TeacherSource = ESPEAK) -> None:
    """Export, or start from an export."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, help="the corpus; FOLDER/data by default")
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
        noise, labels = torch.randn(8, 48000) * 0.1, torch.zeros(8, 25, LABELS_PER_FRAME, dtype=torch.int64)
        pitch = Pitch(torch.full((8, 200), MIDDLE_PITCH), torch.ones(8, 200))
        initialise(codec, Crop(noise, noise, labels, pitch))
        codec.codebook.get_buffer("embedding_sum").normal_()
        codec.codebook.get_buffer("cluster_usage").fill_(1.0)
    else:
        codec.load_state_dict(load_weights(options.folder / "codec.safetensors"))
        model.load_state_dict(load_weights(options.folder / "language_model.safetensors"))
    presets = _make_presets(options.data or options.folder / "data", source)
    write_checkpoint(options.output or options.folder / "export", codec, model, vocabulary, presets)


if __name__ == "__main__":
    main()
