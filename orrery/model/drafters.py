"""Networks that guess further tokens from a model's last state: Medusa heads, an EAGLE layer, a semi-autoregressive head.

With h_i the state (after the last norm) from which the model predicts token i + 1:

    Medusa             p(t_(i+2+k)) = head(h_i + SiLU(W_k h_i))                              each head by itself
    EAGLE              f_(i+1) = layer(W [embed(t_(i+1)); f_i]),  p(t_(i+2)) = head(f_(i+1));  f = h where h is known
    semi-autoregressive    z_j = W [embed(t_(i+1)); h_i] + s_j,  y = layer(z_0 .. z_(k-1)),  p(t_(i+2+j)) = head(y_j)

    Cai et al. 2024, arXiv:2401.10774; Li et al. 2024, arXiv:2401.15077; Stern et al. 2018, arXiv:1811.03115 and Wang et al. 2018,
    arXiv:1808.08583 (blocks of tokens in one pass). Embedding and head are the model's own, used and not owned.

T tokens, d model width, V vocabulary, k tokens of a block or heads.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from orrery.kit.config import config
from orrery.kit.errors import OrreryError
from orrery.model.block import make_block
from orrery.model.cache import CacheSpec
from orrery.model.config import DecoderConfig
from orrery.model.context import Context
from orrery.model.decoder import Decoder
from orrery.model.mlp import Mlp
from orrery.model.norm import make_norm
from orrery.model.packed import Packed
from orrery.model.positions import Rope
from orrery.model.reset import draw

RANKS = 8
GUESS = 0.5 ** torch.arange(1, RANKS + 1)[None]
"""What is assumed of a head that was never measured: half of its first guesses are right, and half of the rest each time."""

Ahead = Annotated[int, Field(ge=1, le=32)]


@config
class MedusaConfig:
    """heads: tokens guessed, the first of them two places on. layers: residual layers of each head. own_head: each head has a
    matrix (V, d) of its own, which begins as the model's; else it uses the model's head."""

    kind: Literal["medusa"] = "medusa"
    heads: Ahead = 4
    layers: Annotated[int, Field(ge=1, le=8)] = 1
    own_head: bool = False


@config
class EagleConfig:
    """d_ff: width of the layer's feed-forward; None is twice the model's width."""

    kind: Literal["eagle"] = "eagle"
    d_ff: Annotated[int, Field(ge=1)] | None = None


@config
class SemiAutoregressiveConfig:
    """block: tokens guessed in one pass. d_ff as in `EagleConfig`."""

    kind: Literal["semi"] = "semi"
    block: Ahead = 4
    d_ff: Annotated[int, Field(ge=1)] | None = None


NetConfig = Annotated[MedusaConfig | EagleConfig | SemiAutoregressiveConfig, Field(discriminator="kind")]


class Net(nn.Module):
    """What the networks share: the model they belong to, in a tuple, so that its weights stay its own alone."""

    def __init__(self, cfg: NetConfig, model: Decoder) -> None:
        super().__init__()
        self.cfg = cfg
        self._model = (model,)

    @property
    def model(self) -> Decoder:
        """The model it guesses for."""
        return self._model[0]

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in."""
        return next(self.parameters()).dtype

    def head(self, states: Tensor) -> Tensor:
        """(T, d) -> (T, V) logits by the model's own head."""
        return self.model.head(states.to(self.model.dtype))


class Medusa(Net):
    """Heads that each guess one token further than the one before."""

    def __init__(self, cfg: MedusaConfig, model: Decoder) -> None:
        super().__init__(cfg, model)
        d, vocab = model.cfg.d_model, model.cfg.vocab_size
        self.layers = nn.ModuleList(
            nn.ModuleList(nn.Linear(d, d) for _ in range(cfg.layers)) for _ in range(cfg.heads)
        )
        self.lm_head = nn.ModuleList(nn.Linear(d, vocab, bias=False) for _ in range(cfg.heads * cfg.own_head))
        # Of each head and rank, how often the guess of that rank was right; measured after training.
        self.register_buffer("accuracy", GUESS.repeat(cfg.heads, 1))
        self.accuracy: Tensor

    def forward(self, hidden: Tensor) -> list[Tensor]:
        """(T, d) -> for each head the states (T, d) that its matrix turns into logits."""
        states = []
        for layers in self.layers:
            x = hidden.to(self.dtype)
            for layer in layers:  # type: ignore[not-iterable]
                x = x + F.silu(layer(x))
            states.append(x)
        return states

    def logits(self, k: int, states: Tensor) -> Tensor:
        """(T, d) -> (T, V) of head k."""
        return self.lm_head[k](states) if len(self.lm_head) else self.head(states)

    @torch.no_grad()
    def reset_parameters(self, seed: int) -> None:
        """Every head begins as the model's own: residual layers at zero, as in the paper.

        Raises:
            OrreryError: heads of their own, of a model whose head is quantised.
        """
        for parameter in self.layers.parameters():
            parameter.zero_()
        table = self.model.embed if self.model.lm_head is None else self.model.lm_head
        if len(self.lm_head) and not isinstance(table, nn.Embedding | nn.Linear):
            raise OrreryError(
                "own_head copies the model's head, which is quantised; load the model dequantised"
            )
        for head in self.lm_head:
            head.weight.copy_(table.weight)  # type: ignore[bad-argument-type]


class Layer(Net):
    """A decoder layer over [embedding of the token after; state], and a norm like the model's last."""

    def __init__(self, cfg: EagleConfig | SemiAutoregressiveConfig, model: Decoder) -> None:
        super().__init__(cfg, model)
        d, layer = model.cfg.d_model, layer_config(model.cfg, cfg.d_ff)
        self.embed_norm, self.hidden_norm = make_norm(layer), make_norm(layer)
        self.proj = nn.Linear(2 * d, d, bias=False)
        self.block = make_block(layer, 0)
        self.norm = make_norm(model.cfg)

    def known(self, hidden: Tensor, next_tokens: Tensor) -> Tensor:
        """(T, d): what the layer is given of a state (T, d) and the token after it (T,)."""
        embedded = self.model.embed_tokens(next_tokens).to(self.dtype)
        return self.proj(torch.cat((self.embed_norm(embedded), self.hidden_norm(hidden.to(self.dtype))), -1))

    @torch.no_grad()
    def reset_parameters(self, seed: int) -> None:
        """Drawn small; the projection begins by handing the state through, and the last norm as the model's."""
        d = self.model.cfg.d_model
        draw(self, self.model.cfg.init.std, seed)
        self.proj.weight[:, d:] += torch.eye(d)
        if not isinstance(self.model.norm, nn.Identity):
            self.norm.load_state_dict(self.model.norm.state_dict())


class Eagle(Layer):
    """From the model's state and the token after it to the model's next state, and on from there."""

    def forward(self, hidden: Tensor, next_tokens: Tensor, ctx: Context) -> Tensor:
        """States (T, d) and the token after each (T,) -> states (T, d) one place on, for the head."""
        ctx.begin()
        return self.norm(self.block(self.known(hidden, next_tokens), ctx))

    def cache_spec(self) -> list[CacheSpec]:
        """What its layer keeps for each token."""
        return [self.block.attn.cache_spec()]  # type: ignore[missing-attribute]


class SemiAutoregressive(Layer):
    """A block of tokens at once: as many slots as tokens, which see one another and the model's last state."""

    def __init__(self, cfg: SemiAutoregressiveConfig, model: Decoder) -> None:
        super().__init__(cfg, model)
        self.size = cfg.block
        self.slots = nn.Embedding(cfg.block, model.cfg.d_model)

    def forward(self, hidden: Tensor, next_tokens: Tensor) -> Tensor:
        """States (T, d) and the token after each (T,) -> (T, k, d) for the head: slot j is about the token j + 2 places on."""
        slots = (self.known(hidden, next_tokens)[:, None] + self.slots.weight).flatten(0, 1)
        ctx = Packed([self.size] * len(hidden), causal=False, device=hidden.device)
        return self.norm(self.block(slots, ctx)).unflatten(0, (-1, self.size))


DraftNet = Medusa | Eagle | SemiAutoregressive


def make_net(cfg: NetConfig, model: Decoder) -> DraftNet:
    """The network that `cfg` describes, for `model`; its weights are not set (see `reset_parameters`)."""
    match cfg:
        case MedusaConfig():
            return Medusa(cfg, model)
        case EagleConfig():
            return Eagle(cfg, model)
        case SemiAutoregressiveConfig():
            return SemiAutoregressive(cfg, model)


def layer_config(cfg: DecoderConfig, d_ff: int | None) -> DecoderConfig:
    """One layer of the model's width and heads: rotary positions, global attention, a dense feed-forward."""
    return DecoderConfig(
        vocab_size=cfg.vocab_size, d_model=cfg.d_model, n_layers=1, n_heads=cfg.n_heads, n_kv_heads=cfg.kv_heads,
        head_dim=cfg.head_size + cfg.head_size % 2, qk_norm=True, max_positions=cfg.max_positions,
        position=cfg.position if isinstance(cfg.position, Rope) else Rope(), feed_forward=Mlp(d_ff=d_ff or 2 * cfg.d_model),
    )  # fmt: skip
