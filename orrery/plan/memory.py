"""Memory of training: weights, gradients, optimiser states, what backward needs of forward, and the head.

Bytes per weight: fp32 with AdamW 4 + 4 + 8; mixed precision with AdamW 2 + 2 + 12 (Rajbhandari et al. 2020, ZeRO,
arXiv:1910.02054, section 3.1). Over N data-parallel devices ZeRO stage 1 splits optimiser states, 2 gradients too, 3 all.

Activations are those of this package's layers (attention by a kernel that keeps no scores, cross-entropy by chunks of
logits); torch's own temporaries come on top. d model width, H heads, K kv heads, D head dim, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from orrery.model.config import DecoderConfig
from orrery.model.gated_delta import GatedDelta
from orrery.model.mamba2 import Mamba2
from orrery.model.mla import Mla
from orrery.model.mlp import Mlp
from orrery.model.moe import Moe
from orrery.plan.parameters import count_parameters

Precision = Literal["fp32", "mixed"]
Optimizer = Literal["sgd", "momentum", "adagrad", "rmsprop", "adam", "adamw", "adafactor", "muon"]

STATES: dict[Optimizer, int] = {
    "sgd": 0, "momentum": 1, "adagrad": 1, "rmsprop": 1, "adam": 2, "adamw": 2,
    "adafactor": 0,  # a row and a column for each matrix: nothing beside the matrix
    "muon": 1,  # on hidden matrices; embeddings, head and vectors are AdamW's, with 2
}  # fmt: skip
"""Numbers (fp32) an optimiser keeps for each weight."""

LOGITS_CHUNK_BYTES = 16 << 20
"""What the chunked cross-entropy takes for logits at a time."""


@dataclass(frozen=True, kw_only=True)
class TrainingMemory:
    """Bytes on one device."""

    weights: float
    gradients: float
    optimizer: float
    activations: float
    head: float

    @property
    def total(self) -> float:
        return self.weights + self.gradients + self.optimizer + self.activations + self.head


def training_memory(
    cfg: DecoderConfig,
    *,
    batch_tokens: int,
    context: int,
    optimizer: Optimizer = "adamw",
    precision: Precision = "fp32",
    checkpointing: bool = False,
    devices: int = 1,
    zero_stage: int = 0,
) -> TrainingMemory:
    """An estimate of what one training step needs on one device.

    Args:
        batch_tokens: tokens of one micro-batch on one device.
        context: length of the sequences they form; only attention with soft-capping or sinks keeps scores and minds it.
        checkpointing: keep each layer's input alone and compute the layer anew in backward.
        zero_stage: what is split over `devices`: 0 nothing, 1 optimiser, 2 gradients too, 3 weights too.
    """
    parameters = count_parameters(cfg)
    weights, gradients, states = model_state_bytes(
        parameters.stored,
        states_per_weight(cfg, optimizer),
        precision=precision,
        devices=devices,
        zero_stage=zero_stage,
    )
    number = 4 if precision == "fp32" else 2
    layers = [layer_activations(cfg, i, context) for i in range(cfg.n_layers)]
    kept = cfg.d_model * cfg.n_layers + max(layers) if checkpointing else sum(layers)
    ends = 3 * cfg.d_model  # the last norm, and the gradient that the head leaves
    head = LOGITS_CHUNK_BYTES + 4 * cfg.vocab_size * cfg.d_model
    return TrainingMemory(
        weights=weights,
        gradients=gradients,
        optimizer=states,
        activations=float(number * batch_tokens * (kept + ends)),
        head=float(head),
    )


def model_state_bytes(
    parameters: int,
    states: float = 2,
    *,
    precision: Precision = "mixed",
    devices: int = 1,
    zero_stage: int = 0,
) -> tuple[float, float, float]:
    """Bytes of (weights, gradients, optimiser states) on each of `devices`.

    Mixed precision keeps bf16 weights and gradients, and with the optimiser an fp32 copy of the weights.
    """
    number = 4 if precision == "fp32" else 2
    copy = 0 if precision == "fp32" else 4
    share = [devices if zero_stage >= stage else 1 for stage in (3, 2, 1)]
    return (
        parameters * number / share[0],
        parameters * number / share[1],
        parameters * (4 * states + copy) / share[2],
    )


def states_per_weight(cfg: DecoderConfig, optimizer: Optimizer) -> float:
    """Numbers the optimiser keeps for each weight, on average."""
    if optimizer != "muon":
        return STATES[optimizer]
    parameters = count_parameters(cfg)
    matrices = parameters.attention + parameters.recurrent + parameters.feed_forward + parameters.multi_token
    return (matrices * 1 + (parameters.stored - matrices) * 2) / parameters.stored


def layer_activations(cfg: DecoderConfig, layer: int, context: int) -> float:
    """Numbers that backward needs of one token's pass through one layer."""
    kept = norm_activations(cfg)
    if cfg.attends(layer):
        heads = (cfg.n_heads + cfg.kv_heads) * cfg.head_size if cfg.qk_norm else 0
        kept += heads + attention_activations(cfg, context)
    if cfg.layer_kind(layer) == "recurrent":
        kept += recurrent_activations(cfg, context)
    if cfg.feeds_forward(layer):
        kept += feed_forward_activations(cfg.layer_feed_forward(layer), cfg.d_model)
    return kept


def norm_activations(cfg: DecoderConfig) -> float:
    """A norm's input, and its output where a matrix reads it."""
    into = 2 * (1 if cfg.parallel or cfg.sublayers == "one" else 2)
    out_of = 2 if cfg.placement == "sandwich" else 0
    return (into + out_of) * cfg.d_model


def attention_activations(cfg: DecoderConfig, context: int) -> float:
    """Queries, keys, values, the result, and one number a head for the kernel.

    Soft-capping and sinks are no kernel's: they keep the scores (one number for each head and token seen, twice with
    soft-capping), and keys and values of every query head.
    """
    h = cfg.n_heads
    if isinstance(cfg.attention, Mla):
        mla = cfg.attention
        q_dim, v_dim, kv_heads = mla.qk_nope_head_dim + mla.qk_rope_head_dim, mla.v_head_dim, h
        latents = (
            2 * (mla.q_lora_rank or 0)
            + 2 * mla.kv_lora_rank
            + mla.qk_rope_head_dim
            + h * mla.qk_nope_head_dim
        )
    else:
        q_dim, v_dim, kv_heads, latents = cfg.head_size, cfg.head_size, cfg.kv_heads, 0
    step_by_step = cfg.attention_softcap is not None or cfg.sinks
    scores = h * context * (1 if cfg.attention_softcap is None else 2) if step_by_step else h
    kv_heads = h if step_by_step else kv_heads
    gate = 2 * h * v_dim if cfg.attention_gate else 0
    return (h + kv_heads) * q_dim + (kv_heads + h) * v_dim + latents + scores + gate


def recurrent_activations(cfg: DecoderConfig, context: int) -> float:
    """Inputs and outputs of the convolution, of the recurrence and of its gate, what is between the tokens of a chunk for each
    head, and the state before each chunk. The factors count what autograd keeps of this package's layers."""
    layer = cfg.recurrent
    if isinstance(layer, Mamba2):
        h, n, groups, inner = layer.n_heads, layer.state_dim, layer.n_groups, layer.inner
        chunk = min(layer.at_once, context)
        widths = 10 * inner + 4 * layer.convolved + 4 * groups * n + 7 * h
        return widths + (2 * h + groups) * chunk + 2 * inner * n / chunk
    assert isinstance(layer, GatedDelta)
    h, chunk = layer.n_value_heads, min(layer.chunk, context)
    widths = 4 * (2 * layer.keys + layer.values) + 7 * layer.values + 8 * h * layer.key_dim + 7 * h
    return widths + 5 * h * chunk + layer.values * layer.key_dim / chunk


def feed_forward_activations(cfg: Mlp | Moe, d_model: int) -> float:
    """Before and after the activation, and for a gate the other factor and the product too."""
    if isinstance(cfg, Moe):
        inner, width = 4 if cfg.gated else 2, cfg.latent_width or d_model
        copies = cfg.top_k * (inner * cfg.d_ff + 3 * width)  # to each of a token's experts, and back
        latent = 2 * width if cfg.latent_width else 0
        gate = d_model if cfg.shared_gate else 0
        return copies + latent + inner * cfg.shared_d_ff + gate + 2 * cfg.n_experts
    return (4 if cfg.gated else 2) * cfg.d_ff
