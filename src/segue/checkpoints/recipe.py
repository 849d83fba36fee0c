"""Recipes: which modules of the language model are quantized, and how.

Scopes name modules of the language model.  The codec and the text encoder are never quantized: they
run once per request, and their errors are the most audible.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from ..errors import RequestError
from .config import LMConfig, QuantizationParams
from .layouts import LM, PROJECTION, Shapes
from .plan import Plan, check_stacks

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


DISTILLED = "+distill"
"""Behind a method's name: scales, biases and norms are then trained."""

METHODS: Mapping[str, bool] = MappingProxyType(
    {"nearest": False, "search": False, "gptq": True}
    | {f"{start}{DISTILLED}": True for start in ("nearest", "search", "gptq")}
)
"""How the integers of a group and its scale are chosen, and whether that takes music to look at."""


@dataclass(frozen=True)
class Calibration:
    """The music that a method looks at, which decides what it keeps exact.

    Attributes:
        paths: files and folders of audio, as they were named.
        self_takes: continuations from nothing, 10 s each, that the model generates for itself,
            0 or more; None is `SELF_TAKES` where there are no paths, and none where there are.
        seed: of the takes, and of what is drawn of the files, 0 to 2³² - 1.

    Raises:
        RequestError: a number is out of range, or there would be no music.
    """

    paths: tuple[str, ...] = ()
    self_takes: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.self_takes is not None and not 0 <= self.self_takes <= MAX_SELF_TAKES:
            raise RequestError(
                f"self-takes must lie between 0 and {MAX_SELF_TAKES}, not {self.self_takes}"
            )
        if self.self_takes == 0 and not self.paths:
            raise RequestError("--self-takes 0 leaves no music to calibrate on; name some")
        if not 0 <= self.seed < 1 << 32:
            raise RequestError(f"calibration-seed must lie between 0 and 4294967295: {self.seed}")

    @property
    def takes(self) -> int:
        """How many takes the model generates."""
        if self.self_takes is not None:
            return self.self_takes
        return 0 if self.paths else SELF_TAKES


SELF_TAKES = 128
"""Windows of 10 s that methods look at unless told otherwise: with 16 of them GPTQ loses a quarter
more, with 384 hardly less (docs/quantization.md)."""

MAX_SELF_TAKES = 4096

DISTILL_STEPS = 128
"""Of distillation, unless told otherwise: twice past the music of `SELF_TAKES`."""

MAX_DISTILL_STEPS = 100_000


@dataclass(frozen=True)
class Recipe:
    """A quantization.

    Attributes:
        scope: one of `SCOPES`.
        bits: of one weight, 2 to 8.
        group_size: weights that share a scale, 16 to 128.
        mode: of `mlx.core.quantize`: `"affine"`, `"mxfp4"`, `"mxfp8"` or `"nvfp4"`.
        method: one of `METHODS`; all but `"nearest"` are for the affine mode.  What users spell out
            without one gets `default_method`.
        calibration: what the method looks at, if it takes music; None is `Calibration()` there.
        plan: modules that are quantized in other ways; None is none.
        distill_steps: of training, for methods that end in `DISTILLED`: 1 or more; None is
            `DISTILL_STEPS` there.

    Raises:
        RequestError: MLX has no such combination; the line lists those of the mode.  Or there is no
            such method, or it cannot have that mode or music.  Or the plan makes no sense.
    """

    scope: str = "decoder-linears"
    bits: int = 4
    group_size: int = 64
    mode: str = "affine"
    method: str = "nearest"
    calibration: Calibration | None = None
    plan: Plan | None = None
    distill_steps: int | None = None

    def __post_init__(self) -> None:
        self._check_method()
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
        if self.plan is not None:
            self._check_plan(self.plan)

    def _check_plan(self, plan: Plan) -> None:
        for module, params in plan.modules:
            if not self.covers(module):
                raise RequestError(
                    f"the plan names {module}, which is no module that {self.scope} quantizes"
                )
            try:
                Recipe(self.scope, params.bits, params.group_size, params.mode, self.method)
            except RequestError as error:
                raise RequestError(f"the plan's {module}: {error}") from None

    def _check_method(self) -> None:
        if self.method not in METHODS:
            raise RequestError(f"no method {self.method!r}; there are {', '.join(METHODS)}")
        if self.mode != "affine" and self.method != "nearest":
            raise RequestError(f"the method {self.method} is for the affine mode, not {self.mode}")
        if not METHODS[self.method] and self.calibration is not None:
            raise RequestError(
                f"the method {self.method} looks at no music; leave out what it is calibrated on"
            )
        if self.distill_steps is None:
            return
        if not self.distils:
            raise RequestError(
                f"the method {self.method} trains nothing; leave out distill-steps, or add "
                f"{DISTILLED} to the method"
            )
        if not 1 <= self.distill_steps <= MAX_DISTILL_STEPS:
            raise RequestError(
                f"distill-steps must lie between 1 and {MAX_DISTILL_STEPS}: {self.distill_steps}"
            )

    @property
    def distils(self) -> bool:
        """Whether its method trains what another one chose."""
        return self.method.endswith(DISTILLED)

    @property
    def name(self) -> str:
        """A short name: `q4-g64-decoder-linears`.

        It has the mode where that is not affine, and the method where that is not nearest:
        `q4-g64-search-decoder-linears`.  With a plan it begins with that one's name.
        """
        mode = "" if self.mode == "affine" else f"-{self.mode}"
        method = "" if self.method == "nearest" else f"-{self.method}"
        if self.plan is not None:
            return f"{self.plan.name(self.params)}{method}-{self.scope}"
        return f"q{self.bits}-g{self.group_size}{mode}{method}-{self.scope}"

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads; without method where that is nearest, as it always was."""
        found: dict[str, Any] = {
            "scope": self.scope,
            "bits": self.bits,
            "group_size": self.group_size,
            "mode": self.mode,
        }
        if self.method != "nearest":
            found["method"] = self.method
        if self.calibration is not None:
            music = self.calibration
            found["calibration"] = {
                "paths": list(music.paths),
                "self_takes": music.self_takes,
                "seed": music.seed,
            }
        if self.plan is not None:
            found["plan"] = self.plan.to_json()
        if self.distill_steps is not None:
            found["distill_steps"] = self.distill_steps
        return found

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Recipe:
        """Read what `to_json` returned, here or in an earlier version.

        Raises:
            RequestError: there is no such quantization.
        """
        fields = dict(found)
        music, plan = fields.pop("calibration", None), fields.pop("plan", None)
        if plan is not None:
            plan = Plan.from_json(plan)
        try:
            if music is not None:
                music = Calibration(**(dict(music) | {"paths": tuple(music["paths"])}))
            return cls(**fields, calibration=music, plan=plan)
        except (TypeError, ValueError, KeyError):
            raise RequestError(f"not a recipe that this version knows: {found}") from None

    @property
    def params(self) -> QuantizationParams:
        """Bits, group size and mode of what no plan makes an exception of, without the scope."""
        return QuantizationParams(self.bits, self.group_size, self.mode)

    def params_of(self, module: str) -> QuantizationParams:
        """Return how a module is quantized, if it is in scope."""
        planned = None if self.plan is None else self.plan.of(module)
        return self.params if planned is None else planned

    def check(self, lm: LMConfig, shapes: Shapes, whose: str) -> None:
        """Check that a plan is for a model; a recipe without one is for every model.

        Args:
            lm: the model's shape.
            shapes: of the tensors of its language model, by name.
            whose: the model's name, for the error.

        Raises:
            RequestError: the plan is for other models, or modules that run as one would differ.
        """
        if self.plan is not None:
            self.plan.check(lm, shapes, whose)
            modules = (name.removesuffix(".weight") for name in shapes if name.endswith(".weight"))
            check_stacks((name, self.params_of(name)) for name in modules if self.covers(name))

    def covers(self, module: str) -> bool:
        """Tell whether a module, by its name in `segue.checkpoints.layouts`, is in scope."""
        if _LINEARS.match(module):
            return True
        if _EMBEDDINGS.match(module):
            return self.scope in ("decoder-linears+emb", "all-quantizable")
        return module == _PROJECTION and self.scope in ("all-linears", "all-quantizable")

    def fits(self, columns: int, module: str = "") -> bool:
        """Tell whether a row of so many weights is whole groups, and whole words when packed.

        Args:
            columns: of the row.
            module: whose row it is; empty for one that no plan makes an exception of.
        """
        params = self.params_of(module)
        return columns % params.group_size == 0 and columns * params.bits % 32 == 0


PRESETS_METHOD = "search"
"""How presets are quantized unless a method is named."""


def default_method(mode: str) -> str:
    """Return the method of a user's recipe that names none: that of presets where it can be."""
    return PRESETS_METHOD if mode == "affine" else "nearest"


PRESETS: Mapping[str, Recipe | None] = MappingProxyType(
    {
        "none": None,
        "q8_decoder_linears": Recipe("decoder-linears", 8, method=PRESETS_METHOD),
        "q4_decoder_linears": Recipe("decoder-linears", 4, method=PRESETS_METHOD),
        "q4_decoder_linears_emb": Recipe("decoder-linears+emb", 4, method=PRESETS_METHOD),
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

    Case is ignored, `-` and `+` stand for `_`, and short names are known: off, q8, q4,
    q4-emb.  Behind a name may stand one of `METHODS`: `q4-gptq` is `q4` by that method.

    Returns:
        Its name in `PRESETS`, with the method where that is another than the preset's; and its
        recipe.

    Raises:
        RequestError: nothing like it.
    """
    name, method = re.sub(r"[-+]", "_", typed.strip().lower()), None
    name = _ALIASES.get(name, name)
    if name not in PRESETS:
        base, method = _split_method(name)
        name = _ALIASES.get(base, base)
    recipe = PRESETS.get(name)
    if name not in PRESETS or (recipe is None and method is not None):
        raise RequestError(f"no quantization {typed!r}; there are {', '.join(PRESETS)}")
    if recipe is None or method is None or method == recipe.method:
        return name, recipe
    return f"{name}_{_in_names(method)}", replace(recipe, method=method)


def _in_names(method: str) -> str:
    return method.replace("+", "_")


def _split_method(name: str) -> tuple[str, str | None]:
    """A name without the method behind it, and the method; None if there is none."""
    for method in sorted(METHODS, key=len, reverse=True):
        if name.endswith(suffix := f"_{_in_names(method)}"):
            return name.removesuffix(suffix), method
    return name, None
