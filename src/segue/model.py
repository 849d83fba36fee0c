"""A checkpoint, loaded, on the engine that suits the machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import numpy as np

from . import audio
from .checkpoints.adapters import AdapterChoice
from .checkpoints.checkpoint import Checkpoint
from .checkpoints.config import ModelConfig
from .checkpoints.hub import BUILT_IN
from .checkpoints.opening import open_checkpoint
from .checkpoints.recipe import METHODS, Recipe, preset
from .checkpoints.recipe_file import names_a_file, read_recipe
from .checkpoints.tensors import Tensors
from .continuation import continue_audio
from .engine.base import Engine
from .errors import RequestError
from .progress import SILENT, Progress
from .request import Request, RequestOptions
from .result import Result
from .stream import stream

if TYPE_CHECKING:
    from .quantization.methods import Calibrated

ENGINES = ("auto", "mlx", "native", "openvino")
CPU_ENGINES = ("native", "openvino")
"""Those that count threads."""

CAST_DTYPES = ("float16", "bfloat16", "float32")
MAX_THREADS = 1024
KV_BITS = (8, 16)
ACTIVATIONS = ("int16", "int8")


@dataclass(frozen=True, eq=False)
class Model:
    """A loaded checkpoint.

    Attributes:
        name: as it was requested.
        engine: what runs it.
    """

    name: str
    engine: Engine

    @property
    def config(self) -> ModelConfig:
        """The shape of the model."""
        return self.engine.config

    def continue_audio(
        self,
        samples: np.ndarray,
        sample_rate: int,
        *,
        progress: Progress = SILENT,
        **options: Unpack[RequestOptions],
    ) -> Result:
        """Continue `samples`.

        Args:
            samples: `(T,)` or `(T, C)`, floats in -1 to 1 or integers at full scale; the prompt is
                sliced from them.
            sample_rate: of `samples`, in Hz; the result has the same.
            progress: shown while it runs.
            options: the other attributes of `Request`, such as `prompt_seconds=6`.

        Returns:
            One take for each variation, and what there is to know of them.

        Raises:
            AudioError: the samples cannot be used.
            RequestError: an option is out of range.
        """
        request = Request(audio.from_array(samples, sample_rate), **options)
        return continue_audio(self.engine, request, progress)

    def generate(self, *, progress: Progress = SILENT, **options: Unpack[RequestOptions]) -> Result:
        """Generate music from text alone, or from nothing.

        Args:
            progress: shown while it runs.
            options: attributes of `Request`, such as `text="slow piano"` and `output_seconds=30`.

        Returns:
            One take for each variation, at the model's rate and with its channels.

        Raises:
            CheckpointError: the text encoder is missing or damaged.
            RequestError: an option is out of range.
        """
        rate, channels = self.config.codec.sample_rate, self.config.lm.audio_channels
        request = Request.without_prompt(rate, channels, **options)
        return continue_audio(self.engine, request, progress)

    def stream(
        self,
        samples: np.ndarray,
        sample_rate: int,
        *,
        progress: Progress = SILENT,
        **options: Unpack[RequestOptions],
    ) -> Iterator[np.ndarray]:
        """Continue `samples`, and yield the sound of the continuation while it is generated.

        See `segue.stream.stream` for what the chunks are.

        Args:
            samples: `(T,)` or `(T, C)`, as in `continue_audio`.
            sample_rate: of `samples`, in Hz.
            progress: shown while it runs.
            options: the other attributes of `Request`; one variation.

        Yields:
            `(T, C)` float32 at `sample_rate`: what follows the prompt, a second or two at a time.

        Raises:
            AudioError: the samples cannot be used.
            RequestError: an option is out of range, or there is more than one variation.
        """
        request = Request(audio.from_array(samples, sample_rate), **options)
        return stream(self.engine, request, progress)


def load(
    name: str = BUILT_IN,
    *,
    base_model: str | None = None,
    engine: str = "auto",
    cast_dtype: str | None = None,
    recipe: Recipe | str | None = None,
    threads: int | None = None,
    kv_bits: int | None = None,
    activations: str | None = None,
    adapters: Sequence[AdapterChoice | str] = (),
    progress: Progress = SILENT,
) -> Model:
    """Load a checkpoint.

    Args:
        name: `"built-in"`, a folder, a repository of the Hugging Face hub, or an address of shared
            storage such as `"s3://bucket/folder"`, which is fetched once.
        base_model: the model that a fine-tune without `config.json` was trained from.
        engine: one of `ENGINES`; `"auto"` is MLX where it has a GPU, else the native engine where
            it runs, else OpenVINO where that is installed.  The model's `engine` says which it was.
        cast_dtype: one of `CAST_DTYPES`, or None for the type that the weights are stored in.
        recipe: what is quantized in memory: a `Recipe`, the name of a preset such as `"q4"`,
            `"q8"` or `"q4-emb"`, or the path of a file that `segue recipe` wrote; None runs the
            checkpoint as it is.
        adapters: LoRA adapters in PEFT's layout, merged into the weights one after the other
            before anything is quantized: folders, repositories or addresses, with `:SCALE` behind
            them where it is not 1.
        threads: how many an engine for processors uses; None for as many as there are cores.
        kv_bits: of a key or value in the cache, one of `KV_BITS`, on an engine for processors.
            None is 32, and 16 on the native engine where weights are narrower than that.
        activations: what quantized weights are multiplied with, one of `ACTIVATIONS`, each with a
            scale for every group of weights, on the native engine.  None is `"int16"`; `"int8"`
            takes less time, above all for a prompt, and is less exact.
        progress: shown while it downloads and loads.

    Raises:
        CheckpointError: there is no such checkpoint or adapter, or it cannot be used.
        RequestError: no such engine, type, preset or number of threads, an option that the engine
            does not have, or a recipe for what is quantized already.
    """
    if isinstance(recipe, str):
        recipe = read_recipe(Path(recipe)) if names_a_file(recipe) else preset(recipe)[1]
    if engine != "auto":
        engine_for(engine)
    # "auto" is settled later: it may compile, for seconds, and a model may not be there at all.
    on_processor = runs_on_processor(engine)
    if cast_dtype is not None and cast_dtype not in CAST_DTYPES:
        raise RequestError(f"cast-dtype {cast_dtype!r}; there are {', '.join(CAST_DTYPES)}")
    if threads is not None:
        if not on_processor:
            raise RequestError(
                "threads are counted on processors alone; choose the engine 'native' or 'openvino'"
            )
        if not 1 <= threads <= MAX_THREADS:
            raise RequestError(f"threads must lie between 1 and {MAX_THREADS}, not {threads}")
    if kv_bits is not None:
        if kv_bits not in KV_BITS:
            raise RequestError(f"kv-bits are {' or '.join(map(str, KV_BITS))}, not {kv_bits}")
        if not on_processor:
            raise RequestError(
                "MLX keeps keys and values in the type that it computes in; leave out kv-bits, or "
                "choose the engine 'native' or 'openvino'"
            )
    if activations is not None and activations not in ACTIVATIONS:
        raise RequestError(f"activations are {' or '.join(ACTIVATIONS)}, not {activations!r}")
    if engine != "auto":
        _check_activations(activations, engine)
    named = [AdapterChoice.parse(a) if isinstance(a, str) else a for a in adapters]
    checkpoint, notes = open_checkpoint(name, base_model, progress, named), list[str]()
    requested, engine = engine, engine_for(engine)
    _check_activations(activations, engine)
    if recipe is not None and METHODS[recipe.method]:
        from .checkpoints.quantize import quantized

        found = calibrated(checkpoint, recipe, cast_dtype, engine, progress)
        checkpoint = quantized(
            checkpoint, recipe, cast_dtype, None, found.method, found.details, found.trained
        )
        recipe, cast_dtype, notes = None, None, [*found.notes]
    loaded = _engine_of(
        checkpoint, engine, cast_dtype, recipe, progress, threads, kv_bits, activations
    )
    if requested == "auto" and engine == "openvino":
        notes.append(f"OpenVINO runs; the engine 'native', which is faster, cannot: {_missing()}")
    loaded.load_report.notes += notes
    return Model(name, loaded)


def _check_activations(activations: str | None, engine: str) -> None:
    if activations is not None and engine != "native":
        raise RequestError(
            f"only the engine 'native' rounds activations as it is told, and this is {engine!r}; "
            "leave out activations"
        )


def _engine_of(
    checkpoint: Checkpoint,
    engine: str,
    cast_dtype: str | None = None,
    recipe: Recipe | None = None,
    progress: Progress = SILENT,
    threads: int | None = None,
    kv_bits: int | None = None,
    activations: str | None = None,
) -> Engine:
    # Imported here: an engine costs its library's start-up, and may not be installed.
    if engine == "mlx":
        from .engine.mlx import MLXEngine

        return MLXEngine(checkpoint, cast_dtype, recipe, progress)
    if engine == "native":
        from .engine.native.engine import NativeEngine

        return NativeEngine(checkpoint, cast_dtype, recipe, progress, threads, kv_bits, activations)
    from .engine.openvino import OpenVINOEngine

    return OpenVINOEngine(checkpoint, cast_dtype, recipe, progress, threads, kv_bits)


def calibrated(
    checkpoint: Checkpoint,
    recipe: Recipe,
    cast_dtype: str | None,
    engine: str,
    progress: Progress = SILENT,
) -> Calibrated:
    """Let the method of a recipe look at its music, which takes from seconds to many minutes.

    What it found is kept on disk: the next time takes no longer than loading.

    Args:
        checkpoint: opened; its tensors stay in it.
        recipe: its method is one that looks at music.
        cast_dtype: see `load`.
        engine: see there; what generates the takes that are looked at.
        progress: shown while it runs.

    Raises:
        AudioError: music cannot be read.
        RequestError: the method cannot be used for this checkpoint, or with this music.
        ModelOverflowError: weights, or what layers make of the music, are NaN or infinite.
    """
    from .quantization.preparation import prepared

    def as_stored() -> Engine:
        # An engine takes the tensors out of what it gets; nothing of them has been read yet.
        lm, codec = Tensors(checkpoint.lm), Tensors(checkpoint.codec)
        copy = replace(checkpoint, lm=lm, codec=codec)
        return _engine_of(copy, engine_for(engine), progress=progress)

    return prepared(
        checkpoint, recipe, as_stored, cast_dtype, progress, engine_name=engine_for(engine)
    )


def engine_for(engine: str) -> str:
    """The engine that one of `ENGINES` means on this machine.

    The first time, it may take some seconds to compile the native one.

    Args:
        engine: one of `ENGINES`.

    Raises:
        RequestError: no such engine, or it is not installed.
    """
    if engine not in ENGINES:
        raise RequestError(f"no engine {engine!r}; there are {', '.join(ENGINES)}")
    if engine in CPU_ENGINES and not _openvino_installed():
        raise RequestError(f"the engine {engine!r} needs OpenVINO; pip install openvino")
    if engine == "native" and (why := _missing()):
        raise RequestError(f"the engine 'native' does not run here: {why}")
    if engine != "auto":
        return engine
    if not runs_on_processor(engine):
        return "mlx"
    return "openvino" if _missing() else "native"


def runs_on_processor(engine: str) -> bool:
    """Whether what one of `ENGINES` means here is one of `CPU_ENGINES`; nothing is compiled."""
    if engine != "auto":
        return engine in CPU_ENGINES
    return _openvino_installed() and not _mlx_has_gpu()


def _openvino_installed() -> bool:
    return find_spec("openvino") is not None


def _missing() -> str | None:
    """Why the native engine does not run here; None if it does."""
    from .engine.native.library import unavailable

    return unavailable()


def default_batch_rows(engine: str) -> int:
    """Rows of different requests that share steps unless told otherwise.

    As many as gain and leave every request what it is alone.  On a GPU, in a narrow type, sums
    round differently with other rows beside them, and one seed would be several results; see
    docs/performance.md, "Requests that share a step".

    Args:
        engine: one of `ENGINES`.
    """
    return 4 if runs_on_processor(engine) else 1


def _mlx_has_gpu() -> bool:
    if find_spec("mlx") is None:
        return False
    from mlx import core as mx

    return bool(mx.default_device().type == mx.DeviceType.gpu)
