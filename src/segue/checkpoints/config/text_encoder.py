"""The shape of the text encoder: T5."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import CheckpointError
from . import hugging_face_fields as hugging_face
from .schema import Json, read_fields


@dataclass(frozen=True)
class T5Config:
    """The encoder half of T5.  Defaults are those of `t5-base`.

    Attributes:
        dim: width of the residual stream, `d_model`.
        head_dim: `d_kv`; heads need not fill `dim`.
        num_buckets, max_distance: of the relative position bias.
        gated: whether the feed-forward is gated (T5 1.1, Flan) rather than one ReLU.
        max_tokens: of a text, `n_positions`: the length that it was trained with.  It could read
            longer ones, but attention takes memory by the square of a text's length.
    """

    vocab_size: int = 32_128
    dim: int = 768
    head_dim: int = 64
    num_heads: int = 12
    num_layers: int = 12
    ffn_dim: int = 3072
    num_buckets: int = 32
    max_distance: int = 128
    norm_eps: float = 1e-6
    gated: bool = False
    max_tokens: int = 512

    @classmethod
    def from_hf(cls, config: Json) -> T5Config:
        """Read the `text_encoder` part of a Hugging Face `config.json`, or a T5's own."""
        values = read_fields(config, hugging_face.TEXT_ENCODER, "text_encoder")
        projection = values.pop("feed_forward_proj")
        values["gated"] = gated = projection == "gated-gelu"
        activation, declared = values.pop("dense_act_fn"), values.pop("is_gated_act")
        # transformers writes both beside feed_forward_proj; when it reads them, they overrule it.
        if activation not in (None, "gelu_new" if gated else "relu") or declared not in (
            None,
            gated,
        ):
            raise CheckpointError(
                f"text_encoder.feed_forward_proj is {projection!r}, and dense_act_fn "
                f"{activation!r} or is_gated_act {declared!r} contradict it"
            )
        return cls(**values)
