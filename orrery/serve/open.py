"""From a model folder or a GGUF file to what serving needs: the model, its tokenizer, its chat template, its settings.

Nothing in a folder is ever imported or executed.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from orrery.kit.allocator import give_back_freed_memory
from orrery.kit.errors import OrreryError
from orrery.kit.gguf import GgufFile
from orrery.kit.model_folder import read_generation_config
from orrery.model.decoder import Decoder
from orrery.model.folder import load_model
from orrery.model.gguf.read import model_of
from orrery.text.chat import ChatFormat
from orrery.text.chat_files import read_templates
from orrery.text.gguf_vocab import gguf_vocab
from orrery.text.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Opened:
    """`chat_fault` says why a template cannot be used; the model still continues text. `defaults`: the sampling settings that the model's makers recommend, by our names; empty where they say none."""

    path: Path
    model: Decoder
    tokenizer: Tokenizer
    chat: ChatFormat | None
    chat_fault: OrreryError | None = None
    stop_ids: tuple[int, ...]
    defaults: dict[str, Any] = field(default_factory=dict)


def open_folder(
    folder: Path, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
) -> Opened:
    """A folder with config.json, safetensors and a tokenizer.

    Raises:
        OrreryError: files are missing, damaged, or do not fit together.
    """
    model = load_model(folder, device=device, dtype=dtype).eval()
    tokenizer = Tokenizer.load(folder)
    _check(folder, model, tokenizer)
    chat, fault = _chat(lambda: ChatFormat.load(folder, tokenizer) if read_templates(folder) else None)
    settings = generation_settings(folder)
    stops = _ids(settings.get("eos_token_id"))
    own = () if tokenizer.eos_id is None else (tokenizer.eos_id,)
    return Opened(
        path=folder, model=model, tokenizer=tokenizer, chat=chat, chat_fault=fault, stop_ids=stops or own,
        defaults=_sampling(settings),
    )  # fmt: skip


def open_gguf(
    path: Path,
    *,
    quantised: bool = True,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Opened:
    """A GGUF file with a vocabulary. On a GPU, and in another number format, its blocks become plain numbers.

    Raises:
        OrreryError: the file is damaged, or holds what we do not know.
    """
    plain = not quantised or dtype is not None or torch.device(device or "cpu").type != "cpu"
    with GgufFile.open(path) as file, ThreadPoolExecutor(1) as beside:
        reading = beside.submit(gguf_vocab, file.metadata)  # Python's work, beside torch's
        # The model's own peak comes at its end, when the vocabulary is done.
        reading.add_done_callback(lambda _: give_back_freed_memory())
        model = model_of(file, quantised=not plain)
        file.release()
        vocabulary = reading.result()
    del file
    give_back_freed_memory()
    if not isinstance(model, Decoder):
        raise OrreryError(
            f"'{path}' holds a {type(model).__name__}, which does not continue text; give a decoder"
        )
    model = model.to(device=device, dtype=dtype).eval()
    _check(path, model, vocabulary.tokenizer)
    templates = dict(vocabulary.templates)
    if vocabulary.chat_template is not None:
        templates["default"] = vocabulary.chat_template
    chat, fault = _chat(
        lambda: (
            ChatFormat.from_template(templates, vocabulary.tokenizer, stop_ids=vocabulary.stop_ids)
            if "default" in templates
            else None
        )
    )
    return Opened(
        path=path,
        model=model,
        tokenizer=vocabulary.tokenizer,
        chat=chat,
        chat_fault=fault,
        stop_ids=vocabulary.stop_ids,
    )


def _chat(make: Callable[[], ChatFormat | None]) -> tuple[ChatFormat | None, OrreryError | None]:
    """A chat format, or why there is none: a model whose template cannot be used still continues text."""
    try:
        return make(), None
    except OrreryError as fault:
        return None, fault


def generation_settings(folder: Path) -> dict[str, Any]:
    """The content of generation_config.json; nothing where there is none.

    Raises:
        OrreryError: the file is damaged.
    """
    return read_generation_config(folder)


def _sampling(settings: dict[str, Any]) -> dict[str, Any]:
    """What the makers recommend, where it differs from drawing from the model's own distribution."""
    if settings.get("do_sample") is False:
        return {"temperature": 0.0}
    names = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
    found = {name: settings[name] for name in names if isinstance(settings.get(name), int | float)}
    return {name: int(v) if name == "top_k" else float(v) for name, v in found.items()}


def _ids(value: Any) -> tuple[int, ...]:
    values = value if isinstance(value, list) else [] if value is None else [value]
    return tuple(int(v) for v in values)


def _check(path: Path, model: Decoder, tokenizer: Tokenizer) -> None:
    if tokenizer.vocab_size > model.cfg.vocab_size:
        raise OrreryError(
            f"the tokenizer in '{path}' has {tokenizer.vocab_size} ids but the model knows {model.cfg.vocab_size}; "
            "they do not belong together"
        )
