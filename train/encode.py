"""Stage 4: the codes of the corpus, and which letter sounds in each frame.

    python -m train.encode build/nano

Needs a codec that is final: the language model learns these codes. Writes `codes-k.safetensors` for each
part. About 200 times real time on one core. Read next: `train.language_model`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from train.codec_network import TrainableCodec
from train.corpus import open_corpus
from train.crops import LABELS_PER_FRAME, SAMPLES_PER_FRAME
from train.data import SAMPLE_RATE, Item
from train.loop import World, load_weights, run, save_weights
from train.shape import nano_config
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


@torch.inference_mode()
def encode_part(world: World, folder: Path) -> None:
    """Encode the parts that fall to this process."""
    corpus = open_corpus(folder / "data")
    codec = TrainableCodec(nano_config())
    codec.load_state_dict(load_weights(folder / "codec.safetensors"))
    codec.to(world.device).eval()
    tokenizer = LetterTokenizer(build_vocabulary())
    for part in range(world.rank, corpus.num_parts, world.size):
        data = corpus.read_part(part)
        order = sorted(range(len(data.items)), key=lambda index: data.items[index].num_samples)
        lengths = [-(-item.num_samples // SAMPLES_PER_FRAME) for item in data.items]
        offsets = np.concatenate(([0], np.cumsum(lengths)))
        semantic = np.zeros(offsets[-1], np.int16)
        acoustic = np.zeros((offsets[-1], codec.config.codebooks.num_acoustic), np.uint8)
        aligned = np.zeros(offsets[-1], np.int16)
        labels = np.zeros((offsets[-1], LABELS_PER_FRAME), np.uint8)
        batch: list[int] = []
        for position, index in enumerate(order):
            batch.append(index)
            is_last = position + 1 == len(order)
            if not is_last and lengths[index] * (len(batch) + 1) < _FRAMES_PER_BATCH:
                continue
            samples = np.zeros((len(batch), lengths[index] * SAMPLES_PER_FRAME), np.float32)
            for row, member in enumerate(batch):
                item = data.items[member]
                piece = data.samples[item.start : item.start + item.num_samples]
                samples[row, : item.num_samples] = piece.astype(np.float32) / 32768
            with torch.autocast(world.device.type, torch.bfloat16):
                latent, values = codec.encode(torch.from_numpy(samples).to(world.device))
            codes = codec.codebook.nearest(latent).cpu().numpy()
            levels = torch.round((torch.tanh(values) + 1) * codec.half_levels).cpu().numpy()
            for row, member in enumerate(batch):
                place = slice(offsets[member], offsets[member + 1])
                semantic[place] = codes[row, : lengths[member]]
                acoustic[place] = levels[row, : lengths[member]]
            batch = []
        for index, item in enumerate(data.items):
            _, starts = tokenizer.encode(item.text)
            place = slice(offsets[index], offsets[index + 1])
            aligned[place] = align(item, lengths[index], starts)
            heard = corpus.phonemes.labels(item.phonemes, item.num_samples)
            labels[place].reshape(-1)[: len(heard)] = heard
        tensors = {"semantic": semantic, "acoustic": acoustic, "aligned": aligned, "labels": labels, "offsets": offsets}
        save_weights(
            folder / f"codes-{part}.safetensors", {name: torch.from_numpy(array) for name, array in tensors.items()}
        )
        used = len(np.unique(semantic))
        print(f"part {part}: {len(data.items)} items, {offsets[-1]} frames, {used} semantic codes in use", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Encode the whole corpus."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args(arguments)
    run(encode_part, options.processes, options.folder)


if __name__ == "__main__":
    main()
