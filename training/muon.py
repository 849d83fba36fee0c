"""Muon: momentum whose matrix is made orthogonal before the step.

Keller Jordan et al., 2024 (https://kellerjordan.github.io/posts/muon), with the scale that makes a
step as large as AdamW's (Liu et al., arXiv 2502.16982). Matrices of one shape are orthogonalized
together, and nothing waits for the host, so that a CUDA graph can hold the step.
"""

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # Jordan's: singular values land in 0.7 to 1.2


def orthogonal(x: Tensor, rounds: int = 5) -> Tensor:
    """Matrices (N, a, b), a ≤ b, with all singular values near 1, by Newton and Schulz."""
    a, b, c = COEFFICIENTS
    kind = torch.bfloat16 if x.is_cuda else x.dtype
    x = (x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)).to(kind)
    for _ in range(rounds):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x.float()


class Muon(torch.optim.Optimizer):
    """For matrices in the middle of a model; embeddings and heads are better off with AdamW."""

    def __init__(self, parameters: list[Tensor], rate: Tensor, momentum: float, decay: float):
        super().__init__(parameters, {"lr": rate})
        self.rate, self.momentum, self.decay = rate, momentum, decay
        self.groups: dict[tuple[int, ...], list[Tensor]] = {}
        for parameter in parameters:
            self.groups.setdefault(tuple(parameter.shape), []).append(parameter)
        self.moving = {
            shape: torch.zeros(len(group), *shape, device=group[0].device)
            for shape, group in self.groups.items()
        }

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One step from the gradients as they are."""
        for shape, group in self.groups.items():
            gradient = torch.stack([parameter.grad for parameter in group])
            moving = self.moving[shape]
            moving.lerp_(gradient, 1 - self.momentum)
            ahead = gradient.lerp(moving, self.momentum)
            tall = shape[0] > shape[1]
            update = orthogonal(ahead.mT if tall else ahead)
            update = (update.mT if tall else update) * (0.2 * max(shape) ** 0.5 * self.rate)
            torch._foreach_mul_(group, 1 - self.rate * self.decay)
            torch._foreach_sub_(group, list(update.unbind(0)))
