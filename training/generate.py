"""Sampling from the language model, many rows at once, as fast as the device reads their past."""

import torch
from torch import Tensor
from torch.nn.functional import gelu, layer_norm, linear, scaled_dot_product_attention

from training.lm_model import LanguageModel, Layer, positions
from training.pattern import SPECIAL, delayed, undelayed

STRETCH = 128  # the past that a step attends to is rounded up to so many columns
PROMPTS = 256  # rows whose prompts are read at once


def norm(x: Tensor, like: torch.nn.LayerNorm, kind: torch.dtype) -> Tensor:
    """A norm in float32, then the type of the products."""
    return layer_norm(x, like.normalized_shape, like.weight, like.bias, like.eps).to(kind)


class Matrices:
    """A model's matrices as the steps multiply by them; `refresh` after the model has learned."""

    def __init__(self, model: LanguageModel, kind: torch.dtype):
        self.model, self.kind = model, kind
        self.layers = [self._of(layer) for layer in model.decoder.layers]
        self.heads = self._heads()

    def _of(self, layer: Layer) -> list[Tensor]:
        own, text = layer.self_attn, layer.encoder_attn
        asked = torch.cat([own.q_proj.weight, own.k_proj.weight, own.v_proj.weight])
        read = torch.cat([text.k_proj.weight, text.v_proj.weight])
        weights = asked, own.out_proj.weight, text.q_proj.weight, read, text.out_proj.weight
        return [w.detach().to(self.kind) for w in (*weights, layer.fc1.weight, layer.fc2.weight)]

    def _heads(self) -> Tensor:
        return torch.cat([head.weight for head in self.model.lm_heads]).detach().to(self.kind)

    @torch.no_grad()
    def refresh(self) -> None:
        """Copies the weights again, to where the captured steps look for them."""
        for kept, layer in zip(self.layers, self.model.decoder.layers, strict=True):
            for there, now in zip(kept, self._of(layer), strict=True):
                there.copy_(now)
        self.heads.copy_(self._heads())


class Sampler:
    """Plays on `rows` prompts to `frames` frames; made once, it can play many times.

    With `text` tokens a row, the text of each row counts; with a `guidance` other than 1 the
    conditioned stream is pushed away from an unconditioned one, which costs as much again. On a
    GPU every stretch of steps is one CUDA graph, because the host would take longer to launch a
    step than the device to do it.
    """

    def __init__(
        self,
        model: LanguageModel,
        rows: int,
        frames: int,
        text: int = 0,
        guidance: float = 1.0,
        temperature: float = 1.0,
        top_k: int = 250,
    ):
        shape = model.shape
        self.model, self.frames, self.guidance = model, frames, guidance
        self.temperature, self.top_k = temperature, top_k
        self.device = next(model.parameters()).device
        cuda = self.device.type == "cuda"
        self.kind = torch.bfloat16 if cuda else torch.float32
        self.streams = 2 if text and guidance != 1 else 1
        steps = frames + shape.codebooks
        padded = -(-steps // STRETCH) * STRETCH
        every, width = rows * self.streams, shape.dim // shape.heads

        def room(length: int) -> Tensor:
            size = (shape.layers, 2, every, shape.heads, length, width)
            return torch.zeros(size, device=self.device, dtype=self.kind)

        self.columns = torch.full((rows, shape.codebooks, steps), SPECIAL, device=self.device)
        self.place = torch.zeros(1, dtype=torch.long, device=self.device)
        self.prompt = torch.zeros(1, dtype=torch.long, device=self.device)
        self.books = torch.arange(shape.codebooks, device=self.device)
        self.at = torch.arange(padded, device=self.device)
        self.positions = positions(padded, shape.dim, self.device)
        self.past = room(padded)
        self.text = room(text) if text else None
        self.mask = torch.zeros(every, 1, 1, text, dtype=torch.bool, device=self.device)
        self.matrices = Matrices(model, self.kind)
        self.graphs: dict[int, torch.cuda.CUDAGraph] = {}
        if cuda:
            self._capture(padded)

    @torch.no_grad()
    def _capture(self, padded: int) -> None:
        self.mask.fill_(True)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for limit in range(STRETCH, padded + 1, STRETCH):
                self._step(limit)
        torch.cuda.current_stream().wait_stream(stream)
        pool = torch.cuda.graph_pool_handle()
        for limit in range(STRETCH, padded + 1, STRETCH):
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=pool):
                self._step(limit)
            self.graphs[limit] = graph

    def _split(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        """(rows, 1, parts · dim) to parts of (rows, heads, 1, dim / heads)."""
        heads = self.model.shape.heads
        return tuple(y.unflatten(-1, (heads, -1)).transpose(1, 2) for y in x.chunk(parts, -1))

    def _step(self, limit: int) -> None:
        """Reads the newest column, writes the next; attends to the first `limit` columns' room."""
        model, kind = self.model, self.kind
        newest = self.columns.index_select(2, self.place)
        x = model.embed(newest) + self.positions.index_select(0, self.place)
        if self.streams == 2:
            x = torch.cat([x, x])
        seen = (self.at[:limit] <= self.place)[None, None, None]
        bias = torch.zeros(seen.shape, device=x.device, dtype=kind).masked_fill(~seen, -torch.inf)
        for number, layer in enumerate(model.decoder.layers):
            asked, out, ask, _, text_out, up, down = self.matrices.layers[number]
            past = self.past[number]
            q, k, v = self._split(linear(norm(x, layer.self_attn_layer_norm, kind), asked), 3)
            past[0].index_copy_(2, self.place, k)
            past[1].index_copy_(2, self.place, v)
            heard = scaled_dot_product_attention(
                q, past[0, :, :, :limit], past[1, :, :, :limit], attn_mask=bias
            )
            x = x + linear(heard.transpose(1, 2).flatten(2), out)
            if self.text is not None:
                (q,) = self._split(linear(norm(x, layer.encoder_attn_layer_norm, kind), ask), 1)
                k, v = self.text[number]
                heard = scaled_dot_product_attention(q, k, v, attn_mask=self.mask)
                x = x + linear(heard.transpose(1, 2).flatten(2), text_out)
            x = x + linear(gelu(linear(norm(x, layer.final_layer_norm, kind), up)), down)
        hidden = norm(x[:, 0], model.decoder.layer_norm, kind)
        logits = linear(hidden, self.matrices.heads).float()
        drawn = self._draw(logits.unflatten(-1, (model.shape.codebooks, -1)))
        frame = self.place - self.books
        self.place += 1
        there = self.columns.index_select(2, self.place)[..., 0]
        drawn = torch.where(frame >= self.prompt, drawn, there)
        drawn = drawn.masked_fill((frame < 0) | (frame >= self.frames), SPECIAL)
        self.columns.index_copy_(2, self.place, drawn[..., None])

    def _draw(self, logits: Tensor) -> Tensor:
        """One entry (rows, K) of logits (rows · streams, K, entries) among the `top_k` best."""
        if self.streams == 2:
            conditioned, free = logits.chunk(2)
            logits = free + (conditioned - free) * self.guidance
        least = logits.topk(self.top_k, sorted=False).values.amin(-1, keepdim=True)
        chance = (logits / self.temperature).masked_fill(logits < least, -torch.inf)
        # The largest of logits plus Gumbel noise is drawn as softmax draws.
        noise = torch.empty_like(chance).exponential_().clamp_min(1e-20)
        return (chance - noise.log()).argmax(-1)

    def _read_text(self, words: Tensor) -> tuple[Tensor, Tensor]:
        """Conditioning and mask of the streams; keeps each layer's view of them."""
        assert self.text is not None
        text, mask = self.model.conditioning(words)
        if self.streams == 2:
            text, mask = torch.cat([text, torch.zeros_like(text)]), torch.cat([mask, mask])
        for kept, weights in zip(self.text, self.matrices.layers, strict=True):
            keys, values = self._split(linear(text.to(self.kind), weights[3]), 2)
            kept[0].copy_(keys)
            kept[1].copy_(values)
        self.mask.copy_(mask)
        return text, mask

    @torch.no_grad()
    def play(self, prompt: Tensor, words: Tensor | None = None, seed: int = 0) -> Tensor:
        """Codes (rows, K, frames) that begin with the prompt's (rows, K, P), P = 0 for none.

        `words` (rows, text) are the texts' tokens. Draws from torch's own generator, which it sets
        to the seed.
        """
        rows, K, P = prompt.shape
        self.matrices.refresh()
        self.columns.copy_(
            delayed(torch.cat([prompt, prompt.new_zeros(rows, K, self.frames - P)], 2))
        )
        if words is None:
            text = torch.zeros(rows, 1, self.model.shape.dim, device=self.device)
            mask = torch.ones(rows, 1, 1, 1, dtype=torch.bool, device=self.device)
        else:
            text, mask = self._read_text(words)
        if P:
            self._read_prompt(P, text, mask)
        self.place.fill_(P)
        self.prompt.fill_(P)
        torch.manual_seed(seed)
        for place in range(P, self.columns.shape[2] - 1):
            if self.graphs:
                self.graphs[(place // STRETCH + 1) * STRETCH].replay()
            else:
                self._step(place + 1)
        return undelayed(self.columns)

    def _read_prompt(self, P: int, text: Tensor, mask: Tensor) -> None:
        """Fills the past with the first P columns."""
        rows = torch.arange(len(text), device=self.device).split(PROMPTS)
        cuda = self.device.type == "cuda"
        for part in rows:
            here = slice(int(part[0]), int(part[-1]) + 1)
            columns = self.columns[part % len(self.columns), :, :P]
            caches = [past[:, here] for past in self.past]
            with torch.autocast(self.device.type, torch.bfloat16, enabled=cuda):
                self.model.hidden(columns, text[here], mask[here], caches)


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
    text = 0 if words is None else words.shape[1]
    sampler = Sampler(model, len(prompt), frames, text, guidance, temperature, top_k)
    return sampler.play(prompt, words, seed)
