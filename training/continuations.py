"""Generates what the figures listen to: `python -m training.continuations --data … --state …`.

Writes `continuations.npz` into the state: codes of held-out prompts played on without text
(`continued`), some of them further, as segue does, in windows that slide (`extended`), of pieces
from nothing with the text of one tag (`guided`, tags in `guided_tags`), and of pieces from nothing
without text (`free`).
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from training import dataset, state, text
from training.generate import continue_codes
from training.instruments import FAMILIES
from training.lm_model import LanguageModel, LMShape

PROMPT_FRAMES = 400
FRAMES = 1500
GUIDED_FRAMES = 500
SLIDE = 900  # frames by which the window moves when it is full
EXTENDED_FRAMES = 3000
INSTRUMENTS = dict.fromkeys(kind.tag for family in FAMILIES.values() for kind in family)
TAGS = ("drums", "no drums", *INSTRUMENTS)
ROWS = 24


def load_model(folder: Path, device: torch.device) -> LanguageModel:
    """The language model of a state folder, for inference."""
    tensors, facts = state.load(folder, "lm")
    model = LanguageModel(LMShape(len(text.vocabulary()), layers=facts["layers"]))
    model.load_state_dict(tensors)
    return model.to(device).eval()


def main() -> None:
    """Generates all three kinds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--frames", type=int, default=FRAMES)
    parser.add_argument("--extended", type=int, default=50, help="prompts that play on for longer")
    parser.add_argument("--guided-frames", type=int, default=GUIDED_FRAMES)
    parser.add_argument("--rows", type=int, default=ROWS, help="pieces for each guided tag")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--top-k", type=int, default=250)
    parser.add_argument("--guidance", type=float, default=3.0)
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = load_model(args.state, device)
    drawing = {"temperature": args.temperature, "top_k": args.top_k}
    begun = time.time()
    heldout = dataset.codes(args.data, "heldout")[: args.prompts, :, :PROMPT_FRAMES]
    prompts = torch.from_numpy(heldout.astype(np.int64)).to(device)
    continued = continue_codes(model, prompts, args.frames, **drawing)
    extended = continued[: args.extended]
    seed = 2
    while 0 < extended.shape[2] < EXTENDED_FRAMES * (args.extended > 0):
        begun_at = extended.shape[2] - (args.frames - SLIDE)
        room = min(args.frames, EXTENDED_FRAMES - begun_at)
        window = continue_codes(model, extended[:, :, begun_at:], room, seed=seed, **drawing)
        extended = torch.cat([extended[:, :, :begun_at], window], 2)
        seed += 1
    nothing = prompts.new_zeros(args.rows, prompts.shape[1], 0)
    free = continue_codes(model, nothing, args.guided_frames, seed=1, **drawing)
    texts = [text.tokens([tag]) for tag in TAGS for _ in range(args.rows)]
    width = max(map(len, texts))
    words = torch.tensor([[*line, *[text.PAD] * (width - len(line))] for line in texts])
    guided = continue_codes(
        model,
        nothing.repeat(len(TAGS), 1, 1),
        args.guided_frames,
        words.to(device),
        args.guidance,
        seed=1,
        **drawing,
    ).unflatten(0, (len(TAGS), args.rows))
    np.savez_compressed(
        args.state / "continuations.npz",
        continued=continued.cpu().numpy().astype(np.int16),
        extended=extended.cpu().numpy().astype(np.int16),
        free=free.cpu().numpy().astype(np.int16),
        guided=guided.cpu().numpy().astype(np.int16),
        guided_tags=np.array(TAGS),
    )
    print(f"continuations: {time.time() - begun:.0f} s")


if __name__ == "__main__":
    main()
