"""The gated delta rule, one token at a time and in chunks.

    S_t = a_t S_{t-1} + b_t k_t (v_t - (a_t S_{t-1})^T k_t)^T,   o_t = S_t^T q_t
    Yang et al. 2024, "Gated Delta Networks", arXiv:2412.06464, eq. 10; chunks: section 3.3, after
    Yang et al. 2024, "Parallelizing Linear Transformers with the Delta Rule", arXiv:2406.06484

The state is a table from keys to values. A token lets it fade by a_t, looks up what it holds for k_t, and writes a share b_t
of the difference to v_t, where a plain sum of k v^T would pile up.

T tokens, H heads, K key width, V value width, Q chunk.
"""

from __future__ import annotations

import torch
from torch import Tensor

from orrery.model.decay import decay_between, into_chunks


def delta_step(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, beta: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """One token: q, k (H, K), v (H, V), log_decay and beta (H,), state (H, K, V) -> o (H, V), the state after it."""
    state = log_decay.exp()[:, None, None] * state
    held = (k[:, None] @ state).squeeze(1)  # (H, V)
    state = state + k[..., None] * (beta[:, None] * (v - held))[:, None]
    return (q[:, None] @ state).squeeze(1), state


def delta_rule(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, beta: Tensor, state: Tensor, *, chunk: int
) -> tuple[Tensor, Tensor]:
    """A whole stretch of tokens, by matrix products: O(T Q) work instead of T steps.

    Let u_i be what token i writes, u_i = b_i (v_i - what the state holds for k_i). Within a chunk that is

        u_i = b_i (v_i - decay(0..i) S^T k_i - sum_{j < i} decay(j..i) (k_i . k_j) u_j)

    a triangular system (I + L) u = b v - (b decay k) S, solved for all chunks at once; only the state S goes from chunk to chunk.

    Args:
        q, k: (T, H, K), k of length 1 at most. v: (T, H, V). log_decay: (T, H), below 0. beta: (T, H), in 0..1.
        state: (H, K, V) before the first token.

    Returns:
        o (T, H, V) and the state after the last token.
    """
    length, chunk = len(q), min(chunk, len(q))
    q, k, v, a, beta = (
        into_chunks(t, chunk).transpose(1, 2) for t in (q, k, v, log_decay, beta)
    )  # (c, H, Q, ...)
    since_start = a.cumsum(-1).exp()[..., None]  # what is left at i of the state before the chunk
    between = decay_between(a)  # (c, H, Q, Q)
    beta = beta[..., None]

    lower = (beta * k) @ k.transpose(-1, -2) * between
    right = torch.cat((beta * v, beta * since_start * k), -1)
    # The solver takes the diagonal as ones, which is the I of I + L.
    solved = torch.linalg.solve_triangular(lower, right, upper=False, unitriangular=True)
    written, read = solved.split((v.shape[-1], k.shape[-1]), -1)
    attention = q @ k.transpose(-1, -2) * between
    q_start, k_end = q * since_start, k * between[..., -1, :, None]

    out = []
    for i in range(len(q)):
        u = written[i] - read[i] @ state
        out.append(q_start[i] @ state + attention[i] @ u)
        state = since_start[i, :, -1:] * state + k_end[i].transpose(-1, -2) @ u
    return torch.stack(out).transpose(1, 2).flatten(0, 1)[:length], state
