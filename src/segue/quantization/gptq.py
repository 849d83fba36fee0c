"""GPTQ over a language model, layer by layer: what each product reads decides how it is rounded.

A layer's weights and the second moments of its inputs are in memory at a time, and the hidden
states of all windows.  Each layer that is done is a file in segue's cache, so that what was
interrupted goes on from there, and what was done once is not done again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import mlx.core as mx
import numpy as np

from .. import atomic
from ..checkpoints.arrays import DTYPES
from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.config import QuantizationParams
from ..checkpoints.layouts import LM
from ..checkpoints.recipe import Recipe
from ..checkpoints.tensors import Tensors
from ..errors import ModelOverflowError, RequestError
from ..progress import SILENT, Progress
from . import rounding
from .calibration import CalibrationSet, TextCodes
from .forward import HEADS, Forward, Windows, site_of, weights_of
from .methods import KINDS, VERSIONS, Calibrated, Parts, parts_of, search

NAME = "gptq"

MAX_BYTES = 8 << 30
"""Of all layers that are kept; MusicGen-large at 4 bits has 1.4 GB."""

_SAMPLED = 4096


@dataclass
class Moments:
    """Second moments of what products read, by their site: the mean of `xᵀ · x` over rows.

    Attributes:
        sites: those that are of interest; what else is captured is dropped.
    """

    sites: frozenset[str]
    _sums: dict[str, np.ndarray] = field(default_factory=dict)
    _rows: dict[str, int] = field(default_factory=dict)

    def __call__(self, site: str, rows: np.ndarray) -> None:
        """Add the input `(rows, columns)` of a site: a `Capture`."""
        if site not in self.sites:
            return
        product = rows.T @ rows
        if site in self._sums:
            self._sums[site] += product
        else:
            self._sums[site] = product
        self._rows[site] = self._rows.get(site, 0) + len(rows)

    def of(self, site: str, columns: int) -> np.ndarray:
        """Return the moments `(columns, columns)` of a site; of one never reached, the identity."""
        if site not in self._sums:
            return np.eye(columns, dtype=np.float32)
        moments = self._sums[site] / np.float32(self._rows[site])
        if not np.isfinite(moments).all():
            raise ModelOverflowError(f"values that {site} reads", fixed=True)
        return moments


def cache_folder(method: str = NAME) -> Path:
    """Return where a method keeps things: `$XDG_CACHE_HOME/segue/METHOD`, or in `~/.cache`."""
    home = Path(os.environ.get("XDG_CACHE_HOME", ""))
    root = home if home.is_absolute() else Path.home() / ".cache"  # relative ones are ignored
    return root / "segue" / method


def sweep(root: Path, keep: Path, limit: int = MAX_BYTES) -> None:
    """Delete what was not used for longest, until the rest has at most `limit` bytes.

    Args:
        root: see `cache_folder`.
        keep: the folder that was just used, which stays.
        limit: bytes.
    """
    with suppress(OSError):
        os.utime(keep)
        folders = sorted(root.iterdir(), key=lambda folder: folder.stat().st_mtime, reverse=True)
        total = 0
        for folder in folders:
            total += sum(file.stat().st_size for file in folder.iterdir())
            if total > limit and folder != keep:
                shutil.rmtree(folder, ignore_errors=True)


def samples_of(lm: Tensors) -> Iterator[bytes | memoryview]:
    """What tells a language model's tensors from others': shapes, types, and parts of each."""
    for name, tensor in sorted(lm.items()):
        values = tensor.read().reshape(-1)
        yield f"{name} {tensor.shape} {values.dtype}".encode()
        middle = values.size // 2
        for start in (0, middle, max(0, values.size - _SAMPLED)):
            part = np.ascontiguousarray(values[start : start + _SAMPLED])
            yield part.view(np.uint8).data


def gptq(
    checkpoint: Checkpoint,
    recipe: Recipe,
    music: CalibrationSet,
    cast_dtype: str | None = None,
    progress: Progress = SILENT,
    cache: Path | None = None,
) -> Calibrated:
    """Compute all modules of a recipe; the method that is returned reads them from the cache.

    Args:
        checkpoint: opened; its tensors stay in it.
        recipe: what is quantized, and how; its method is GPTQ.
        music: what it looks at.
        cast_dtype: see `quantized`.
        progress: shown while it runs.
        cache: where layers are kept; None is `cache_folder()`.

    Raises:
        RequestError: the checkpoint is quantized already, or a plan is for another; the method is
            another one, or there is no music; the cache cannot be written.
        ModelOverflowError: weights, or what layers make of the music, are NaN or infinite.
    """
    if recipe.method != NAME or recipe.mode != "affine":
        raise RequestError(f"GPTQ is not the method of {recipe.name}")
    if checkpoint.config.quantization is not None:
        raise RequestError(f"{checkpoint.name} is quantized already; quantize what it came from")
    if not music.windows:
        raise RequestError("GPTQ without music to look at; name some")
    shapes = {name: tensor.shape for name, tensor in checkpoint.lm.items()}
    recipe.check(checkpoint.config.lm, shapes, checkpoint.name)
    work = _Work(checkpoint, recipe, music, cast_dtype, cache or cache_folder())
    work.run(progress)
    sweep(work.root, keep=work.folder)
    details = {"calibration": music.digest, "windows": len(music.windows)}
    return Calibrated(work.parts, details, () if music.note is None else (music.note,))


@dataclass(eq=False)
class _Work:
    checkpoint: Checkpoint
    recipe: Recipe
    music: CalibrationSet
    cast_dtype: str | None
    root: Path

    def __post_init__(self) -> None:
        cast = None if self.cast_dtype is None else DTYPES[self.cast_dtype]
        self._weight = weights_of(self.checkpoint.lm, dtype=cast)
        self._shapes = {
            module: tensor.shape
            for name, tensor in self.checkpoint.lm.items()
            if name.endswith(".weight")
            and self.recipe.covers(module := name.removesuffix(".weight"))
            and self.recipe.fits(tensor.shape[-1], module)
        }
        self.folder = self.root / self._key()
        self._files = {m: file for _, file, modules in self._stages() for m in modules}

    def _key(self) -> str:
        facts = [VERSIONS[NAME], self.cast_dtype, self.music.digest]
        ways = [[name, repr(self.recipe.params_of(name))] for name in sorted(self._shapes)]
        digest = hashlib.sha256(json.dumps([facts, ways]).encode())
        for part in samples_of(self.checkpoint.lm):
            digest.update(part)
        return digest.hexdigest()[:32]

    def _stages(self) -> list[tuple[int | None, Path, list[str]]]:
        """For each layer, then for the heads: its number, its file, the modules in it."""
        c = self.checkpoint.config.lm
        found: list[tuple[int | None, Path, list[str]]] = []
        for n in range(c.num_layers):
            under = f"{LM}layers.{n}."
            found.append((n, self._file(n), [m for m in self._shapes if m.startswith(under)]))
        heads = [m for m in self._shapes if m.startswith(f"{HEADS}.")]
        found.append((None, self._file(None), heads))
        return [stage for stage in found if stage[2]]

    def _file(self, n: int | None) -> Path:
        return self.folder / ("heads.safetensors" if n is None else f"layer-{n}.safetensors")

    def run(self, progress: Progress) -> None:
        stages = self._stages()
        pending = [stage for stage in stages if not stage[1].is_file()]
        if not pending:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RequestError(
                f"{self.folder}: cannot be made ({error.strerror}); point XDG_CACHE_HOME to a "
                "folder with room"
            ) from None
        texts = TextCodes(self.checkpoint, progress)
        windows = self.music.windows
        forward = Forward(self.checkpoint.config.lm, self._weight)
        hidden = forward.start(
            Windows.of(
                self.checkpoint.config.lm,
                [window.codes for window in windows],
                [texts.of(window.text) for window in windows],
            )
        )
        numbers = {n: (file, modules) for n, file, modules in pending}
        last = None in numbers
        known = [n for n in numbers if n is not None]
        end = self.checkpoint.config.lm.num_layers if last else 1 + max(known)
        with progress.stage("quantize by GPTQ", self._effort(range(end), last)) as advance:
            done = 0
            for n in range(end):
                file, modules = numbers.get(n, (None, []))
                moments = self._moments(modules)
                hidden = forward.layer(n, hidden, moments)
                if file is not None:
                    self._write(file, modules, moments)
                advance(done := done + self._effort([n], False))
            if last:
                file, modules = numbers[None]
                moments = self._moments(modules)
                forward.last(hidden, moments)
                self._write(file, modules, moments)
                advance(done + self._effort([], True))

    def _effort(self, layers: Iterable[int], heads: bool) -> int:
        """Work in thousands of millions of multiplications, about: what time left is told by."""
        prefixes = [f"{LM}layers.{n}." for n in layers] + ([f"{HEADS}."] if heads else [])
        shapes = [s for m, s in self._shapes.items() if any(map(m.startswith, prefixes))]
        return sum(1 + (columns**2 * (columns + 8 * rows)) // 10**9 for rows, columns in shapes)

    def _moments(self, modules: Iterable[str]) -> Moments:
        return Moments(frozenset(map(site_of, modules)))

    def _write(self, file: Path, modules: list[str], moments: Moments) -> None:
        arrays = {}
        for module in modules:
            params = self.recipe.params_of(module)
            for kind, part in self._rounded(module, params, moments).items():
                arrays[f"{module}.{kind}"] = part
        mx.eval(arrays)
        with atomic.replacing(file) as temporary, temporary.open("wb") as target:
            mx.save_safetensors(target, arrays)

    def _rounded(self, module: str, params: QuantizationParams, moments: Moments) -> Parts:
        weight = np.ascontiguousarray(self._weight(f"{module}.weight").T)
        if not np.isfinite(weight).all():
            raise ModelOverflowError(f"weights of {module}")
        stored = self.checkpoint.lm[f"{module}.weight"].read().dtype.name
        dtype = self.cast_dtype or stored
        found = rounding.calibrated(
            weight,
            moments.of(site_of(module), len(weight)),
            params.bits,
            params.group_size,
            rounding.DTYPES[dtype],
        )
        return parts_of(found, params.bits, DTYPES[dtype])

    def parts(self, module: str, weight: mx.array, params: QuantizationParams) -> Parts:
        """The parts of a module, as a `Method`; those of none that GPTQ rounds, by search."""
        file = self._files.get(module)
        if file is not None:
            arrays = mx.load(str(file))
            assert isinstance(arrays, dict)  # noqa: S101 - of a safetensors file
            return {kind: arrays[f"{module}.{kind}"] for kind in KINDS}
        return search(module, weight, params)
