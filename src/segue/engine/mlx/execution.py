"""How decode steps run on a device."""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx

from . import kernels

COLUMNS_PER_READ = 8
"""Columns that are read at a time on CUDA, where MLX allocates memory for every read."""


@dataclass(frozen=True)
class Execution:
    """How decode steps run; none of it changes what they compute.

    Attributes:
        compiled: whether a step is traced once and then replayed (`mx.compile`).
        kernels: those of `kernels.NAMES` that steps run.
        columns_per_read: columns that the host reads at a time.
    """

    compiled: bool = False
    kernels: frozenset[str] = frozenset()
    columns_per_read: int = 1

    @classmethod
    def here(cls, head_dim: int) -> Execution:
        """What suits MLX's default device, for heads of `head_dim` values.

        On the CPU steps are not compiled: MLX compiles fused CPU kernels with the machine's C++
        compiler, which may not be installed.

        Raises:
            RequestError: see `kernels.chosen`.
        """
        return cls(
            compiled=mx.default_device().type == mx.DeviceType.gpu,
            kernels=kernels.chosen(head_dim),
            columns_per_read=COLUMNS_PER_READ if kernels.on_cuda() else 1,
        )
