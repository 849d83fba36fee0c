"""Several cards, each with a copy of the model, which average their weights every few steps.

Started by `torchrun --nproc-per-node 2 -m …`; alone, everything here does nothing.
"""

import os

import torch
import torch.distributed as dist
from torch import Tensor


class Together:
    """This process among the others."""

    def __init__(self) -> None:
        self.rank, self.size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        cuda = torch.cuda.is_available()
        self.device = torch.device("cuda", self.rank) if cuda else torch.device("cpu")
        if cuda:
            torch.cuda.set_device(self.device)
        if self.size > 1:
            dist.init_process_group("nccl" if cuda else "gloo")

    @property
    def first(self) -> bool:
        """Whether this one judges, prints and saves."""
        return self.rank == 0

    @torch.no_grad()
    def average(self, tensors: list[Tensor], number: float) -> float:
        """Puts every tensor's mean over all processes in its place; the mean of `number`."""
        if self.size == 1:
            return number
        device = tensors[0].device
        flat = torch.cat([t.flatten() for t in tensors] + [torch.tensor([number], device=device)])
        dist.all_reduce(flat)
        flat /= self.size
        parts = flat[:-1].split([t.numel() for t in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))
        return float(flat[-1])

    def close(self) -> None:
        """Waits for the others and leaves."""
        if self.size > 1:
            dist.barrier()
            dist.destroy_process_group()
