"""How many primitives a decode step has, where they come from, and how many are launched on CUDA.

    python -m benchmarks.gpu.primitives --shape small

Nothing is computed: a step is traced, and its graph counted.  The count does not depend on how wide
a model is, so weights are tiny.  Where there is no GPU, what is one primitive on CUDA (layer norm,
attention without a mask, a kernel of segue's) is stood in for by one primitive; attention with a
mask is not fused for one query there (MLX 0.32), so it counts as what it is made of.
"""

from __future__ import annotations

import argparse
import io
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import mlx.core as mx
import mlx.nn as nn

from segue.checkpoints.config import LMConfig
from segue.engine.mlx import kernels
from segue.engine.mlx.cache import Masks
from segue.engine.mlx.decoding import cross_of_batch
from segue.engine.mlx.kernels import runtime
from segue.engine.mlx.lm import LM
from segue.engine.mlx.sampling import Noise, Sampler
from segue.engine.mlx.step import Step

from .shapes import DECODERS

VIEWS = frozenset(
    (
        *("Broadcast", "Depends", "ExpandDims", "Flatten", "Reshape", "Slice", "Split", "Squeeze"),
        *("StopGradient", "Transpose", "Unflatten"),
    )
)
"""Primitives that only describe memory anew: host time, but nothing is launched."""

LAUNCHES = {"DynamicSliceUpdate": 2, "Concatenate": 2}
"""Of primitives that launch more than one kernel on CUDA: the offset and the copy; each part."""

LEAST, MOST = 7, 12
"""Of host time that a launched primitive cost, with what lies between: in segue, in a prototype."""

IMAGINED = runtime.GPU(multiprocessors=132, shared_bytes=99 << 10, tensor_cores=True)
"""The GPU that a step is counted for."""

CASES = {
    "plain": (1, False),
    "guided": (1, True),
    "4 takes": (4, False),
}


class StandIns:
    """Counts of what one `Depends` stands for, by name."""

    def __init__(self) -> None:
        self.names: Counter[str] = Counter()

    def one(self, name: str, inputs: list[mx.array], shape: Any, dtype: mx.Dtype) -> mx.array:
        """One primitive of `inputs`."""
        return self.several(name, inputs, [shape], [dtype])[0]

    def several(
        self, name: str, inputs: list[mx.array], shapes: Any, dtypes: Any
    ) -> list[mx.array]:
        """One primitive of `inputs` that has several outputs."""
        self.names[name] += 1
        leaves = [mx.zeros(*each) for each in zip(shapes, dtypes, strict=True)]
        mx.eval(leaves)
        out: list[mx.array] = mx.depends(leaves, inputs)
        return out

    @contextmanager
    def installed(self) -> Iterator[None]:
        """In MLX's place."""
        attention = mx.fast.scaled_dot_product_attention

        def norm(x: mx.array, weight: mx.array, bias: mx.array, *_: Any) -> mx.array:
            return self.one("LayerNorm", [x, weight, bias], x.shape, x.dtype)

        def attend(q: mx.array, k: mx.array, v: mx.array, scale: float, mask: Any = None) -> Any:
            if mask is not None:
                return attention(q, k, v, scale=scale, mask=mask)
            return self.one("ScaledDotProductAttention", [q, k, v], q.shape, q.dtype)

        def kernel(
            name: str, _: Any, inputs: Any, constants: Any, outputs: Any, **launch: Any
        ) -> list[mx.array]:
            shapes, dtypes = zip(*outputs.values(), strict=True)
            return self.several(f"Kernel {name}", list(inputs.values()), shapes, dtypes)

        with (
            patch.object(mx.fast, "layer_norm", norm),
            patch.object(mx.fast, "scaled_dot_product_attention", attend),
            patch.object(runtime, "run", kernel),
        ):
            yield


def labels(arrays: list[mx.array]) -> Counter[str]:
    """The primitives that `arrays` come from."""
    text = io.StringIO()
    mx.export_to_dot(text, arrays)
    return Counter(re.findall(r'label ="([^"]*)"', text.getvalue()))


class PartsStep(Step):
    """A step that counts what each part adds to the graph."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.parts: Counter[str] = Counter()
        self._within = ""

    def _counted(self, part: str, run: Any, before: list[mx.array]) -> Any:
        if self._within:
            return run()
        self._within = part
        had = labels(before).total()
        out = run()
        if out is None:
            self._within = ""
            return None
        arrays = [out] if isinstance(out, mx.array) else list(out)
        self.parts[part] += labels(before + arrays).total() - had
        self._within = ""
        return out

    def embed(self, *inputs: Any) -> Any:
        """Count it; see `Step`."""
        return self._counted("embedding", lambda: super(PartsStep, self).embed(*inputs), [])

    def linear(self, x: mx.array, layer: Any, *rest: Any, **options: Any) -> Any:
        """Count it; see `Step`."""
        part = "attention"
        if layer is self.lm.lm_heads:
            part = "heads"
        elif any(layer is block.fc1 or layer is block.fc2 for block in self.lm.layers):
            part = "feed-forward"
        before = [x] + [a for a in options.values() if isinstance(a, mx.array)]
        run = super().linear
        return self._counted(part, lambda: run(x, layer, *rest, **options), before)

    def attend(self, *inputs: Any) -> Any:
        """Count it; see `Step`."""
        run = super().attend
        before = [a for a in inputs if isinstance(a, mx.array)]
        return self._counted("cache and attention", lambda: run(*inputs), before)

    def layers_forward(self, x: mx.array, *inputs: Any) -> Any:
        """Count it; see `Step`."""
        run = super().layers_forward
        return self._counted("layers", lambda: run(x, *inputs), [x])

    def cross_attend(self, x: mx.array, *inputs: Any) -> Any:
        """Count it; see `Step`."""
        run = super().cross_attend
        return self._counted("cross-attention", lambda: run(x, *inputs), [x])

    def sample(self, logits: mx.array, *inputs: Any) -> Any:
        """Count it; see `Step`."""
        run = super().sample
        return self._counted("sampling", lambda: run(logits, *inputs), [logits])


@patch.object(runtime, "gpu", lambda: IMAGINED)
def traced(
    layers: int, takes: int, guided: bool, bits: int, on: frozenset[str], compiled: bool
) -> tuple[Counter[str], Counter[str]]:
    """The primitives of a step of `layers` layers, by name, and by part if it is not compiled."""
    heads, dim = 2, 64
    config = LMConfig(dim, layers, heads, 2 * dim, 4, 512)
    lm = LM(config, 32)
    lm.set_dtype(mx.float16)
    if bits:
        nn.quantize(lm, 32, bits, class_predicate=lambda _, m: isinstance(m, nn.Linear))
    mx.eval(lm.parameters(), lm.offsets, lm.positions)
    sampler = Sampler(250, guided)
    rows = takes * (2 if guided else 1)
    keys = mx.zeros((1, heads, 8, dim // heads), mx.float16)
    text = [(keys, keys)] * layers if guided else None
    noise = Noise(tuple(range(takes)), (4, 512), 0, 4, kernels.SAMPLE in on)
    noise.of(0)
    tokens = mx.zeros((takes, 4), mx.int32)
    numbers = (mx.array(1.0), mx.array(3.0))
    cache = lm.empty_cache(rows, 10)
    mask = None if kernels.ATTEND in on else Masks(lm.dtype).of(5, cache[0].shape[3])
    inputs = (tokens, tokens + 0, mx.array([5]), mask, noise.of(0), numbers)
    step = PartsStep(lm, sampler, on)
    cross = step.folded(text, takes) or cross_of_batch(text, takes, guided)
    mx.eval(inputs, cache, cross)
    stand_ins = StandIns()
    with stand_ins.installed():
        run = Step(lm, sampler, on).compiled() if compiled else step
        out, new = run(*inputs, cache, cross)
        found = labels([out, *new])
    found["Depends"] -= stand_ins.names.total()
    return +found + stand_ins.names, step.parts


def step_of(
    layers: int, takes: int, guided: bool, bits: int, on: frozenset[str], compiled: bool
) -> tuple[Counter[str], Counter[str]]:
    """The same for many layers, which are all alike."""
    ways = [traced(n, takes, guided, bits, on, compiled) for n in (2, 3)]
    whole = []
    for one, two in zip(*ways, strict=True):
        names = set(one) | set(two)
        whole.append(
            Counter({name: one[name] + (layers - 2) * (two[name] - one[name]) for name in names})
        )
    return whole[0], whole[1]


def launches(found: Counter[str]) -> int:
    """How many kernels these primitives launch on CUDA."""
    return sum(n * LAUNCHES.get(name, 1) for name, n in found.items() if name not in VIEWS)


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shape", choices=[s for s in DECODERS if s != "toy"], default="small")
    parser.add_argument("--kernels", nargs="+", default=["none", "all"], help="as the variable")
    parser.add_argument("--details", action="store_true", help="every primitive by name")
    options = parser.parse_args()
    layers = DECODERS[options.shape]["num_hidden_layers"]
    print(f"{options.shape}, {layers} layers; predicted: {LEAST} to {MOST} µs a launch\n")
    print("| kernels | weights | | primitives | compiled | launched | predicted ms | by part |")
    print("|---|---|---|--:|--:|--:|--:|---|")
    for names in options.kernels:
        on = kernels.wanted(names)
        for weights, bits in (("float16", 0), ("4-bit", 4)):
            for case, (takes, guided) in CASES.items():
                plain, parts = step_of(layers, takes, guided, bits, on, compiled=False)
                found, _ = step_of(layers, takes, guided, bits, on, compiled=True)
                count = launches(found)
                least, most = (count * each / 1000 for each in (LEAST, MOST))
                by_part = ", ".join(f"{part} {n}" for part, n in parts.items())
                print(
                    f"| {names} | {weights} | {case} | {plain.total()} | {found.total()} | "
                    f"{count} | {least:.2f} to {most:.2f} | {by_part} |"
                )
                if options.details:
                    for name, n in found.most_common():
                        print(f"    {n:5} {name}{'' if name not in VIEWS else ' (a view)'}")


if __name__ == "__main__":
    main()
