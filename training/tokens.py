"""Encodes the rendered clips with the trained codec: `python -m training.tokens`.

Writes `tokens_SPLIT.npy`, int16 (clips, shifts, K, frames). Each shift starts the clip at another
place inside a frame, which gives other codes for the same music: more to learn from.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from training import dataset, state
from training.codec_model import Codec, CodecShape


def load_codec(folder: Path, device: torch.device) -> Codec:
    """The codec of a state folder, for inference."""
    tensors, facts = state.load(folder, "codec")
    codec = Codec(CodecShape(filters=facts["filters"]))
    codec.load_state_dict(tensors)
    return codec.to(device).eval()


@torch.no_grad()
def encode(codec: Codec, clips: Tensor, shifts: list[int], batch: int) -> Tensor:
    """Clips (N, samples) int16 to codes (N, shifts, K, frames) int16 on the CPU."""
    device = clips.device
    hop, found = codec.shape.hop, []
    for part in clips.split(batch):
        audio = part.float() / 32768
        rows = []
        for shift in shifts:
            # What the shift cuts from the front is made up with silence at the end.
            moved = torch.nn.functional.pad(audio[:, shift:], (0, shift))
            moved = moved[:, : moved.shape[1] // hop * hop]
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                latents = codec.latents(moved)
            codes = codec.quantizer(latents.float(), learn=False).codes
            rows.append(codes.to(torch.int16).cpu())
        found.append(torch.stack(rows, 1))
    return torch.cat(found)


def main() -> None:
    """Encodes every shard of the splits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--splits", nargs="+", default=["heldout", "train"])
    parser.add_argument("--shards", type=int, default=None)
    parser.add_argument("--clips", type=int, default=None, help="clips of each shard")
    parser.add_argument("--shifts", type=int, default=2)
    parser.add_argument("--batch", type=int, default=60)
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    codec = load_codec(args.state, device)
    hop = codec.shape.hop
    shifts = [hop * i // args.shifts for i in range(args.shifts)]
    for split in args.splits:
        begun, found = time.time(), []
        for path in dataset.shards(args.data, split, args.shards):
            clips = dataset.load([path], device)[: args.clips]
            found.append(encode(codec, clips, shifts, args.batch))
        codes = torch.cat(found).numpy()
        np.save(args.data / f"tokens_{split}.npy", codes)
        print(f"{split}: codes {codes.shape} in {time.time() - begun:.0f} s")


if __name__ == "__main__":
    main()
