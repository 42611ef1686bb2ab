"""Adapters made part of their model: one folder that any tool opens, and a report of what merging changed.

    W + sum_i weight_i (W_i - W),   W_i the weight with adapter i, computed in float32, stored in the type asked for
    KL(adapter on || merged) is what rounding costs, KL(merged || base) how far the model has moved; mean nats a token of a probe text

    report = merge("gemma-3-270m", [(Path("out/adapter"), 1.0)], Path("out/merged"), kind="bf16")

Several adapters, each with its weight: task arithmetic (Ilharco et al. 2022, arXiv:2212.04089). T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from orrery.kit.artifact import RECEIPT, write_receipt
from orrery.kit.errors import OrreryError, suggest
from orrery.kit.files import atomic_folder
from orrery.model.adapters import Adapter, AdapterSlots, merge_adapters
from orrery.model.adapters.adapter import check_mergeable
from orrery.model.adapters.folder import load_adapter
from orrery.model.decoder import Decoder
from orrery.model.packed import Packed
from orrery.serve.convert import DTYPES, open_plain, probe_ids, write_files
from orrery.serve.find import find_model, identity_of
from orrery.serve.open import Opened
from orrery.text.chat import ChatFormat
from orrery.text.chat_files import read_templates
from orrery.train.basic_losses import kl_divergence

MOST_LOGITS = 1 << 25
"""Logits kept of one model: 128 MiB as floats."""


@dataclass(frozen=True, kw_only=True)
class MergeReport:
    """What merging did, on a probe text.

    Attributes:
        tokens: of the probe.
        from_adapted: KL(base with adapter i || merged) for each adapter alone. from_base: KL(merged || base).
        largest: the largest difference of a logit from the (first) adapter's own.
    """

    tokens: int
    from_adapted: tuple[float, ...]
    from_base: float
    largest: float


def merge(
    base: str | Path, adapters: Sequence[tuple[Path, float]], out: Path, *, kind: str = "bf16", text: str | None = None
) -> MergeReport:  # fmt: skip
    """Write the base with its adapters merged as a model folder with a receipt; a GGUF base is dequantised first.

    Args:
        adapters: folders, and how much of each.
        kind: f32, f16 or bf16. text: what the models are compared on; by default some lines of several scripts.

    Raises:
        OrreryError: no adapters, an unknown kind, a target that is there already, or an adapter that does not fit or cannot be merged.
    """
    if kind not in DTYPES:
        raise OrreryError(
            f"'{kind}' is no type to store weights in; known are {', '.join(DTYPES)}.{suggest(kind, DTYPES)}"
        )
    if out.exists():
        raise OrreryError(f"'{out}' is there already; remove it or name another target")
    if not adapters:
        raise OrreryError("give one adapter or more to merge")
    opened = open_plain(base, dtype=torch.float32)
    if opened.chat_fault is not None:
        raise opened.chat_fault
    found = [(find_model(path), weight) for path, weight in adapters]
    read = [(load_adapter(path, opened.model), weight) for path, weight in found]
    for adapter, _ in read:
        check_mergeable(adapter)
    opened = with_chat(opened, found[0][0])
    ids = torch.tensor(_probe(opened, text))
    before = logits(opened.model, ids)
    adapted = [logits_with(opened.model, adapter, ids) for adapter, _ in read]
    merge_adapters(opened.model, read)
    round_to(opened.model, DTYPES[kind])
    after = logits(opened.model, ids)
    report = MergeReport(
        tokens=len(ids),
        from_adapted=tuple(mean_kl(one, after) for one in adapted),
        from_base=mean_kl(after, before),
        largest=float((adapted[0] - after).abs().max()),
    )
    _write(opened, found, out, kind, report)
    return report


def with_chat(opened: Opened, adapter: Path) -> Opened:
    """The base with the chat format that came with the adapter, where it has none: the adapter was trained with that."""
    if opened.chat is not None or not read_templates(adapter):
        return opened
    chat = ChatFormat.load(adapter, opened.tokenizer)
    return replace(opened, chat=chat, stop_ids=tuple(dict.fromkeys((*chat.stop_ids, *opened.stop_ids))))


@torch.inference_mode()
def logits(model: Decoder, ids: Tensor) -> Tensor:
    """(T,) -> (T, V) float32."""
    return model.head(model(ids, Packed([len(ids)]))).float()


@torch.inference_mode()
def logits_with(model: Decoder, adapter: Adapter, ids: Tensor) -> Tensor:
    """The same through an adapter, which is put beside the model and taken away again."""
    slots = AdapterSlots.of(model)
    slots.default = slot = slots.add(adapter)
    try:
        return logits(model, ids)
    finally:
        slots.remove(slot)


def mean_kl(p: Tensor, q: Tensor) -> float:
    """Mean KL(softmax p || softmax q) over rows of logits, in nats."""
    return float(kl_divergence(p, q).mean())


@torch.no_grad()
def round_to(model: Decoder, dtype: torch.dtype) -> None:
    """Let every weight be what its stored form says."""
    for parameter in model.parameters():
        parameter.copy_(parameter.to(dtype))


def _probe(opened: Opened, text: str | None) -> list[int]:
    if text is None:
        ids = probe_ids(opened)
    else:
        ids = opened.tokenizer.encode(text, bos=opened.tokenizer.bos_id is not None)
    if len(ids) < 2:
        raise OrreryError("the text to compare the models on has no tokens; give a longer one")
    cfg = opened.model.cfg
    return ids[: max(1, min(cfg.max_positions, 512, MOST_LOGITS // cfg.vocab_size))]


def _write(
    opened: Opened, adapters: Sequence[tuple[Path, float]], out: Path, kind: str, report: MergeReport
) -> None:
    roles = {"model": opened.path} | {
        f"adapter{'' if len(adapters) == 1 else f' {i + 1}'}": path for i, (path, _) in enumerate(adapters)
    }
    parents = {role: path for role, path in roles.items() if (path / RECEIPT).is_file()}
    foreign: dict[str, Any] = {
        role: {"path": str(path.resolve()), "id": identity_of(path)}
        for role, path in roles.items()
        if role not in parents
    }
    recipe = {"type": kind, "adapters": [{"name": path.name, "weight": weight} for path, weight in adapters]}
    with atomic_folder(out) as folder:
        write_files(opened, folder, kind=kind)
        write_receipt(
            folder, kind="model", operation="merge", recipe=recipe, parents=parents, data=foreign, effects=asdict(report), home=out
        )  # fmt: skip
