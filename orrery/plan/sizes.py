"""What an encoder, an encoder-decoder or a model that sees is and takes to run. (A decoder's plan says more: `plan.plan_model`.)

    encoder            2 (N + head) + 4 H D seen a token; nothing is kept between tokens
    encoder-decoder    half of what one source token and one target token take together, sources and targets equally long: each
                       passes through about half of the weights, hence the 3 N D of published training budgets
    model that sees    its text model's figures; FLOPs of images depend on how many there are

N weights of the layers that a token meets, H heads, D head dim, seen: tokens a token attends to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from orrery.kit.errors import OrreryError
from orrery.model.build import Config
from orrery.model.config import DecoderConfig
from orrery.model.encoder import EncoderConfig
from orrery.model.encoder_decoder import EncoderDecoderConfig
from orrery.plan.flops import attention_width, count_flops
from orrery.plan.kv_cache import kv_bytes, kv_bytes_per_token
from orrery.plan.parameters import Parameters, count_parameters
from orrery.plan.plan import KV_BYTES, KvDtype
from orrery.plan.vision import count_seeing, text_config

if TYPE_CHECKING:
    from rich.console import RenderableType

Kind = Literal["encoder", "encoder_decoder", "multimodal"]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Sizes of one model. Bytes and FLOPs; what does not apply to its kind is None."""

    kind: Kind
    parameters: Parameters
    context: int
    forward_flops_per_token: float
    kv_dtype: KvDtype
    kv_bytes_per_token: int
    """Of a token that is written; 0 for an encoder, which keeps nothing."""
    source_bytes_per_token: int | None = None
    """Of a token of the source: keys and values that the decoder's layers make of it once (encoder-decoders)."""
    kv_bytes: int
    """Of one sequence of `context` tokens, its source as long."""
    weights_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON, under the names of `Plan.to_dict`."""
        return {
            "kind": self.kind,
            "parameters": self.parameters.to_dict(),
            "context": self.context,
            "forward_flops_per_token": self.forward_flops_per_token,
            "kv_dtype": self.kv_dtype,
            "kv_bytes_per_token": self.kv_bytes_per_token,
            "source_bytes_per_token": self.source_bytes_per_token,
            "kv_bytes": self.kv_bytes,
            "weights_bytes": self.weights_bytes,
            "not_applicable": ["flops_per_token", "memory", "training", "optimal_tokens"],
        }

    def render(self) -> RenderableType:
        """The same as tables for a terminal."""
        from orrery.plan.render import render_sizes

        return render_sizes(self)


def size_model(cfg: Config, *, context: int | None = None, kv_dtype: KvDtype = "bf16") -> Sizes:
    """Size an encoder or an encoder-decoder. `context` None: the model's `max_positions`.

    Raises:
        OrreryError: a context below 1, or a decoder.
    """
    context = cfg.max_positions if context is None else context
    if context < 1:
        raise OrreryError(f"a plan needs context above 0, not {context}")
    number, parameters = KV_BYTES[kv_dtype], count_parameters(cfg)
    common = {
        "parameters": parameters, "context": context, "kv_dtype": kv_dtype, "weights_bytes": parameters.total * number,
    }  # fmt: skip
    match cfg:
        case EncoderConfig():
            flops = encoder_flops(cfg, context)
            return Sizes(
                kind="encoder", forward_flops_per_token=flops, kv_bytes_per_token=0, kv_bytes=0, **common
            )
        case EncoderDecoderConfig():
            kept = kv_bytes_per_token(cfg.decoder, bytes_per_number=number)
            return Sizes(
                kind="encoder_decoder",
                forward_flops_per_token=encoder_decoder_flops(cfg, context),
                kv_bytes_per_token=kept,
                source_bytes_per_token=kept,
                kv_bytes=kv_bytes(cfg.decoder, context, bytes_per_number=number) + kept * context,
                **common,
            )
    raise OrreryError("a decoder has a plan (`plan_model`), which says more than its sizes")


def size_seeing(hf: dict[str, Any], *, context: int | None = None, kv_dtype: KvDtype = "bf16") -> Sizes:
    """Size a model that sees, from the content of its config.json (`plan.vision.seeing`).

    Raises:
        OrreryError: a kind of model we do not know.
    """
    cfg, number, parameters = text_config(hf), KV_BYTES[kv_dtype], count_seeing(hf)
    context = cfg.max_positions if context is None else context
    writes = hf.get("model_type") not in ("clip", "siglip")
    return Sizes(
        kind="multimodal",
        parameters=parameters,
        context=context,
        forward_flops_per_token=count_flops(cfg, context).forward("full"),
        kv_dtype=kv_dtype,
        kv_bytes_per_token=kv_bytes_per_token(cfg, bytes_per_number=number) if writes else 0,
        kv_bytes=kv_bytes(cfg, context, bytes_per_number=number) if writes else 0,
        weights_bytes=parameters.total * number,
    )


def encoder_flops(cfg: EncoderConfig, context: int) -> float:
    """Forward, of one token: layers, attention in both directions, and the masked-LM head where there is one."""
    head = 0 if cfg.masked_lm is None else cfg.vocab_size * cfg.d_model + cfg.d_model**2
    return 2.0 * (count_parameters(cfg).active_non_embedding + head) + attention_flops(cfg.stack, context)


def encoder_decoder_flops(cfg: EncoderDecoderConfig, context: int) -> float:
    """Forward, of one token of source or target, half of a pair."""
    head = cfg.vocab_size * cfg.d_model
    # The decoder's layers attend to what it wrote, and to the source.
    attention = attention_flops(cfg.encoder, context) + 2 * attention_flops(cfg.decoder, context)
    return (2.0 * (count_parameters(cfg).active_non_embedding + head) + attention) / 2


def attention_flops(cfg: DecoderConfig, context: int) -> float:
    """Scores and weighted values of one token over all that a layer shows it, in both directions."""
    per_seen = 2 * cfg.n_heads * attention_width(cfg)
    return sum(per_seen * mean_seen_both_ways(context, cfg.layer_window(i)) for i in range(cfg.n_layers))


def mean_seen_both_ways(context: int, window: int | None = None) -> float:
    """Tokens fewer than `window` places away, itself included, on average over a sequence."""
    w = min(context, window or context)
    return 1 + (w - 1) * (2 * context - w) / context
