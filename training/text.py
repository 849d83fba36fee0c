"""The words that the model understands, their tokenizer, and texts drawn from a clip's tags."""

import json

import numpy as np
import torch
from torch import Tensor

from training.instruments import FAMILIES
from training.scores import STYLES

PAD, EOS, UNKNOWN = 0, 1, 2
LENGTH = 16  # tokens of a training text, padded


def vocabulary() -> dict[str, int]:
    """Every word of every tag, after the three special tokens."""
    tags = [*STYLES, "no drums", "slow", "medium", "fast", "major", "minor"]
    tags += [instrument.tag for family in FAMILIES.values() for instrument in family]
    words = sorted({word for tag in tags for word in tag.split()})
    return {word: number for number, word in enumerate(["<pad>", "</s>", "<unk>", *words])}


def tokenizer_json() -> str:
    """The tokenizer as a `tokenizer.json`: lower case, one token a word, the end marked."""
    special = [
        {
            "id": number,
            "content": content,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for number, content in enumerate(["<pad>", "</s>", "<unk>"])
    ]
    end = {"SpecialToken": {"id": "</s>", "type_id": 0}}
    first = {"Sequence": {"id": "A", "type_id": 0}}
    second = {"Sequence": {"id": "B", "type_id": 0}}
    pieces = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"Regex": "[^a-z]+"},
            "behavior": "Removed",
            "invert": False,
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [first, end],
            "pair": [first, end, second, end],
            "special_tokens": {"</s>": {"id": "</s>", "ids": [EOS], "tokens": ["</s>"]}},
        },
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocabulary(), "unk_token": "<unk>"},
    }
    return json.dumps(pieces, indent=1)


def tokens(tags: list[str]) -> list[int]:
    """The tags' word numbers and the end token."""
    known = vocabulary()
    words = [word for tag in tags for word in tag.split()]
    return [*(known.get(word, UNKNOWN) for word in words), EOS]


def drawn(rng: np.random.Generator, facts: list[dict], variants: int) -> Tensor:
    """Texts (clips, variants, LENGTH) int64: a random part of each clip's tags, in random order.

    Half of the texts are one to three tags, as people write them; in the others each tag is kept
    with a chance drawn for the text. One word in fifty becomes the unknown word, so that a user's
    own words do no harm.
    """
    known = vocabulary()
    texts = np.full((len(facts), variants, LENGTH), PAD, dtype=np.int64)
    for number, fact in enumerate(facts):
        for variant in range(variants):
            tags = [str(tag) for tag in rng.permutation(fact["tags"])]
            if rng.random() < 0.5:
                tags = tags[: int(rng.integers(1, 4))]
            else:
                keep = rng.uniform(0.3, 1.0)
                tags = [tag for tag in tags if rng.random() < keep]
            words = [word for tag in tags for word in tag.split()][: LENGTH - 1]
            line = [UNKNOWN if rng.random() < 0.02 else known[word] for word in words]
            texts[number, variant, : len(line) + 1] = [*line, EOS]
    return torch.from_numpy(texts)
