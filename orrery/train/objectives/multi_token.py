"""Multi-token prediction: besides the next token, each further depth k predicts the token k places beyond it.

    L = L_0 + sum_k w_k L_k        DeepSeek-V3 (arXiv:2412.19437, eq. 25): w_k = 0.3 / D, later 0.1 / D
                                   Gloeckle et al. 2024 (arXiv:2404.19737, eq. 2): w_k = 1

Depth k sees the hidden state of depth k - 1 and the token k places on. Where a document ends before that
there is no loss.
"""

from __future__ import annotations

import torch
from torch import Tensor


def shifted(values: Tensor, lengths: tuple[int, ...], places: int, fill: float) -> Tensor:
    """Values (T,) from `places` tokens later in the same run, `fill` where the run has ended."""
    sizes = torch.tensor(lengths, device=values.device)
    ends = sizes.cumsum(0).repeat_interleave(sizes)
    later = torch.arange(len(values), device=values.device) + places
    return torch.where(later < ends, values[later.clamp(max=len(values) - 1)], fill)
