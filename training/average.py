"""Puts a decoder between those of two states of a codec: `python -m training.average`.

Two decoders of which one was trained on from the other have weights between them that sound as well
as either, so that a share trades one figure for another without training. Encoder and codebooks,
which have to be the same in both, and the language model stay those of `--state`.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from training import state


def between(first: dict[str, Tensor], second: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """The first's tensors, its decoder's moved to the second's by `share` (0 to 1).

    Raises:
        ValueError: if anything but the decoder differs: the codes would mean other sounds.
    """
    others = {name for name in first.keys() | second.keys() if not name.startswith("decoder.")}
    for name in sorted(others):
        if name not in first or name not in second or not torch.equal(first[name], second[name]):
            raise ValueError(f"{name} is not the same in both; only decoders can be averaged")
    return {
        name: value if name in others else torch.lerp(value, second[name], share)
        for name, value in first.items()
    }


def main() -> None:
    """Writes the codec between two states, and the first's language model, into a third."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--with", dest="other", type=Path, required=True, help="another state")
    parser.add_argument("--share", type=float, required=True, help="the other's share, 0 to 1")
    parser.add_argument("--out", type=Path, required=True, help="a third state, without a codec")
    args = parser.parse_args()
    if not 0 <= args.share <= 1:
        parser.error("--share is from 0 to 1")
    for folder in (args.state, args.other):
        if not (folder / "codec.json").exists():
            parser.error(f"{folder} holds no codec; name another folder")
    if any((args.out / f"{name}.json").exists() for name in ("codec", "lm")):
        parser.error(f"{args.out} holds states already; name another folder")
    first, facts = state.load(args.state, "codec")
    second, _ = state.load(args.other, "codec")
    try:
        found = between(first, second, args.share)
    except ValueError as error:
        parser.error(str(error))
    facts = {key: value for key, value in facts.items() if key != "heldout"}
    state.save(args.out, "codec", found, facts, torch.float32)
    lm, facts = state.load(args.state, "lm")
    if lm:
        state.save(args.out, "lm", lm, facts, torch.float16)


if __name__ == "__main__":
    main()
