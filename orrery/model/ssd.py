"""The state-space recurrence of Mamba-2, one token at a time and in chunks.

    S_t = exp(dt_t A) S_{t-1} + dt_t x_t B_t^T,   y_t = S_t C_t
    Dao & Gu 2024, "Transformers are SSMs", arXiv:2405.21060: eq. 2 (recurrence), section 6 (chunks)

T tokens, H heads, P head width, G groups of heads that share B and C, R = H / G heads in one, N state width, Q chunk.
"""

from __future__ import annotations

import torch
from torch import Tensor

from orrery.model.decay import decay_between, into_chunks


def ssd_step(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """One token: x (H, P), dt (H,), A (H,) below 0, B and C (G, N), state (H, P, N) -> y (H, P), the state after it."""
    B, C = (t.repeat_interleave(len(x) // len(t), 0) for t in (B, C))  # (H, N)
    state = (dt * A).exp()[:, None, None] * state + (dt[:, None] * x)[..., None] * B[:, None]
    return (state @ C[..., None]).squeeze(-1), state


def ssd(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor, *, chunk: int
) -> tuple[Tensor, Tensor]:
    """A whole stretch of tokens, by matrix products: O(T Q) work instead of T steps.

    Within a chunk the recurrence is attention without a softmax, y_i = sum_{j <= i} (C_i . B_j) decay(j..i) dt_j x_j; what
    came before the chunk is in the state alone.

    Args:
        x: (T, H, P). dt: (T, H), above 0. A: (H,), below 0. B, C: (T, G, N).
        state: (H, P, N) before the first token.

    Returns:
        y (T, H, P) and the state after the last token.
    """
    length, groups, chunk = len(x), B.shape[1], min(chunk, len(x))
    log_decay, x = dt * A, dt[..., None] * x
    log_decay, x = (t.unflatten(1, (groups, -1)) for t in (log_decay, x))  # (T, G, R), (T, G, R, P)
    a, x, B, C = (into_chunks(t, chunk) for t in (log_decay, x, B, C))  # (c, Q, ...)
    a = a.movedim(1, -1)  # (c, G, R, Q)
    since_start = a.cumsum(-1).exp()  # what is left at i of the state before the chunk
    between = decay_between(a)  # (c, G, R, Q, Q)

    scores = torch.einsum("cign,cjgn->cgij", C, B)[:, :, None] * between
    y = torch.einsum("cgrij,cjgrp->cigrp", scores, x)

    to_end = between[..., -1, :].movedim(-1, 1)[..., None]  # (c, Q, G, R, 1)
    added = torch.einsum("cjgn,cjgrp->cgrpn", B, x * to_end)
    state, before = state.unflatten(0, (groups, -1)), []
    for new, kept in zip(added, since_start[..., -1, None, None], strict=True):
        before.append(state)
        state = state * kept + new
    seen = torch.einsum("cign,cgrpn->cigrp", C, torch.stack(before))
    y = y + seen * since_start.movedim(-1, 1)[..., None]
    return y.flatten(0, 1).flatten(1, 2)[:length], state.flatten(0, 1)
