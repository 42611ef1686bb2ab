"""Multi-token prediction: a module that looks one token further than the model, or than the module before it.

    h'_i^k = W_k [norm(h_i^(k-1)); norm(embed(t_(i+k)))],   h_i^k = block_k(h'_i^k),   p(t_(i+k+1)) = head(norm(h_i^k))
    DeepSeek-V3, arXiv:2412.19437, eq. 21-23. Embedding and head are the main model's own.

T tokens, d model width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from orrery.model.block import make_block
from orrery.model.config import DecoderConfig
from orrery.model.context import Context
from orrery.model.norm import make_norm


class MTP(nn.Module):
    """Prediction depth `depth` + 1 (the first module has depth 0 and predicts the token after next).

    Args:
        embed: token ids to (T, d), the main model's; it is used, not owned, so its weights stay there alone.
        bias: the attention bias that all layers of the model share, if any.
    """

    def __init__(
        self,
        cfg: DecoderConfig,
        depth: int,
        embed: Callable[[Tensor], Tensor],
        bias: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self._embed = (embed,)  # in a tuple, so that a module is not registered a second time
        self.embed_norm, self.hidden_norm = make_norm(cfg), make_norm(cfg)
        self.proj = nn.Linear(2 * cfg.d_model, cfg.d_model, bias=False)
        self.block = make_block(cfg, cfg.n_layers + depth, bias)
        self.norm = nn.Identity() if cfg.placement == "post" else make_norm(cfg)

    def forward(self, hidden: Tensor, next_tokens: Tensor, ctx: Context) -> Tensor:
        """Hidden states (T, d) from the depth before, as its head sees them, and the token `depth` + 1 places on
        (T,) -> hidden states (T, d) for the head.

        Where a sequence has no such token any id will do: causality keeps it from the places before.
        """
        # Order of the halves as in DeepSeek's published weights.
        pair = torch.cat((self.embed_norm(self._embed[0](next_tokens)), self.hidden_norm(hidden)), -1)
        return self.norm(self.block(self.proj(pair), ctx))

    def predict(self, hidden: Tensor, next_tokens: Tensor, ctx: Context) -> Tensor:
        """The call by its name."""
        return self(hidden, next_tokens, ctx)
