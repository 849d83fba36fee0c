"""Sampling from the language model, many rows at once."""

import torch
from torch import Tensor

from training.lm_model import LanguageModel
from training.pattern import SPECIAL, delayed, undelayed


def sample(logits: Tensor, temperature: float, top_k: int, generator: torch.Generator) -> Tensor:
    """One entry for each row of logits (..., entries) among its `top_k` best."""
    best, entries = logits.float().topk(top_k)
    share = (best / temperature).softmax(-1)
    drawn = torch.multinomial(share.flatten(0, -2), 1, generator=generator)
    return entries.gather(-1, drawn.view(*share.shape[:-1], 1)).squeeze(-1)


@torch.no_grad()
def continue_codes(
    model: LanguageModel,
    prompt: Tensor,
    frames: int,
    words: Tensor | None = None,
    guidance: float = 3.0,
    temperature: float = 1.0,
    top_k: int = 250,
    seed: int = 0,
) -> Tensor:
    """Codes (B, K, frames) that begin with the prompt's (B, K, P), P = 0 for none.

    With texts (B, L) the conditioned stream is pushed away from the unconditioned one by
    `guidance`; without, the conditioning is zero.
    """
    model.eval()
    device, (B, K, P) = prompt.device, prompt.shape
    generator = torch.Generator(device).manual_seed(seed)
    shape = model.shape
    rows = B
    if words is None:
        text, mask = model.conditioning(torch.ones(B, 1, dtype=torch.long, device=device))
        text = torch.zeros_like(text)
    else:
        text, mask = model.conditioning(words)
        text, mask = torch.cat([text, torch.zeros_like(text)]), torch.cat([mask, mask])
        rows = 2 * B
    columns = delayed(torch.cat([prompt, prompt.new_zeros(B, K, frames - P)], 2))
    size = (2, rows, shape.heads, columns.shape[2], shape.dim // shape.heads)
    kind = torch.bfloat16 if device.type == "cuda" else torch.float32
    caches = [torch.zeros(size, device=device, dtype=kind) for _ in range(shape.layers)]
    start = 0
    # Column P + 1 is the first with a place that the prompt does not fill.
    for step in range(P + 1, columns.shape[2]):
        past = columns[:, :, start:step]
        past = past if rows == B else torch.cat([past, past])
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            hidden = model.hidden(past, text, mask, caches, start)[:, -1:]
            logits = model.logits(hidden)[:, 0].float()
        start = step
        if rows != B:
            conditioned, free = logits.chunk(2)
            logits = free + (conditioned - free) * guidance
        drawn = sample(logits, temperature, top_k, generator)
        for k in range(K):
            frame = step - 1 - k
            if P <= frame < frames:
                columns[:, k, step] = drawn[:, k]
            elif frame < 0 or frame >= frames:
                columns[:, k, step] = SPECIAL
    return undelayed(columns)
