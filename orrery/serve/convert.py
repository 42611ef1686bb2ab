"""Change the format a model is kept in: to GGUF in any of its block formats, or to a Hugging Face folder.

convert("runs/quickstart", "model.gguf", kind="q4_k_m")
convert("model.gguf", "folder", kind="bf16")
check("model.gguf", opened=open_plain("runs/quickstart"), kind="q4_k_m")    # what was written says what was meant
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from orrery.kit.artifact import RECEIPT, write_receipt
from orrery.kit.errors import OrreryError, suggest
from orrery.kit.files import atomic_folder, atomic_write
from orrery.kit.model_folder import GENERATION
from orrery.model.decoder import Decoder
from orrery.model.folder import save_model
from orrery.model.gguf.write import architecture_of, pieces, write_model
from orrery.model.names import sources
from orrery.model.packed import Packed
from orrery.model.quant import MIXTURES, dequantize, quantize
from orrery.model.shell import shell
from orrery.serve.find import find_model
from orrery.serve.open import Opened, open_folder, open_gguf
from orrery.text.gguf_vocab_write import metadata_of_tokenizer

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
PROBES = (
    "The quick brown fox jumps over the lazy dog.",
    "  def f(x):\n\treturn x ** 2  # äöü é\r\n\r\n",
    "数学は楽しい。 Привет, мир! 안녕하세요 ٣٫١٤",
    "3.14159 1,000,000 0xFF i'm don't WE'LL",
    "🙂👩‍👩‍👧‍👦 ＦＵＬＬ ﬁ ½  ​x",
    "",
    "<|endoftext|> </s> <bos> [CLS] <0x41>",
)
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Checked:
    """What a check compared. `largest` is the largest difference of a logit from what the stored numbers should give,
    `kl` the mean divergence from the original model in nats a token."""

    texts: int
    template: bool
    largest: float
    kl: float


def open_plain(source: str | Path, *, dtype: torch.dtype | None = None) -> Opened:
    """A model with plain weights, whatever it is stored as; of a folder, in the type they are stored in but for `dtype`.

    Raises:
        OrreryError: no model there, or a damaged one.
    """
    found = find_model(source)
    return open_gguf(found, quantised=False) if found.suffix == ".gguf" else open_folder(found, dtype=dtype)


def convert(source: str | Path, target: str | Path, *, kind: str, progress: Progress | None = None) -> Opened:
    """Write the model `source` in another format; `target` ending in .gguf is a file, anything else a folder.

    Raises:
        OrreryError: an unknown kind, a model the format has no words for, a chat template that cannot be used, a target
            that is there already.
    """
    target = Path(target)
    known = MIXTURES if target.suffix == ".gguf" else DTYPES
    if kind not in known:
        raise OrreryError(
            f"'{target}' cannot be written as '{kind}'; known are {', '.join(known)}.{suggest(kind, known)}"
        )
    if target.exists():
        raise OrreryError(f"'{target}' is there already; remove it or name another target")
    opened = open_plain(source)
    if opened.chat_fault is not None:  # a copy without its chat format would be another model
        raise opened.chat_fault
    if target.suffix == ".gguf":
        write_model(
            target,
            opened.model,
            kind=kind,
            name=Path(source).stem,
            vocabulary=vocabulary_of(opened),
            progress=progress,
        )
    else:
        _write_folder(opened, target, kind=kind)
    return opened


def vocabulary_of(opened: Opened) -> dict[str, Any]:
    """The keys of the vocabulary, filled up to the rows of the embedding, with the chat template."""
    template = None if opened.chat is None else opened.chat.templates
    return metadata_of_tokenizer(opened.tokenizer, chat_template=template, rows=opened.model.cfg.vocab_size)


def check(target: str | Path, *, opened: Opened, kind: str) -> Checked:
    """Read what was written and prove that ids, template and logits are those that were meant.

    The numbers expected are the model's own after one trip through the block formats of `kind`.

    Raises:
        OrreryError: something differs; says what.
    """
    again = open_plain(target, dtype=torch.float32)
    for text in PROBES:
        ours, theirs = opened.tokenizer.encode(text), again.tokenizer.encode(text)
        if ours != theirs:
            raise OrreryError(
                f"'{target}' gives other ids for {text!r}: {theirs[:12]} instead of {ours[:12]}"
            )
    template = None if opened.chat is None else opened.chat.templates
    written = None if again.chat is None else again.chat.templates
    if template != written:
        raise OrreryError(f"'{target}' has another chat template than the model it was made from")
    ids = torch.tensor(probe_ids(opened))
    before, after = _logits(opened.model, ids), _logits(again.model, ids)
    meant = _logits(stored_as(opened.model, kind, gguf=Path(target).suffix == ".gguf"), ids)
    largest = float((after - meant).abs().max())
    if not largest <= 1e-3 * max(1.0, float(meant.abs().max())):
        raise OrreryError(
            f"'{target}' gives logits that differ by {largest:.3g} from those of the numbers it should hold"
        )
    kl = (
        F.kl_div(after.log_softmax(-1), before.log_softmax(-1), log_target=True, reduction="none")
        .sum(-1)
        .mean()
    )
    return Checked(texts=len(PROBES), template=template is not None, largest=largest, kl=float(kl))


def probe_ids(opened: Opened) -> list[int]:
    """Ids of some text that the model can look at."""
    start = [] if opened.tokenizer.bos_id is None else [opened.tokenizer.bos_id]
    ids = [i for text in PROBES for i in opened.tokenizer.encode(text)]
    return [*start, *ids][: min(opened.model.cfg.max_positions, 256)]


@torch.inference_mode()
def stored_as(model: Decoder, kind: str, *, gguf: bool) -> Decoder:
    """A copy of `model` with the numbers that a file of `kind` holds."""
    copy = Decoder(model.cfg).eval()
    if not gguf:
        copy.load_state_dict({name: t.to(DTYPES[kind]).float() for name, t in model.state_dict().items()})
        return copy
    state = {name: t.float() for name, t in model.state_dict().items()}
    shapes = {name: t.shape for name, t in state.items()}
    held: dict[str, Tensor] = {
        piece.name: dequantize(quantize(piece.numbers().float(), piece.kind), piece.kind).reshape(piece.shape)
        for piece in pieces(model, kind)
    }
    for source in sources(shapes, architecture_of(model)[0].names(model.cfg)):
        state |= source.join({name: held[name] for name in source.theirs}, shapes)
    copy.load_state_dict(state)
    return copy


def _logits(model: Decoder, ids: Tensor) -> Tensor:
    with torch.inference_mode():
        return model.head(model(ids, Packed([len(ids)]))).float()


def _write_folder(opened: Opened, target: Path, *, kind: str) -> None:
    with atomic_folder(target) as temporary:
        write_files(opened, temporary, kind=kind)
        known = (opened.path / RECEIPT).is_file()
        write_receipt(
            temporary, kind="model", operation="convert", recipe={"source": opened.path.name, "type": kind},
            parents={"model": opened.path} if known else None, home=target,
        )  # fmt: skip


def write_files(opened: Opened, folder: Path, *, kind: str) -> None:
    """A model, its tokenizer, chat format and sampling advice as files of `folder`, which is there: all but the receipt."""
    given = opened.model
    model = shell(lambda: Decoder(given.cfg))
    model.load_state_dict({name: t.to(DTYPES[kind]) for name, t in given.state_dict().items()}, assign=True)
    model.family = getattr(given, "family", None)  # type: ignore[bad-argument-type]
    save_model(model, folder, bos_id=opened.tokenizer.bos_id, eos_id=list(opened.stop_ids) or None)
    _keep_advice(opened, folder)
    opened.tokenizer.save(folder)
    if opened.chat is not None:
        opened.chat.save(folder)


def _keep_advice(opened: Opened, folder: Path) -> None:
    """Add the sampling settings that the makers recommend to generation_config.json."""
    if not opened.defaults:
        return
    greedy = opened.defaults.get("temperature") == 0
    advice = {"do_sample": False} if greedy else {"do_sample": True, **opened.defaults}
    file = folder / GENERATION
    known = json.loads(file.read_text()) if file.exists() else {}
    atomic_write(file, json.dumps(known | advice, indent=2) + "\n")
