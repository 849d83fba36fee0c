"""What the names of tensors begin with, as the Hugging Face layout has them."""

from __future__ import annotations

import re

LM = "decoder.model.decoder."
CODEC = "audio_encoder."
TEXT = "text_encoder."
PROJECTION = "enc_to_dec_proj."


# What real files hold beside the weights: buffers, training state, and tied copies.
IGNORED = re.compile(
    r"embed_positions\.weights?$|\.(embed_avg|cluster_size|inited)$"
    r"|^text_encoder\.decoder\.|^text_encoder\.lm_head"
)
