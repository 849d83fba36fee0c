"""Recipes: which modules of the language model are quantized, and how.

Scopes name modules of the language model.  The codec and the text encoder are never quantized: they
run once per request, and their errors are the most audible.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ..errors import RequestError
from .config import QuantizationParams
from .layouts import LM, PROJECTION

_LINEARS = re.compile(
    rf"^{re.escape(LM)}layers\.\d+\.((self|encoder)_attn\.(q|k|v|out)_proj|fc[12])$"
    r"|^decoder\.lm_heads\.\d+$"
)
_EMBEDDINGS = re.compile(rf"^{re.escape(LM)}embed_tokens\.\d+$")
_PROJECTION = PROJECTION.removesuffix(".")

SCOPES = ("decoder-linears", "decoder-linears+emb", "all-linears", "all-quantizable")
"""The layers' and heads' products; with the embeddings; with the text projection; with both."""

POSSIBLE: Mapping[str, Mapping[int, tuple[int, ...]]] = MappingProxyType(
    {
        "affine": dict.fromkeys((2, 3, 4, 5, 6, 8), (32, 64, 128)),
        "mxfp4": {4: (32,)},
        "mxfp8": {8: (32,)},
        "nvfp4": {4: (16,)},
    }
)
"""For each mode and number of bits, the group sizes that `mlx.core.quantize` has."""


@dataclass(frozen=True)
class Recipe:
    """A quantization.

    Attributes:
        scope: one of `SCOPES`.
        bits: of one weight, 2 to 8.
        group_size: weights that share a scale, 16 to 128.
        mode: of `mlx.core.quantize`: `"affine"`, `"mxfp4"`, `"mxfp8"` or `"nvfp4"`.

    Raises:
        RequestError: MLX has no such combination; the line lists those of the mode.
    """

    scope: str = "decoder-linears"
    bits: int = 4
    group_size: int = 64
    mode: str = "affine"

    def __post_init__(self) -> None:
        if self.scope not in SCOPES:
            raise RequestError(f"no scope {self.scope!r}; there are {', '.join(SCOPES)}")
        if self.mode not in POSSIBLE:
            raise RequestError(f"no mode {self.mode!r}; there are {', '.join(POSSIBLE)}")
        sizes = POSSIBLE[self.mode]
        if self.group_size not in sizes.get(self.bits, ()):
            bits = " or ".join(map(str, sizes))
            groups = " or ".join(map(str, next(iter(sizes.values()))))  # the same for all bits
            ways = f"{bits} bits in groups of {groups}"
            raise RequestError(
                f"{self.mode} cannot have {self.bits} bits in groups of {self.group_size}; "
                f"it has {ways}"
            )

    @property
    def name(self) -> str:
        """A short name: `q4-g64-decoder-linears`, with the mode where it is not affine."""
        mode = "" if self.mode == "affine" else f"-{self.mode}"
        return f"q{self.bits}-g{self.group_size}{mode}-{self.scope}"

    @property
    def params(self) -> QuantizationParams:
        """Bits, group size and mode, without the scope."""
        return QuantizationParams(self.bits, self.group_size, self.mode)

    def covers(self, module: str) -> bool:
        """Tell whether a module, by its name in `segue.checkpoints.layouts`, is in scope."""
        if _LINEARS.match(module):
            return True
        if _EMBEDDINGS.match(module):
            return self.scope in ("decoder-linears+emb", "all-quantizable")
        return module == _PROJECTION and self.scope in ("all-linears", "all-quantizable")

    def fits(self, columns: int) -> bool:
        """Tell whether a row of so many weights is whole groups, and whole words when packed."""
        return columns % self.group_size == 0 and columns * self.bits % 32 == 0


PRESETS: Mapping[str, Recipe | None] = MappingProxyType(
    {
        "none": None,
        "q8_decoder_linears": Recipe("decoder-linears", 8),
        "q4_decoder_linears": Recipe("decoder-linears", 4),
        "q4_decoder_linears_emb": Recipe("decoder-linears+emb", 4),
    }
)
"""The choices of the plugin."""

_ALIASES = {
    "": "none",
    "off": "none",
    "baseline": "none",
    "q8": "q8_decoder_linears",
    "q4": "q4_decoder_linears",
    "q4_emb": "q4_decoder_linears_emb",
}


def preset(typed: str) -> tuple[str, Recipe | None]:
    """Find a preset by a name as a user types it.

    Case is ignored, `-` and `+` stand for `_`, and short names are known: off, q8, q4, q4-emb.

    Returns:
        Its name in `PRESETS`, and its recipe.

    Raises:
        RequestError: nothing like it.
    """
    name = re.sub(r"[-+]", "_", typed.strip().lower())
    name = _ALIASES.get(name, name)
    if name not in PRESETS:
        raise RequestError(f"no quantization {typed!r}; there are {', '.join(PRESETS)}")
    return name, PRESETS[name]
