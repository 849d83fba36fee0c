"""Every field of AudioCraft's `xp.cfg`, one line each: read, fixed, or without effect.

Facts from AudioCraft 1.4: `config/`, `audiocraft/models/builders.py`, and the constructors that it
hands whole tables to.  They refuse what they do not know, and so does segue.  An absent field has
the value that MusicGen has: an `xp.cfg` is exported whole.
"""

from __future__ import annotations

import math

from .schema import (
    ANYTHING,
    CODEBOOKS,
    DELAYS,
    FLAG,
    KERNEL,
    LAYERS,
    ORDER,
    PAD_MODES,
    RATE,
    REQUIRED,
    STRIDES,
    TABLE,
    TEXT,
    Fields,
    NoEffect,
    Only,
    Read,
    number,
    one_of,
    optional,
    several,
    whole,
)

_TRAINING = NoEffect("of training")
_GENERATION = NoEffect("an option of the request, not of the model")
_SPEED = NoEffect("how the same numbers are computed")

HIDDEN_DIMS_OF_T5 = {
    "t5-small": 512,
    "t5-base": 768,
    "t5-large": 1024,
    "t5-3b": 1024,
    "t5-11b": 1024,
    "google/flan-t5-small": 512,
    "google/flan-t5-base": 768,
    "google/flan-t5-large": 1024,
}
"""The text encoders that AudioCraft runs, repositories of the hub, and their width (`d_model`).

It lists flan-t5-xl and -xxl too, but has no width for their names, and fails."""

FLAN = "google/flan-"
"""Begins the names of text encoders with gated feed-forwards."""

# --- The language model -------------------------------------------------------------

_OTHER_PATTERN = NoEffect("of a pattern that is not chosen")

XP_LM: Fields = {
    "transformer_lm": Read(ANYTHING, None),  # what lacks it may have a base model's shape
    "codebooks_pattern": Read(optional(TABLE), None),
    "interleave_stereo_codebooks": Read(optional(TABLE), None),
    "conditioners": Read(optional(TABLE), None),
    "fuser": Read(optional(TABLE), None),
    "lm_model": Only(("transformer_lm",), "another kind of language model"),
    "sample_rate": Read(optional(RATE), None),
    "channels": Read(optional(whole(1, 2)), None),
    "compression_model_n_q": Read(optional(CODEBOOKS), None),
    "compression_model_checkpoint": Read(optional(TEXT), None),
    "dataset": Read(optional(TABLE), None),
    "classifier_free_guidance": _GENERATION,
    "attribute_dropout": _TRAINING,
    "tokens": _TRAINING,
    **dict.fromkeys(
        [
            "augmentations",
            "autocast",
            "autocast_dtype",
            "benchmark_no_load",
            "cache",
            "checkpoint",
            "continue_from",
            "datasource",
            "deadlock",
            "device",
            "dora",
            "dtype",
            "efficient_attention_backend",
            "evaluate",
            "execute_inplace",
            "execute_only",
            "fsdp",
            "generate",
            "label",
            "logging",
            "metrics",
            "mp_start_method",
            "num_threads",
            "optim",
            "profiler",
            "schedule",
            "seed",
            "show",
            "slurm",
            "solver",
            "tensorboard",
            "wandb",
        ],
        _TRAINING,
    ),
}
"""The top of a language model's `xp.cfg`."""

DATASET: Fields = {"segment_duration": Read(optional(number(1, 300)), None)}
"""Of which the length of a window comes; all else in it is of training."""

TRANSFORMER_LM: Fields = {
    "dim": Read(whole(2), REQUIRED),
    "num_layers": Read(LAYERS, REQUIRED),
    "num_heads": Read(whole(), REQUIRED),
    "hidden_scale": Read(number(0.001, 1024), 4.0),
    "n_q": Read(CODEBOOKS, 4, "num_codebooks"),
    "card": Read(whole(2), 2048, "cardinality"),
    "activation": Only(("gelu",), "the activation of the feed-forward"),
    "norm": Only(("layer_norm",), "how layers are normalised"),
    "norm_first": Only((True,), "whether layers normalise their input"),
    "bias_ff": Only((False,), "biases of the feed-forward"),
    "bias_attn": Only((False,), "biases of attention"),
    "bias_proj": Only((False,), "biases of the heads"),
    "causal": Only((True,), "whether attention sees only what came before"),
    "past_context": Only((None,), "attention forgets what is longer ago"),
    "layer_scale": Only((None,), "what layers add is scaled (LayerScale)"),
    "positional_embedding": Only(("sin",), "how positions are encoded"),
    "max_period": Only((10_000,), "the longest period of the positions"),
    "positional_scale": Only((1,), "positions are scaled"),
    "qk_layer_norm": Only((False,), "queries and keys are normalised"),
    "qk_layer_norm_cross": Only((False,), "queries and keys are normalised"),
    "kv_repeat": Only((1,), "heads share keys and values"),
    "q_modeling": Read(optional(TEXT), None),  # where codebooks_pattern.modeling is null
    "xpos": NoEffect("of rotary positions"),
    "cross_attention": NoEffect("the fuser's entry turns it on"),
    "two_step_cfg": NoEffect("AudioCraft's MusicGen always passes its own, which is off"),
    "layer_norm_eps": NoEffect("AudioCraft makes its norms anew, with 1e-5"),
    "custom": _SPEED,
    "memory_efficient": _SPEED,  # without it and custom, torch's own attention, of other names
    "attention_as_float32": _SPEED,
    "checkpointing": _TRAINING,
    "dropout": _TRAINING,
    "attention_dropout": _TRAINING,
    "emb_lr": _TRAINING,
    "lr": _TRAINING,
    "weight_decay": _TRAINING,
    "weight_init": _TRAINING,
    "depthwise_init": _TRAINING,
    "zero_bias_init": _TRAINING,
}
"""`LMModel`, `StreamingTransformer` and `StreamingTransformerLayer`."""

CODEBOOKS_PATTERN: Fields = {
    "modeling": Read(optional(one_of("delay")), "delay"),  # null: q_modeling says it
    "delay": Read(optional(TABLE), None),
    "parallel": _OTHER_PATTERN,
    "unroll": _OTHER_PATTERN,
    "coarse_first": _OTHER_PATTERN,
    "music_lm": _OTHER_PATTERN,
    "musiclm": _OTHER_PATTERN,
}

DELAY: Fields = {
    "delays": Read(optional(DELAYS), None),
    "flatten_first": Only((0,), "the first frames have their codebooks one after the other"),
    "empty_initial": Only((0,), "the sequence begins with more or fewer special tokens"),
}

INTERLEAVE: Fields = {
    "use": Read(FLAG, False),
    "per_timestep": Only((False,), "left and right take turns in time"),
}

FUSER: Fields = {
    "cross": Read(several(TEXT, 0), None),
    "sum": Only(([],), "conditions are added to the sequence"),
    "prepend": Read(several(TEXT, 0), None),
    "input_interpolate": Only(([],), "conditions are added to the sequence"),
    "ignore": Read(several(TEXT, 0), ()),
    "cross_attention_pos_emb": Only((False,), "conditions have positions"),
    "cross_attention_pos_emb_scale": NoEffect("of positions that conditions do not have"),
}

FUSED = ("sum", "prepend", "input_interpolate")
"""The ways other than `cross` by which the fuser adds conditions; AudioCraft asks for all four."""

CONDITIONERS_ARGS: Fields = {"merge_text_conditions_p": _TRAINING, "drop_desc_p": _TRAINING}

CONDITIONER: Fields = {
    "model": Only(("t5",), "how the condition is encoded"),
    "t5": Read(optional(TABLE), None),
}

MELODY_CONDITIONER: Fields = {
    "model": Only(("chroma_stem",), "how the melody is encoded"),
    "chroma_stem": Read(TABLE, REQUIRED),
}

CHROMA_STEM: Fields = {
    "sample_rate": Read(RATE, REQUIRED),
    "n_chroma": Read(whole(1, 1024), REQUIRED, "bins"),
    "radix2_exp": Read(whole(1, 18), REQUIRED),
    "nfft": Read(optional(whole(2, 1 << 18)), None),
    "winlen": Read(optional(whole(2, 1 << 18)), None),
    "winhop": Read(optional(whole(1, 1 << 18)), None),
    "argmax": Read(FLAG, False, "strongest"),
    "norm": Read(ORDER, math.inf),
    "match_len_on_eval": NoEffect("`MusicGen.get_pretrained` of AudioCraft turns it on"),
    "eval_wavs": NoEffect("what replaced melodies in evaluation while training"),
    "n_eval_wavs": NoEffect("of eval_wavs"),
    "cache_path": NoEffect("where chroma was kept in training; AudioCraft's loader drops it"),
}
"""`ChromaStemConditioner` and `ChromaExtractor`; where it is absent, argmax is off there."""

T5_CONDITIONER: Fields = {
    "name": Read(one_of(*HIDDEN_DIMS_OF_T5), "t5-base"),
    "finetune": Read(FLAG, False),
    "normalize_text": Only((False,), "the text is lemmatised, and its stop words left out"),
    "word_dropout": _TRAINING,
    "autocast_dtype": NoEffect("segue's T5 computes in float32"),
}

# --- The codec ----------------------------------------------------------------------

XP_CODEC: Fields = {
    "seanet": Read(TABLE, REQUIRED),
    "rvq": Read(TABLE, REQUIRED),
    "encodec": Read(optional(TABLE), None),
    "compression_model": Only(("encodec",), "another kind of codec"),
    "sample_rate": Read(optional(RATE), None),
    "channels": Read(optional(whole(1, 64)), None),
    "no_quant": NoEffect("of a codec without codes"),
}
"""The top of a codec's `xp.cfg`; the rest of it is of training."""

ENCODEC: Fields = {
    "autoencoder": Only(("seanet",), "another kind of codec"),
    "quantizer": Only(("rvq",), "another kind of quantizer"),
    "sample_rate": Read(optional(RATE), None),
    "channels": Read(optional(whole(1, 64)), None),
    "renormalize": Only((False,), "the input is normalised as in EnCodec at 48 kHz"),
    "renorm": NoEffect("AudioCraft drops it"),
    "causal": NoEffect("seanet.causal is what pads; this only forbids renormalize"),
}

SEANET: Fields = {
    "dimension": Read(whole(), REQUIRED, "hidden_size"),
    "n_filters": Read(whole(), REQUIRED, "num_filters"),
    "ratios": Read(STRIDES, REQUIRED),
    "channels": Read(whole(1, 64), 1, "audio_channels"),
    "n_residual_layers": Read(whole(1, 16), 1, "num_residual_layers"),
    "dilation_base": Read(whole(1, 16), 2, "dilation_growth"),
    "compress": Read(whole(1, 1024), 2),
    "kernel_size": Read(KERNEL, 7),
    "last_kernel_size": Read(KERNEL, 7),
    "residual_kernel_size": Read(KERNEL, 3),
    "lstm": Read(whole(1, 64), 2, "num_lstm_layers"),
    "causal": Read(FLAG, False),
    "pad_mode": Read(PAD_MODES, "reflect"),
    "true_skip": Read(FLAG, True),
    "encoder": Read(optional(TABLE), None),
    "decoder": Read(optional(TABLE), None),
    "activation": Only(("ELU",), "the activation of the codec"),
    "activation_params": Only(({"alpha": 1.0}, {}), "parameters of the activation"),
    "norm": Only(("weight_norm", "none"), "layers are normalised as in EnCodec at 48 kHz"),
    "norm_params": NoEffect("weight norm has none"),
    "disable_norm_outer_blocks": NoEffect("weight norm is folded wherever a tensor has it"),
}

SEANET_DECODER: Fields = {
    "trim_right_ratio": Read(number(0, 1), 1.0),
    "final_activation": Only((None,), "an activation behind the last layer"),
    "final_activation_params": NoEffect("of an activation that is not there"),
}

RVQ: Fields = {
    "n_q": Read(CODEBOOKS, REQUIRED, "num_codebooks"),
    "bins": Read(whole(2), REQUIRED, "codebook_size"),
    "dimension": NoEffect("AudioCraft puts seanet.dimension in its place"),
    **dict.fromkeys(
        [
            "q_dropout",
            "decay",
            "kmeans_init",
            "kmeans_iters",
            "threshold_ema_dead_code",
            "orthogonal_reg_weight",
            "orthogonal_reg_active_codes_only",
            "orthogonal_reg_max_codes",
        ],
        _TRAINING,
    ),
}
