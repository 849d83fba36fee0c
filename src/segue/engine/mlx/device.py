"""What MLX computes on."""

from __future__ import annotations

import mlx.core as mx


def on_cuda() -> bool:
    """Whether MLX computes with CUDA."""
    return mx.cuda.is_available() and mx.default_device().type == mx.DeviceType.gpu


def device_name() -> str:
    """What MLX computes on: the CPU, or a GPU's name."""
    if mx.default_device().type == mx.DeviceType.cpu:
        return "CPU"
    return str(mx.device_info().get("device_name", "GPU"))
