"""Encodes the rendered clips with the trained codec: `python -m training.tokens`.

Writes `NAME.codes.npy`, int16 (clips, K, frames), beside each shard. With `--follow` it goes on
with the shards that come, so that rendering, encoding and training can run at the same time.
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
def encode(codec: Codec, clips: Tensor, batch: int) -> Tensor:
    """Clips (N, samples) int16 to codes (N, K, frames) int16 on the CPU."""
    device, hop = clips.device, codec.shape.hop
    found = []
    for part in clips.split(batch):
        audio = part[:, : part.shape[1] // hop * hop].float() / 32768
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            latents = codec.latents(audio)
        codes = codec.quantizer(latents.float(), learn=False).codes
        found.append(codes.to(torch.int16).cpu())
    return torch.cat(found)


def write(codec: Codec, path: Path, device: torch.device, batch: int) -> int:
    """Encodes one shard; the number of its clips."""
    codes = encode(codec, torch.from_numpy(np.load(path)).to(device), batch)
    part = path.with_suffix(".part.npy")
    np.save(part, codes.numpy())
    part.rename(path.with_suffix(".codes.npy"))
    return len(codes)


def main() -> None:
    """Encodes every shard of the splits that has no codes yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--splits", nargs="+", default=["heldout", "train"])
    parser.add_argument("--batch", type=int, help="clips at once, 0.3 GB each")
    parser.add_argument("--follow", type=float, default=0.0, help="seconds to wait for shards")
    parser.add_argument("--keep", type=int, default=None, help="train shards whose sound is kept")
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    codec = load_codec(args.state, device)
    batch = args.batch or (80 if device.type == "cuda" else 4)
    begun, clips, spent = time.time(), 0, 0.0
    while True:
        found = [path for split in args.splits for path in dataset.shards(args.data, split)]
        fresh = [path for path in found if not path.with_suffix(".codes.npy").exists()]
        for path in fresh:
            started = time.time()
            clips += write(codec, path, device, batch)
            spent += time.time() - started
            number = int(path.stem.split("_")[1])
            if args.keep is not None and path.stem.startswith("train") and number >= args.keep:
                path.unlink()
        if fresh:
            print(f"{clips} clips, {spent:.0f} of {time.time() - begun:.0f} s", flush=True)
        elif time.time() - begun > args.follow:
            break
        else:
            time.sleep(0.5)


if __name__ == "__main__":
    main()
