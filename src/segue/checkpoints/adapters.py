"""LoRA adapters in PEFT's layout, merged into a checkpoint's weights when these are read.

An adapter is a folder, a repository of the hub or an address of shared storage, with
`adapter_config.json` and `adapter_model.safetensors` (or `.bin`).  For a module's weight W it holds
A `(rank, columns)` and B `(rows, rank)`, and the module becomes `W + alpha / rank * B @ A`
(https://arxiv.org/abs/2106.09685); with rank stabilisation, alpha is divided by the root of the
rank (https://arxiv.org/abs/2312.03732); with DoRA, each row of the sum gets a length of its own
(https://arxiv.org/abs/2402.09353).  Modules that were trained whole replace the model's.

Nothing is computed but when a tensor is taken, in float32; the sum is stored in the weight's type,
as `merge_and_unload` of peft stores it.  So an adapter costs no memory and no time later, and what
is quantized is the merged weight.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CheckpointError
from ..progress import SILENT, Progress
from . import diagnosis, hub, torch_file
from .config.adapter_fields import KEEPS_BASE, LORA, OTHER_BASE
from .config.schema import read_fields, shown
from .files import ADAPTER, ADAPTER_CONFIG, ADAPTER_SAFETENSORS, ADAPTER_TORCH
from .layouts import CODEC, TEXT
from .model_files import existing, naming, read_json
from .tensors import Tensor, Tensors, of_arrays, open_safetensors

MAX_SCALE = 100.0

_PREFIX = "base_model.model."
_DECODER_ALONE = ("model.decoder.", "lm_heads.")
_PARTS = re.compile(
    r"(?P<module>.+)\.(?P<part>lora_A|lora_B|lora_embedding_A|lora_embedding_B|"
    r"lora_magnitude_vector)(\.weight)?"
)
_PLAIN = re.compile(r"\^?[\w.]+")


@dataclass(frozen=True)
class AdapterChoice:
    """An adapter that a user names.

    Attributes:
        name: a folder, a repository of the hub, or an address.
        scale: how much of it is added: 0 is nothing, 1 what was trained.
    """

    name: str
    scale: float = 1.0

    @classmethod
    def parse(cls, typed: str) -> AdapterChoice:
        """Read `NAME` or `NAME:SCALE`.

        Raises:
            CheckpointError: there is no name, or the scale is out of range.
        """
        name, colon, number = typed.rpartition(":")
        try:
            scale = float(number) if colon else None
        except ValueError:
            scale = None
        if scale is None or Path(typed).is_dir():
            name, scale = typed, 1.0
        if not name:
            raise CheckpointError(
                f"{typed!r} names no adapter: a folder, a repository or an address"
            )
        if not abs(scale) <= MAX_SCALE:
            raise CheckpointError(
                f"the scale of {name!r} must lie between -{MAX_SCALE:g} and {MAX_SCALE:g}, "
                f"not {scale:g}"
            )
        return cls(name, scale)


@dataclass(frozen=True)
class _LowRank:
    """What is added to the weight of a linear layer, or of an embedding.

    Attributes:
        a: `(rank, columns)`.
        b: `(rows, rank)`.
        scaling: of their product.
        magnitude: the length of each row of the sum, or None.
        transposed: whether the weight is `(columns, rows)`, as an embedding's is.
    """

    a: Tensor
    b: Tensor
    scaling: float
    magnitude: Tensor | None
    transposed: bool

    @property
    def shape(self) -> tuple[int, ...]:
        rows, columns = self.b.shape[0], self.a.shape[1]
        return (columns, rows) if self.transposed else (rows, columns)

    def changed(self, weight: np.ndarray) -> np.ndarray:
        """Return the weight with the adapter, both float32."""
        found: np.ndarray
        if self.transposed:
            weight = weight.T
        with np.errstate(over="ignore", invalid="ignore"):  # found out when it is loaded
            found = weight + self.scaling * (_floats(self.b) @ _floats(self.a))
        if self.magnitude is not None:
            length = np.linalg.norm(found, axis=1)
            length = np.maximum(length, np.finfo(np.float32).tiny)  # a row of zeros stays one
            found = found * (_floats(self.magnitude).reshape(-1) / length)[:, None]
        return found.T if self.transposed else found


@dataclass(frozen=True)
class _Replacement:
    """A tensor that was trained whole."""

    values: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    def changed(self, weight: np.ndarray) -> np.ndarray:
        """Return it in the place of the model's."""
        return _floats(self.values)


@dataclass(frozen=True)
class Adapter:
    """An adapter that was opened, of which nothing has been read but headers.

    Attributes:
        folder: where it lies.
        scale: how much of it is added.
        changes: what it does to tensors, by their names in the Hugging Face layout.
    """

    folder: Path
    scale: float
    changes: Mapping[str, _LowRank | _Replacement]

    def check(self, shapes: Mapping[str, tuple[int, ...]], prefix: str = "") -> None:
        """Check that a part of a model has each of its tensors that is changed, of the same shape.

        Args:
            shapes: of the part's tensors, by name.
            prefix: what their names lack: `layouts.TEXT` for the text encoder, nothing for the
                language model.

        Raises:
            CheckpointError: one is missing, or is of another size.
        """
        belongs = diagnosis.model_of_adapter(self.folder)
        for name, change in self.changes.items():
            if name.startswith(CODEC):
                raise CheckpointError(
                    f"{self.folder}: it changes the codec ({name!r}), which segue takes as it is"
                )
            if name.startswith(TEXT) != (prefix == TEXT):
                continue
            shape = shapes.get(name.removeprefix(prefix))
            if shape is None:
                raise CheckpointError(
                    f"{self.folder}: it changes {name!r}, which this model does not have{belongs}"
                )
            if change.shape != shape:
                raise CheckpointError(
                    f"{self.folder}: it changes {name!r} as if it were {change.shape}, and this "
                    f"model's is {shape}{belongs}"
                )

    def merged(self, tensors: Tensors, prefix: str = "") -> Tensors:
        """Return `tensors` with those that it changes changed, when they are read.

        Args:
            tensors: of a part of the model.
            prefix: what their names lack.
        """
        changed = Tensors(tensors)
        for name, tensor in tensors.items():
            if (change := self.changes.get(prefix + name)) is not None:
                changed[name] = tensor.map(tensor.shape, _Change(change, self.scale))
        return changed


@dataclass(frozen=True)
class _Change:
    change: _LowRank | _Replacement
    scale: float

    def __call__(self, weight: np.ndarray) -> np.ndarray:
        dtype, weight = weight.dtype, weight.astype(np.float32)
        found = self.change.changed(weight)
        if self.scale != 1:
            found = weight + np.float32(self.scale) * (found - weight)
        return found.astype(dtype)


def open_adapters(
    choices: Sequence[AdapterChoice], progress: Progress = SILENT
) -> tuple[Adapter, ...]:
    """Open adapters, in their order, and download those that are not on this machine.

    Raises:
        CheckpointError: there is no such adapter, it is damaged, or of a kind that segue does not
            merge; one line.
    """
    return tuple(_open(choice, hub.locate(choice.name, ADAPTER, progress)) for choice in choices)


def _open(choice: AdapterChoice, folder: Path) -> Adapter:
    path = folder / ADAPTER_CONFIG
    if not path.exists():
        raise CheckpointError(
            f"{folder}: no adapter here: segue looks for {ADAPTER_CONFIG} and {ADAPTER_SAFETENSORS}"
        )
    content = read_json(path)
    config = naming(path, lambda: read_fields(content, LORA, closed=False))
    _check_unknown(path, content)
    if config["initialisation"] not in KEEPS_BASE:
        raise CheckpointError(
            f"{path}: init_lora_weights is {shown(config['initialisation'])}: {OTHER_BASE}; merge "
            "it with peft, and name the folder that save_pretrained() writes"
        )
    state = _weights(folder)
    changes = naming(folder, lambda: _changes(state, config))
    if not changes:
        raise CheckpointError(f"{folder}: the adapter holds no tensors")
    return Adapter(folder, choice.scale, changes)


def _check_unknown(path: Path, content: Mapping[str, Any]) -> None:
    """Refuse a field that segue does not know, unless it says nothing."""
    for name, value in content.items():
        if name not in LORA and value not in (None, False, [], {}):
            raise CheckpointError(
                f"{path}: {name} is a field that segue does not know, and may change what the "
                "model computes"
            )


def _weights(folder: Path) -> Tensors:
    if (folder / ADAPTER_SAFETENSORS).exists():
        return open_safetensors(folder / ADAPTER_SAFETENSORS)
    path = existing(folder / ADAPTER_TORCH)
    state = torch_file.load(path)
    if not isinstance(state, Mapping) or not all(
        isinstance(value, np.ndarray) for value in state.values()
    ):
        raise CheckpointError(f"{path}: not a table of tensors")
    return of_arrays(state, path)


def _changes(state: Tensors, config: Mapping[str, Any]) -> dict[str, _LowRank | _Replacement]:
    modules: dict[str, dict[str, Tensor]] = {}
    changes: dict[str, _LowRank | _Replacement] = {}
    for name, tensor in state.items():
        name = name.removeprefix(_PREFIX)
        if (match := _PARTS.fullmatch(name)) is not None:
            modules.setdefault(match["module"], {})[match["part"]] = tensor
        elif ".lora_" in name:
            raise CheckpointError(f"segue does not know what to do with the tensor {name!r}")
        else:
            whole = name.replace(".modules_to_save.", ".").replace(".base_layer.", ".")
            changes[_in_model(whole)] = _Replacement(tensor)
    for module, parts in modules.items():
        changes[f"{_in_model(module)}.weight"] = _low_rank(module, parts, config)
    return changes


def _in_model(name: str) -> str:
    """The name in the whole model; an adapter of the decoder alone begins its names later."""
    return f"decoder.{name}" if name.startswith(_DECODER_ALONE) else name


def _low_rank(module: str, parts: Mapping[str, Tensor], config: Mapping[str, Any]) -> _LowRank:
    embedding = "lora_embedding_A" in parts
    kind = "lora_embedding_" if embedding else "lora_"
    a, b = parts.get(f"{kind}A"), parts.get(f"{kind}B")
    if a is None or b is None:
        raise CheckpointError(f"of {module!r}, {kind}{'A' if a is None else 'B'} is missing")
    if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[0] != b.shape[1] or 0 in a.shape:
        raise CheckpointError(
            f"of {module!r}, {kind}A {a.shape} and {kind}B {b.shape} have no product"
        )
    magnitude = parts.get("lora_magnitude_vector")
    if magnitude is not None and math.prod(magnitude.shape) != b.shape[0]:
        raise CheckpointError(
            f"of {module!r}, lora_magnitude_vector {magnitude.shape} is no length for each of "
            f"{b.shape[0]} rows"
        )
    rank = a.shape[0]
    divisor = math.sqrt(rank) if config["rank_stabilized"] else rank
    return _LowRank(a, b, _alpha(module, config) / divisor, magnitude, embedding)


def _alpha(module: str, config: Mapping[str, Any]) -> float:
    """The alpha of a module: that of the first pattern which its name ends with, or the common.

    peft takes patterns for regular expressions; segue knows those that are names alone, and that
    begin with `^` where nothing may come before them.
    """
    for pattern, alpha in config["alphas"].items():
        if not isinstance(pattern, str) or not _PLAIN.fullmatch(pattern):
            raise CheckpointError(f"alpha_pattern has {shown(pattern)}, which is more than a name")
        if isinstance(alpha, bool) or not isinstance(alpha, int | float) or alpha != alpha:
            raise CheckpointError(f"alpha_pattern has {shown(alpha)}, which is no number")
        name = pattern.removeprefix("^")
        if module == name or (pattern == name and module.endswith(f".{name}")):
            return float(alpha)
    return float(config["alpha"])


def _floats(tensor: Tensor) -> np.ndarray:
    return tensor.read().astype(np.float32).reshape(tensor.shape)
