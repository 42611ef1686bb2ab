"""Routing, experts, balance: by hand, against a loop over tokens, and against transformers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from orrery.kit.errors import OrreryError
from orrery.model.grouped import grouped_matmul
from orrery.model.mlp import ACTIVATIONS
from orrery.model.moe import MoE, Moe, Placement, balance_loss


class Notes:
    """The part of a context that a feed-forward layer speaks to."""

    def __init__(self, lengths: tuple[int, ...] = (), choice: Tensor | None = None) -> None:
        self.lengths, self.choice = lengths, choice
        self.recorded: dict[str, Tensor] = {}

    def record(self, site: Any, name: str, value: Tensor) -> None:
        assert name not in self.recorded
        self.recorded[name] = value

    def replay(self, site: Any) -> Tensor | None:
        return self.choice


def make(d: int = 12, *, dtype: torch.dtype = torch.float64, seed: int = 0, **options: Any) -> MoE:
    torch.manual_seed(seed)
    cfg = Moe(**({"n_experts": 6, "top_k": 2, "d_ff": 10} | options))
    layer = MoE(d, cfg).to(dtype)
    torch.nn.init.normal_(layer.router.weight)
    return layer


def choose_slowly(layer: MoE, probs: list[float]) -> list[int]:
    """Expert ids by the definition, for one token."""
    cfg, bias = layer.cfg, layer.router.expert_bias
    ranking = [p + (0.0 if bias is None else bias[i].item()) for i, p in enumerate(probs)]
    size = cfg.n_experts // cfg.groups
    n_best = 1 if cfg.group_score == "max" else 2
    score = [sum(sorted(ranking[g * size : (g + 1) * size])[-n_best:]) for g in range(cfg.groups)]
    opened = sorted(range(cfg.groups), key=lambda g: -score[g])[: cfg.top_groups]
    allowed = [i for i in range(cfg.n_experts) if i // size in opened]
    return sorted(allowed, key=lambda i: -ranking[i])[: cfg.top_k]


def run_slowly(layer: MoE, x: Tensor) -> Tensor:
    """The definition, one token and one expert at a time."""
    cfg, act = layer.cfg, ACTIVATIONS[layer.cfg.activation]
    out = []
    for token in x:
        logits = layer.router.weight @ token
        scores = logits.softmax(0) if cfg.router == "softmax" else logits.sigmoid()
        ids = choose_slowly(layer, scores.tolist())
        total = sum(scores[i] for i in ids) if cfg.normalize_top_k else 1.0
        h = token if layer.into_latent is None else layer.into_latent(token)
        y = torch.zeros_like(h)
        for i in ids:
            if cfg.gated:
                gate, up = (h @ layer.experts.gate_up[i]).chunk(2)
                inner = act(gate) * up
            else:
                inner = act(h @ layer.experts.up[i])
            y = y + cfg.routed_scaling * scores[i] / total * (inner @ layer.experts.down[i])
        y = y if layer.out_of_latent is None else layer.out_of_latent(y)
        share = 1.0 if layer.shared_gate is None else (layer.shared_gate.weight[0] @ token).sigmoid()
        out.append(y if layer.shared_experts is None else y + share * layer.shared_experts(token))
    return torch.stack(out)


VARIANTS: dict[str, dict[str, Any]] = {
    "mixtral": {},
    "unnormalised": {"normalize_top_k": False},
    "switch": {"top_k": 1, "normalize_top_k": False, "activation": "relu"},
    "all": {"top_k": 6},
    "sigmoid": {"router": "sigmoid"},
    "shared": {"shared_experts": 2, "activation": "gelu"},
    "shared-gate": {"shared_width": 10, "shared_gate": True},
    "ungated": {"gated": False, "activation": "relu2", "shared_width": 10},
    "latent": {"latent_width": 8, "gated": False, "activation": "relu2", "shared_experts": 1},
    "deepseek-v2": {
        "groups": 3,
        "top_groups": 2,
        "group_score": "max",
        "normalize_top_k": False,
        "shared_experts": 1,
    },
    "deepseek-v3": {
        "router": "sigmoid",
        "groups": 3,
        "top_groups": 2,
        "bias_update": 1e-3,
        "routed_scaling": 2.5,
        "shared_experts": 1,
    },
}


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("n_tokens", [1, 5, 40])
def test_equal_to_a_loop_over_tokens(name: str, n_tokens: int) -> None:
    layer = make(**VARIANTS[name])
    if layer.router.expert_bias is not None:
        layer.router.expert_bias.copy_(torch.linspace(-0.4, 0.4, 6))
    x = torch.randn(n_tokens, 12, dtype=torch.float64, requires_grad=True)
    y, slow = layer(x, Notes()), run_slowly(layer, x)
    assert torch.allclose(y, slow, atol=1e-12)

    grad = torch.randn_like(y)
    inputs = [x, *layer.parameters()]
    ours = torch.autograd.grad(y, inputs, grad)
    theirs = torch.autograd.grad(slow, inputs, grad, allow_unused=True, materialize_grads=True)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, atol=1e-11)


def test_single_precision_agrees_with_double() -> None:
    layer = make(d=16, d_ff=32, dtype=torch.float32)
    x = torch.randn(50, 16)
    single = layer(x, Notes())
    assert torch.allclose(single, layer.double()(x.double(), Notes()).float(), atol=1e-5)


def test_bfloat16_routes_in_float32() -> None:
    layer = make(dtype=torch.bfloat16, bias_update=0.1, router="sigmoid")
    logits, scores = layer.router(torch.randn(3, 12).bfloat16())
    assert logits.dtype == scores.dtype == torch.float32
    assert layer(torch.randn(3, 12).bfloat16(), Notes()).dtype == torch.bfloat16


def test_of_equal_scores_the_lower_expert_is_taken() -> None:
    layer = make(top_k=3)
    assert layer.router.choose(torch.full((2, 6), 1 / 6)).tolist() == [[0, 1, 2]] * 2
    assert layer.router.choose(torch.tensor([[0.1, 0.3, 0.1, 0.3, 0.1, 0.1]])).tolist() == [[1, 3, 0]]


def test_gradient_reaches_the_router() -> None:
    layer = make()
    layer(torch.randn(30, 12, dtype=torch.float64), Notes()).square().sum().backward()
    assert layer.router.weight.grad is not None
    assert (layer.router.weight.grad.abs().sum(1) > 0).all()


def test_an_expert_without_tokens_gets_a_zero_gradient() -> None:
    layer = make(top_k=1, normalize_top_k=False, dtype=torch.float32)
    ids = torch.tensor([[0], [3], [3]])
    layer(torch.randn(3, 12), Notes(choice=ids)).sum().backward()
    used = layer.experts.gate_up.grad.abs().sum((1, 2)) > 0
    assert used.tolist() == [True, False, False, True, False, False]
    assert layer.experts.down.grad.isfinite().all()


def test_only_the_chosen_experts_run() -> None:
    layer = make(dtype=torch.float32)
    for weight in (layer.experts.gate_up, layer.experts.down):
        weight.data[[0, 2, 3, 5]] = float("nan")
    y = layer(torch.randn(4, 12), Notes(choice=torch.tensor([[1, 4]] * 4)))
    assert y.isfinite().all()


# --- bits -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
def test_other_tokens_do_not_change_a_bit(threads: int) -> None:
    """A token's expert group grows and shrinks with its neighbours; its own result must not notice."""
    layer = make(d=48, d_ff=40, n_experts=8, dtype=torch.float32, shared_experts=0).eval()
    layer.router.weight.data *= 0.3
    torch.set_num_threads(threads)
    try:
        x = torch.randn(37, 48)
        ids = layer.router.choose(layer.router(x)[1])
        whole = layer(x, Notes(choice=ids))
        for n in (1, 2, 3, 5, 11, 20):
            weights = layer.router.weigh(layer.router(x)[1], ids)[:n]
            place = Placement(ids[:n], 8)
            part = place.combine(layer.experts(place.dispatch(x[:n]), place.ends), weights)
            assert torch.equal(part, whole[:n])
    finally:
        torch.set_num_threads(1)


def test_same_input_same_bits() -> None:
    layer = make(dtype=torch.float32)
    x = torch.randn(100, 12)
    results = []
    for _ in range(3):
        layer.zero_grad()
        y = layer(x, Notes())
        y.square().sum().backward()
        results.append([y, *(p.grad for p in layer.parameters())])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


# --- placement and grouped products -----------------------------------------------------------------------------------


def test_placement_by_hand() -> None:
    place = Placement(torch.tensor([[0, 2], [2, 0], [2, 1]]), 4)  # first choices 0 2 2, second 2 0 1
    assert place.load.tolist() == [2, 1, 3, 0]
    assert place.ends.tolist() == [16, 32, 48, 48]
    assert place.rank.tolist() == [[0, 0, 1], [2, 1, 0]]
    assert place.slot.tolist() == [0, 32, 33, 34, 1, 16]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.integers(1, 8), st.data())
def test_dispatch_then_combine_gives_each_token_back(
    n_tokens: int, n_experts: int, data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, n_experts))
    ids = torch.tensor([data.draw(st.permutations(range(n_experts)))[:k] for _ in range(n_tokens)])
    place = Placement(ids, n_experts)
    x = torch.randn(n_tokens, 3, dtype=torch.float64)
    assert place.load.sum() == n_tokens * k and place.ends[-1] <= place.rows
    assert len(place.slot.unique()) == n_tokens * k
    expert_of_row = torch.searchsorted(place.ends, place.slot.int(), right=True)
    assert torch.equal(expert_of_row.view(k, n_tokens).t(), ids)
    weights = torch.rand(n_tokens, k, dtype=torch.float64)
    back = place.combine(place.dispatch(x), weights)
    assert torch.allclose(back, x * weights.sum(1, keepdim=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_grouped_matmul(dtype: torch.dtype) -> None:
    x = torch.randn(12, 7, dtype=dtype, requires_grad=True)
    w = torch.randn(4, 7, 5, dtype=dtype, requires_grad=True)
    ends = torch.tensor([3, 3, 10, 10], dtype=torch.int32)
    y = grouped_matmul(x, w, ends)
    expected = torch.cat((x[:3] @ w[0], x[3:10] @ w[2], x.new_zeros(2, 5)))
    assert torch.allclose(y, expected, atol=1e-6)
    ours = torch.autograd.grad(y.sum(), (x, w))  # the gradient is an expanded scalar
    theirs = torch.autograd.grad(expected.sum(), (x, w))
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(ours, theirs, strict=True))
    if dtype == torch.float64:
        assert torch.autograd.gradcheck(lambda x, w: grouped_matmul(x, w, ends), (x, w))


# --- balance ----------------------------------------------------------------------------------------------------------


def test_balance_loss_by_hand() -> None:
    """Two experts, four tokens: three take expert 0. f = (3/4, 1/4), P = (0.6, 0.4): 2 * (0.45 + 0.1) = 1.1."""
    scores = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3], [0.2, 0.8]])
    ids = torch.tensor([[0], [0], [0], [1]])
    assert balance_loss(scores, ids, (4,)).item() == pytest.approx(4 * 1.1)
    # by sequences: f = (1, 0), P = (0.75, 0.25): 1.5; f = (1/2, 1/2): 1
    assert balance_loss(scores, ids, (2, 2)).item() == pytest.approx(2 * 1.5 + 2 * 1.0)


def test_balance_loss_is_least_where_routing_is_uniform() -> None:
    uniform = torch.full((8, 4), 0.25)
    even = torch.tensor([[0, 1], [2, 3]] * 4)
    assert balance_loss(uniform, even, (8,)).item() == pytest.approx(8.0)
    collapsed = torch.tensor([[1.0, 0.0, 0.0, 0.0]]).expand(8, 4)
    assert balance_loss(collapsed, torch.zeros(8, 1, dtype=torch.long), (8,)).item() == pytest.approx(8 * 4.0)


def test_sigmoid_scores_are_normalised_in_the_balance_loss() -> None:
    scores, ids = torch.rand(6, 4) + 0.1, torch.randint(0, 4, (6, 2))
    assert torch.allclose(balance_loss(scores, ids, (6,)), balance_loss(scores * 3, ids, (6,)))


def test_losses_are_reported_in_training_only() -> None:
    layer = make(balance_loss=0.5, z_loss=0.25, balance_over="sequence")
    x = torch.randn(10, 12, dtype=torch.float64)
    notes = Notes(lengths=(4, 6))
    layer(x, notes)
    logits, scores = layer.router(x)
    ids = notes.recorded["expert_ids"]
    assert torch.allclose(notes.recorded["balance_loss"], 0.5 * balance_loss(scores, ids, (4, 6)))
    by_hand = 0.25 * sum(math.log(sum(math.exp(z) for z in row)) ** 2 for row in logits.tolist())
    assert notes.recorded["router_z_loss"].item() == pytest.approx(by_hand)
    assert notes.recorded["expert_load"].tolist() == [(ids == i).sum().item() for i in range(6)]

    quiet = Notes()
    layer.eval()(x, quiet)
    assert set(quiet.recorded) == {"expert_ids", "expert_load"}


@pytest.mark.parametrize("cfg", [{"balance_loss": 0.1}, {"balance_loss": 0.0, "bias_update": 0.02}])
def test_balancing_undoes_a_collapse(cfg: dict[str, Any]) -> None:
    """A router that sends nearly everything to two experts: the loss or the bias alone evens out the load."""
    layer = make(dtype=torch.float32, router="sigmoid", **cfg)
    offset = torch.zeros(12)
    offset[0] = 3.0
    layer.router.weight.data.mul_(0.1)
    layer.router.weight.data[:, 0] = torch.tensor([1.0, 0.9, 0.0, 0.0, -0.1, -0.1])
    x = torch.randn(400, 12) + offset

    def entropy() -> float:
        notes = Notes()
        layer(x, notes)
        share = notes.recorded["expert_load"] / notes.recorded["expert_load"].sum()
        return -(share * share.clamp(min=1e-9).log()).sum().item() / math.log(6)

    before = entropy()
    optimizer = torch.optim.SGD([layer.router.weight], lr=0.05)
    for _ in range(150):
        notes = Notes()
        layer(x, notes)
        if layer.cfg.balance_loss:
            optimizer.zero_grad()
            (notes.recorded["balance_loss"] / len(x) * 10).backward()
            optimizer.step()
        else:
            layer.update_bias(notes.recorded["expert_load"])
    assert before < 0.55
    assert entropy() > 0.9


def test_bias_update_by_hand() -> None:
    layer = make(n_experts=4, top_k=1, bias_update=0.5)
    layer.update_bias(torch.tensor([4, 2, 0, 2]))
    assert layer.router.expert_bias.tolist() == [-0.5, 0.0, 0.5, 0.0]

    fixed, none = make(n_experts=4, bias_update=0.0), make(n_experts=4)
    for other in (fixed, none):
        other.update_bias(torch.tensor([4, 2, 0, 2]))
    assert fixed.router.expert_bias.tolist() == [0.0] * 4
    assert none.router.expert_bias is None


def test_bias_moves_the_choice_and_not_the_weights() -> None:
    layer = make(n_experts=3, top_k=1, normalize_top_k=False, router="sigmoid", bias_update=0.0)
    layer.router.expert_bias.copy_(torch.tensor([0.0, 0.5, 0.0]))
    scores = torch.tensor([[0.6, 0.2, 0.1]])
    ids = layer.router.choose(scores)
    assert ids.tolist() == [[1]]
    assert layer.router.weigh(scores, ids).tolist() == [[pytest.approx(0.2)]]
    assert "router.expert_bias" in layer.state_dict()
    assert "router.expert_bias" not in make().state_dict()


# --- capacity ---------------------------------------------------------------------------------------------------------


def test_tokens_over_capacity_are_dropped_and_counted() -> None:
    """Capacity ceil(1.0 * 4 * 2 / 4) = 2 each. Expert 0 is the first choice of tokens 0, 1, 2 and second of 3: its
    first two first choices stay. Expert 1 takes all three that want it but the last."""
    layer = make(n_experts=4, top_k=2, capacity_factor=1.0)
    ids = torch.tensor([[0, 1], [0, 1], [0, 1], [2, 0]])
    notes = Notes(choice=ids)
    weights = torch.full((4, 2), 0.5, dtype=torch.float64)
    kept = layer._limit(weights, Placement(ids, 4), notes)
    assert (kept > 0).tolist() == [[True, True], [True, True], [False, False], [True, False]]
    assert notes.recorded["dropped_tokens"].item() == 3


def test_a_token_that_lost_all_its_experts_passes_through_the_shared_one_only() -> None:
    layer = make(n_experts=4, top_k=1, capacity_factor=0.5, shared_experts=1)
    x = torch.randn(8, 12, dtype=torch.float64)
    notes = Notes(choice=torch.zeros(8, 1, dtype=torch.long))
    y = layer(x, notes)
    assert notes.recorded["dropped_tokens"].item() == 7
    assert torch.allclose(y[1:], layer.shared_experts(x[1:]))
    assert not torch.allclose(y[:1], layer.shared_experts(x[:1]))


def test_nothing_is_dropped_in_eval() -> None:
    layer = make(capacity_factor=0.1)
    x = torch.randn(20, 12, dtype=torch.float64)
    dropped = Notes()
    layer(x, dropped)
    assert dropped.recorded["dropped_tokens"] > 0
    notes = Notes()
    assert torch.allclose(layer.eval()(x, notes), run_slowly(layer, x))
    assert "dropped_tokens" not in notes.recorded


# --- replay, compile, errors ------------------------------------------------------------------------------------------


def test_a_recorded_choice_can_be_replayed() -> None:
    layer = make()
    x = torch.randn(9, 12, dtype=torch.float64)
    notes = Notes()
    y = layer(x, notes)
    ids = notes.recorded["expert_ids"]
    layer.router.weight.data += 0.3 * torch.randn_like(layer.router.weight)
    fresh = Notes()
    layer(x, fresh)
    assert not torch.equal(fresh.recorded["expert_ids"], ids)  # the new weights would route elsewhere
    again = Notes(choice=ids)
    replayed = layer(x, again)
    assert torch.equal(again.recorded["expert_ids"], ids)
    assert not torch.equal(replayed, y)  # the weights are those of the new router
    replayed.sum().backward()
    assert layer.router.weight.grad.abs().sum() > 0


def test_full_graph_compile() -> None:
    layer = make(
        d=8,
        d_ff=8,
        dtype=torch.float32,
        router="sigmoid",
        groups=3,
        top_groups=2,
        shared_experts=1,
        z_loss=0.1,
    )

    def run(x: Tensor) -> tuple[Tensor, Tensor]:
        notes = Notes(lengths=(20,))
        return layer(x, notes), notes.recorded["balance_loss"] + notes.recorded["router_z_loss"]

    torch._dynamo.reset()
    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    x = torch.randn(20, 8)
    results = []
    for f in (run, compiled):
        y, extra = f(x)
        grads = torch.autograd.grad(y.square().sum() + extra, list(layer.parameters()))
        results.append([y, extra, *grads])
    for a, b in zip(*results, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"top_k": 7}, "top_k=7 must lie between 1 and the 6"),
        ({"groups": 4}, "6 experts do not split into 4 equal groups"),
        ({"groups": 3, "top_groups": 1, "top_k": 3}, "the 2 experts a token may choose"),
        ({"groups": 6, "top_groups": 3}, "two experts or more"),
    ],
)
def test_numbers_that_do_not_fit(options: dict[str, Any], match: str) -> None:
    with pytest.raises(OrreryError, match=match):
        make(**options)


# --- transformers -----------------------------------------------------------------------------------------------------


def load(layer: MoE, theirs: Any) -> None:
    """Their weights into ours: they stack (E, out, in), we (E, in, out)."""
    torch.nn.init.normal_(theirs.gate.weight)
    for weight in (theirs.experts.gate_up_proj, theirs.experts.down_proj):
        torch.nn.init.normal_(weight, std=0.2)
    state = {
        "router.weight": theirs.gate.weight,
        "experts.gate_up": theirs.experts.gate_up_proj.transpose(1, 2),
        "experts.down": theirs.experts.down_proj.transpose(1, 2),
    }
    if layer.shared_experts is not None:
        state |= {f"shared_experts.{k}": v for k, v in theirs.shared_experts.state_dict().items()}
    if layer.router.expert_bias is not None:
        torch.nn.init.normal_(theirs.gate.e_score_correction_bias, std=0.2)
        state["router.expert_bias"] = theirs.gate.e_score_correction_bias
    layer.load_state_dict(state)


@pytest.mark.parametrize(
    "name", ["mixtral", "qwen3_moe", "qwen3_moe-unnormalised", "deepseek_v2", "deepseek_v3"]
)
def test_equal_to_transformers(name: str) -> None:
    transformers = pytest.importorskip("transformers", reason="the parity test needs transformers")
    shape = {"hidden_size": 16, "hidden_act": "silu", "num_attention_heads": 2}
    deepseek = {
        "moe_intermediate_size": 12,
        "n_routed_experts": 8,
        "num_experts_per_tok": 3,
        "n_group": 4,
        "topk_group": 2,
        "n_shared_experts": 2,
        "routed_scaling_factor": 1.7,
    }
    grouped = {"groups": 4, "top_groups": 2, "shared_experts": 2, "routed_scaling": 1.7}
    ours: dict[str, Any] = {"n_experts": 8, "top_k": 3, "d_ff": 12}
    match name:
        case "mixtral":
            from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock

            theirs = MixtralSparseMoeBlock(
                transformers.MixtralConfig(
                    **shape, intermediate_size=12, num_local_experts=8, num_experts_per_tok=3
                )
            )
        case "qwen3_moe" | "qwen3_moe-unnormalised":
            from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeSparseMoeBlock

            norm = name == "qwen3_moe"
            ours["normalize_top_k"] = norm
            theirs = Qwen3MoeSparseMoeBlock(
                transformers.Qwen3MoeConfig(
                    **shape,
                    moe_intermediate_size=12,
                    num_experts=8,
                    num_experts_per_tok=3,
                    norm_topk_prob=norm,
                )
            )
        case "deepseek_v2":
            from transformers.models.deepseek_v2.modeling_deepseek_v2 import DeepseekV2Moe

            theirs = DeepseekV2Moe(
                transformers.DeepseekV2Config(**shape, **deepseek, topk_method="group_limited_greedy")
            )
            ours |= grouped | {"group_score": "max", "normalize_top_k": False}
        case "deepseek_v3":
            from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3MoE

            theirs = DeepseekV3MoE(transformers.DeepseekV3Config(**shape, **deepseek, norm_topk_prob=True))
            ours |= grouped | {"router": "sigmoid", "bias_update": 1e-3}
    layer = MoE(16, Moe(**ours))
    load(layer, theirs)
    x = torch.randn(30, 16)
    with torch.no_grad():
        assert torch.allclose(layer(x, Notes()), theirs(x[None])[0], atol=1e-5, rtol=1e-4)


def test_balance_loss_equals_transformers_up_to_top_k() -> None:
    """They sum the shares to top_k, we to 1."""
    pytest.importorskip("transformers", reason="the parity test needs transformers")
    from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

    logits = torch.randn(40, 8)
    scores = logits.softmax(-1)
    ids = scores.topk(2).indices
    theirs = load_balancing_loss_func((logits,), num_experts=8, top_k=2)
    assert torch.allclose(balance_loss(scores, ids, (40,)) / 40 * 2, theirs)


def test_flops_grow_with_top_k_not_with_experts() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    def flops(**options: Any) -> int:
        layer = make(d=8, d_ff=8, dtype=torch.float32, **options).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            layer(torch.randn(256, 8), Notes(choice=torch.arange(256 * layer.cfg.top_k).view(256, -1) % 4))
        return counter.get_total_flops() - 2 * 256 * 8 * layer.cfg.n_experts  # less the router's own

    per_expert = 2 * 256 * 3 * 8 * 8
    assert flops(n_experts=4, top_k=1) == per_expert
    assert flops(n_experts=64, top_k=1) == per_expert
    assert flops(n_experts=4, top_k=2) == 2 * per_expert


def test_silu_is_the_default_gate() -> None:
    layer = make(top_k=1)
    x = torch.randn(1, 12, dtype=torch.float64)
    gate, up = (x @ layer.experts.gate_up[2]).chunk(2, -1)
    expected = (F.silu(gate) * up) @ layer.experts.down[2]
    assert torch.allclose(layer(x, Notes(choice=torch.tensor([[2]]))), expected)


def test_deepseek_v3_layer_sizes() -> None:
    """256 routed experts and a shared one of 7168 x 2048: 11.3 B weights a layer, of which a token uses 0.4 B."""
    cfg = Moe(
        n_experts=256,
        top_k=8,
        d_ff=2048,
        shared_experts=1,
        router="sigmoid",
        groups=8,
        top_groups=4,
        bias_update=1e-3,
    )
    with torch.device("meta"):
        layer = MoE(7168, cfg)
    one = 3 * 7168 * 2048
    assert sum(p.numel() for p in layer.parameters()) == 257 * one + 256 * 7168
    assert sum(p.numel() for p in layer.shared_experts.parameters()) == one
