"""Stage 4: the codes of the corpus, and which letter sounds in each frame.

    python -m train.encode build/nano

Needs a codec that is final: the language model learns these codes. Writes a file into `codes` for each part, which says
which codec made it: parts that have come since are encoded, and all of them for another codec. About 200 times real
time on one core. Read next: `train.examples`.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from train.codec_network import TrainableCodec
from train.crops import LABELS_PER_FRAME, SAMPLES_PER_FRAME
from train.data import SAMPLE_RATE, Item
from train.loop import World, group_by_length, load_weights, run
from train.shape import nano_config
from train.speech import open_speech
from train.tokenizer import LetterTokenizer, build_vocabulary

_FRAMES_PER_BATCH = 3000


def align(item: Item, num_frames: int, starts: list[int]) -> np.ndarray:
    """Find the text token that sounds in the middle of each frame, from the times of the words: [T] int16."""
    aligned = np.zeros(num_frames, np.int16)
    # The end of a clause is reported as a word without letters, at any position.
    words = [word for word in item.words if word[2] > 0]
    if not words or not starts:
        return aligned
    word = 0
    for frame in range(num_frames):
        time = (frame + 0.5) * SAMPLES_PER_FRAME / SAMPLE_RATE
        while word + 1 < len(words) and words[word + 1][0] <= time:
            word += 1
        begin, first, length = words[word]
        end = words[word + 1][0] if word + 1 < len(words) else item.num_samples / SAMPLE_RATE
        share = min(0.999, max(0.0, (time - begin) / max(0.02, end - begin)))
        letter = min(len(starts) - 1, first + int(share * (length + 1)))
        aligned[frame] = starts[letter]
    return aligned


def codes_path(folder: Path, name: str) -> Path:
    """Name the file of the codes of a part."""
    return folder / "codes" / f"{name}.safetensors"


def codec_digest(path: Path) -> str:
    """Name the codec that made some codes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def made_by(path: Path) -> str | None:
    """Tell which codec made a file of codes; None where there is no file."""
    if not path.is_file():
        return None
    opened: Any = safe_open(path, framework="pt")
    with opened as file:
        return (file.metadata() or {}).get("codec")


@torch.inference_mode()
def encode_parts(world: World, folder: Path, options: argparse.Namespace) -> None:
    """Encode the parts that fall to this process and that this codec has not encoded yet."""
    speech = open_speech(options.data or folder / "data")
    weights = folder / "codec.safetensors"
    codec = TrainableCodec(nano_config())
    codec.load_state_dict(load_weights(weights))
    codec.to(world.device).eval()
    digest = codec_digest(weights)
    tokenizer = LetterTokenizer(build_vocabulary())
    (folder / "codes").mkdir(exist_ok=True)
    for name in list(speech.names)[world.rank :: world.size]:
        path = codes_path(folder, name)
        if made_by(path) == digest:
            continue
        data = speech.read_part(name)
        tensors = encode_items(codec, data.samples, data.items, world.device)
        offsets = tensors["offsets"]
        aligned = np.zeros(offsets[-1], np.int16)
        labels = np.zeros((offsets[-1], LABELS_PER_FRAME), np.uint8)
        for index, item in enumerate(data.items):
            _, starts = tokenizer.encode(item.text)
            place = slice(offsets[index], offsets[index + 1])
            aligned[place] = align(item, int(offsets[index + 1] - offsets[index]), starts)
            heard = speech.phonemes.labels(item.phonemes, item.num_samples, item.language)
            labels[place].reshape(-1)[: len(heard)] = heard
        tensors |= {"aligned": aligned, "labels": labels}
        partial = path.with_suffix(".partial")
        save_file({key: torch.from_numpy(array) for key, array in tensors.items()}, partial, {"codec": digest})
        os.replace(partial, path)
        used = len(np.unique(tensors["semantic"]))
        print(f"part {name}: {len(data.items)} items, {offsets[-1]} frames, {used} semantic codes in use", flush=True)


def encode_items(
    codec: TrainableCodec, samples: np.ndarray, items: Sequence[Item], device: torch.device
) -> dict[str, np.ndarray]:
    """Encode items, those of like length side by side.

    Args:
        codec: on its device.
        samples: [S] int16, of a part.
        items: of it.
        device: of the codec.

    Returns:
        semantic [T] int16 and acoustic [T, A] uint8 of all frames, and offsets [items + 1] of the items in them.
    """
    order = sorted(range(len(items)), key=lambda index: items[index].num_samples)
    lengths = [-(-item.num_samples // SAMPLES_PER_FRAME) for item in items]
    offsets = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))
    semantic = np.zeros(offsets[-1], np.int16)
    acoustic = np.zeros((offsets[-1], codec.config.codebooks.num_acoustic), np.uint8)
    for batch in group_by_length(order, lengths.__getitem__, _FRAMES_PER_BATCH):
        heard = np.zeros((len(batch), lengths[batch[-1]] * SAMPLES_PER_FRAME), np.float32)
        for row, member in enumerate(batch):
            item = items[member]
            piece = samples[item.start : item.start + item.num_samples]
            heard[row, : item.num_samples] = piece.astype(np.float32) / 32768
        with torch.autocast(device.type, torch.bfloat16):
            latent, values = codec.encode(torch.from_numpy(heard).to(device))
        codes = codec.codebook.nearest(latent).cpu().numpy()
        levels = torch.round((torch.tanh(values) + 1) * codec.half_levels).cpu().numpy()
        for row, member in enumerate(batch):
            place = slice(offsets[member], offsets[member + 1])
            semantic[place] = codes[row, : lengths[member]]
            acoustic[place] = levels[row, : lengths[member]]
    return {"semantic": semantic, "acoustic": acoustic, "offsets": offsets}


def main(arguments: Sequence[str] | None = None) -> None:
    """Encode what has not been encoded."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, help="the corpus; FOLDER/data by default")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args(arguments)
    run(encode_parts, options.processes, options.folder, options)


if __name__ == "__main__":
    main()
