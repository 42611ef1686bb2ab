"""Mixture of experts: each token is sent to `top_k` of `n_experts` small feed-forward networks.

    y_t = sum_{i in top-k} g_{t,i} E_i(x_t) + shared(x_t)
    Shazeer et al. 2017, arXiv:1701.06538; Switch: Fedus et al. 2021, arXiv:2101.03961;
    shared experts: DeepSeekMoE, Dai et al. 2024, arXiv:2401.06066

T tokens, d model width, E experts, k = top_k, N = T * k assignments.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from orrery.kit.config import config
from orrery.kit.errors import OrreryError
from orrery.model.grouped import grouped_matmul
from orrery.model.mlp import ACTIVATIONS, MLP, Activation, Mlp

if TYPE_CHECKING:
    from orrery.model.context import Context

ROWS = 16
"""Groups of rows are filled up with zeros to a multiple of this. Matrix kernels take another order of summation for a
handful of rows; with whole multiples a token's result is the same bits whoever shares its expert."""


@config
class Moe:
    """A layer of `n_experts` feed-forward networks of inner width `d_ff`.

    Attributes:
        gated: experts are act(x G) * (x U) projected back; without, act(x U).
        router: scores are a softmax over the experts, or a sigmoid of each alone (DeepSeek-V3).
        router_bias, expert_bias: the router, and every expert's two products, add a vector (gpt-oss).
        clamp: gates are cut off above it and their factors beyond it on both sides, and an expert computes
            (up + 1) * gate * sigmoid(1.702 gate) (gpt-oss, arXiv:2508.10925); None: act(gate) * up.
        normalize_top_k: divide the chosen scores by their sum.
        routed_scaling: factor on the routed part (HF: routed_scaling_factor).
        shared_experts: how many experts' width every token passes through besides.
        shared_width: the inner width of that shared part; None means shared_experts * d_ff.
        shared_gate: the shared part is multiplied by sigmoid(w . x) (Qwen2-MoE).
        latent_width: experts read and write a projection of the stream to this width (Nemotron 3 Super); None: the stream.
        groups, top_groups: a token's experts come from the best `top_groups` of `groups` equal groups; a group's score
            is its best expert ("max", DeepSeek-V2) or its best two together ("top2", DeepSeek-V3).
        capacity_factor: in training an expert takes at most ceil(factor * N / E) assignments, first choices before
            second ones, earlier tokens before later; the rest are dropped (weight zero) and counted. None: none is.
        balance_loss: coefficient of E * sum_i f_i P_i (Switch, eq. 4); 1 * coefficient where routing is uniform.
        balance_over: f and P are means over the whole batch, or over each sequence (DeepSeek-V3, eq. 17-20).
        z_loss: coefficient of the mean of logsumexp(logits)^2 (ST-MoE, Zoph et al. 2022, arXiv:2202.08906, eq. 5).
        bias_update: step of the selection bias that balances without a loss (Wang et al. 2024, arXiv:2408.15664);
            None: no such bias, 0: a bias that stays as loaded.

    Raises:
        OrreryError: the numbers do not fit together.
    """

    kind: Literal["moe"] = "moe"
    n_experts: int
    top_k: int
    d_ff: int
    activation: Activation = "silu"
    gated: bool = True
    clamp: float | None = None
    expert_bias: bool = False
    router: Literal["softmax", "sigmoid"] = "softmax"
    router_bias: bool = False
    normalize_top_k: bool = True
    routed_scaling: float = 1.0
    shared_experts: int = 0
    shared_width: int | None = None
    shared_gate: bool = False
    latent_width: int | None = None
    groups: int = 1
    top_groups: int = 1
    group_score: Literal["max", "top2"] = "top2"
    capacity_factor: float | None = None
    balance_loss: float = 0.01
    balance_over: Literal["batch", "sequence"] = "batch"
    z_loss: float = 0.0
    bias_update: float | None = None

    @property
    def shared_d_ff(self) -> int:
        """Inner width of the shared part; 0 where there is none."""
        return self.d_ff * self.shared_experts if self.shared_width is None else self.shared_width

    def __post_init__(self) -> None:
        if self.shared_gate and not self.shared_d_ff:
            raise OrreryError("shared_gate needs a shared part to weigh; give shared_experts or shared_width")
        if self.groups < 1 or self.n_experts % self.groups or not 1 <= self.top_groups <= self.groups:
            raise OrreryError(
                f"{self.n_experts} experts do not split into {self.groups} equal groups with {self.top_groups} chosen; "
                "groups must divide n_experts, and top_groups lie between 1 and groups"
            )
        reachable = self.n_experts // self.groups * self.top_groups
        if not 1 <= self.top_k <= reachable:
            raise OrreryError(
                f"top_k={self.top_k} must lie between 1 and the {reachable} experts a token may choose from"
            )
        if self.groups > 1 and self.group_score == "top2" and self.n_experts < 2 * self.groups:
            raise OrreryError(
                "group_score='top2' needs two experts or more in a group; take fewer groups or 'max'"
            )


class Router(nn.Module):
    """One score per expert. Always float32: a rounding here sends a token to another expert."""

    def __init__(self, d_model: int, cfg: Moe) -> None:
        super().__init__()
        self.cfg = cfg
        self.weight = nn.Parameter(torch.empty(cfg.n_experts, d_model))
        nn.init.normal_(self.weight, std=0.02)
        self.bias = nn.Parameter(torch.zeros(cfg.n_experts)) if cfg.router_bias else None
        bias = None if cfg.bias_update is None else torch.zeros(cfg.n_experts, dtype=torch.float32)
        self.expert_bias: Tensor | None
        self.register_buffer("expert_bias", bias)  # HF: e_score_correction_bias

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(T, d) -> logits and scores, both (T, E) float32."""
        with torch.autocast(x.device.type, enabled=False):
            x, weight = (t if t.dtype == torch.float64 else t.float() for t in (x, self.weight))
            logits = F.linear(x, weight, None if self.bias is None else self.bias.to(x.dtype))
        return logits, logits.softmax(-1) if self.cfg.router == "softmax" else logits.sigmoid()

    def choose(self, scores: Tensor) -> Tensor:
        """(T, E) -> (T, k) expert ids, best first; of equal scores the lower id. The bias only takes part here."""
        cfg = self.cfg
        ranking = scores.detach() if self.expert_bias is None else scores.detach() + self.expert_bias
        if cfg.groups > 1:
            grouped = ranking.unflatten(-1, (cfg.groups, -1))
            best = grouped.topk(1 if cfg.group_score == "max" else 2, -1).values.sum(-1)  # (T, groups)
            closed = torch.ones_like(best, dtype=torch.bool).scatter(-1, _best(best, cfg.top_groups), False)
            ranking = grouped.masked_fill(closed[..., None], -torch.inf).flatten(-2)
        return _best(ranking, cfg.top_k)

    def weigh(self, scores: Tensor, ids: Tensor) -> Tensor:
        """The chosen experts' weights, (T, k) float32."""
        weights = scores.gather(-1, ids)
        if self.cfg.normalize_top_k:
            weights = weights / (weights.sum(-1, keepdim=True) + 1e-20)
        return weights * self.cfg.routed_scaling


class Experts(nn.Module):
    """All experts' weights in two stacks: E_i(x) = (act(x G_i) * x U_i) D_i with [G_i U_i] = gate_up[i].

    Without gates E_i(x) = act(x U_i) D_i, and the first stack is `up`.
    """

    def __init__(self, d_model: int, cfg: Moe) -> None:
        super().__init__()
        self.gated, self.clamp = cfg.gated, cfg.clamp
        if cfg.gated:
            self.gate_up = nn.Parameter(torch.empty(cfg.n_experts, d_model, 2 * cfg.d_ff))
        else:
            self.up = nn.Parameter(torch.empty(cfg.n_experts, d_model, cfg.d_ff))
        self.down = nn.Parameter(torch.empty(cfg.n_experts, cfg.d_ff, d_model))
        inner = (2 if cfg.gated else 1) * cfg.d_ff
        self.in_bias = nn.Parameter(torch.zeros(cfg.n_experts, inner)) if cfg.expert_bias else None
        self.out_bias = nn.Parameter(torch.zeros(cfg.n_experts, d_model)) if cfg.expert_bias else None
        self.activation = ACTIVATIONS[cfg.activation]
        for weight in (self.gate_up if cfg.gated else self.up, self.down):
            nn.init.uniform_(weight, -(weight.shape[1] ** -0.5), weight.shape[1] ** -0.5)

    def forward(self, rows: Tensor, ends: Tensor) -> Tensor:
        """(R, d) rows, expert by expert, `ends` (E,) where each one's rows end -> (R, d)."""
        inner = self.product(rows, self.gate_up if self.gated else self.up, ends, self.in_bias)
        return self.product(self.activate(inner), self.down, ends, self.out_bias)

    def activate(self, inner: Tensor) -> Tensor:
        """(R, 2 ff) gates and factors, or (R, ff) without gates -> (R, ff)."""
        if not self.gated:
            return self.activation(inner)
        gate, up = inner.chunk(2, -1)
        if self.clamp is None:
            return self.activation(gate) * up
        gate, up = gate.clamp(max=self.clamp), up.clamp(-self.clamp, self.clamp)
        return (up + 1) * gate * torch.sigmoid(1.702 * gate)

    def product(self, rows: Tensor, weight: Tensor | nn.Module, ends: Tensor, bias: Tensor | None) -> Tensor:
        """Each row times its expert's matrix, and that expert's bias. A quantised stack multiplies in its own way."""
        out = weight(rows, ends) if isinstance(weight, nn.Module) else grouped_matmul(rows, weight, ends)
        if bias is None:
            return out
        place = torch.arange(len(rows), device=rows.device)
        return out + bias[torch.bucketize(place, ends, right=True).clamp(max=len(bias) - 1)]


class MoE(nn.Module):
    """Route, run each expert on its tokens, add up.

    Reports to the context: "expert_ids" (T, k), "expert_load" (E,) assignments, "dropped_tokens" () assignments over
    capacity, and in training "balance_loss" and "router_z_loss" as sums over the T tokens, coefficient included.
    A context may dictate the choice by `replay(self)` -> (T, k) ids; the weights are still this router's.
    """

    def __init__(self, d_model: int, cfg: Moe) -> None:
        super().__init__()
        self.cfg = cfg
        self.router = Router(d_model, cfg)
        self.experts = Experts(cfg.latent_width or d_model, cfg)
        self.into_latent = nn.Linear(d_model, cfg.latent_width, bias=False) if cfg.latent_width else None
        self.out_of_latent = nn.Linear(cfg.latent_width, d_model, bias=False) if cfg.latent_width else None
        shared = Mlp(d_ff=cfg.shared_d_ff, activation=cfg.activation, gated=cfg.gated)
        self.shared_experts = MLP(d_model, shared) if cfg.shared_d_ff else None
        self.shared_gate = nn.Linear(d_model, 1, bias=False) if cfg.shared_gate else None

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        """(T, d) -> (T, d)."""
        logits, scores = self.router(x)
        ids = ctx.replay(self)
        if ids is None:
            ids = self.router.choose(scores)
        weights = self.router.weigh(scores, ids)
        place = Placement(ids, self.cfg.n_experts)
        if self.training:
            weights = self._limit(weights, place, ctx)
            self._report_losses(logits, scores, ids, ctx)
        ctx.record(self, "expert_ids", ids)
        ctx.record(self, "expert_load", place.load)
        h = x if self.into_latent is None else self.into_latent(x)
        y = place.combine(self.experts(place.dispatch(h), place.ends), weights)
        y = y if self.out_of_latent is None else self.out_of_latent(y)
        return y if self.shared_experts is None else y + self.shared(x, ctx)

    def shared(self, x: Tensor, ctx: Context) -> Tensor:
        """What every token passes through, (T, d) -> (T, d)."""
        y = self.shared_experts(x, ctx)  # type: ignore[not-callable]
        return y if self.shared_gate is None else y * self.shared_gate(x).sigmoid()

    @torch.no_grad()
    def update_bias(self, load: Tensor) -> None:
        """Raise the selection bias of experts below the mean load and lower it above: b += u * sign(mean - load).

        `load` (E,) is the step's assignments, summed over micro-batches and ranks. A router without a bias stays so.
        """
        if self.router.expert_bias is not None and self.cfg.bias_update:
            load = load.float()
            self.router.expert_bias += self.cfg.bias_update * torch.sign(load.mean() - load)

    def _limit(self, weights: Tensor, place: Placement, ctx: Context) -> Tensor:
        """Take the weight from assignments over capacity. One device computes them all the same: capacity bounds the
        buffers of experts that live elsewhere."""
        if self.cfg.capacity_factor is None:
            return weights
        over = place.rank >= math.ceil(self.cfg.capacity_factor * weights.numel() / self.cfg.n_experts)
        ctx.record(self, "dropped_tokens", over.sum())
        return weights.masked_fill(over.t(), 0.0)

    def _report_losses(self, logits: Tensor, scores: Tensor, ids: Tensor, ctx: Context) -> None:
        if self.cfg.balance_loss:
            lengths = ctx.lengths if self.cfg.balance_over == "sequence" else (len(ids),)
            ctx.record(self, "balance_loss", self.cfg.balance_loss * balance_loss(scores, ids, lengths))
        if self.cfg.z_loss:
            ctx.record(self, "router_z_loss", self.cfg.z_loss * logits.logsumexp(-1).square().sum())


class Placement:
    """Where each assignment stands when assignments are laid out expert by expert.

    Slot-major order (k, T): all first choices, then all second ones. Everything has a static shape.
    """

    def __init__(self, ids: Tensor, n_experts: int) -> None:
        flat = ids.t().flatten()  # (N,)
        order = flat.argsort(stable=True)
        self.load = _count(flat, n_experts)
        padded = (self.load + ROWS - 1) // ROWS * ROWS
        ends = padded.cumsum(0)
        sorted_ids = flat[order]
        rank = torch.arange(len(flat), device=ids.device) - (self.load.cumsum(0) - self.load)[sorted_ids]
        back = torch.empty_like(order).scatter(0, order, torch.arange(len(flat), device=ids.device))
        self.shape = (ids.shape[1], ids.shape[0])
        self.rank = rank[back].view(self.shape)  # how many of the same expert's assignments come before
        self.slot = ((ends - padded)[sorted_ids] + rank)[back]  # (N,) row of each assignment
        self.rows = len(flat) + (ROWS - 1) * min(len(flat), n_experts)
        self.ends = ends.int()

    def dispatch(self, x: Tensor) -> Tensor:
        """(T, d) -> (R, d): a copy of each token for each of its experts, zero rows between."""
        copies = x.expand(self.shape[0], *x.shape).flatten(0, 1)
        return x.new_zeros(self.rows, x.shape[1]).index_copy_(0, self.slot, copies)

    def combine(self, rows: Tensor, weights: Tensor) -> Tensor:
        """(R, d), (T, k) -> (T, d): the weighted sum of each token's experts, best first."""
        chosen = rows.index_select(0, self.slot).unflatten(0, self.shape)
        return (chosen * weights.t()[..., None]).sum(0).to(rows.dtype)


def balance_loss(scores: Tensor, ids: Tensor, lengths: tuple[int, ...]) -> Tensor:
    """sum over sequences of T_s * E * sum_i f_i P_i; f_i: share of assignments, P_i: mean normalised score of expert i.

    scores (T, E), ids (T, k). Switch Transformers, eq. 4-6; DeepSeek-V3, eq. 17-20 (each sequence by itself).
    """
    n_experts, k = scores.shape[-1], ids.shape[-1]
    probs = scores / scores.sum(-1, keepdim=True)
    total = scores.new_zeros(())
    for ids_s, probs_s in zip(ids.split(lengths), probs.split(lengths), strict=True):
        share = _count(ids_s.flatten(), n_experts) / (len(ids_s) * k)
        total = total + n_experts * (share * probs_s.sum(0)).sum()
    return total


def _best(scores: Tensor, k: int) -> Tensor:
    """Indices of the k largest along the last axis, the lower index first among equals."""
    return scores.sort(dim=-1, descending=True, stable=True).indices[..., :k]


def _count(ids: Tensor, n: int) -> Tensor:
    return ids.new_zeros(n).scatter_add(0, ids, torch.ones_like(ids))
