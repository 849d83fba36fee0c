"""Prefixes of the names of tensors in the Hugging Face layout."""

from __future__ import annotations

import re

LM = "decoder.model.decoder."
CODEC = "audio_encoder."
TEXT = "text_encoder."
PROJECTION = "enc_to_dec_proj."
MELODY_PROJECTION = "audio_enc_to_dec_proj."


IGNORED = re.compile(
    r"embed_positions\.weights?$|\.(embed_avg|cluster_size|inited)$"
    r"|^text_encoder\.decoder\.|^text_encoder\.lm_head"
)
"""What published files hold beside the weights: buffers, training state, and tied copies."""
