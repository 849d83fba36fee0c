"""A checkpoint's weights as the matrices and norms of the native library."""

from __future__ import annotations

import numpy as np

from ...checkpoints.config import LMConfig
from ...checkpoints.layouts import LM as PREFIX
from ..openvino.weights import Weights
from . import packing
from .structures import FLOAT32, Layer, Matrix


class Matrices:
    """What the library reads of a checkpoint.

    Args:
        config: the shape of the model.
        weights: of the checkpoint; they are read here, and not kept.

    Attributes:
        text: whether layers attend to a text.
        layers: an array of structures.
        norm: the address of the last norm, see `Layer`.
        heads: of all codebooks, as one matrix.
        memory: what all of these point to; it must live as long as they do.
        held: the bytes of each module.
        packed: whether any are quantized and stay so.
    """

    def __init__(self, config: LMConfig, weights: Weights) -> None:
        self.memory: list[np.ndarray] = []
        self.held: dict[str, int] = {}
        self.packed = False
        self._chunks = packing.Chunks()
        self.text = f"{PREFIX}layers.0.encoder_attn.q_proj.weight" in weights.tensors
        self.layers = (Layer * config.num_layers)(
            *(self._layer(weights, f"{PREFIX}layers.{n}.") for n in range(config.num_layers))
        )
        self.norm = self._norm(weights, f"{PREFIX}layer_norm")
        self.heads = self._matrix(
            weights, [f"decoder.lm_heads.{k}" for k in range(config.num_codebooks)]
        )

    @property
    def narrow(self) -> bool:
        """Whether layers are stored in less than 32 bits a weight."""
        return any(layer.qkv.kind != FLOAT32 for layer in self.layers)

    def _layer(self, weights: Weights, name: str) -> Layer:
        self_attention, cross_attention = f"{name}self_attn.", f"{name}encoder_attn."
        layer = Layer(
            self_norm=self._norm(weights, f"{name}self_attn_layer_norm"),
            ffn_norm=self._norm(weights, f"{name}final_layer_norm"),
            qkv=self._matrix(weights, [f"{self_attention}{part}_proj" for part in "qkv"]),
            self_out=self._matrix(weights, [f"{self_attention}out_proj"]),
            fc1=self._matrix(weights, [f"{name}fc1"]),
            fc2=self._matrix(weights, [f"{name}fc2"]),
        )
        if self.text:
            layer.cross_norm = self._norm(weights, f"{name}encoder_attn_layer_norm")
            layer.cross_q = self._matrix(weights, [f"{cross_attention}q_proj"])
            layer.cross_out = self._matrix(weights, [f"{cross_attention}out_proj"])
        return layer

    def _norm(self, weights: Weights, module: str) -> int:
        parts = [weights.floats(f"{module}.{part}") for part in ("weight", "bias")]
        both = np.ascontiguousarray(np.concatenate(parts), np.float32)
        self.memory.append(both)
        return int(both.ctypes.data)

    def _matrix(self, weights: Weights, modules: list[str]) -> Matrix:
        packed = weights.packed(modules)
        if packed is not None and packing.packable(packed):
            matrix, memory = packing.packed_matrix(packed, self._chunks.take)
            self.packed = True
        else:
            if packed is None:
                values = np.concatenate([weights.floats(f"{name}.weight") for name in modules])
            else:
                values = packed.dense()
                params = packed.params
                weights.widened.add(
                    params.mode if params.mode != "affine" else f"{params.bits}-bit"
                )
            matrix, memory = packing.float_matrix(values, self._chunks.take)
        self.memory.append(memory)
        # Modules that are one matrix have as many rows each.
        self.held |= dict.fromkeys(modules, memory.nbytes // len(modules))
        return matrix
