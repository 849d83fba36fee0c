"""The names that tensors have in published checkpoints, turned into one set of names.

segue's own names are those of the Hugging Face layout, with weight norm folded:

    decoder.model.decoder.{embed_tokens.K, layers.N.*, layer_norm}, decoder.lm_heads.K
    enc_to_dec_proj, and of a melody model audio_enc_to_dec_proj
    audio_encoder.{encoder, decoder}.layers.N.*, audio_encoder.quantizer.layers.K.codebook.embed
    text_encoder.*

Nothing is read here but shapes: a renamed, split or folded tensor is computed when it is taken.
"""

from .codec import from_codec
from .language_model import from_audiocraft, from_stacks, identity_projection, stacks
from .names import CODEC, IGNORED, LM, MELODY_PROJECTION, PROJECTION, TEXT
from .shapes import Shapes, check, codec_shapes, lm_shapes, quantized_shapes, t5_shapes

__all__ = [
    "CODEC",
    "IGNORED",
    "LM",
    "MELODY_PROJECTION",
    "PROJECTION",
    "TEXT",
    "Shapes",
    "check",
    "codec_shapes",
    "from_audiocraft",
    "from_codec",
    "from_stacks",
    "identity_projection",
    "lm_shapes",
    "quantized_shapes",
    "stacks",
    "t5_shapes",
]
