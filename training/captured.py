"""Runs a training step as one CUDA graph: the host's launches would cost more than the work."""

from collections.abc import Callable

import torch
from torch import Tensor

Step = Callable[[], Tensor]


def eager(step: Step, optimizers: list[torch.optim.Optimizer]) -> Step:
    """The step as it is, with the gradients cleared before it."""

    def clean() -> Tensor:
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        return step()

    return clean


def captured(step: Step, optimizers: list[torch.optim.Optimizer], warmup: int = 4) -> Step:
    """The step, captured; on a CPU the step itself.

    `step` computes gradients and updates; it never reads a value back and returns a tensor of
    figures. Gradients must be None when its backward pass begins, so that replays overwrite them.
    """
    clean = eager(step, optimizers)
    if not torch.cuda.is_available():
        return clean
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(warmup):
            clean()
    torch.cuda.current_stream().wait_stream(stream)
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        figures = step()

    def replay() -> Tensor:
        graph.replay()
        return figures

    return replay
