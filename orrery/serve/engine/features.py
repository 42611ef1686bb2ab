"""What an engine can do with a model, and what it refuses: said before a request runs, never passed over in silence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orrery.kit.errors import OrreryError
from orrery.kit.lm import GenerateRequest
from orrery.model.decoder import Decoder
from orrery.serve.engine.config import EngineConfig
from orrery.serve.engine.store import latent_layers
from orrery.serve.observable import check_observe
from orrery.serve.request import check_request as check_plain
from orrery.serve.request import new_tokens, read_ids

if TYPE_CHECKING:
    from orrery.serve.engine.engine import Engine


@dataclass(frozen=True, kw_only=True)
class Support:
    """Attributes:
    prefix_cache, speculation: whether they are in use. recompute: whether a sequence may be computed again from its tokens.
    restart_beyond: a sequence that grows longer than this is computed again (LongRoPE).
    reasons: why what was asked for by default is not in use, by name.
    """

    prefix_cache: bool
    speculation: bool
    recompute: bool
    restart_beyond: int | None
    reasons: dict[str, str]

    @classmethod
    def of(cls, model: Decoder, config: EngineConfig) -> Support:
        """Raises:
        OrreryError: speculation was asked for and cannot be done.
        """
        reasons: dict[str, str] = {}
        if model.state_spec():
            why = "the model has recurrent layers, whose state cannot go back"
            reasons |= {"prefix_cache": why, "speculation": why}
        if model.turns_by_length:
            why = "the model turns positions by angles that depend on the length of the text"
            reasons |= {"prefix_cache": why, "speculation": why}
        if config.speculation is not None and "speculation" in reasons:
            raise OrreryError(
                f"speculation cannot be used: {reasons['speculation']}; set speculation to none"
            )
        restart = [s.restart_beyond for s in model.cache_spec() if s.restart_beyond is not None]
        return cls(
            prefix_cache=config.prefix_cache and "prefix_cache" not in reasons,
            speculation="speculation" not in reasons,
            recompute=config.preemption == "recompute" and (bool(restart) or not model.turns_by_length),
            restart_beyond=min(restart, default=None),
            reasons=reasons,
        )

    def restarts(self, computed: int, length: int) -> bool:
        """Whether `computed` cached tokens are of no use to a sequence that has just grown to `length`."""
        limit = self.restart_beyond
        return limit is not None and computed <= limit < length


FEATURES: dict[str, str] = {
    "paged": "keys and values in blocks",
    "chunked": "a prompt is read over several steps",
    "prefix cache": "a prompt begins with blocks that another request left",
    "speculation": "drafts are verified, in chains and trees",
    "quantised KV": "`kv_dtype` bfloat16, int8 or float8",
    "preemption": "a sequence makes room and goes on later, by recomputing or by swapping",
    "n": "`n` and `best_of` continuations, forked behind the prompt",
    "beams": "`num_beams` above 1",
    "grammar": "JSON schema, regex, choice, EBNF",
    "adapters": "`adapter`, of any kind: LoRA, DoRA, VeRA, IA3, prefixes, prompts, bottlenecks, ReFT",
    "steering": "`steering`: vectors added to the stream",
    "observe": "`observe`, and torch hooks on the model's modules",
    "contrastive": "`sampling.contrastive_alpha`",
}
"""What requests and configurations ask for."""

ASIDE = "runs beside the pool, over a cache of its own"
NOTES: dict[frozenset[str], str] = {
    frozenset(("speculation", "beams")): "beams are not drafted for",
    frozenset(("speculation", "observe")): "rejected drafts are not shown",
    frozenset(("speculation", "quantised KV")): "drafts are verified over the same stored numbers",
    frozenset(("prefix cache", "observe")): "a request that looks at its prompt reads all of it",
    frozenset(("prefix cache", "adapters")): "found by requests with the same adapter's weights",
    frozenset(("adapters", "observe")): "but for adapters with virtual tokens (prefix, prompt), which are refused",
    frozenset(("prefix cache", "steering")): "found by requests with the same steering",
    **{frozenset((name, "contrastive")): ASIDE for name in ("paged", "chunked", "prefix cache", "quantised KV", "preemption")},
    frozenset(("speculation", "contrastive")): "not drafted for",
}  # fmt: skip
"""What there is to know of pairs that work."""

REFUSED: dict[frozenset[str], str] = {
    frozenset(("grammar", "beams")): "beams are not held to a grammar: leave the grammar out, or set num_beams=1",
    frozenset(("observe", "beams")): "beams are not looked at: leave observe out, or set num_beams=1",
    frozenset(("contrastive", "beams")): "beam search does not take contrastive_alpha: choose one of them",
    **{
        frozenset((name, "contrastive")): f"contrastive search takes no {what}: leave it out, or set contrastive_alpha=0"
        for name, what in (("adapters", "adapter"), ("steering", "steering"), ("observe", "observe"))
    },
}  # fmt: skip
"""Pairs that no request may ask for."""


def wanted_features(request: GenerateRequest) -> set[str]:
    """What a request asks for by itself, of `FEATURES`."""
    asked = {
        "n": (request.best_of or request.n) > 1 and request.num_beams == 1,
        "beams": request.num_beams > 1,
        "grammar": request.grammar is not None,
        "adapters": request.adapter is not None,
        "steering": bool(request.steering),
        "observe": bool(request.observe),
        "contrastive": request.sampling.contrastive_alpha > 0,
    }
    return {name for name, wanted in asked.items() if wanted}


def check_request(engine: Engine, request: GenerateRequest) -> None:
    """Refuse what cannot be done.

    Raises:
        OrreryError: names the setting, the limit, and what to do.
    """
    model, config = engine.lm.model, engine.config
    wanted = wanted_features(request)
    for pair, reason in REFUSED.items():
        if pair <= wanted:
            raise OrreryError(reason)
    check_plain(model, request)
    engine.runner.adapters.check(request.adapter)
    if request.adapter is not None and engine.runner.latent != latent_layers(model):
        raise OrreryError(
            "an adapter changes the up-projection of latent attention, whose form was chosen before; make the engine anew"
        )
    if request.observe and engine.runner.adapters.virtual_tokens(request.adapter):
        raise OrreryError(
            "observe does not go with an adapter that has virtual tokens, which are no tokens of the text: leave one of them out"
        )
    room, read = new_tokens(model, request), len(read_ids(model, request))
    check_observe(model, request.observe, prompt=len(request.ids), made=room)
    made = max(request.best_of or request.n, request.num_beams)
    if made > config.max_sequences:
        raise OrreryError(
            f"{made} continuations are asked for and {config.max_sequences} sequences run at once; ask for fewer, or raise "
            "max_sequences"
        )
    # Beams wait for each other: they must fit side by side.
    fits = engine.memory.holds(read, room - 1, beams=request.num_beams)
    if "contrastive" not in wanted and not fits:
        raise OrreryError(
            f"the prompt of {len(request.ids)} tokens and {request.max_tokens} new ones do not fit the cache; shorten them, or "
            "raise kv_memory"
        )


def feature_table() -> str:
    """The pairs as a page of Markdown: `docs/features.md`."""
    names = list(FEATURES)
    lines = [
        "# What works with what",
        "",
        "Every pair of the engine's features either works, with the bytes that each request would give alone, or is refused when the",
        "request comes. This page is written from the table that the engine itself reads (`orrery/serve/engine/features.py`), and",
        "`tests/serve/engine/test_features.py` runs every pair.",
        "",
        "| | " + " | ".join(names[1:]) + " |",
        "|---|" + "---|" * (len(names) - 1),
    ]
    notes: list[str] = []
    for i, row in enumerate(names[:-1]):
        cells = []
        for j, column in enumerate(names[1:], start=1):
            pair = frozenset((row, column))
            note = REFUSED.get(pair) or NOTES.get(pair)
            if j <= i:
                cells.append("")
                continue
            mark = "refused" if pair in REFUSED else "yes"
            if note is not None:
                if note not in notes:
                    notes.append(note)
                mark += f" [{notes.index(note) + 1}]"
            cells.append(mark)
        lines.append(f"| **{row}** | " + " | ".join(cells) + " |")
    lines += ["", *(f"{i}. {note[0].upper()}{note[1:]}." for i, note in enumerate(notes, start=1)), ""]
    lines += ["Meaning:", "", *(f"- **{name}**: {meaning}" for name, meaning in FEATURES.items()), ""]
    lines += [
        "Models with recurrent layers, and models that turn positions by the length of the text (dynamic NTK, LongRoPE), have no prefix",
        "cache and no speculation: a state cannot go back. `Engine.support.reasons` says so; a configuration that asks for speculation",
        "is refused.",
        "",
        "Equal bytes are promised where our own kernels serve: models over quantised weights, and models opened for inference. With",
        "torch's float products, and for drafts in trees, tokens are equal and log-probabilities agree to rounding. A `kv_dtype` other",
        "than float32 changes what comes out, always in the same way; the speculation rule `rejection` keeps the distribution, not the",
        "bytes.",
        "",
    ]
    return "\n".join(lines)
