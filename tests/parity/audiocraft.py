"""Random models by AudioCraft itself, and what it makes of inputs.  Needs torch and audiocraft.

AudioCraft is installed without its dependencies (`requirements/parity-audiocraft.txt`).  What its
modules import beside torch, and never use for MusicGen's generation, is replaced by empty modules.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import transformers
import yaml
from omegaconf import OmegaConf
from safetensors.torch import save_file

from segue.demo.toy import CONFIG, write_tokenizer
from tests.checkpoints.published_configs import XP_CODEC, XP_LM

from . import audiocraft_melody as melodies
from .compare import TEXT

# Loaded now: transformers looks for some of the modules below, and must not find the empty ones.
_T5 = (transformers.T5Config, transformers.T5EncoderModel)
_LATE = (transformers.T5Tokenizer, transformers.RobertaTokenizer, transformers.EncodecModel)
_EMPTY = {"torchaudio", "xformers", "spacy", "librosa", "av", "num2words", "dora", "flashy"}
_PACKAGES = ("audiocraft", "audiocraft.models", "audiocraft.data", "audiocraft.utils")
"""Packages whose `__init__` imports training, and is left out."""


class _Empty(types.ModuleType):
    """A module in which every name is a class of nothing."""

    __path__: list[str] = []  # noqa: RUF012 - a module's

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class _Finder:
    """Finds the empty modules."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> Any:
        if name == "xformers.profiler":  # which AudioCraft can do without, and asks for values
            raise ModuleNotFoundError(name)
        if name.split(".")[0] in _EMPTY:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)  # type: ignore[arg-type]
        return None

    def create_module(self, spec: Any) -> types.ModuleType:
        return _Empty(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def _import() -> tuple[Any, Any, Any, Any]:
    """AudioCraft's builders, loaders and models."""
    sys.meta_path.insert(0, _Finder())
    spec = importlib.util.find_spec("audiocraft")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("audiocraft; see requirements/parity-audiocraft.txt")
    root = spec.submodule_search_locations[0]
    for name in _PACKAGES:
        package: Any = types.ModuleType(name)
        package.__path__ = [root + name.removeprefix("audiocraft").replace(".", "/")]
        package.__version__ = "parity"
        sys.modules[name] = package
    sys.modules["audiocraft"].modules = importlib.import_module("audiocraft.modules")  # type: ignore[attr-defined]
    transformer: Any = sys.modules["audiocraft.modules.transformer"]
    transformer.ops = types.SimpleNamespace(unbind=torch.unbind)  # of xformers, the one that counts
    names = ("models.builders", "models.loaders", "models.musicgen", "models.audiogen")
    found = [importlib.import_module(f"audiocraft.{name}") for name in names]
    return found[0], found[1], found[2].MusicGen, found[3].AudioGen


torch.set_num_threads(1)  # so small products wait for nobody
_BUILDERS, _LOADERS, _MUSICGEN, _AUDIOGEN = _import()


class _MusicGen(_MUSICGEN):  # type: ignore[misc,valid-type]
    """AudioCraft's, given a prompt and a melody together, for which it has no method."""

    def attributes(self, text: str | None, melody: torch.Tensor | None) -> Any:
        """What it is conditioned on."""
        melodies = {} if melody is None else {"melody_wavs": [melody]}
        return self._prepare_tokens_and_attributes([text], None, **melodies)[0]

    def follow(self, text: str | None, melody: torch.Tensor, prompt: Any) -> torch.Tensor:
        """Codes `(1, K, F)`."""
        codes: torch.Tensor = self._generate_tokens(self.attributes(text, melody), prompt)
        return codes


@dataclass(frozen=True)
class Case:
    """A configuration: what differs from the toy's.

    Attributes:
        name: for the table.
        lm: fields of the model's `xp.cfg`, by dotted names.
        codec: likewise, of the codec's.
        gated: whether the text encoder is Flan's kind.
        duration: of the music, in seconds.
        prompt: frames of the prompt; 0 for none.
        extend_stride: None for the default of MusicGen or AudioGen.
        training: whether it is saved as a training checkpoint.
        melody: seconds of the melody that a melody model is given.
    """

    name: str
    lm: tuple[tuple[str, Any], ...] = ()
    codec: tuple[tuple[str, Any], ...] = ()
    gated: bool = False
    duration: float = 2.0
    prompt: int = 20
    extend_stride: float | None = None
    training: bool = False
    melody: float = 0.0
    seed: int = 0


SIZES = {
    "transformer_lm.dim": 32,
    "transformer_lm.num_heads": 4,
    "transformer_lm.num_layers": 2,
    "transformer_lm.hidden_scale": 2,
    "transformer_lm.card": 64,
    "device": "cpu",
    "dtype": "float32",
}
CODEC = {
    "seanet.dimension": 16,
    "seanet.n_filters": 2,
    "rvq.bins": 64,
    "rvq.kmeans_init": False,
    "device": "cpu",
}
_T5_FIELD = "conditioners.description.t5."
_TEXT = XP_LM["conditioners"]["description"]
_STEREO = (
    ("channels", 2),
    ("interleave_stereo_codebooks.use", True),
    ("transformer_lm.n_q", 8),
    ("codebooks_pattern.delay.delays", [0, 0, 1, 1, 2, 2, 3, 3]),
)

CASES = (
    Case("MusicGen"),
    Case("text encoder trained along", ((f"{_T5_FIELD}finetune", True),)),
    Case("t5-large", ((f"{_T5_FIELD}name", "t5-large"),)),
    Case("flan-t5-base", ((f"{_T5_FIELD}name", "google/flan-t5-base"),), gated=True),
    Case(
        "window of 2 s, stride of 0.5",
        (("dataset.segment_duration", 2),),
        duration=5.5,
        extend_stride=0.5,
    ),
    Case(
        "window of 2.5 s, no prompt",
        (("dataset.segment_duration", 2.5),),
        duration=4.02,
        prompt=0,
        extend_stride=1.5,
    ),
    Case(
        "AudioGen",
        (
            ("sample_rate", 16_000),
            ("dataset.segment_duration", 3),
            (f"{_T5_FIELD}name", "t5-large"),
        ),
        (("sample_rate", 16_000), ("seanet.ratios", [8, 5, 4, 2])),
        duration=6.0,
    ),
    Case(
        "q_modeling",
        (("codebooks_pattern.modeling", None), ("transformer_lm.q_modeling", "delay")),
    ),
    Case(
        "torch's attention",
        (("transformer_lm.memory_efficient", False), ("transformer_lm.custom", False)),
    ),
    Case(
        "custom attention",
        (("transformer_lm.memory_efficient", False), ("transformer_lm.custom", True)),
    ),
    Case(
        "stereo",
        _STEREO,
    ),
    Case(
        "stereo, delays null",
        (*_STEREO, ("codebooks_pattern.delay.delays", None)),
    ),
    Case("other delays", (("codebooks_pattern.delay.delays", [0, 2, 3, 7]),)),
    Case(
        "codec: causal, two residual layers, true_skip false",
        codec=(
            ("encodec.causal", True),
            ("seanet.n_residual_layers", 2),
            ("seanet.true_skip", False),
            ("seanet.pad_mode", "reflect"),
        ),
    ),
    Case("training checkpoint", training=True),
    Case("melody", melodies.conditioners(_TEXT, radix2_exp=12), melody=1.3),
    Case("melody, MusicGen's own sizes", melodies.conditioners(_TEXT), melody=7.0),
    Case(
        "melody, stereo, windows",
        (*melodies.conditioners(_TEXT, radix2_exp=11), *_STEREO, ("dataset.segment_duration", 2)),
        duration=4.6,
        extend_stride=1.2,
        melody=1.7,
    ),
    Case(
        "melody, all pitch classes, no prompt",
        (
            *melodies.conditioners(_TEXT, argmax=False, n_chroma=24, winhop=700, radix2_exp=11),
            ("dataset.segment_duration", 2.01),
        ),
        duration=5.0,
        extend_stride=1.0,
        prompt=0,
        melody=9.0,
    ),
)


GOLDEN = {
    "trained-along": Case(
        "golden",
        ((f"{_T5_FIELD}finetune", True), ("dataset.segment_duration", 1.2)),
        duration=2.59,
        extend_stride=0.5,
    ),
    "audiogen": Case(
        "golden",
        (("sample_rate", 16_000), ("dataset.segment_duration", 2.5)),
        (("sample_rate", 16_000), ("seanet.ratios", [8, 5, 4, 2])),
        gated=False,
        duration=3.0,
        training=True,
    ),
    "melody": Case(
        "golden",
        (
            *melodies.conditioners(_TEXT, radix2_exp=11),
            *_STEREO,
            ("dataset.segment_duration", 1.2),
        ),
        duration=2.0,
        extend_stride=0.5,
        melody=0.7,
    ),
}
"""What the test-suite compares with, by folder; with the outputs' own strides."""


def random_case(seed: int) -> Case:
    """A configuration drawn from `seed`; every third is of a melody model."""
    random = np.random.default_rng(seed)
    heads, stereo = int(random.choice([2, 4])), bool(random.integers(2))
    window = float(random.choice([1.5, 2.0, 30.0]))
    books = int(random.choice([2, 4]))
    delays = np.sort(random.integers(0, 5, books))
    delays = (delays - delays[0]).tolist()
    lm = {
        "transformer_lm.dim": heads * int(random.choice([8, 16])),
        "transformer_lm.num_heads": heads,
        "transformer_lm.num_layers": int(random.integers(1, 4)),
        "transformer_lm.hidden_scale": float(random.choice([2, 2.5, 4])),
        "transformer_lm.n_q": books * (2 if stereo else 1),
        "transformer_lm.two_step_cfg": bool(random.integers(2)),
        "codebooks_pattern.delay.delays": sorted(delays * 2) if stereo else delays,
        "interleave_stereo_codebooks.use": stereo,
        "channels": 2 if stereo else 1,
        "dataset.segment_duration": window,
        f"{_T5_FIELD}finetune": bool(random.integers(2)),
    }
    codec = {
        "rvq.n_q": books,
        "seanet.ratios": random.permutation([8, 5, 4, 4]).tolist(),
        "seanet.pad_mode": str(random.choice(["constant", "reflect"])),
        "seanet.compress": int(random.choice([1, 2])),
        "seanet.lstm": int(random.integers(1, 3)),
    }
    seconds = 0.0
    if seed % 3 == 0:
        text = _config({"t5": _TEXT}, [("t5.t5.finetune", lm.pop(f"{_T5_FIELD}finetune"))])["t5"]
        chroma = {
            # Not thousands of frames, over which rounding adds up.
            "radix2_exp": int(random.integers(10, 13)) + (2 if window == 30 else 0),
            "n_chroma": int(random.choice([12, 24, 36])),
            "argmax": bool(random.integers(4)),
            "norm": random.choice([1.0, 2.0]).item(),
        }
        lm |= dict(melodies.conditioners(text, **chroma))
        seconds = float(random.uniform(0.1, 5))
    return Case(
        f"random {seed}{', melody' if seconds else ''}",
        tuple(lm.items()),
        tuple(codec.items()),
        duration=float(random.uniform(2, 4)),
        prompt=int(random.integers(0, 60)),
        extend_stride=float(random.choice([0.5, 1.0])),
        training=bool(random.integers(2)),
        melody=seconds,
        seed=seed,
    )


def _config(config: dict[str, Any], fields: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """A copy of a published configuration with other values at dotted names."""
    copied: dict[str, Any] = yaml.safe_load(yaml.safe_dump(config))
    for name in ("dora", "datasource"):
        copied.pop(name, None)  # of the environment, and of training alone
    for dotted, value in fields:
        table, keys = copied, dotted.split(".")
        for key in keys[:-1]:
            table = table.setdefault(key, {})
        table[keys[-1]] = value
    return copied


class _Tokenizer:
    """The toy's tokenizer, called as `T5Tokenizer` is."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def __call__(self, texts: list[str], **options: object) -> Any:
        ids = [self._tokenizer.encode(text).ids if text else [] for text in texts]
        longest = max(1, *map(len, ids))
        rows = [row + [0] * (longest - len(row)) for row in ids]
        mask = [[1] * len(row) + [0] * (longest - len(row)) for row in ids]
        return transformers.BatchEncoding(
            {"input_ids": torch.tensor(rows), "attention_mask": torch.tensor(mask)}
        )


@contextmanager
def _text_encoder(folder: Path, gated: bool, seed: int) -> Iterator[dict[str, Any]]:
    """Let AudioCraft find a small T5, which is written to `folder`, by any name."""
    kind = {"feed_forward_proj": "gated-gelu" if gated else "relu", "dropout_rate": 0.0}
    config = transformers.T5Config(**(CONFIG["text_encoder"] | kind))
    torch.manual_seed(seed + 1000)
    encoder = transformers.T5EncoderModel(config).eval()
    _randomise(encoder)
    state = {n: v.clone() for n, v in encoder.state_dict().items() if "embed_tokens" not in n}
    folder.mkdir(parents=True)
    save_file(state, folder / "model.safetensors")
    config.to_json_file(folder / "config.json", use_diff=False)
    write_tokenizer(folder)
    conditioners = sys.modules["audiocraft.modules.conditioners"]
    widths = dict.fromkeys(conditioners.T5Conditioner.MODELS, config.d_model)
    names = types.SimpleNamespace(from_pretrained=lambda name: _Tokenizer(folder))
    encoders = types.SimpleNamespace(from_pretrained=lambda name: encoder)
    with (
        mock.patch.object(conditioners, "T5Tokenizer", names),
        mock.patch.object(conditioners, "T5EncoderModel", encoders),
        mock.patch.object(conditioners.T5Conditioner, "MODELS_DIMS", widths),
    ):
        yield widths


@torch.no_grad()  # type: ignore[untyped-decorator]
def _randomise(model: torch.nn.Module) -> None:
    """Draw weights that are large enough for logits that differ clearly."""
    for name, values in [*model.named_parameters(), *model.named_buffers()]:
        if not values.is_floating_point() or "inited" in name or "cluster_size" in name:
            continue
        if "embed" in name and values.ndim == 2:
            values.normal_()
        elif values.ndim == 1:
            values.normal_(1.0 if name.endswith("weight") else 0.0, 0.1)
        elif name.endswith("weight_g"):
            values.uniform_(0.5, 1.5)
        else:
            values.normal_(0, 1.5 / values[0].numel() ** 0.5)


@torch.no_grad()  # type: ignore[untyped-decorator]
def make(case: Case, folder: Path, text_folder: Path) -> dict[str, np.ndarray]:
    """Write a random checkpoint of a case as AudioCraft exports it; return what that makes of it.

    Args:
        case: the configuration.
        folder: where the checkpoint goes.
        text_folder: where its text encoder goes, as a repository of the hub has it.
    """
    lm_config = _config(XP_LM, [*SIZES.items(), *case.lm])
    codec_config = _config(XP_CODEC, [*CODEC.items(), *case.codec])
    with (
        _text_encoder(text_folder, case.gated, case.seed),
        melodies.dependencies(lm_config["sample_rate"]),
    ):
        torch.manual_seed(case.seed)
        codec = _BUILDERS.get_compression_model(OmegaConf.create(codec_config)).eval()
        _randomise(codec)
        lm = _BUILDERS.get_lm_model(OmegaConf.create(lm_config)).eval()
        for name, module in lm.named_children():
            if name != "condition_provider":
                _randomise(module)
        for conditioner in lm.condition_provider.conditioners.values():
            _randomise(conditioner.output_proj)
        folder.mkdir(parents=True, exist_ok=True)
        if case.training:
            package = {
                "best_state": {"model": lm.state_dict()},
                "fsdp_best_state": {},
                "xp.cfg": OmegaConf.create(lm_config),
                "history": [{"train": {"ce": 1.0}}],
            }
            torch.save(package, folder / "checkpoint.th")
            exported = {"best_state": lm.state_dict(), "xp.cfg": yaml.safe_dump(lm_config)}
            torch.save(exported, text_folder / "exported.bin")
        else:
            exported = {
                "best_state": lm.state_dict(),
                "xp.cfg": OmegaConf.to_yaml(OmegaConf.create(lm_config)),
                "exported": True,
            }
            torch.save(exported, folder / "state_dict.bin")
        torch.save(
            {
                "best_state": codec.state_dict(),
                "xp.cfg": OmegaConf.to_yaml(OmegaConf.create(codec_config)),
            },
            folder / "compression_state_dict.bin",
        )
        source = text_folder / "exported.bin" if case.training else folder / "state_dict.bin"
        lm = _LOADERS.load_lm_model(str(source), device="cpu")
        codec = _LOADERS.load_compression_model(
            str(folder / "compression_state_dict.bin"), device="cpu"
        )
        return _outputs(case, lm, codec)


def _outputs(case: Case, lm: Any, codec: Any) -> dict[str, np.ndarray]:
    """What a model makes of random inputs, and the inputs."""
    random = np.random.default_rng(case.seed)
    kind = _AUDIOGEN if codec.sample_rate == 16_000 and not case.melody else _MusicGen
    # Its constructor demands windows longer than the stride that it begins with.
    player = kind("parity", codec, lm, max_duration=30)
    player.max_duration = lm.cfg.dataset.segment_duration
    codec = player.compression_model  # for stereo, around the mono one
    stride = {} if case.extend_stride is None else {"extend_stride": case.extend_stride}
    hop = codec.sample_rate // codec.frame_rate
    samples = 0.3 * random.standard_normal((player.audio_channels, int(hop) * 25))
    samples = samples.astype(np.float32)
    codes, _ = codec.encode(torch.tensor(samples)[None])
    found = {
        "samples": samples.T,
        "audio_codes": codes[0].numpy(),
        "decoded": codec.decode(codes)[0].T.numpy(),
        "duration": np.array(case.duration),
        "extend_stride": np.array(case.extend_stride or 0.0),
    }
    prompt = None
    if case.prompt:
        prompt = torch.tensor(random.integers(0, lm.card, (1, lm.n_q, case.prompt)))
        found["prompt"] = prompt[0].numpy()
    attributes_of: Any = sys.modules["audiocraft.modules.conditioners"]
    given: dict[str, tuple[str | None, Any]] = {"text": (TEXT, None), "no_text": (None, None)}
    if case.melody:
        found["melody"] = melodies.melody(
            random, case.melody, codec.sample_rate, player.audio_channels
        )
        melody = torch.tensor(found["melody"].T)
        given |= {"melody": (TEXT, melody), "melody_alone": (None, melody)}
        conditioner = lm.condition_provider.conditioners["self_wav"]
        vars(conditioner).update(match_len_on_eval=True, _use_masking=False)  # by get_pretrained
        heard: list[torch.Tensor] = []
        conditioner.output_proj.register_forward_pre_hook(lambda _, x: heard.append(x[0][0]))
    for name, (text, melody) in given.items():
        if kind is _AUDIOGEN:
            attributes = [attributes_of.ConditioningAttributes(text={"description": text})]
        else:
            attributes = player.attributes(text, melody)
        known = torch.tensor(random.integers(0, lm.card, (1, lm.n_q, 30)))
        pattern = lm.pattern_provider.get_pattern(30)
        sequence, _, _ = pattern.build_pattern_sequence(known, lm.special_token_id)
        tokenized = lm.condition_provider.tokenize(attributes)
        conditions = lm.condition_provider(tokenized)
        if melody is not None:
            found["chroma"] = heard[-1].numpy()
        logits = lm(sequence, [], conditions)
        found[f"sequence_{name}"] = sequence[0].numpy()
        found[f"logits_{name}"] = logits[0].permute(1, 0, 2).numpy()
        player.set_generation_params(use_sampling=False, duration=case.duration, **stride)
        if melody is not None:
            tokens = player.follow(text, melody, prompt)
        elif prompt is None:
            _, tokens = player.generate([text], return_tokens=True)
        else:  # the prompt's codes are given, for those of noise are few
            sound = torch.zeros(1, player.audio_channels, 1000)
            with mock.patch.object(codec, "encode", return_value=(prompt, None)):
                _, tokens = player.generate_continuation(
                    sound, codec.sample_rate, [text], return_tokens=True
                )
        found[f"greedy_{name}"] = tokens[0].numpy()
    return found
