"""The evaluation stage: the model, counting, and compression on the same held-out documents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from orrery.cli.pipeline.recipe import EvaluateStage
from orrery.data.manifest import read_manifest
from orrery.data.shard import HeldOut, Shards, heldout_documents
from orrery.evaluate.bits import bits_per_byte
from orrery.evaluate.compression import compressed_bits_per_byte
from orrery.evaluate.ngram import add_k, back_off, kneser_ney
from orrery.evaluate.ngram_counts import count_ngrams
from orrery.kit.artifact import write_receipt
from orrery.kit.errors import OrreryError
from orrery.kit.files import atomic_folder, write_file
from orrery.kit.log import Progress
from orrery.serve.lm import LM

SMOOTHING = {"kneser-ney": kneser_ney, "laplace": add_k, "back-off": back_off}


def make_evaluation(stage: EvaluateStage, model: Path, data: Path, folder: Path, progress: Progress) -> None:
    """Write `evaluation.json`: one row a model, in bits per byte of the same text."""
    lm = LM.load(model)
    shards = Shards(data, "train")
    shards.require(lm.tokenizer)
    start_id = read_manifest(data)["start_id"]
    documents, left_out = _within(list(heldout_documents(data)), stage.max_tokens)
    steps = 2 + len(stage.orders) + stage.xz
    rows: list[dict[str, Any]] = []
    smooth = SMOOTHING[stage.smoothing]

    def add(name: str, kind: str, bits: float, **more: Any) -> None:
        rows.append({"name": name, "kind": kind, "bits_per_byte": bits, **more})

    progress.update(0, steps, scoring="the model")
    own = bits_per_byte(lm, documents, start_id=start_id, stride=stage.stride)
    add(
        "this model",
        "model",
        own.bits_per_byte,
        standard_error=own.to_dict()["standard_error"],
        perplexity=own.perplexity,
    )
    longest = max(stage.orders, default=1)
    progress.update(1, steps, counting=f"{longest}-grams")
    bodies = [ids[start_id is not None :] for ids in shards]
    counts = count_ngrams(bodies, order=longest, vocab_size=shards.vocab_size)
    for n, order in enumerate(stage.orders):
        progress.update(2 + n, steps, scoring=f"{stage.smoothing} order {order}")
        counted = bits_per_byte(smooth(counts.truncated(order)).logprobs, documents, start_id=start_id)
        add(f"{stage.smoothing} {order}-gram", "ngram", counted.bits_per_byte, order=order)
    if stage.xz:
        progress.update(steps - 1, steps, compressing="with xz")
        text = "".join(document.text for document in documents).encode()
        add("xz", "compressor", compressed_bits_per_byte(text))
    table = own.to_dict()["documents"]
    result = {
        "rows": rows,
        "documents": len(documents),
        "bytes": own.bytes,
        "tokens": own.tokens,
        "left_out": left_out,
        "unscored": list(own.unscored),
        "per_document": table,
    }
    with atomic_folder(folder) as new:
        write_file(new / "evaluation.json", json.dumps(result, indent=2) + "\n")
        write_receipt(
            new, kind="evaluation", operation="evaluate", recipe=stage, parents={"model": model, "data": data}, home=folder,
            effects={"bits_per_byte": {row["name"]: row["bits_per_byte"] for row in rows}, "documents": len(documents)},
        )  # fmt: skip


def _within(documents: list[HeldOut], max_tokens: int) -> tuple[list[HeldOut], int]:
    """Whole documents up to `max_tokens` tokens, and how many were left out."""
    kept, total = [], 0
    for document in documents:
        if kept and total + len(document.ids) > max_tokens:
            continue
        kept.append(document)
        total += len(document.ids)
    if not kept:
        raise OrreryError(
            "no documents are held out, so there is nothing to evaluate on; prepare with split.heldout above 0"
        )
    return kept, len(documents) - len(kept)
