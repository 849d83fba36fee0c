"""torch on the same shapes: `transformers` as it comes, and a CUDA graph as the yardstick."""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name

from . import shapes


class TransformersRow:
    """`generate` in float16; a step is the difference of a longer output and a short one."""

    def __init__(
        self,
        static: bool,
        shape: str,
        prompt_s: float,
        output_s: float,
        steps: int,
        takes: int = 1,
    ) -> None:
        import transformers

        config = shapes.config(shape)
        text, codec, decoder = (
            config[part] | {"model_type": kind}
            for part, kind in (
                ("text_encoder", "t5"),
                ("audio_encoder", "encodec"),
                ("decoder", "musicgen_decoder"),
            )
        )
        vocabulary = decoder["vocab_size"]
        decoder |= {"pad_token_id": vocabulary, "bos_token_id": vocabulary}
        whole = transformers.MusicgenConfig(text_encoder=text, audio_encoder=codec, decoder=decoder)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        with torch.device(device):
            model = transformers.MusicgenForConditionalGeneration(whole)
        self._model = model.to(device, torch.float16 if device == "cuda" else None).eval()
        tokens = self._model.generation_config
        tokens.decoder_start_token_id = tokens.bos_token_id = vocabulary
        tokens.pad_token_id, tokens.eos_token_id = vocabulary, None
        if static:
            tokens.cache_implementation = "static"
        random = np.random.default_rng(0)
        frames = round(50 * prompt_s)
        K = decoder["num_codebooks"]
        prompt = np.tile(random.integers(0, vocabulary, (K, frames)), (takes, 1))
        self._prompt, self._takes = torch.tensor(prompt, device=device), takes
        self._steps, self._total = steps, round(50 * output_s) + 3 - frames
        self.about = {"torch": torch.__version__, "transformers": transformers.__version__}

    def _generate(self, steps: int) -> float:
        start = time.perf_counter()
        with torch.no_grad():
            self._model.generate(
                **self._model.get_unconditional_inputs(self._takes),
                decoder_input_ids=self._prompt,
                do_sample=True,
                top_k=250,
                max_length=self._prompt.shape[1] + 1 + steps,
            )
        _wait()
        return time.perf_counter() - start

    def run(self, variant: str) -> dict[str, float]:
        """Generate a few steps, then more: everything but steps is in both."""
        _reset_peak()
        short = self._generate(5)
        step_s = (self._generate(5 + self._steps) - short) / self._steps
        return {
            "ms a step": 1000 * step_s,
            "prefill s": max(0.0, short - 5 * step_s),
            "reckoned end to end s": short + step_s * (self._total - 5),
            "peak GB": _peak_gb(),
        }


class GraphRow:
    """A decode step written by hand, its layers compiled, captured as one CUDA graph, in float16.

    The cache is static and attention masks its empty part.
    """

    def __init__(
        self, shape: str, prompt_s: float, output_s: float, steps: int, takes: int = 1
    ) -> None:
        decoder = shapes.config(shape)["decoder"]
        self._heads, dim = decoder["num_attention_heads"], decoder["hidden_size"]
        K, V = decoder["num_codebooks"], decoder["vocab_size"]
        on_gpu = torch.cuda.is_available()
        options: dict[str, Any] = {
            "device": "cuda" if on_gpu else "cpu",
            "dtype": torch.float16 if on_gpu else torch.float32,
        }

        def weight(*size: int) -> torch.Tensor:
            return 0.02 * torch.randn(*size, **options)

        self._layers = [
            [weight(3 * dim, dim), weight(dim, dim), weight(4 * dim, dim), weight(dim, 4 * dim)]
            for _ in range(decoder["num_hidden_layers"])
        ]
        self._norm = torch.ones(dim, **options), torch.zeros(dim, **options)
        length = -(-(round(50 * output_s) + 4) // 64) * 64
        cache = (2, takes, self._heads, length, dim // self._heads)
        self._caches = [torch.zeros(cache, **options) for _ in self._layers]
        self._table, self._out = weight(K, V + 1, dim), weight(K * V, dim)
        self._places = weight(length, dim)
        device = options["device"]
        self._tokens = torch.zeros(takes, K, dtype=torch.long, device=device)
        self._position = torch.zeros(1, dtype=torch.long, device=device)
        self._all = torch.arange(length, device=device)
        self._books = torch.arange(K, device=device)
        self._shape, self._top = (K, V), min(250, V)
        self._layer = torch.compile(self._plain_layer, dynamic=False) if on_gpu else None
        self._prompt = round(50 * prompt_s)
        self._steps = min(steps, length - self._prompt - 8)
        self.about = {"torch": torch.__version__, "dtype": str(options["dtype"])}
        self._graph = None
        if on_gpu:
            try:
                self._graph = self._captured()
            except RuntimeError as error:  # of the compiler, which wants one for C too
                self.about["layers"] = f"not compiled: {str(error).splitlines()[0][:100]}"
                print(self.about["layers"], file=sys.stderr)
                self._layer = None
                self._graph = self._captured()

    def _plain_layer(
        self,
        x: torch.Tensor,
        weights: list[torch.Tensor],
        cache: torch.Tensor,
        position: torch.Tensor,
        mask: torch.Tensor,
        norm: tuple[torch.Tensor, torch.Tensor],
    ) -> torch.Tensor:
        (qkv, out, fc1, fc2), (scale, shift) = weights, norm
        dim = x.shape[-1]
        y = F.linear(F.layer_norm(x, (dim,), scale, shift), qkv)
        q, k, v = y.view(len(x), 3, self._heads, 1, -1).unbind(1)
        cache[0].index_copy_(2, position, k)
        cache[1].index_copy_(2, position, v)
        y = F.scaled_dot_product_attention(q, cache[0], cache[1], attn_mask=mask)
        x = x + F.linear(y.reshape(len(x), dim), out)
        y = F.gelu(F.linear(F.layer_norm(x, (dim,), scale, shift), fc1))
        return x + F.linear(y, fc2)

    def _step(self) -> None:
        K, V = self._shape
        x = self._table[self._books, self._tokens].sum(1)
        x = x + self._places[self._position]
        mask = (self._all <= self._position)[None, None, None]
        layer = self._layer or self._plain_layer
        for weights, cache in zip(self._layers, self._caches, strict=True):
            x = layer(x, weights, cache, self._position, mask, self._norm)
        logits = F.linear(F.layer_norm(x, x.shape[-1:], *self._norm), self._out)
        logits = logits.view(-1, K, V).float()
        values, indices = logits.topk(self._top, dim=-1)
        noise = -torch.log(-torch.log(torch.rand_like(values).clamp_min(1e-20)))
        best = (values + noise).argmax(-1, keepdim=True)
        self._tokens.copy_(indices.gather(-1, best)[..., 0])
        self._position.add_(1)

    def _captured(self) -> Any:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream), torch.no_grad():
            for _ in range(3):
                self._step()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.no_grad(), torch.cuda.graph(graph):
            self._step()
        return graph

    def run(self, variant: str) -> dict[str, float]:
        """Replay it, from the end of a prompt on."""
        _reset_peak()
        self._position.fill_(self._prompt)
        _wait()
        start = time.perf_counter()
        with torch.no_grad():
            for _ in range(self._steps):
                self._graph.replay() if self._graph else self._step()
        _wait()
        return {
            "ms a step": 1000 * (time.perf_counter() - start) / self._steps,
            "peak GB": _peak_gb(),
        }


class CodecRow:
    """`transformers`' EnCodec, in float32 or TF32; samples and codes in the host's memory.

    Args:
        shape: of the checkpoint.
        tf32: whether cuDNN may round to ten bits of mantissa, as torch does unasked.
    """

    def __init__(self, shape: str, tf32: bool) -> None:
        import transformers

        config = shapes.config(shape)["audio_encoder"]
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        model = transformers.EncodecModel(transformers.EncodecConfig(**config))
        self._model, self._tf32 = model.to(self._device).eval(), tf32

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Samples `(N, 1, T)` of codes `(N, K, F)`."""
        self._choose()
        given = torch.from_numpy(codes).to(self._device, torch.long)[None]
        with torch.no_grad():
            found: np.ndarray = self._model.decode(given, [None]).audio_values.cpu().numpy()
        return found

    def encode(self, samples: np.ndarray) -> np.ndarray:
        """Codes `(N, K, F)` of samples `(N, T)`."""
        self._choose()
        with torch.no_grad():
            heard = self._model.encode(torch.from_numpy(samples).to(self._device)[:, None])
        found: np.ndarray = heard.audio_codes[0].cpu().numpy()
        return found

    def _choose(self) -> None:
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = self._tf32


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _reset_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def _peak_gb() -> float:
    return torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else 0.0
