"""The delay pattern on tensors: codebook k runs k steps late."""

import torch
from torch import Tensor

SPECIAL = 2048


def delayed(codes: Tensor) -> Tensor:
    """Codes (B, K, F) to columns (B, K, F + K): a column of special tokens, then the pattern.

    Frame t of codebook k stands in column 1 + t + k; every place outside its range is special.
    """
    B, K, F = codes.shape
    columns = torch.full((B, K, F + K), SPECIAL, dtype=torch.long, device=codes.device)
    for k in range(K):
        columns[:, k, 1 + k : 1 + k + F] = codes[:, k]
    return columns


def undelayed(columns: Tensor) -> Tensor:
    """Columns (B, K, F + K) back to codes (B, K, F)."""
    K = columns.shape[1]
    F = columns.shape[2] - K
    return torch.stack([columns[:, k, 1 + k : 1 + k + F] for k in range(K)], 1)
