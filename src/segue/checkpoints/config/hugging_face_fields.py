"""Every field of a Hugging Face `config.json`, one line each: read, fixed, or without effect.

Facts from transformers 4.57: `MusicgenConfig`, `MusicgenDecoderConfig`, `EncodecConfig`,
`T5Config`, `PretrainedConfig`, and the models that read them.  An absent field has the value
that transformers gives it; what transformers does not know, it ignores, and so does segue.
"""

from __future__ import annotations

from .schema import (
    CODEBOOKS,
    DELAYS,
    FLAG,
    FRAMES_PER_WINDOW,
    KERNEL,
    LAYERS,
    ORDER,
    PAD_MODES,
    RATE,
    REQUIRED,
    STRIDES,
    TABLE,
    Fields,
    NoEffect,
    Only,
    Read,
    Same,
    number,
    one_of,
    optional,
    several,
    whole,
)

_TRAINING = NoEffect("of training")
_GENERATION = NoEffect("an option of the request, not of the model")
_SPEED = NoEffect("how the same numbers are computed")
_LABEL = NoEffect("says what the file is or who made it")
_TOKENIZER = NoEffect("tokenizer.json says it")

PRETRAINED: Fields = {
    "pruned_heads": Only((None, {}), "heads that were cut out of layers"),
    "tie_encoder_decoder": Only((False,), "the decoder's weights are the encoder's"),
    "auto_map": Only((None,), "the model has code of its own"),
    "model_type": _LABEL,
    "architectures": _LABEL,
    "_name_or_path": _LABEL,
    "transformers_version": _LABEL,
    "finetuning_task": _LABEL,
    "task_specific_params": _LABEL,
    "problem_type": _LABEL,
    "id2label": _LABEL,
    "label2id": _LABEL,
    "num_labels": _LABEL,
    "dtype": NoEffect("the tensors have types of their own"),
    "torch_dtype": NoEffect("the tensors have types of their own"),
    "use_bfloat16": NoEffect("of TensorFlow's models"),
    "tf_legacy_loss": NoEffect("of TensorFlow's models"),
    "torchscript": _SPEED,
    "use_cache": _SPEED,
    "chunk_size_feed_forward": _SPEED,
    "gradient_checkpointing": _TRAINING,
    "initializer_factor": _TRAINING,
    "output_hidden_states": NoEffect("what else a call returns"),
    "output_attentions": NoEffect("what else a call returns"),
    "return_dict": NoEffect("what else a call returns"),
    "is_encoder_decoder": NoEffect("how transformers calls the model"),
    "add_cross_attention": NoEffect("MusicGen's decoder always has it, T5's encoder never"),
    "tokenizer_class": _TOKENIZER,
    "prefix": _TOKENIZER,
    "sep_token_id": _TOKENIZER,
    "eos_token_id": NoEffect("no token ends the music; T5's is in tokenizer.json"),
    "decoder_start_token_id": NoEffect("the special token is the row behind the codes"),
    **dict.fromkeys(
        [
            "bad_words_ids",
            "begin_suppress_tokens",
            "diversity_penalty",
            "do_sample",
            "early_stopping",
            "encoder_no_repeat_ngram_size",
            "exponential_decay_length_penalty",
            "forced_bos_token_id",
            "forced_eos_token_id",
            "length_penalty",
            "max_length",
            "min_length",
            "no_repeat_ngram_size",
            "num_beam_groups",
            "num_beams",
            "num_return_sequences",
            "output_scores",
            "remove_invalid_values",
            "repetition_penalty",
            "return_dict_in_generate",
            "suppress_tokens",
            "temperature",
            "top_k",
            "top_p",
            "typical_p",
        ],
        _GENERATION,
    ),
}
"""What every configuration of transformers has."""

MUSICGEN: Fields = {
    **PRETRAINED,
    "text_encoder": Read(TABLE, REQUIRED),
    "audio_encoder": Read(TABLE, REQUIRED),
    "decoder": Read(TABLE, REQUIRED),
    "quantization": Read(optional(TABLE), None),
    "quantization_config": Read(optional(TABLE), None),
    "tie_word_embeddings": NoEffect("each part says it of itself"),
    "is_decoder": NoEffect("each part says it of itself"),
    "cross_attention_hidden_size": NoEffect("the decoder says it"),
    "bos_token_id": NoEffect("the decoder says it"),
    "pad_token_id": NoEffect("the decoder says it"),
    "sampling_rate": NoEffect("the audio encoder says it"),
}

MELODY: Fields = {
    "num_chroma": Read(whole(1, 1024), 12, "bins"),
    "chroma_length": Read(whole(1, 4096), 235, "frames"),
    # segue's own, for what transformers has no field for:
    "chroma_spectrum": Read(whole(2, 1 << 18), 1 << 14, "spectrum"),
    "chroma_window": Read(whole(2, 1 << 18), 1 << 14, "window"),
    "chroma_hop": Read(whole(1, 1 << 18), 1 << 12, "hop"),
    "chroma_strongest": Read(FLAG, True, "strongest"),
    "chroma_norm": Read(optional(ORDER), None, "norm"),
    "chroma_samples": Read(optional(whole()), None, "samples"),
}
"""Beside `MUSICGEN` in a melody model."""

EXTRACTOR: Fields = {
    "n_fft": Read(whole(2, 1 << 18), 1 << 14),
    "hop_length": Read(whole(1, 1 << 18), 1 << 12),
    "num_chroma": Read(optional(whole(1, 1024)), None),
    "sampling_rate": Read(optional(RATE), None),
}
"""Of the `preprocessor_config.json` of a melody model: transformers'
`MusicgenMelodyFeatureExtractor`."""

DECODER: Fields = {
    **PRETRAINED,
    "model_type": Only(
        ("musicgen_decoder", "musicgen_melody_decoder", None), "another kind of decoder"
    ),
    "hidden_size": Read(whole(2), 1024, "dim"),
    "num_hidden_layers": Read(LAYERS, 24, "num_layers"),
    "num_attention_heads": Read(whole(), 16, "num_heads"),
    "ffn_dim": Read(whole(), 4096),
    "num_codebooks": Read(CODEBOOKS, 4),
    "vocab_size": Read(whole(2), 2048, "cardinality"),
    "audio_channels": Read(whole(1, 64), 1),
    "delays": Read(DELAYS, ()),  # segue's own
    "window_frames": Read(whole(2, 65_536), FRAMES_PER_WINDOW),  # likewise
    "pad_token_id": Read(optional(whole(-1)), None),
    "bos_token_id": Read(optional(whole(-1)), None),
    "activation_function": Only(("gelu",), "the activation of the feed-forward"),
    "scale_embedding": Only((False,), "embeddings are scaled by the root of their width"),
    "tie_word_embeddings": Only((False,), "the heads are the embeddings"),
    "cross_attention_hidden_size": Only((None,), "the text's states come without a projection"),
    "max_position_embeddings": NoEffect("a table that is extended as it has to be"),
    "is_decoder": NoEffect("MusicGen's decoder always is"),
    "dropout": _TRAINING,
    "attention_dropout": _TRAINING,
    "activation_dropout": _TRAINING,
    "layerdrop": _TRAINING,
}

AUDIO_ENCODER: Fields = {
    **PRETRAINED,
    "model_type": Only(("encodec", None), "another kind of codec, where segue runs EnCodec"),
    "sampling_rate": Read(RATE, 24_000, "sample_rate"),
    "audio_channels": Read(whole(1, 64), 1),
    "num_filters": Read(whole(), 32),
    "upsampling_ratios": Read(STRIDES, (8, 5, 4, 2), "ratios"),
    "num_residual_layers": Read(whole(1, 16), 1),
    "dilation_growth_rate": Read(whole(1, 16), 2, "dilation_growth"),
    "compress": Read(whole(1, 1024), 2),
    "kernel_size": Read(KERNEL, 7),
    "last_kernel_size": Read(KERNEL, 7),
    "residual_kernel_size": Read(KERNEL, 3),
    "num_lstm_layers": Read(whole(1, 64), 2),
    "hidden_size": Read(whole(), 128),
    "codebook_size": Read(whole(2), 1024),
    "codebook_dim": Read(optional(whole()), None),
    "target_bandwidths": Read(several(number(0.001, 10_000)), (1.5, 3.0, 6.0, 12.0, 24.0)),
    "use_causal_conv": Read(FLAG, True, "causal"),
    "pad_mode": Read(PAD_MODES, "reflect"),
    "trim_right_ratio": Read(number(0, 1), 1.0),
    "use_conv_shortcut": Read(FLAG, True, "conv_shortcut"),
    "norm_type": Only(("weight_norm",), "layers are normalised as in EnCodec at 48 kHz"),
    "normalize": Only((False,), "the input is normalised as in EnCodec at 48 kHz"),
    "chunk_length_s": Only((None,), "music is encoded in chunks, as by EnCodec at 48 kHz"),
    "overlap": NoEffect("of chunks"),
    "bos_token_id": NoEffect("of no codec"),
    "pad_token_id": NoEffect("of no codec"),
    "is_decoder": NoEffect("of no codec"),
    "tie_word_embeddings": NoEffect("of no codec"),
    "cross_attention_hidden_size": NoEffect("of no codec"),
}

TEXT_ENCODER: Fields = {
    **PRETRAINED,
    "model_type": Only(("t5", None), "another kind of text encoder, where segue runs T5"),
    "vocab_size": Read(whole(2), 32_128),
    "d_model": Read(whole(), 512, "dim"),
    "d_kv": Read(whole(), 64, "head_dim"),
    "d_ff": Read(whole(), 2048, "ffn_dim"),
    "num_layers": Read(LAYERS, 6),
    "num_heads": Read(whole(), 8),
    "relative_attention_num_buckets": Read(whole(4), 32, "num_buckets"),
    "relative_attention_max_distance": Read(whole(2), 128, "max_distance"),
    "layer_norm_epsilon": Read(number(0, 1), 1e-6, "norm_eps"),
    "feed_forward_proj": Read(one_of("relu", "gated-gelu"), "relu"),
    "dense_act_fn": Read(optional(one_of("relu", "gelu_new")), None),
    "is_gated_act": Read(optional(FLAG), None),
    "hidden_size": Same("d_model"),
    "head_dim": Same("d_kv"),
    "num_hidden_layers": Same("num_layers"),
    "num_attention_heads": Same("num_heads"),
    "is_decoder": Only((False,), "attention sees only what comes before"),
    "tie_word_embeddings": NoEffect("of T5's decoder"),
    "num_decoder_layers": NoEffect("of T5's decoder"),
    "scale_decoder_outputs": NoEffect("of T5's decoder"),
    "cross_attention_hidden_size": NoEffect("of T5's decoder"),
    "bos_token_id": _TOKENIZER,
    "pad_token_id": _TOKENIZER,
    "n_positions": Read(whole(2), 512, "max_tokens"),
    "output_past": _SPEED,
    "dropout_rate": _TRAINING,
    "classifier_dropout": NoEffect("of classifiers"),
}

QUANTIZATION: Fields = {
    "bits": Read(whole(2, 8), REQUIRED),
    "group_size": Read(whole(16, 128), REQUIRED),
    "mode": Read(one_of("affine", "mxfp4", "mxfp8", "nvfp4"), "affine"),
}
"""mlx-lm's block of how the weights are packed, whose other entries are modules."""
