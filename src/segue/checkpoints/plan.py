"""Plans: which modules of a language model are quantized in another way than a recipe's default.

Modules that engines run as one product (Q, K and V of a layer, the heads, the embeddings) have one
way between them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any

from ..errors import RequestError
from .config import LMConfig, QuantizationParams
from .layouts import Shapes

_RUN_AS_ONE = (
    (re.compile(r"(.*\.self_attn\.)[qkv]_proj"), r"\1qkv_proj"),
    (re.compile(r"(.*\.embed_tokens)\.\d+"), r"\1"),
    (re.compile(r"(decoder\.lm_heads)\.\d+"), r"\1"),
)


def stack_of(module: str) -> str:
    """Return the name of what a module is run as a part of; its own where it runs alone."""
    for pattern, stack in _RUN_AS_ONE:
        if match := pattern.fullmatch(module):
            return match.expand(stack)
    return module


@dataclass(frozen=True)
class PlanShape:
    """The shape of the language models that a plan is for.

    Attributes:
        layers: how many.
        dim: width of hidden states.
        ffn_dim: width between the products of the feed-forward.
        codebooks: heads.
        cardinality: codes of each.
    """

    layers: int
    dim: int
    ffn_dim: int
    codebooks: int
    cardinality: int

    @classmethod
    def of(cls, lm: LMConfig) -> PlanShape:
        """Return the shape of a language model."""
        return cls(lm.num_layers, lm.dim, lm.ffn_dim, lm.num_codebooks, lm.cardinality)

    def __str__(self) -> str:
        return (
            f"{self.layers} layers of {self.dim} and {self.ffn_dim}, {self.codebooks} codebooks "
            f"of {self.cardinality}"
        )


@dataclass(frozen=True)
class Plan:
    """The exceptions of a recipe.

    Attributes:
        modules: names of modules, as in `segue.checkpoints.layouts`, and how each is quantized.
        shape: of the models that it is for; None is any that has the modules.
        label: what it is called, for people; empty for nothing but its digest.
        file: that it was read from, for commands that mean it.

    Raises:
        RequestError: no modules, one twice, or modules that run as one in several ways.
    """

    modules: tuple[tuple[str, QuantizationParams], ...]
    shape: PlanShape | None = None
    label: str = field(default="", compare=False)
    file: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not self.modules:
            raise RequestError("a plan without modules; name a recipe without a plan")
        if len(self._of) != len(self.modules):
            raise RequestError("a plan names a module twice")
        check_stacks(self.modules)

    @cached_property
    def _of(self) -> dict[str, QuantizationParams]:
        return dict(self.modules)

    def of(self, module: str) -> QuantizationParams | None:
        """Return how a module is quantized; None where the recipe's default says it."""
        return self._of.get(module)

    def name(self, default: QuantizationParams) -> str:
        """Return a name that no other plan with another default has: `plan-0123abcd`."""
        ways = [("", default), *sorted(self.modules, key=lambda each: each[0])]
        content = json.dumps([[name, *asdict(params).values()] for name, params in ways])
        digest = hashlib.sha256(content.encode()).hexdigest()[:8]
        return f"{self.label or 'plan'}-{digest}"

    @property
    def widths(self) -> tuple[int, ...]:
        """The numbers of bits that occur, fewest first."""
        return tuple(sorted({params.bits for params in self._of.values()}))

    def check(self, lm: LMConfig, shapes: Shapes, whose: str) -> None:
        """Check that it is for a model.

        Args:
            lm: the model's shape.
            shapes: of the tensors of its language model, by name.
            whose: the model's name, for the error.

        Raises:
            RequestError: it is for models of another shape, or rows are no whole groups.
        """
        if self.shape is not None and self.shape != (ours := PlanShape.of(lm)):
            raise RequestError(
                f"this plan is for a model of {self.shape}; {whose} has {ours}; "
                f"make one for it: segue recipe {whose}"
            )
        for module, params in self.modules:
            shape = shapes.get(f"{module}.weight")
            if shape is None:
                raise RequestError(f"{whose} has no module {module}, which the plan names")
            if shape[-1] % params.group_size or shape[-1] * params.bits % 32:
                raise RequestError(
                    f"{module} of {whose} has rows of {shape[-1]} weights, which are no whole "
                    f"groups of {params.group_size} with {params.bits} bits"
                )

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        found: dict[str, Any] = {
            "modules": {
                name: {"bits": params.bits, "group_size": params.group_size}
                | ({} if params.mode == "affine" else {"mode": params.mode})
                for name, params in self.modules
            }
        }
        if self.shape is not None:
            found["shape"] = asdict(self.shape)
        if self.label:
            found["label"] = self.label
        return found if self.file is None else found | {"file": self.file}

    @classmethod
    def from_json(cls, found: Any) -> Plan:
        """Read what `to_json` returned.

        Raises:
            RequestError: it makes no sense.
        """
        if not isinstance(found, Mapping) or not isinstance(found.get("modules"), Mapping):
            raise RequestError("a plan names modules, and bits and group_size of each")
        modules = tuple((str(n), _params(n, entry)) for n, entry in found["modules"].items())
        shape, label, file = found.get("shape"), found.get("label", ""), found.get("file")
        if shape is not None:
            names = [each.name for each in fields(PlanShape)]
            whole = isinstance(shape, Mapping) and all(_whole(shape.get(n)) for n in names)
            if not whole:
                raise RequestError(f"a plan's shape has whole numbers for {', '.join(names)}")
            shape = PlanShape(**{name: shape[name] for name in names})
        if not isinstance(label, str) or not re.fullmatch(r"([A-Za-z0-9][\w.+-]{0,39})?", label):
            raise RequestError("a plan's label is made of letters, digits, '.', '+' and '-'")
        if file is not None and not isinstance(file, str):
            raise RequestError("a plan's file is a path")
        return cls(modules, shape, label, file)


def _params(module: Any, entry: Any) -> QuantizationParams:
    good = isinstance(entry, Mapping) and set(entry) <= {"bits", "group_size", "mode"}
    if good and all(_whole(entry.get(name)) for name in ("bits", "group_size")):
        mode = entry.get("mode", "affine")
        if isinstance(mode, str):
            return QuantizationParams(entry["bits"], entry["group_size"], mode)
    raise RequestError(f"{module}: a plan says bits and group_size of a module, not {entry!r}")


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def check_stacks(modules: Iterable[tuple[str, QuantizationParams]]) -> None:
    """Check that modules which engines run as one are quantized in one way.

    Raises:
        RequestError: two of them are not.
    """
    first: dict[str, tuple[str, QuantizationParams]] = {}
    for module, params in modules:
        other, theirs = first.setdefault(stack_of(module), (module, params))
        if theirs != params:
            raise RequestError(
                f"{other} has {theirs.bits} bits in groups of {theirs.group_size} and {module} "
                f"{params.bits} in groups of {params.group_size}; they run as one and must be alike"
            )
